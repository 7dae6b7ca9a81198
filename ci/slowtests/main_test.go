package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const events = `{"Action":"run","Package":"p","Test":"TestFast"}
{"Action":"output","Package":"p","Test":"TestFast","Output":"chatter of one that passes\n"}
{"Action":"pass","Package":"p","Test":"TestFast","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestLong/20","Elapsed":7.5}
{"Action":"pass","Package":"p","Test":"TestLong","Elapsed":5}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t7.600s\n"}
{"Action":"pass","Package":"p","Elapsed":7.6}
`

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, in, reasons string
		ok                bool
		want, not         string
	}{
		{"listed", events, "# why\nTestLong/.*\tit waits\n", true, "slow:   7.5 s TestLong/20 of p: it waits\n", "TestLong of p"},
		{"package line", events, "TestLong/20\tit waits\n", true, "ok  \tp\t7.600s\n", "chatter"},
		{"not listed", events, "", false, "slow without a reason: TestLong/20 of p took 7.5 s", ""},
		{"half of the name listed", events, "TestLong\tit waits\n", false, "slow without a reason: TestLong/20", ""},
		{"listed and gone", events, "TestLong/20\tit waits\nTestGone\tit waited\n", false,
			":2: no test is called ^(?:TestGone)$", "without"},
		{"listed and fast", events, "TestLong/20\tit waits\nTestFast\tit may wait\n", true, "", "TestFast"},
		{"nothing ran", "", "", false, "no test ran", ""},
		{"a failure", `{"Action":"output","Package":"p","Test":"TestA","Output":"what it said\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"fail","Package":"p","Elapsed":0.1}
`, "", false, "what it said\n", ""},
		{"a panic", `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: what it said\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`, "", false, "panic: what it said\n", ""},
		{"a package that does not build", `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:1: what is wrong\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"pass","Package":"q","Test":"TestQ"}
`, "", false, "p.go:1: what is wrong\n", ""},
		{"not JSON", "go: a warning\n" + events, "TestLong/20\tit waits\n", true, "go: a warning\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "slow.txt")
			if err := os.WriteFile(file, []byte(tt.reasons), 0o644); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			ok, err := run(strings.NewReader(tt.in), &out, file, 5)
			if err != nil {
				t.Fatal(err)
			}
			if ok != tt.ok || !strings.Contains(out.String(), tt.want) || tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("ok: %v, printed:\n%s", ok, out.String())
			}
		})
	}
}

func TestReasonsNeedReasons(t *testing.T) {
	for _, text := range []string{"TestA\n", "TestA\t \n", "Test(\tit waits\n"} {
		if _, err := parseReasons("slow.txt", text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
