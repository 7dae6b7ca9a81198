package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	fileName = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)*\.(go|sh|md|txt|proto)$|^[\w.-]+(/[\w.-]+)+$`)
	goName   = regexp.MustCompile(`^[A-Za-z]\w*(\.[A-Za-z]\w*)?$`)
)

// misnamed says which names in backticks are wrong. Each file and directory must exist in the module or, in the row of a table,
// in the directory that the row has named before. What follows a Go file in a row must be declared there: a method as
// Type.method.
func misnamed(text string, module fs.FS) (faults []string, err error) {
	declared := map[string]map[string]bool{} // by file
	for i, line := range strings.Split(text, "\n") {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s:%d: ", drawing, i+1)+fmt.Sprintf(format, args...))
		}
		row := strings.HasPrefix(line, "|")
		dir, file := "", ""
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			switch name := m[1]; {
			case fileName.MatchString(name):
				at := path.Join(dir, name)
				if _, err := fs.Stat(module, at); err != nil {
					at = name
				}
				switch info, err := fs.Stat(module, at); {
				case err != nil:
					fault("there is no %s", name)
				case info.IsDir() && row:
					dir = at
				case row && path.Ext(at) == ".go":
					file = at
				}
			case file != "" && goName.MatchString(name):
				if declared[file] == nil {
					if declared[file], err = declarations(module, file); err != nil {
						return nil, err
					}
				}
				if !declared[file][name] {
					fault("%s does not declare %s", file, name)
				}
			}
		}
	}
	return faults, nil
}

// declarations returns what a Go file declares: a method as Type.method.
func declarations(module fs.FS, name string) (map[string]bool, error) {
	src, err := fs.ReadFile(module, name)
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[receiver(d)+d.Name.Name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names[n.Name] = true
					}
				}
			}
		}
	}
	return names, nil
}

// receiver returns the type of a method with a dot, "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "."
		default:
			return "?."
		}
	}
}
