package main

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var (
	codeSpan = regexp.MustCompile("`[^`]*`")
	target   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	testName = regexp.MustCompile("`(?:([a-z][a-z0-9/]*)\\.)?((?:Test|Fuzz|Example)[A-Z_0-9][A-Za-z0-9_]*)`")
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
)

// brokenLinks are the links of a page to files that are not there, and to headings that their pages do not have. What has a scheme is
// not looked at.
func brokenLinks(p *page, pages map[string]*page, tree fs.FS) (faults []string) {
	for _, l := range p.prose {
		for _, m := range target.FindAllStringSubmatch(codeSpan.ReplaceAllString(l.text, ""), -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			name := p.name
			if file != "" {
				name = path.Join(path.Dir(p.name), file)
			}
			if _, err := fs.Stat(tree, name); err != nil {
				faults = append(faults, fmt.Sprintf("%s:%d: there is no %s", p.name, l.number, name))
			} else if heading != "" && (pages[name] == nil || !pages[name].has(heading)) {
				faults = append(faults, fmt.Sprintf("%s:%d: %s has no heading #%s", p.name, l.number, name, heading))
			}
		}
	}
	return faults
}

// has reports whether a page has a heading of that anchor.
func (p *page) has(anchor string) bool {
	for _, l := range p.prose {
		if title := strings.TrimLeft(l.text, "#"); title != l.text && strings.HasPrefix(title, " ") && anchorOf(title) == anchor {
			return true
		}
	}
	return false
}

// anchorOf is how a heading is linked to: its letters and digits, in lower case, with dashes for spaces.
func anchorOf(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(title))
}

// testNames are the names of all tests, fuzz targets and examples, by the directories that have them; "" is the root.
func testNames(tree fs.FS) (map[string]map[string]bool, error) {
	names := map[string]map[string]bool{}
	err := walk(tree, "_test.go", func(name string, text []byte) error {
		dir := strings.TrimPrefix(path.Dir(name), ".")
		for _, m := range declared.FindAllSubmatch(text, -1) {
			if names[dir] == nil {
				names[dir] = map[string]bool{}
			}
			names[dir][string(m[1])] = true
		}
		return nil
	})
	return names, err
}

// missingTests are the tests that a page names in backticks and that are not there: "TestA" is one of the root package, and
// "internal/kv.TestA" one of that directory. ARCHITECTURE.md names files and what is in them, which ci/arrows holds against the code.
func missingTests(p *page, tests map[string]map[string]bool) (faults []string) {
	if p.name == "ARCHITECTURE.md" {
		return nil
	}
	for _, l := range p.prose {
		for _, m := range testName.FindAllStringSubmatch(l.text, -1) {
			if !tests[m[1]][m[2]] {
				faults = append(faults, fmt.Sprintf("%s:%d: there is no test %s", p.name, l.number, strings.Trim(m[0], "`")))
			}
		}
	}
	return faults
}

func isTest(name string) bool { return declared.MatchString("func " + name + "(") }
