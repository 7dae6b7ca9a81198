// Command slowtests reads what go test -json says, prints it as go test without -json would, and then lists the tests that
// took long. It fails if a test failed, if one that took long is not in the file of those that may, with its reason, or if
// that file names a test that did not run. ci/test.sh runs it.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	limit := flag.Duration("limit", 5*time.Second, "how long a test may take without a reason")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "ci/slowtests: needs the file of the tests that may be slow")
		os.Exit(2)
	}
	ok, err := run(os.Stdin, os.Stdout, flag.Arg(0), limit.Seconds())
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci/slowtests:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, file string, limit float64) (bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	known, err := parseReasons(file, string(text))
	if err != nil {
		return false, err
	}
	r, err := read(in, out)
	if err != nil {
		return false, err
	}
	faults := r.judge(out, known, limit)
	for _, fault := range faults {
		fmt.Fprintln(out, fault)
	}
	return len(faults) == 0 && !r.failed, nil
}

// reason says why the tests of a pattern are slow.
type reason struct {
	place   string // file:line
	pattern *regexp.Regexp
	text    string
}

// parseReasons reads lines of a pattern, a tab and a reason. The pattern is a regular expression for the whole name of a
// test, as in TestCluster/20; the lines that begin with # are comments.
func parseReasons(file, text string) ([]reason, error) {
	var known []reason
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		place := fmt.Sprintf("%s:%d", file, i+1)
		name, why, _ := strings.Cut(line, "\t")
		if strings.TrimSpace(why) == "" {
			return nil, fmt.Errorf("%s: needs a pattern, a tab and a reason", place)
		}
		pattern, err := regexp.Compile("^(?:" + name + ")$")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		known = append(known, reason{place, pattern, strings.TrimSpace(why)})
	}
	return known, nil
}

// event is a line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of what is built
	Test       string
	Elapsed    float64
	Output     string
}

// test is one that ended.
type test struct {
	pkg, name string
	seconds   float64
}

type report struct {
	tests  []test
	failed bool // a test or a package failed
}

// read reads events, and prints what go test would: a line for each package, and all that a test printed that failed or
// did not end.
func read(in io.Reader, out io.Writer) (report, error) {
	var r report
	type key struct{ pkg, name string }
	printed := map[key]*strings.Builder{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return r, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil { // go test may say something else too
				fmt.Fprintf(out, "%s", line)
				e = event{}
			}
			k := key{e.Package, e.Test}
			switch e.Action {
			case "output":
				if e.Test == "" {
					if e.Output != "PASS\n" {
						fmt.Fprint(out, e.Output)
					}
					break
				}
				if printed[k] == nil {
					printed[k] = new(strings.Builder)
				}
				printed[k].WriteString(e.Output)
			case "build-output":
				fmt.Fprint(out, e.Output)
			case "build-fail":
				r.failed = true
			case "pass", "fail", "skip":
				failed := e.Action == "fail"
				r.failed = r.failed || failed
				if e.Test != "" {
					r.tests = append(r.tests, test{e.Package, e.Test, e.Elapsed})
					if failed && printed[k] != nil {
						fmt.Fprint(out, printed[k])
					}
					delete(printed, k)
					break
				}
				for other, text := range printed { // of tests that did not end
					if other.pkg == e.Package {
						if failed {
							fmt.Fprint(out, text)
						}
						delete(printed, other)
					}
				}
			}
		}
		if err == io.EOF {
			return r, nil
		}
	}
}

// judge prints the tests that took longer than limit, with their reasons, and returns what is wrong with them.
func (r report) judge(out io.Writer, known []reason, limit float64) []string {
	var faults []string
	slices.SortStableFunc(r.tests, func(a, b test) int { return int(1000 * (b.seconds - a.seconds)) })
	for _, t := range r.tests {
		if t.seconds <= limit {
			break
		}
		i := slices.IndexFunc(known, func(k reason) bool { return k.pattern.MatchString(t.name) })
		if i < 0 {
			faults = append(faults, fmt.Sprintf("slow without a reason: %s of %s took %.1f s, more than %g s: "+
				"make it faster, or say in ci/slow.txt why it cannot be", t.name, t.pkg, t.seconds, limit))
			continue
		}
		fmt.Fprintf(out, "slow: %5.1f s %s of %s: %s\n", t.seconds, t.name, t.pkg, known[i].text)
	}
	for _, k := range known {
		if !slices.ContainsFunc(r.tests, func(t test) bool { return k.pattern.MatchString(t.name) }) {
			faults = append(faults, fmt.Sprintf("%s: no test is called %s", k.place, k.pattern))
		}
	}
	if len(r.tests) == 0 {
		faults = append(faults, "no test ran")
	}
	return faults
}
