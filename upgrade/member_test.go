package upgrade

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// build builds the member program of the module in a directory.
func build(tb testing.TB, dir, name string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", path, "./member")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	return path
}

// buildAt builds the member program of a commit. It skips the test where that commit is not to be had: in a copy without the history.
func buildAt(tb testing.TB, commit string) string {
	tb.Helper()
	if err := exec.Command("git", "cat-file", "-e", commit+"^{commit}").Run(); err != nil {
		fmt.Printf("not checked: members of commit %s, which is not in this copy of the repository\n", commit)
		tb.Skip("the commit is not here")
	}
	dir := tb.TempDir()
	archive := exec.Command("git", "-C", "..", "archive", commit)
	extract := exec.Command("tar", "-x", "-C", dir)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	extract.Stdin = pipe
	if err := archive.Start(); err != nil {
		tb.Fatal(err)
	}
	if out, err := extract.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	if err := archive.Wait(); err != nil {
		tb.Fatal(err)
	}
	return build(tb, filepath.Join(dir, "upgrade"), "earlier")
}

// process is one run of a member.
type process struct {
	tb   testing.TB
	slot string // whose place it takes
	name string
	addr string
	late bool // it is of now, not of the earlier commit

	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	log   *os.File
	since map[string]int // by run: it is owed what comes after that number
	sent  map[string]int // by member: how many messages it was sent alone
	last  int            // the last number that it broadcast, once it has stopped or left
	ended bool
}

// launch starts a run of a member.
func launch(tb testing.TB, program, slot string, number int, late bool) *process {
	tb.Helper()
	p := &process{tb: tb, slot: slot, late: late, since: map[string]int{}, sent: map[string]int{}}
	p.name = fmt.Sprintf("%s-%d", slot, number)
	var err error
	if p.log, err = os.Create(filepath.Join(tb.TempDir(), "log")); err != nil {
		tb.Fatal(err)
	}
	p.cmd = exec.Command(program, "-name", p.name, "-run", p.name)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if !p.ended {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		_ = p.log.Close()
		if text, err := os.ReadFile(p.log.Name()); err == nil && tb.Failed() {
			tb.Logf("the log of %s (late %v):\n%s", p.name, p.late, text)
		}
	})
	p.addr = strings.TrimPrefix(p.answer(), "addr ")
	return p
}

// patience ends what hangs. A member gives up a command after 30 s by itself.
const patience = time.Minute

func (p *process) answer() string {
	p.tb.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer watchdog.Stop()
	line, err := p.out.ReadString('\n')
	line = strings.TrimSpace(line)
	if err != nil || strings.HasPrefix(line, "error ") && !strings.Contains(line, "written off for") {
		p.tb.Fatalf("%s answers %q, %v", p.name, line, err)
	}
	return line
}

// tell gives a command and returns its answer, without the word that it begins with.
func (p *process) tell(command string, args ...string) string {
	p.tb.Helper()
	if _, err := fmt.Fprintln(p.in, command, strings.Join(args, " ")); err != nil {
		p.tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(p.answer(), " ")
	return rest
}

func (p *process) count(command string) int {
	p.tb.Helper()
	n, err := strconv.Atoi(p.tell(command))
	if err != nil {
		p.tb.Fatal(err)
	}
	return n
}

// end lets the process leave.
func (p *process) end() {
	p.tb.Helper()
	p.last = p.count("leave")
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		p.tb.Errorf("%s: %v", p.name, err)
	}
}

// report is what a member says that it has had.
type report struct {
	Seen    map[string][][2]int
	Twice   int
	Direct  map[string]int
	State   []string
	Table   map[string]int
	Faults  []string
	Events  []string
	Members int
	Foreign int
	Lagging []string
	Dropped map[string]uint64
	Lost    uint64
	Reused  uint64
}

func (p *process) report() (r report) {
	p.tb.Helper()
	if _, err := fmt.Fprintln(p.in, "report"); err != nil {
		p.tb.Fatal(err)
	}
	if err := json.Unmarshal([]byte(p.answer()), &r); err != nil {
		p.tb.Fatal(err)
	}
	return r
}

// lacks returns the first number of a run from the given one on, up to the last, that was not handled; 0: all were.
func (r report) lacks(run string, from, last int) int {
	for _, span := range r.Seen[run] {
		if span[0] <= from && from <= span[1] {
			from = span[1] + 1
		}
	}
	if from <= last {
		return from
	}
	return 0
}
