package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// plant is what is put into the scratch copy for one run of the check.
type plant struct {
	name  string
	files map[string]string // by path; a line that ends in HERE is where the violation must be reported
	want  string            // must be in its text; "" if nothing may be reported
}

// in is a plant of one file in one core package.
func in(pkg, name, want, code string) plant {
	file := path.Join("internal", pkg, "zz_planted.go")
	return plant{name, map[string]string{file: "package " + pkg + "\n\n" + code}, want}
}

func plants(module string) []plant {
	list := []plant{
		// (a) what is reached
		in("seqset", "net", "imports net:", "import _ \"net\" // HERE\n"),
		in("wire", "net through the standard library", "reaches net through net/http", "import _ \"net/http\" // HERE\n"),
		in("store", "memberlist", "imports github.com/hashicorp/memberlist:", "import _ \"github.com/hashicorp/memberlist\" // HERE\n"),
		in("receipt", "the root package", "imports "+module+":", "import _ \""+module+"\" // HERE\n"),
		in("spread", "internal/transport", "imports "+module+"/internal/transport: the core does no I/O",
			"import _ \""+module+"/internal/transport\" // HERE\n"),
		in("replica", "net by a way that is longer", "reaches net through crypto/tls", "import _ \"crypto/tls\" // HERE\n"),
		{"a package of ours that the core imports", map[string]string{
			"internal/wire/zz_planted.go": "package wire\n\nimport _ \"" + module + "/internal/zzplanted\"\n",
			"internal/zzplanted/zz.go":    "package zzplanted\n\nimport \"sync\" // HERE\n\nvar zz sync.Mutex\n",
		}, "imports sync: "},
		{"the root, from a package of ours that the core imports", map[string]string{
			"internal/wire/zz_planted.go": "package wire\n\nimport _ \"" + module + "/internal/zzplanted\"\n",
			"internal/zzplanted/zz.go":    "package zzplanted\n\nimport _ \"" + module + "\" // HERE\n",
		}, "imports " + module + ": "},
		{"a file for another system", map[string]string{
			"internal/seqset/zz_planted.go": "//go:build plan9\n\npackage seqset\n\nimport _ \"net\" // HERE\n",
		}, "imports net:"},
		{"memberlist through starlingpb", map[string]string{
			"internal/wire/zz_planted.go": "package wire\n\nimport _ \"" + module + "/starlingpb\"\n",
			"starlingpb/zz_planted.go":    "package starlingpb\n\nimport _ \"github.com/hashicorp/memberlist\" // HERE\n",
		}, "imports github.com/hashicorp/memberlist: "},

		// (b) what is imported
		in("store", "sync", "imports sync:", "import \"sync\" // HERE\n\nvar zz sync.Mutex\n"),
		in("receipt", "sync/atomic", "imports sync/atomic:", "import \"sync/atomic\" // HERE\n\nvar zz atomic.Int64\n"),
		in("spread", "context", "imports context:", "import \"context\" // HERE\n\nvar zz context.Context\n"),
		in("replica", "os", "imports os:", "import \"os\" // HERE\n\nvar zz = os.Args\n"),
		in("seqset", "log", "imports log:", "import zz \"log\" // HERE\n\nvar _ = zz.Println\n"),
		in("wire", "log/slog", "imports log/slog:", "import \"log/slog\" // HERE\n\nvar zz slog.Logger\n"),
		in("wire", "crypto/rand", "imports crypto/rand:", "import \"crypto/rand\" // HERE\n\nvar zz = rand.Reader\n"),

		// (c) what is said
		in("store", "go", "starts a goroutine", "func zz() {\n\tgo zz() // HERE\n}\n"),
		in("receipt", "make(chan)", "names a channel type", "func zz() {\n\tzz := make(chan int) // HERE\n\t_ = zz\n}\n"),
		in("spread", "a field that is a channel", "names a channel type", "type zz struct {\n\tc <-chan int // HERE\n}\n"),
		in("replica", "select", "uses a channel", "func zz() {\n\tselect {} // HERE\n}\n"),
		in("seqset", "math/rand", "says rand.Int,", "import \"math/rand\"\n\nvar zz = rand.Int() // HERE\n"),
		in("wire", "math/rand/v2, renamed, as a value", "says rand.N,", "import zz \"math/rand/v2\"\n\nvar zzz = zz.N[int] // HERE\n"),
		in("store", "time by a dot", "imports time by a dot", "import . \"time\" // HERE\n\nvar zz = Now()\n"),
		in("receipt", "time under another name", "says time.Now:", "import zz \"time\"\n\nvar zzz = zz.Now // HERE\n"),
	}
	// Not the list that the check uses: a name that is lost there must be missed here.
	said := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	for i, name := range said { // each in another package
		pkg := path.Base(core[i%len(core)])
		list = append(list, in(pkg, "time."+name, "says time."+name+":", "import \"time\"\n\nvar zz = time."+name+" // HERE\n"))
	}
	return append(list,
		in("wire", "net/netip, a duration, a seeded source, a variable called time", "", `import (
	"math/rand/v2"
	"net/netip"
	"time"
)

var (
	_ netip.Addr
	_ = time.Second
	_ = rand.New(rand.NewPCG(1, 2))
)

type zz struct{ Now int }

func (time zz) zz() int { return time.Now }
`),
		plant{"a test that uses all of it", map[string]string{"internal/store/zz_planted_test.go": `package store

import (
	"net"
	"sync"
	"time"
)

var (
	_ net.Addr
	_ sync.Mutex
	_ = time.Now
	_ = make(chan int)
)

func zz() { go zz() }
`}, ""})
}

