package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// saysGoodbye lets members leave, one second after start, having sent so many parts.
func saysGoodbye(t *testing.T, r *Replica, top uint64, members ...int) {
	t.Helper()
	now := start.Add(time.Second)
	for _, i := range members {
		receiveControl(t, r, testPeer(i), wire.BodyGoodbye, &starlingpb.Goodbye{Next: top, Top: top}, now)
		r.Change(testPeer(i), wire.Peer{}, now)
	}
	r.out.Packets, r.out.Streams = nil, nil
}

// toldGoodbyes takes who is told of whose goodbye, as "p3 of 101".
func toldGoodbyes(t *testing.T, r *Replica, now time.Time) (texts []string) {
	t.Helper()
	for _, c := range takeTold(t, r, wire.BodyBaseline, now) {
		var m starlingpb.Baseline
		if c.decode(t, &m); !m.GetGone() {
			continue
		}
		if !m.GetUnasked() || !m.GetStream() || !c.stream || m.GetNext() != m.GetTop() {
			t.Errorf("%s is told %v, stream %v", c.to, &m, c.stream)
		}
		texts = append(texts, fmt.Sprintf("%s of %d", c.to, m.GetOrigin()))
	}
	return texts
}

// TestMetLateIsTold: a member that is met after others have left, and does not say that it is a newcomer, is told of their goodbyes after
// 1, 4 and 16 s; one that says so, or leaves, is told no more.
func TestMetLateIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(r *Replica, now time.Time) // 2 s after they have met
		want    []time.Duration                 // in whole seconds
	}{
		"nothing": {func(*Replica, time.Time) {}, []time.Duration{time.Second, 4 * time.Second, 16 * time.Second}},
		"asks": {func(r *Replica, now time.Time) {
			receiveControl(t, r, testPeer(3), wire.BodyAsk, &starlingpb.BaselineAsk{}, now)
		}, []time.Duration{time.Second}},
		"leaves": {func(r *Replica, now time.Time) { r.Change(testPeer(3), wire.Peer{}, now) }, []time.Duration{time.Second}},
	} {
		r := testReplica(testLimits(), 2)
		saysGoodbye(t, r, 7, 1)
		met := start.Add(5 * time.Second)
		r.Change(wire.Peer{}, testPeer(3), met)
		var at []time.Duration
		for after := time.Duration(0); after < 2*time.Minute; after += tickEvery {
			if after == 2*time.Second {
				test.happens(r, met.Add(after))
				toldGoodbyes(t, r, met.Add(after))
			}
			r.Tick(met.Add(after))
			for _, text := range toldGoodbyes(t, r, met.Add(after)) {
				if text == "p3 of 101" {
					at = append(at, after.Truncate(time.Second))
				}
			}
		}
		if !slices.Equal(at, test.want) || len(r.goodbyes.met) != 0 {
			t.Errorf("%s: told after %v, want %v; %d are to be told", name, at, test.want, len(r.goodbyes.met))
		}
	}
}

// TestMetLateIsAsked: a member that is met for the first time, and is no newcomer, is asked what it owes us, whether it has asked us or not: it may
// have told us of goodbyes before we had met it. One that has answered since we met it is not asked again.
func TestMetLateIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		member time.Duration // for which the other one is a member, as it says when they have met; 0: it says nothing
		asked  bool
	}{"says nothing": {0, true}, "is a newcomer": {onTheWay, false}, "is none": {time.Minute, true}, "answers": {time.Minute, false}} {
		r := testReplica(testLimits(), 2)
		met := start.Add(5 * time.Second)
		r.Change(wire.Peer{}, testPeer(3), met)
		if name == "answers" {
			r.baselines.ask(r.roster.get(103), false, met)
			nonce := r.roster.get(103).asked.nonce
			receiveControl(t, r, testPeer(3), wire.BodyBaseline, &starlingpb.Baseline{Next: 1, Nonce: nonce}, met)
		}
		if test.member > 0 {
			receiveControl(t, r, testPeer(3), wire.BodyAsk, &starlingpb.BaselineAsk{SinceMs: uint64(test.member.Milliseconds())}, met.Add(tickEvery))
		}
		if r.Tick(met.Add(askedWithin)); r.roster.get(103).asked != nil {
			t.Errorf("%s: it is asked at once", name)
		}
		if r.Tick(met.Add(askedWithin + tickEvery)); r.roster.get(103).asked != nil != test.asked {
			t.Errorf("%s: it is asked: %v", name, !test.asked)
		}
	}
}

// TestGoodbyesSinceItJoined: a member that says since when it is one is told who has left since, once a second; not of those that have
// sent nothing. One that comes back is told of all, but not of its own.
func TestGoodbyesSinceItJoined(t *testing.T) {
	r := testReplica(testLimits(), 5)
	saysGoodbye(t, r, 7, 1, 2)
	saysGoodbye(t, r, 0, 3)
	now := start.Add(10 * time.Second)
	asks := func(since, after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		r.out.Packets, r.out.Streams = nil, nil
		receiveControl(t, r, testPeer(4), wire.BodyAsk, &starlingpb.BaselineAsk{SinceMs: uint64(since.Milliseconds())}, now)
		if got := toldGoodbyes(t, r, now); !slices.Equal(got, want) {
			t.Errorf("a member for %v is told %v, want %v", since, got, want)
		}
	}
	asks(5*time.Second, 0)
	asks(time.Minute, goodbyesEvery)
	asks(time.Minute, 1, "p4 of 101", "p4 of 102")
	asks(time.Minute, goodbyesEvery)
	r.Change(wire.Peer{}, testPeer(2), now)
	if got := toldGoodbyes(t, r, now); !slices.Equal(got, []string{"p2 of 101"}) {
		t.Errorf("one that comes back is told %v", got)
	}
}

// TestGoodbyeToThoseAfter: who became a member after another had left is owed nothing of it; and what a goodbye says is kept of so many.
func TestGoodbyeToThoseAfter(t *testing.T) {
	r := testReplica(testLimits(), 2)
	saysGoodbye(t, r, 7, 1)
	now := start.Add(5 * time.Second)
	receiveControl(t, r, testPeer(2), wire.BodyAsk, &starlingpb.BaselineAsk{Origin: 101, SinceMs: 1000}, now)
	if m := baselineOf(t, r, "p2", now); m.GetNext() != 8 || m.GetTop() != 7 {
		t.Errorf("told %v", m)
	}
	long := &starlingpb.Goodbye{}
	for i := range uint64(2 * maxOwed) {
		long.Owed = append(long.Owed, &starlingpb.Owed{Member: i + 1, Next: 1})
	}
	if g := newGoodbye(long, start); len(g.owed) != maxOwed {
		t.Errorf("%d are kept", len(g.owed))
	}
}
