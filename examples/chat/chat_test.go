package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]command{
		"hello there":        {text: "hello there"},
		"/to b hello there":  {verb: "/to", to: "b", text: "hello there"},
		"/to  b\thello":      {verb: "/to", to: "b", text: "hello"},
		"/to b":              {verb: "/to", to: "b"},
		"/to":                {verb: "/to"},
		"/who":               {verb: "/who"},
		"/tomorrow at eight": {verb: "/tomorrow", text: "at eight"},
	} {
		if got := parseCommand(line); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
}

func TestJoinFlagsAddUp(t *testing.T) {
	o, err := parse([]string{"-join", "a:1, b:2", "-join", "c:3,"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a:1", "b:2", "c:3"}; !slices.Equal(o.seeds, want) {
		t.Errorf("got %q, want %q", o.seeds, want)
	}
}

func TestUsageFaults(t *testing.T) {
	for _, args := range [][]string{{"-name", "a b"}, {"argument"}, {"-nope"}} {
		if code := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
}

func TestOthersDoNotCommandTheTerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	s.line("b\x1b[2J", "é\x07 \u009b1m\nc: forged", false)
	if got, want := out.String(), "b\uFFFD[2J: é\uFFFD \uFFFD1m\uFFFDc: forged\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
