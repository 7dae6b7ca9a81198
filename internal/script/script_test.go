package script

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestParsePrinted(t *testing.T) {
	for seed := range uint64(500) {
		s := Generate(rand.New(rand.NewPCG(seed, 0)))
		again, err := Parse(s.String())
		if err != nil {
			t.Fatalf("%v\n%v", s, err)
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("printed: %v\nparsed:  %v", s, again)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"dance", "wait", "wait -1s", "loss 1.5", "loss NaN", "crash 40", "crash", "heal 1", "members 0", "cut", "cut 1,x",
		"send 0 nowhere 20 x1", "send 0 plain 3 x1", "send 0 plain 20 x0", "mute 0", "keep 0", "seed -1",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}

// TestShrink looks for a crash after a heal in a long script, and must find nothing else left.
func TestShrink(t *testing.T) {
	s := Script{Members: 6, Retain: 15 * time.Second}
	for range 10 {
		s.Steps = append(s.Steps,
			Step{Verb: Send, Member: 3, Count: 20, Size: 700}, Step{Verb: Heal}, Step{Verb: Wait, For: time.Minute})
	}
	s.Steps = append(s.Steps, Step{Verb: Crash, Member: 4}, Step{Verb: Clear})
	fails := func(s Script) bool {
		heal := slices.IndexFunc(s.Steps, func(s Step) bool { return s.Verb == Heal })
		crash := slices.IndexFunc(s.Steps, func(s Step) bool { return s.Verb == Crash })
		return heal >= 0 && heal < crash
	}
	got := Shrink(s, fails, 1000)
	if want := []Step{{Verb: Heal}, {Verb: Crash}}; !reflect.DeepEqual(got.Steps, want) || got.Members != 2 {
		t.Errorf("shrunk to %v", got)
	}
}
