// Command counts measures the size of the root package and of what is below internal, without tests and generated files,
// and holds it against limits. That of methods holds for starlingtest too, whose lines are not counted. ci/counts.sh runs it.
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	mostFiles   = 30 // in the root package
	mostMethods = 25 // of one type
	shown       = 5  // types
)

func main() {
	past := flag.Bool("past", false, "say what is over a limit, but do not fail")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "ci/counts: needs the directory of a module")
		os.Exit(2)
	}
	c, err := count(os.DirFS(flag.Arg(0)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci/counts.sh:", err)
		os.Exit(2)
	}
	over := c.over()
	fmt.Print(c)
	for _, what := range over {
		fmt.Println("over the limit:", what)
	}
	if len(over) > 0 && !*past {
		os.Exit(1)
	}
}

// counts is what was counted.
type counts struct {
	rootFiles int
	lines     int            // with blank ones and comments
	codeLines int            // without
	methods   map[string]int // by package and type
}

// counted reports whether a directory is below internal, or starlingtest.
func counted(dir string) bool {
	top, _, _ := strings.Cut(dir, "/")
	return top == "internal" || dir == starlingtest
}

// starlingtest is the package whose types are held against the limit, but whose lines are not counted.
const starlingtest = "starlingtest"

// count reads the Go files of the root directory, of internal and of starlingtest.
func count(tree fs.FS) (counts, error) {
	c := counts{methods: map[string]int{}}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && !counted(name) || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		if path.Dir(name) == "." {
			c.rootFiles++
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return c.add(name, src)
	})
	return c, err
}

// add counts one file.
func (c *counts) add(name string, src []byte) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, 0)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
			c.methods[path.Join(path.Dir(name), typeName(f.Recv.List[0].Type))]++
		}
	}
	if path.Dir(name) != starlingtest {
		c.lines += bytes.Count(src, []byte("\n"))
		c.codeLines += codeLines(src)
	}
	return nil
}

// typeName returns the name of a receiver's type, without its star and type parameters.
func typeName(expr ast.Expr) string {
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.ParenExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return fmt.Sprintf("%T", expr)
		}
	}
}

// codeLines returns how many lines have a token on them.
func codeLines(src []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, 0) // comments are skipped
	count, last := 0, 0
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return count
		}
		if tok == token.SEMICOLON && text == "\n" { // not written
			continue
		}
		first := file.Line(pos)
		end := first + strings.Count(text, "\n") // of a raw string
		count += end - max(first-1, last)
		last = end
	}
}

// largest returns the types, those with most methods first.
func (c counts) largest() []string {
	var types []string
	for name := range c.methods {
		types = append(types, name)
	}
	slices.SortFunc(types, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.methods[b], c.methods[a]), cmp.Compare(a, b))
	})
	return types
}

// over says what is over a limit.
func (c counts) over() []string {
	var found []string
	if c.rootFiles > mostFiles {
		found = append(found, fmt.Sprintf("%d files in the root, of at most %d", c.rootFiles, mostFiles))
	}
	for _, name := range c.largest() {
		if n := c.methods[name]; n > mostMethods {
			found = append(found, fmt.Sprintf("%s has %d methods, of at most %d", name, n, mostMethods))
		}
	}
	return found
}

func (c counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "files in the root, without tests: %d\n", c.rootFiles)
	fmt.Fprintf(&b, "lines in the root and internal, without tests and generated code: %d\n", c.lines)
	fmt.Fprintf(&b, "the same without blank lines and comments: %d\n", c.codeLines)
	fmt.Fprintln(&b, "methods of the largest types:")
	for i, name := range c.largest() {
		if i == shown {
			break
		}
		fmt.Fprintf(&b, "  %3d  %s\n", c.methods[name], name)
	}
	return b.String()
}
