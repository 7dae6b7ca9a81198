package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// tree returns files by name and text.
func tree(files map[string]string) fstest.MapFS {
	fs := fstest.MapFS{}
	for name, text := range files {
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

func TestCount(t *testing.T) {
	c, err := count(tree(map[string]string{
		"a.go": `// Package a is counted.
package a

/* a comment
of two lines */
type T[K, V any] struct{} // a comment

func (t *T[K, V]) One() string {
	return ` + "`of\n\nthree lines`" + `
}

func (T[K, V]) Two() {}

func Three() { /* a comment */ }
`,
		"a_test.go":            "package a\n\nfunc (T) Test() {}\n",
		"a.pb.go":              "package a\n\nfunc (T) Proto() {}\n",
		"cmd/c.go":             "package c\n\nfunc (T) Elsewhere() {}\n",
		"starlingtest/s.go":    "package s\n\nfunc (T) M() {}\n",
		"starlingtest/x/x.go":  "package x\n\nfunc (T) Elsewhere() {}\n",
		"internal/b/b.go":      "package b\n\ntype T int\n\nfunc (T) M() {}\n",
		"internal/b/b_test.go": "package b\n\nfunc (T) Test() {}\n",
		"internal/testdata/x":  "not Go",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.rootFiles != 1 || c.lines != 16+5 || c.codeLines != 9+3 {
		t.Errorf("%d files, %d lines, %d of code", c.rootFiles, c.lines, c.codeLines)
	}
	if fmt.Sprint(c.methods) != "map[T:2 internal/b/T:1 starlingtest/T:1]" {
		t.Error(c.methods)
	}
	if over := c.over(); len(over) != 0 {
		t.Error(over)
	}
}

func TestOver(t *testing.T) {
	methods := func(n int) string {
		return "package a\n" + strings.Repeat("\nfunc (T) M() {}\n", n)
	}
	files := map[string]string{"internal/a/a.go": methods(mostMethods)}
	for i := range mostFiles {
		files[fmt.Sprintf("f%d.go", i)] = "package a\n"
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"f0.go", "package a\n", nil},
		{"f_test.go", "package a\n", nil},
		{"one-more.go", "package a\n", []string{"31 files in the root, of at most 30"}},
		{"internal/a/b.go", methods(1), []string{"internal/a/T has 26 methods, of at most 25"}},
		{"internal/b/b.go", methods(1), nil},
		{"starlingtest/a.go", methods(26), []string{"starlingtest/T has 26 methods, of at most 25"}},
	} {
		all := tree(files)
		all[tt.name] = &fstest.MapFile{Data: []byte(tt.text)}
		c, err := count(all)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.over(); !slices.Equal(got, tt.want) {
			t.Errorf("with %s: %q", tt.name, got)
		}
	}
}
