package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// violation is one place that is not pure, as file:line, and what is wrong with it.
type violation struct {
	file string
	line int
	text string
}

func (v violation) String() string { return fmt.Sprintf("%s:%d: %s", v.file, v.line, v.text) }

// banned are the imports that the core's own code does not make. A path covers what is below it.
var banned = map[string]string{
	"sync":         "the core holds no lock; the shell has the one mutex around it",
	"context":      "nothing in the core waits, so there is nothing to cancel",
	"os":           "the core has no process, file or environment",
	"syscall":      "the core has no process, file or environment",
	"log":          "the core does not log; it returns what happened, and the shell logs it",
	"crypto/rand":  "randomness comes in from outside, or the protocol could not be replayed from a seed",
	"hash/maphash": "its seeds are random in each process, so the protocol could not be replayed from a seed",
}

// clock are the names of package time that read or wait for the real clock.
var clock = []string{
	"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep",
}

// seeded are the names of math/rand and math/rand/v2 that do not use their global source.
var seeded = []string{
	"New", "NewSource", "NewZipf", "NewPCG", "NewChaCha8", "Rand", "Source", "Source64", "Zipf", "PCG", "ChaCha8",
}

// importAt is one import that a package's own code makes.
type importAt struct {
	path string
	file string
	line int
}

// check returns the violations of the module in dir, in the order of their places. It begins with the core, and goes on with
// the packages of ours that those import: what the core is made of must be as pure as the core.
func check(dir string) ([]violation, error) {
	out, err := run(dir, "go", "list", "-m")
	if err != nil {
		return nil, err
	}
	module := strings.TrimSpace(string(out))
	var found []violation
	imports := map[string][]importAt{} // by package, its path in the module
	queue := slices.Clone(core)
	for i := 0; i < len(queue); i++ {
		pkg := queue[i]
		files, err := sources(filepath.Join(dir, pkg))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			found = append(found, violation{pkg, 1, "no such package, or it is all tests; the list of the core is in ci/purity"})
		}
		for _, name := range files {
			seen, made, err := checkFile(dir, path.Join(pkg, name))
			if err != nil {
				return nil, err
			}
			for _, imp := range made {
				ours, ok := strings.CutPrefix(imp.path, module+"/")
				if ok && forbidden(module, imp.path) == "" && !slices.Contains(queue, ours) {
					queue = append(queue, ours)
				}
			}
			if pkg != generated {
				found = append(found, seen...)
			}
			imports[pkg] = append(imports[pkg], made...)
		}
	}
	reached, err := checkReach(dir, module, imports)
	found = append(found, reached...)
	for i, v := range found {
		if pkg := path.Dir(v.file); !slices.Contains(core, pkg) && !slices.Contains(core, v.file) && pkg != generated {
			found[i].text += " (the core reaches this package)"
		}
	}
	slices.SortStableFunc(found, func(a, b violation) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	return found, err
}

// sources returns the names of the non-test Go files in dir, those for other systems too; none if there is no dir.
func sources(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkFile returns what one file violates by itself, and its imports. name is relative to dir.
func checkFile(dir, name string) ([]violation, []importAt, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, 0)
	if err != nil {
		return nil, nil, err
	}
	var found []violation
	add := func(pos token.Pos, format string, args ...any) {
		found = append(found, violation{name, fset.Position(pos).Line, fmt.Sprintf(format, args...)})
	}

	var imports []importAt
	local := map[string]string{} // what this file calls package time and the two math/rands
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, nil, err
		}
		imports = append(imports, importAt{imported, name, fset.Position(spec.Pos()).Line})
		for above := imported; above != "."; above = path.Dir(above) {
			if why, ok := banned[above]; ok {
				add(spec.Pos(), "imports %s: %s", imported, why)
				break
			}
		}
		switch imported {
		case "time", "math/rand", "math/rand/v2":
			as := strings.TrimSuffix(imported, "/v2")
			as = as[strings.LastIndex(as, "/")+1:]
			if spec.Name != nil {
				as = spec.Name.Name
			}
			if as == "." {
				add(spec.Pos(), "imports %s by a dot, so that its names cannot be told from our own", imported)
			}
			local[as] = imported
		}
	}

	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add(n.Pos(), "starts a goroutine: the shell owns every goroutine")
		case *ast.ChanType:
			add(n.Pos(), "names a channel type: the core returns what it has to say, and waits for nothing")
		case *ast.SelectStmt, *ast.SendStmt:
			add(n.Pos(), "uses a channel: the core returns what it has to say, and waits for nothing")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				add(n.Pos(), "receives from a channel: the core waits for nothing")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || x.Obj != nil { // Obj: a variable of that name
				break
			}
			switch local[x.Name] {
			case "time":
				if slices.Contains(clock, n.Sel.Name) {
					add(n.Pos(), "says time.%s: the time comes in as an argument", n.Sel.Name)
				}
			case "math/rand", "math/rand/v2":
				if !slices.Contains(seeded, n.Sel.Name) {
					add(n.Pos(), "says rand.%s, which uses global randomness: use a rand.Rand that comes in from outside", n.Sel.Name)
				}
			}
		}
		return true
	})
	return found, imports, nil
}
