package starlingtest_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts plays every scenario of testdata. With -v it prints their transcripts.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	ok(t, err)
	if len(paths) == 0 {
		t.Fatal("testdata has no scripts")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			sc, err := readScript(path)
			ok(t, err)
			play(t, sc)
		})
	}
}

func TestScriptErrorsNameLineAndWord(t *testing.T) {
	for text, want := range map[string]string{
		"members a b\nbrodcast a 1 messages":     `x.txt:2: unknown word "brodcast"`,
		"members a b\ncrash c":                   `x.txt:2: unknown member: word "c"`,
		"members a b\nheal now":                  `x.txt:2: unknown word "now"`,
		"members a b\n\n# why\nlinks lost=0.1":   `x.txt:4: unknown word "lost=0.1"`,
		"members a b\nlinks loss=much":           `x.txt:2: "loss=much": "much" is no value of loss`,
		"members a b\nlinks packets=open":        `x.txt:2: "packets=open": "open" is no value of packets`,
		"members a b\nwait long":                 `x.txt:2: word "long" is no duration`,
		"members a b\nbroadcast a many messages": `x.txt:2: word "many" is no number`,
		"members a b\nbroadcast a 1 times":       `x.txt:2: word "times" where "messages" belongs`,
		"members a b\nexpect luck":               `x.txt:2: unknown word "luck"`,
		"members a b\nexpect event died a at b":  `x.txt:2: unknown event: word "died"`,
		"members a b\nexpect event failed a at":  `x.txt:2: the line ends too early`,
		"members a b\nexpect once b after 3s":    `x.txt:2: unknown member: word "after"`,
		"channel lifo\nmembers a":                `x.txt:1: unknown word "lifo"`,
		"members a b\npartition a |":             `x.txt:2: the line ends too early`,
		"# nothing\n":                            `x.txt: no line begins with members`,
	} {
		_, err := parseScript("x.txt", text)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %v", text, err, want)
		}
	}
}
