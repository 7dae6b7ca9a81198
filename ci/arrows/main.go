// Command arrows compares the flowchart of ARCHITECTURE.md with what the packages import, and the files and functions that it
// names with those that are there. ci/arrows.sh runs it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

const drawing = "ARCHITECTURE.md"

// leftOut are packages that are not drawn, by their path in the module.
var leftOut = []string{"internal/certtest", "internal/script", "internal/seedtest", "internal/spreadtest", "internal/wiretest"}

func main() {
	if len(os.Args) > 1 {
		if err := printReal(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "ci/arrows.sh:", err)
			os.Exit(2)
		}
		return
	}
	faults, count, err := compare()
	for _, fault := range faults {
		fmt.Println(fault)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci/arrows.sh:", err)
		os.Exit(2)
	}
	if len(faults) > 0 {
		fmt.Fprintf(os.Stderr, "ci/arrows.sh: %d faults in %s\n", len(faults), drawing)
		os.Exit(1)
	}
	fmt.Printf("arrows: the %d arrows of %s are the imports of the code, and what it names is there\n", count, drawing)
}

// edge is one arrow: from imports to.
type edge struct{ from, to string }

func compare() (faults []string, count int, err error) {
	text, err := os.ReadFile(drawing)
	if err != nil {
		return nil, 0, err
	}
	drawn, err := parse(string(text))
	if err != nil {
		return nil, 0, err
	}
	packages, real, err := imports()
	if err != nil {
		return nil, 0, err
	}
	names, err := misnamed(string(text), os.DirFS("."))
	return append(differences(drawn, packages, real), names...), len(real), err
}

// printReal prints the arrows that the code has.
func printReal(args []string) error {
	if len(args) != 1 || args[0] != "--print" {
		return errors.New("takes --print and nothing else")
	}
	_, real, err := imports()
	var lines []string
	for e := range real {
		lines = append(lines, e.from+" --> "+e.to)
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	return err
}

// differences says what is wrong with the drawing.
func differences(drawn chart, packages map[string]bool, real map[edge]bool) []string {
	var faults []string
	for _, name := range sorted(drawn.nodes) {
		if !packages[name] {
			line := drawn.nodes[name]
			faults = append(faults, fmt.Sprintf("%s:%d: %s is drawn, but no package of that name counts", drawing, line, name))
		}
	}
	for _, name := range sorted(packages) {
		if _, ok := drawn.nodes[name]; !ok {
			faults = append(faults, fmt.Sprintf("%s:%d: the package %s is not drawn", drawing, drawn.line, name))
		}
	}
	for e := range real {
		if _, ok := drawn.edges[e]; !ok {
			faults = append(faults, fmt.Sprintf("%s:%d: missing: %s --> %s, which the code has", drawing, drawn.line, e.from, e.to))
		}
	}
	for e, line := range drawn.edges {
		if !real[e] {
			faults = append(faults, fmt.Sprintf("%s:%d: surplus: %s --> %s, which the code has not", drawing, line, e.from, e.to))
		}
	}
	slices.Sort(faults)
	return faults
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// imports returns the packages that are to be drawn, and the imports among them outside tests.
func imports() (map[string]bool, map[edge]bool, error) {
	out, err := goList("list", "-m")
	if err != nil {
		return nil, nil, err
	}
	module := strings.TrimSpace(string(out))
	if out, err = goList("list", "-json=ImportPath,Imports", ".", "./internal/..."); err != nil {
		return nil, nil, err
	}
	type listed struct {
		ImportPath string
		Imports    []string
	}
	var all []listed
	names := map[string]string{} // by import path
	packages := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		name := path.Base(p.ImportPath)
		if p.ImportPath == module {
			name = "root"
		} else if slices.Contains(leftOut, strings.TrimPrefix(p.ImportPath, module+"/")) {
			continue
		}
		if packages[name] {
			return nil, nil, fmt.Errorf("two packages would be drawn as %s", name)
		}
		names[p.ImportPath], packages[name] = name, true
		all = append(all, p)
	}
	edges := map[edge]bool{}
	for _, p := range all {
		for _, imported := range p.Imports {
			if to, ok := names[imported]; ok {
				edges[edge{names[p.ImportPath], to}] = true
			}
		}
	}
	return packages, edges, nil
}

func goList(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}
