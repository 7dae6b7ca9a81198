package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestStrangers: all are counted, but who is about to be a member, or was one a moment ago, is not told of.
func TestStrangers(t *testing.T) {
	for _, test := range []struct {
		name  string
		comes func(r *Replica, p wire.Peer) // before its frame
		goes  func(r *Replica, p wire.Peer) // after it
		told  bool
	}{
		{"one that is never a member", nil, nil, true},
		{"one that joins", nil, func(r *Replica, p wire.Peer) { r.Change(wire.Peer{}, p, start.Add(time.Second)) }, false},
		{"one that joins and leaves", nil, func(r *Replica, p wire.Peer) {
			r.Change(wire.Peer{}, p, start.Add(time.Second))
			r.Change(p, wire.Peer{}, start.Add(2*time.Second))
		}, false},
		{"one that has left", func(r *Replica, p wire.Peer) {
			r.Change(wire.Peer{}, p, start.Add(-time.Minute))
			r.Change(p, wire.Peer{}, start.Add(-5*time.Second))
		}, nil, false},
		{"one that was a member long ago", func(r *Replica, p wire.Peer) {
			r.Change(wire.Peer{}, p, start.Add(-time.Hour))
			r.Change(p, wire.Peer{}, start.Add(-time.Minute))
		}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, p := testReplica(testLimits(), 1), testPeer(2)
			if test.comes != nil {
				test.comes(r, p)
			}
			receiveControl(t, r, p, wire.BodyDirect, &starlingpb.Direct{}, start)
			if test.goes != nil {
				test.goes(r, p)
			}
			for now := start; now.Before(start.Add(time.Minute)); now = now.Add(tickEvery) {
				r.Tick(now)
			}
			want := []FirstDrop{{Drop: DropStranger, From: p.Addr}}
			if told := len(r.out.FirstDrops) > 0; told != test.told || told && !slices.Equal(r.out.FirstDrops, want) {
				t.Errorf("told of %v, want a line: %v", r.out.FirstDrops, test.told)
			}
			if n := r.out.drops[DropStranger]; n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}

// TestFirstDropNamesItsChannel: that is how an operator finds the one who forgot to open it.
func TestFirstDropNamesItsChannel(t *testing.T) {
	r := testReplica(testLimits(), 1)
	receiveControl(t, r, testPeer(1), wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "nowhere", Id: 1}, start)
	if want := []FirstDrop{{Drop: DropUnknownKey, Key: "nowhere"}}; !slices.Equal(r.out.FirstDrops, want) || !r.out.Stirred {
		t.Errorf("told of %v, want %v; stirred: %v", r.out.FirstDrops, want, r.out.Stirred)
	}
}
