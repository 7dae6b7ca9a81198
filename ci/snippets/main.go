// Command snippets writes the Go code of the documentation as packages, and checks what the documentation links to and which tests it
// names. ci/snippets.sh runs it, and builds and runs what it has written.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "ci/snippets: needs the directory of the repository and the one to write to")
		os.Exit(2)
	}
	faults, written, err := run(os.Args[1], os.Args[2])
	for _, fault := range faults {
		fmt.Println(fault)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci/snippets.sh:", err)
		os.Exit(2)
	}
	if len(faults) > 0 {
		fmt.Fprintf(os.Stderr, "ci/snippets.sh: %d faults in the documentation\n", len(faults))
		os.Exit(1)
	}
	fmt.Printf("snippets: %d blocks of Go code; every link and every test that a page names is there\n", written)
}

// run reads the pages below root, and writes their code to out. It returns what is wrong with them, and how many blocks there are.
func run(root, out string) (faults []string, written int, err error) {
	tree := os.DirFS(root)
	pages, err := readPages(tree)
	if err != nil {
		return nil, 0, err
	}
	tests, err := testNames(tree)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range pages {
		faults = append(faults, brokenLinks(p, pages, tree)...)
		faults = append(faults, missingTests(p, tests)...)
		files, more := sources(p)
		faults = append(faults, more...)
		for _, f := range files {
			if err := write(out, f); err != nil {
				return faults, written, err
			}
		}
		written += p.goBlocks()
	}
	return faults, written, nil
}

// readPages reads every page of the repository by its path.
func readPages(tree fs.FS) (map[string]*page, error) {
	pages := map[string]*page{}
	err := walk(tree, ".md", func(name string, text []byte) error {
		pages[name] = parse(name, string(text))
		return nil
	})
	return pages, err
}

// walk calls f for each file whose name ends so, but for what lies in testdata or in hidden directories.
func walk(tree fs.FS, suffix string, f func(name string, text []byte) error) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || name != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, suffix) {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return f(name, text)
	})
}

// write writes one file below out.
func write(out string, f source) error {
	name := filepath.Join(out, filepath.FromSlash(f.name))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(f.text), 0o644)
}
