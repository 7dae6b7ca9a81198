package main

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A source is a file of Go that was made of a block.
type source struct {
	name string // its path below the directory of all
	text string
}

// sources makes Go files of a page's code: one package of its fragments, and one for each whole program.
//
//   - A block that begins with "package main" is a program as it stands.
//   - One of declarations stands in the page's package. It is a test if it declares one.
//   - All others are statements, in a function that has a context, ctx, and a cluster, c, and returns an error.
//
// Declarations in comments belong to the package, too. Fragments import what they use of the packages below.
func sources(p *page) (files []source, faults []string) {
	dir := strings.ToLower(strings.TrimSuffix(p.name, ".md"))
	pkg := strings.ReplaceAll(path.Base(dir), "-", "")
	programs := 0
	add := func(b block, shown bool) {
		at := fmt.Sprintf("%s:%d", p.name, b.line)
		if formatted, err := format.Source([]byte(b.text)); err != nil {
			faults = append(faults, fmt.Sprintf("%s: no Go code: %v", at, err))
			return
		} else if shown && string(formatted) != b.text {
			faults = append(faults, at+": not formatted by gofmt")
		}
		base := fmt.Sprintf("line%d", b.line)
		if strings.HasPrefix(b.text, "package main\n") {
			programs++
			files = append(files, source{path.Join(dir, fmt.Sprintf("program%d", programs), "main.go"), b.text})
			return
		}
		text, test := fragment(b, pkg, at)
		if test {
			base += "_test"
		}
		files = append(files, source{path.Join(dir, base+".go"), text})
	}
	for _, b := range p.blocks {
		if b.lang == "go" {
			add(b, true)
		}
	}
	for _, b := range p.hidden {
		add(b, false)
	}
	return files, faults
}

// fragment makes a file of a block that is none, and tells whether it is one of tests. at is where a compiler shall say that it is.
func fragment(b block, pkg, at string) (text string, test bool) {
	if abs, err := filepath.Abs(at); err == nil {
		at = abs
	}
	body := "//line " + at + "\n" + b.text
	f, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0)
	if err != nil {
		end := ""
		if !returns(b.text) {
			end = "\treturn nil\n"
		}
		body = fmt.Sprintf("func line%d(ctx context.Context, c *starling.Cluster) error {\n%s%s}\n", b.line, body, end)
		if f, err = parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0); err != nil {
			return "package " + pkg + "\n" + body, false // the compiler says what is wrong
		}
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && isTest(fn.Name.Name) {
			test = true
		}
	}
	return "package " + pkg + "\n\n" + importsOf(f) + body, test
}

// returns reports whether statements end with a return.
func returns(statements string) bool {
	f, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() {\n"+statements+"\n}", 0)
	if err != nil {
		return false
	}
	list := f.Decls[0].(*ast.FuncDecl).Body.List
	if len(list) == 0 {
		return false
	}
	_, ok := list[len(list)-1].(*ast.ReturnStmt)
	return ok
}

// known are the packages that fragments may use without saying where they are, by their names.
var known = byName(
	"context", "crypto/tls", "crypto/x509", "encoding/json", "errors", "fmt", "io", "iter", "log", "log/slog", "maps", "net",
	"net/http", "net/netip", "os", "os/signal", "slices", "strings", "sync", "sync/atomic", "syscall", "testing", "time",
	"github.com/hashicorp/memberlist",
	"github.com/prometheus/client_golang/prometheus",
	"github.com/prometheus/client_golang/prometheus/promhttp",
	"github.com/starling-go/starling",
	"github.com/starling-go/starling/examples/chat/chatpb",
	"github.com/starling-go/starling/starlinghttp",
	"github.com/starling-go/starling/starlingkeys",
	"github.com/starling-go/starling/starlingotel",
	"github.com/starling-go/starling/starlingprom",
	"github.com/starling-go/starling/starlingstatus",
	"github.com/starling-go/starling/starlingtest",
)

func byName(paths ...string) map[string]string {
	names := map[string]string{}
	for _, p := range paths {
		names[path.Base(p)] = p
	}
	return names
}

// importsOf is the declaration of what a file uses of the known packages.
func importsOf(f *ast.File) string {
	free := map[*ast.Ident]bool{}
	for _, id := range f.Unresolved {
		free[id] = true
	}
	used := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && free[id] && known[id.Name] != "" {
				used[known[id.Name]] = true
			}
		}
		return true
	})
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(used)) {
		fmt.Fprintf(&b, "import %q\n", p)
	}
	return b.String()
}
