package replica

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestUnheld: a message that was given up for all is unheld, until a member says that it has come, or it is kept no more; one that somebody holds, or
// that was for nobody, is not.
func TestUnheld(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	unheld := func(now time.Time, want int, hope bool) {
		t.Helper()
		if n, h := r.Unheld(now); n != want || h != hope {
			t.Errorf("%v later %d messages are unheld, hope %v; want %d, %v", now.Sub(start), n, h, want, hope)
		}
	}
	say(r, ch, "", nil)
	confirmAll(r, start)
	unheld(start, 0, true)
	now := start
	for range 3 {
		sayAt(r, ch, "", nil, now)
	}
	for r.Outstanding() > 0 { // nobody answers
		now = now.Add(tickEvery)
		r.Sender.Pump(now)
		r.Tick(now)
		r.out.Packets, r.out.Streams = nil, nil
		if now.Sub(start) > lim.Age {
			t.Fatal("they are never given up")
		}
	}
	unheld(now, 3, true)
	asked := len(takeTold(t, r, wire.BodyHeldAsk, now))
	if asked != 6 {
		t.Errorf("%d questions, want one of each message to each member", asked)
	}
	for seq, fate := range map[uint64]Status{2: starlingpb.HeldAnswer_REFUSED, 3: starlingpb.HeldAnswer_HELD, 4: starlingpb.HeldAnswer_LACKING} {
		receiveControl(t, r, testPeer(1), wire.BodyHeldAnswer, &starlingpb.HeldAnswer{Seq: seq, Fate: fate}, now)
	}
	unheld(now, 2, true)
	r.Change(testPeer(1), wire.Peer{}, now)
	r.Change(testPeer(2), wire.Peer{}, now)
	unheld(now, 2, false)
	sayAt(r, ch, "", nil, now) // to nobody
	r.Sender.Pump(now)
	unheld(now, 2, false)
	unheld(now.Add(lim.Age), 0, false)
}
