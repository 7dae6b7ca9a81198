package spread

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// TestSlicesCover: where all see the same members, everybody gets the batch exactly once, nobody is asked again, and the root
// knows that all have it.
func TestSlicesCover(t *testing.T) {
	for n := 1; n <= 200; n++ {
		f := newTestNet(n, nil)
		f.startBatch()
		if b := f.run(t); len(b.Gone) > 0 || f.sends != n-1 || !f.now.Equal(start) {
			t.Errorf("%d members: %d sends, %d given up, %v", n, f.sends, len(b.Gone), f.now.Sub(start))
		}
		for _, m := range f.members[1:] {
			if f.got[m.ID] != 1 {
				t.Errorf("%d members: %s got it %d times", n, m.Name, f.got[m.ID])
			}
		}
	}
}

// TestTakeOver: the slice of a mute head goes to the next member in it, the head alone is given up, and heads nothing for a
// while.
func TestTakeOver(t *testing.T) {
	f := newTestNet(50, nil)
	root := f.root()
	head := root.Ring.at(1)
	f.down[head.Member.ID] = true
	f.startBatch()
	b := f.run(t)
	if !slices.Equal(b.Gone, []uint64{head.Pos}) {
		t.Errorf("given up: %x, want %x", b.Gone, head.Pos)
	}
	if took := f.now.Sub(start); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, m := range f.members[1:] {
		if got := f.got[m.ID]; got == 0 && m.ID != head.Member.ID {
			t.Errorf("%s never got it", m.Name)
		}
	}
	f.startBatch()
	for _, h := range root.Batches[wire.BatchID{Root: root.self, N: 2}].Hops {
		if h.To.ID == head.Member.ID && h.View.Len() > 1 {
			t.Error("the mute one heads a slice again")
		}
	}
	f.down = map[uint64]bool{}
	f.run(t)
}

// TestHandOn: the slice of a head that is deaf for half a second goes to the next member in it before that, and the head gets
// the batch all the same.
func TestHandOn(t *testing.T) {
	f := newTestNet(50, nil)
	root := f.root()
	head, second := root.Ring.at(1).Member, root.Ring.at(2).Member
	f.deaf[head.ID] = start.Add(500 * time.Millisecond)
	f.startBatch()
	for len(root.Finished) == 0 && f.got[second.ID] == 0 {
		for _, m := range f.members {
			f.deliverFrom(m)
		}
		f.now, _ = root.Next()
		root.Tick(f.now)
	}
	if took := f.now.Sub(start); took > 300*time.Millisecond {
		t.Errorf("the next of the slice got it after %v", took)
	}
	if b := f.run(t); len(b.Gone) > 0 || f.got[head.ID] == 0 {
		t.Errorf("given up: %x; the head got it %d times", b.Gone, f.got[head.ID])
	}
	for _, m := range f.members[1:] {
		if f.got[m.ID] == 0 {
			t.Errorf("%s never got it", m.Name)
		}
	}
}

// TestHandOnManyBatches: the members behind a dead head wait for it once, not once in each batch, and the window does not
// wait at all for what is retried to the dead head alone.
func TestHandOnManyBatches(t *testing.T) {
	const batches = 10
	f := newTestNet(25, nil) // eight slices of three
	root := f.root()
	dead := root.Ring.at(1).Member.ID
	f.down[dead] = true
	for range batches {
		f.startBatch()
	}
	served := func() bool {
		return f.got[root.Ring.at(2).Member.ID] >= batches && f.got[root.Ring.at(3).Member.ID] >= batches
	}
	for range 10_000 {
		f.deliver()
		if served() && root.Flow.Sent == 0 {
			break
		}
		f.now, _ = root.Next()
		root.Tick(f.now)
	}
	if took := f.now.Sub(start); !served() || root.Flow.Sent > 0 || took > 400*time.Millisecond || len(root.Batches) != batches {
		t.Errorf("after %v: those behind a dead head have all: %v; %d bytes in the window of %d batches",
			took, served(), root.Flow.Sent, len(root.Batches))
	}
	f.run(t)
}

// TestLostHead: the slice of a head that has left the membership is taken over at once.
func TestLostHead(t *testing.T) {
	f := newTestNet(50, nil)
	root := f.root()
	head := root.Ring.at(1).Member
	f.down[head.ID] = true
	f.startBatch()
	f.deliverFrom(f.members[0])
	f.lose(root.self, head.ID)
	if f.run(t); !f.now.Equal(start) {
		t.Errorf("it took %v", f.now.Sub(start))
	}
}

// TestSilentMember: a member that has answered nothing for silentMin is sent no batches, but for a probe now and then, and heads
// slices again as soon as it answers one.
func TestSilentMember(t *testing.T) {
	f := newTestNet(25, nil)
	root := f.root()
	head := root.Ring.at(1).Member
	p := f.peers[root.self].get(head.ID)
	f.down[head.ID] = true
	for !p.Silent() {
		f.startBatch()
		f.run(t)
	}
	if took := f.now.Sub(start); took < silentMin || took > 2*silentMin {
		t.Errorf("silent after %v", took)
	}
	const batches = 100
	probes := 0
	for range batches {
		f.now = f.now.Add(10 * time.Millisecond)
		f.startBatch()
		for _, send := range root.Sends {
			if send.Hop.To.ID == head.ID {
				probes++
			}
		}
		if b := f.run(t); !slices.Contains(b.Gone, Position(head.Name)) {
			t.Fatal("a silent member is waited for")
		}
	}
	if most := int(batches * 10 * time.Millisecond / probeEvery); probes < most-1 || probes > most+1 {
		t.Errorf("%d probes", probes)
	}
	f.down[head.ID] = false
	f.now = f.now.Add(probeEvery)
	f.startBatch()
	f.run(t)
	if p.Silent() {
		t.Fatal("it has answered, and is still silent")
	}
	if h := f.startBatch().hopTo(head.ID); h == nil || h.View.Len() != 3 {
		t.Error("it has answered, and heads no slice")
	}
	f.run(t)
}
