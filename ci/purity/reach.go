package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// listed is what is used of go list's answer about a package.
type listed struct {
	ImportPath string
	Imports    []string
	ImportMap  map[string]string
	Error      *struct{ Err string }
}

// checkReach follows the imports that the checked packages make to what they must not reach. It does not go on through
// another of them: what that reaches is its own violation.
func checkReach(dir, module string, imports map[string][]importAt) ([]violation, error) {
	args := []string{"list", "-e", "-deps", "-json=ImportPath,Imports,ImportMap,Error"}
	for pkg := range imports {
		args = append(args, "./"+pkg)
	}
	if len(imports) == 0 { // go list would take the root
		return nil, nil
	}
	out, err := run(dir, "go", args...)
	if err != nil {
		return nil, err
	}
	graph := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		graph[p.ImportPath] = p
	}

	var found []violation
	for _, made := range imports {
		for _, imp := range made {
			if _, checked := imports[strings.TrimPrefix(imp.path, module+"/")]; checked {
				continue
			}
			for _, way := range ways(graph, module, imp.path) {
				end := way[len(way)-1]
				text := "imports " + end
				if len(way) > 1 {
					text = "reaches " + end + " through " + strings.Join(way[:len(way)-1], ", ")
				}
				found = append(found, violation{imp.file, imp.line, text + ": " + forbidden(module, end)})
			}
			if p, ok := graph[imp.path]; ok && p.Error != nil && !strings.Contains(p.Error.Err, "import cycle") {
				found = append(found, violation{imp.file, imp.line, "imports " + imp.path + ", which go list cannot load: " + p.Error.Err})
			}
		}
	}
	return found, nil
}

// ways returns the shortest way from an import to each thing that must not be reached.
func ways(graph map[string]listed, module, from string) [][]string {
	var found [][]string
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		way := queue[0]
		at := way[len(way)-1]
		if forbidden(module, at) != "" {
			found = append(found, way)
			continue
		}
		for _, next := range graph[at].Imports {
			if mapped, ok := graph[at].ImportMap[next]; ok {
				next = mapped
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, append(slices.Clone(way), next))
			}
		}
	}
	return found
}

// forbidden returns why the core must not reach pkg, or "".
func forbidden(module, pkg string) string {
	const memberlist = "github.com/hashicorp/memberlist"
	switch {
	case pkg == "net":
		return "the core does no I/O (net/netip is allowed)"
	case pkg == memberlist || strings.HasPrefix(pkg, memberlist+"/"):
		return "the core does not know memberlist; the shell translates"
	case pkg == module:
		return "arrows point from the shell to the core, never back"
	case pkg == module+"/internal/transport":
		return "the core does no I/O; the shell sends what it returns"
	}
	return ""
}

// run returns what a command prints; its error holds what it complained about.
func run(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, err
}
