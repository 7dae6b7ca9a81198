package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// chart is what a flowchart says, with the lines of the file that say it.
type chart struct {
	line  int // where it begins
	nodes map[string]int
	edges map[edge]int
	named bool // it has a comment that says "imports"
}

// parse returns the one flowchart in a Markdown text. Where there are several it is the one with a comment "%% imports".
func parse(text string) (chart, error) {
	var charts []chart
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != "```mermaid" {
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
		}
		if i == len(lines) {
			return chart{}, fmt.Errorf("%s:%d: this block does not end", drawing, begin)
		}
		block := lines[begin:i]
		for len(block) > 0 && (strings.TrimSpace(block[0]) == "" || strings.HasPrefix(strings.TrimSpace(block[0]), "%%")) {
			begin, block = begin+1, block[1:]
		}
		if len(block) == 0 || !kind.MatchString(block[0]) {
			continue
		}
		c, err := parseBlock(block, begin+1)
		if err != nil {
			return chart{}, err
		}
		charts = append(charts, c)
	}
	if len(charts) > 1 {
		charts = slices.DeleteFunc(charts, func(c chart) bool { return !c.named })
		if len(charts) != 1 {
			return chart{}, errors.New(drawing + " has several flowcharts: mark the one of the imports with a line \"%% imports\"")
		}
	}
	if len(charts) == 0 {
		return chart{}, errors.New(drawing + " has no flowchart (a block ```mermaid that begins with flowchart or graph)")
	}
	return charts[0], nil
}

var (
	kind = regexp.MustCompile(`^\s*(flowchart|graph)\b`)
	// words begin lines that draw neither a node nor an arrow.
	words = regexp.MustCompile(`^(subgraph|end|direction|classDef|class|style|linkStyle)\b`)
	node  = regexp.MustCompile(`^(\w+)(\["[^"]*"\]|\("[^"]*"\)|\[+[^][]*\]+|\(+[^()]*\)+|\{+[^{}]*\}+)?(:::\w+)?\s*`)
	arrow = regexp.MustCompile(`^(-{2,}>|={2,}>|-\.+->|--\s+[^-]+\s+-->)\s*(\|[^|]*\|\s*)?`)
)

// parseBlock reads the lines of a flowchart, of which the first is line begin of the file. It refuses what it does not
// understand: an arrow must not be lost.
func parseBlock(block []string, begin int) (chart, error) {
	c := chart{line: begin, nodes: map[string]int{}, edges: map[edge]int{}}
	for i, line := range block {
		line = strings.TrimSuffix(strings.TrimSpace(line), ";")
		if comment, ok := strings.CutPrefix(line, "%%"); ok {
			c.named = c.named || strings.TrimSpace(comment) == "imports"
			continue
		}
		if i == 0 || line == "" || words.MatchString(line) {
			continue
		}
		if !c.statement(line, begin+i) {
			return c, fmt.Errorf("%s:%d: this line is not understood: %s", drawing, begin+i, line)
		}
	}
	return c, nil
}

// statement reads nodes and arrows: a --> b, a & b --> c --> d, a["text"].
func (c *chart) statement(rest string, line int) bool {
	var before []string
	for {
		var here []string
		for {
			m := node.FindStringSubmatch(rest)
			if m == nil {
				return false
			}
			rest = rest[len(m[0]):]
			here = append(here, m[1])
			if _, ok := c.nodes[m[1]]; !ok {
				c.nodes[m[1]] = line
			}
			more, ok := strings.CutPrefix(rest, "&")
			if !ok {
				break
			}
			rest = strings.TrimSpace(more)
		}
		for _, from := range before {
			for _, to := range here {
				c.edges[edge{from, to}] = line
			}
		}
		if rest == "" {
			return true
		}
		m := arrow.FindString(rest)
		if m == "" {
			return false
		}
		rest, before = rest[len(m):], here
	}
}
