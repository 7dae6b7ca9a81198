package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
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

// A seed at which nobody lives: who waits is told so.
func TestDeadSeed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	var out bytes.Buffer
	impatient, stop := context.WithTimeout(t.Context(), joinSoon+time.Second)
	defer stop()
	if code := run(impatient, []string{"-join", dead}, strings.NewReader(""), &out, io.Discard); code != 0 {
		t.Errorf("exit code %d, want 0: to be interrupted is no failure", code)
	}
	if want := "* nobody answers at " + dead + " yet; still trying\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q lacks %q", out.String(), want)
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
