package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const fenced = "```"

// written lays out files, runs over them, and returns what is wrong and the sources by name.
func written(t *testing.T, files map[string]string) (faults []string, sources map[string]string) {
	t.Helper()
	root, out := t.TempDir(), t.TempDir()
	for name, text := range files {
		if err := write(root, source{name, text}); err != nil {
			t.Fatal(err)
		}
	}
	faults, _, err := run(root, out)
	if err != nil {
		t.Fatal(err)
	}
	sources = map[string]string{}
	err = walk(os.DirFS(out), ".go", func(name string, text []byte) error {
		sources[name] = string(text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return faults, sources
}

// TestSources: a program stands as it is, declarations and statements are put into the page's package, with what they import.
func TestSources(t *testing.T) {
	page := strings.Join([]string{
		"# A page",
		fenced + "go", "package main", "", "func main() {}", fenced,
		fenced + "go", "func hello() { fmt.Println(strings.ToUpper(\"hello\")) }", fenced,
		fenced + "go", "func TestHello(t *testing.T) { hello() }", fenced,
		"<!-- go", "var given int", "-->",
		fenced + "go", "if given > 0 {", "\treturn errors.New(\"given\")", "}", fenced,
		fenced + "go", "return c.Leave(ctx)", fenced,
		fenced + "sh", "exit", fenced, "",
	}, "\n")
	faults, sources := written(t, map[string]string{"docs/a-page.md": page})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for name, wants := range map[string][]string{
		"docs/a-page/program1/main.go": {"package main"},
		"docs/a-page/line8.go":         {"package apage", `import "fmt"`, `import "strings"`},
		"docs/a-page/line11_test.go":   {`import "testing"`},
		"docs/a-page/line14.go":        {"var given int"},
		"docs/a-page/line17.go":        {`import "errors"`, "func line17(ctx context.Context, c *starling.Cluster) error {", "return nil"},
		"docs/a-page/line22.go":        {`import "github.com/starling-go/starling"`, "return c.Leave(ctx)"},
	} {
		for _, want := range wants {
			if !strings.Contains(sources[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, sources[name])
			}
		}
	}
	if len(sources) != 6 || strings.Contains(sources["docs/a-page/line22.go"], "return nil") {
		t.Errorf("%d files: %v", len(sources), sources)
	}
}

// TestFaults: each kind of fault is found, and what is right is none.
func TestFaults(t *testing.T) {
	files := map[string]string{
		"README.md":         "# Top\n\n## What it does, in figures\n[a](docs/a.md) [b](docs/a.md#the-end) [c](#what-it-does-in-figures) `[x](y)`\n",
		"docs/a.md":         "# The end\n[up](../README.md#top) [net](https://example.com/none) [dir](../ci)\n`TestHere`, `ci/x.TestThere`\n",
		"a_test.go":         "package a\n\nfunc TestHere(t *testing.T) {}\n",
		"ci/x/b_test.go":    "package x\n\nfunc TestThere(t *testing.T) {}\n",
		"testdata/other.md": "[nothing](nowhere.md)\n",
	}
	if faults, _ := written(t, files); len(faults) > 0 {
		t.Fatal(faults)
	}
	for text, want := range map[string]string{
		"[a](none.md)\n":                        "docs/b.md:1: there is no docs/none.md",
		"\n[a](a.md#begin)\n":                   "docs/b.md:2: docs/a.md has no heading #begin",
		"[a](#begin)\n":                         "docs/b.md:1: docs/b.md has no heading #begin",
		"`TestThere`\n":                         "docs/b.md:1: there is no test TestThere",
		"`ci/x.TestHere`\n":                     "docs/b.md:1: there is no test ci/x.TestHere",
		"`FuzzAll`\n":                           "docs/b.md:1: there is no test FuzzAll",
		fenced + "go\nx:=1\n" + fenced + "\n":   "docs/b.md:2: not formatted by gofmt",
		fenced + "go\nx := {\n" + fenced + "\n": "docs/b.md:2: no Go code: ",
	} {
		files[filepath.ToSlash("docs/b.md")] = text
		faults, _ := written(t, files)
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, want) }) || len(faults) != 1 {
			t.Errorf("%q: %q, should be %q", text, faults, want)
		}
	}
}