// selfTest plants one violation after the other in a copy of the module in dir and runs this program on it.
func selfTest(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := run(dir, "go", "list", "-m")
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "purity")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := copyModule(scratch, dir); err != nil {
		return err
	}
	before, err := exec.Command(self, "-C", scratch).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the copy is not pure before anything is planted:\n%s", before)
	}

	list := plants(strings.TrimSpace(string(out)))
	for _, p := range list {
		if err := p.try(self, scratch); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}

	// At last a package that is not there.
	if err := os.RemoveAll(filepath.Join(scratch, core[0])); err != nil {
		return err
	}
	after, err := exec.Command(self, "-C", scratch).CombinedOutput()
	if err == nil || !strings.Contains(string(after), core[0]+":1: no such package") {
		return fmt.Errorf("%s is gone, and the check printed (%v):\n%s", core[0], err, after)
	}
	fmt.Printf("purity: %d plants in a copy: each violation was found in its place, and nothing else\n", len(list)+1)
	return nil
}

// try runs the check with the plant in scratch, and takes the plant out again.
func (p plant) try(self, scratch string) error {
	want := map[string]bool{} // file:line
	for name, code := range p.files {
		file := filepath.Join(scratch, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(code), 0o644); err != nil {
			return err
		}
		defer os.Remove(file)
		for i, line := range strings.Split(code, "\n") {
			if strings.HasSuffix(line, "HERE") {
				want[fmt.Sprintf("%s:%d: ", name, i+1)] = true
			}
		}
	}

	out, err := exec.Command(self, "-C", scratch).CombinedOutput()
	if p.want == "" {
		if err != nil {
			return fmt.Errorf("was reported, but is allowed:\n%s", out)
		}
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		return fmt.Errorf("was not found (%v):\n%s", err, out)
	}
	for place := range want {
		if !strings.Contains(string(out), place) || !strings.Contains(string(out), p.want) {
			return fmt.Errorf("no %q at %s in:\n%s", p.want, place, out)
		}
	}
	return nil
}

// copyModule copies what the check looks at: go.mod, go.sum, and the Go code that is no test.
func copyModule(to, from string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && rel != "." { // another module
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		name := d.Name()
		if name != "go.mod" && name != "go.sum" && (!strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go")) {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
}
