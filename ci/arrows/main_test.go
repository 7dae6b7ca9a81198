package main

import (
	"slices"
	"strings"
	"testing"
)

// page returns a Markdown text with the chart from line 3 on.
func page(lines ...string) string {
	return "# Title\n```mermaid\nflowchart TD\n" + strings.Join(lines, "\n") + "\n```\n"
}

func TestParse(t *testing.T) {
	c, err := parse(page(
		`  %% a comment`,
		`  root["root: (shell)"] --> replica & transport`,
		`  subgraph core [The core]`,
		`    replica -->|uses| store --> wire[internal/wire]:::low;`,
		`    replica -.-> seqset`,
		`  end`,
		`  classDef low fill:#eee`,
		`  transport -- sends --> wire`,
		`  lonely`,
	))
	if err != nil {
		t.Fatal(err)
	}
	want := map[edge]int{
		{"root", "replica"}: 5, {"root", "transport"}: 5, {"replica", "store"}: 7, {"store", "wire"}: 7,
		{"replica", "seqset"}: 8, {"transport", "wire"}: 11,
	}
	if len(c.edges) != len(want) {
		t.Errorf("edges: %v", c.edges)
	}
	for e, line := range want {
		if c.edges[e] != line {
			t.Errorf("%v at line %d, not %d", e, c.edges[e], line)
		}
	}
	if c.nodes["lonely"] != 12 || len(c.nodes) != 7 {
		t.Errorf("nodes: %v", c.nodes)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{"a --- b", "a -->", "--> b", "a b", "a <-- b", "a --> b &", "click a"} {
		if c, err := parse(page(line)); err == nil {
			t.Errorf("%q was read as %v", line, c.edges)
		}
	}
	if _, err := parse("# Nothing\n"); err == nil {
		t.Error("a page without a chart was read")
	}
	if _, err := parse("```mermaid\nflowchart TD\na --> b\n"); err == nil {
		t.Error("a block without an end was read")
	}
}

func TestParseChoosesTheChartOfImports(t *testing.T) {
	other := "```mermaid\nsequenceDiagram\n  a->>b: hello\n```\n"
	if c, err := parse(other + page("a --> b")); err != nil || len(c.edges) != 1 {
		t.Errorf("beside a sequence: %v, %v", c.edges, err)
	}
	if _, err := parse(page("a --> b") + page("c --> d")); err == nil {
		t.Error("two charts were one")
	}
	if c, err := parse(page("a --> b") + page("%% imports", "c --> d")); err != nil || c.edges[edge{"c", "d"}] == 0 {
		t.Errorf("the marked one was not chosen: %v, %v", c.edges, err)
	}
}

func TestDifferences(t *testing.T) {
	packages := map[string]bool{"root": true, "replica": true, "wire": true}
	real := map[edge]bool{{"root", "replica"}: true, {"replica", "wire"}: true}
	for _, tt := range []struct {
		lines []string
		want  []string
	}{
		{[]string{"root --> replica --> wire"}, nil},
		{[]string{"root --> replica", "wire"}, []string{"ARCHITECTURE.md:3: missing: replica --> wire, which the code has"}},
		{[]string{"root --> replica --> wire", "root --> wire"}, []string{
			"ARCHITECTURE.md:5: surplus: root --> wire, which the code has not",
		}},
		{[]string{"replica --> root", "replica --> wire"}, []string{
			"ARCHITECTURE.md:3: missing: root --> replica, which the code has",
			"ARCHITECTURE.md:4: surplus: replica --> root, which the code has not",
		}},
		{[]string{"root --> replica"}, []string{
			"ARCHITECTURE.md:3: missing: replica --> wire, which the code has",
			"ARCHITECTURE.md:3: the package wire is not drawn",
		}},
		{[]string{"root --> replica --> wire", "shell"}, []string{
			"ARCHITECTURE.md:5: shell is drawn, but no package of that name counts",
		}},
	} {
		c, err := parse(page(tt.lines...))
		if err != nil {
			t.Fatal(err)
		}
		if got := differences(c, packages, real); !slices.Equal(got, tt.want) {
			t.Errorf("%q:\n%s", tt.lines, strings.Join(got, "\n"))
		}
	}
}
