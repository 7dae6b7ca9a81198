package spread

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// startPiece spreads a piece of a large message from the first member.
func (f *testNet) startPiece() { f.startPieceOf(2 * testPacket) }

func (f *testNet) startPieceOf(size int) {
	piece := &store.Item{
		ID: wire.PartID{Origin: f.root().self, Seq: 1}, Frame: make([]byte, size), Chunk: wire.Chunk{Total: 1 << 20, Size: 1 << 10},
	}
	f.root().Start([]*store.Item{piece}, len(piece.Frame), true, f.now)
}

// TestLargeBatches: a large batch goes by stream to the heads of slices, has a window of its own, and is given up for a member that
// answers nothing.
func TestLargeBatches(t *testing.T) {
	const n = 30
	f := newTestNet(n, nil)
	root, mute := f.root(), f.members[7]
	f.down[mute.ID] = true
	root.Start(someParts, 1<<20, true, f.now)
	if len(root.Sends) != fanOut || root.Flow.Sent != 0 || root.Ahead != (Ahead{fanOut, fanOut << 20}) || root.Open(true) {
		t.Errorf("%d sendings, %d bytes in the window, ahead %+v", len(root.Sends), root.Flow.Sent, root.Ahead)
	}
	for _, send := range root.Sends {
		if !send.Stream || send.Query {
			t.Errorf("a large batch: %+v", send)
		}
	}
	b := f.run(t)
	if len(b.Gone) != 1 || b.Gone[0] != Position(mute.Name) || root.Ahead != (Ahead{}) || !root.Open(true) {
		t.Errorf("given up: %x; ahead %+v", b.Gone, root.Ahead)
	}
	if took := f.now.Sub(start); took > largeTries*silentMin {
		t.Errorf("given up after %v", took)
	}
}

// TestChunks: each piece of a large message leaves its root once, to another head each time, and is with everybody once.
func TestChunks(t *testing.T) {
	for _, n := range []int{2, 3, 5, 30} {
		f := newTestNet(n, nil)
		root := f.root()
		heads := map[uint64]int{}
		for range 2 * (n - 1) {
			f.startPiece()
			if len(root.Sends) != 1 {
				t.Fatalf("%d members: %d sendings", n, len(root.Sends))
			}
			heads[root.Sends[0].Hop.To.ID]++
			if b := f.run(t); len(b.Gone) > 0 {
				t.Errorf("%d members: given up for %x", n, b.Gone)
			}
		}
		if len(heads) != n-1 || f.sends != 2*(n-1)*(n-1) {
			t.Errorf("%d members: %d were heads, %d frames were sent", n, len(heads), f.sends)
		}
		for _, m := range f.members[1:] {
			if f.got[m.ID] != 2*(n-1) {
				t.Errorf("%d members: %s got %d pieces", n, m.Name, f.got[m.ID])
			}
		}
	}
}

// TestChunksLoadAllAlike: when every member has been head once, each of them has sent as much as each other.
func TestChunksLoadAllAlike(t *testing.T) {
	const n = 50
	f := newTestNet(n, nil)
	for range n - 1 {
		f.startPiece()
		f.run(t)
	}
	for _, m := range f.members[1:] {
		if f.sent[m.ID] != n-2 {
			t.Errorf("%s sent %d pieces, want %d", m.Name, f.sent[m.ID], n-2)
		}
	}
}

// TestChunkHeadDies: who is to pass a piece on and does not is passed over, and the others have the piece soon.
func TestChunkHeadDies(t *testing.T) {
	const n = 30
	f := newTestNet(n, nil)
	root := f.root()
	f.startPiece()
	dead := root.Sends[0].Hop.To
	f.down[dead.ID] = true
	for len(f.got) < n-2 {
		f.deliver()
		f.pass()
	}
	if took := f.now.Sub(start); took > 2*largeWait+silentMin {
		t.Errorf("the others have the piece after %v", took)
	}
	if b := f.run(t); len(b.Gone) != 1 || b.Gone[0] != Position(dead.Name) {
		t.Errorf("given up for %x", b.Gone)
	}
}

// TestFailedStreamIsSentAgainOnce: a stream that could not be written is tried again, and what is being written then is only waited for.
func TestFailedStreamIsSentAgainOnce(t *testing.T) {
	f := newTestNet(2, nil)
	root := f.root()
	f.startPiece()
	hop := root.Sends[0].Hop
	root.Sends = nil
	root.Written(hop, false, f.now)
	for range 10 {
		f.pass()
	}
	if len(root.Sends) != 1 || root.Finished != nil {
		t.Errorf("sent again %d times after %v, finished %v", len(root.Sends), f.now.Sub(start), root.Finished)
	}
	root.Sends = nil
	for tries := 1; root.Finished == nil; tries++ { // none of them can be written
		if root.Written(hop, false, f.now); tries > largeTries {
			t.Fatalf("tried %d times", tries)
		}
		f.pass()
	}
}

// TestManyHeadsDie: where most members have died, the others have a piece after a few time-outs, and not after one for each of the dead.
func TestManyHeadsDie(t *testing.T) {
	const n, dead = 60, 32
	f := newTestNet(n, nil)
	f.startPiece()
	for _, m := range f.members[n-dead:] {
		f.down[m.ID] = true
	}
	for len(f.got) < n-dead-1 {
		f.deliver()
		f.pass()
	}
	if took := f.now.Sub(start); took > 2*time.Second {
		t.Errorf("the living have it after %v", took)
	}
}

// TestStreamIsNotWritten: while the stream to the head of a slice is being written, and does not end, the rest of the slice is given to
// others, and the head is sent nothing more.
func TestStreamIsNotWritten(t *testing.T) {
	f := newTestNet(10, nil)
	root := f.root()
	f.startPiece()
	head := root.Sends[0].Hop
	root.Sends = nil
	for len(root.Sends) == 0 && f.now.Sub(start) < time.Minute {
		f.pass()
	}
	if took := f.now.Sub(start); took != head.flight() {
		t.Errorf("handed on after %v, want %v", took, head.flight())
	}
	for range 20 {
		f.pass()
	}
	for _, send := range root.Sends {
		if send.Hop == head {
			t.Error("sent to the head again")
		}
	}
	if head.state == hopEnded {
		t.Error("given up while it is being written")
	}
}

// TestHeardChildIsWaitedFor: a child that answers other frames is waited for, alone and with its slice; one that answers nothing for as
// long is given up.
func TestHeardChildIsWaitedFor(t *testing.T) {
	for _, heard := range []bool{true, false} {
		f := newTestNet(10, nil)
		root := f.root()
		f.startPiece()
		head := root.Sends[0].Hop
		root.Sends = nil
		root.Written(head, true, f.now)
		for f.now.Sub(start) < head.muteAfter+2*time.Second && len(root.Sends) == 0 {
			if heard {
				root.peer(head.To.ID).heard(f.now.Add(root.answerWait(head, root.peer(head.To.ID)))) // just before it is due
			}
			f.pass()
		}
		if waits := len(root.Sends) == 0; waits != heard {
			t.Errorf("heard %v: waited for %v", heard, waits)
		}
	}
}

// TestHeldForLong: a child that says again and again that it holds a piece, and that its slice is not done yet, is believed for longer than
// with a small batch: links may be slow.
func TestHeldForLong(t *testing.T) {
	for _, large := range []bool{true, false} {
		f := newTestNet(10, nil)
		root := f.root()
		if large {
			f.startPiece()
		} else {
			f.startBatch()
		}
		hop := root.Sends[0].Hop
		root.Written(hop, true, f.now)
		for f.now.Sub(start) < 2*heldLong && hop.state != hopEnded {
			root.Report(hop.To.ID, wire.Report{ID: hop.Batch.ID}, f.now)
			f.pass()
		}
		want := heldMost
		if large {
			want = heldLong
		}
		p := root.peer(hop.To.ID)
		if took := f.now.Sub(start); hop.state != hopEnded || took < want || took > want+silentMin || p.silent || p.deaf(f.now) {
			t.Errorf("large %v: given up after %v, silent %v, deaf %v", large, took, p.silent, p.deaf(f.now))
		}
	}
}

// TestRootIsInNobodysDebt: a member that does not know the root of a piece names other holders, and the root sends nothing to itself.
func TestRootIsInNobodysDebt(t *testing.T) {
	f := newTestNet(6, func(who, whom int) bool { return whom != 0 })
	f.startPiece()
	b := f.run(t)
	if len(b.Gone) > 0 || f.got[f.root().self] != 0 || f.sends > 40 {
		t.Errorf("given up %x, the root got %d, %d frames", b.Gone, f.got[f.root().self], f.sends)
	}
	for _, m := range f.members[1:] {
		if f.got[m.ID] == 0 {
			t.Errorf("%s has nothing", m.Name)
		}
	}
}

// TestDeafMember: a member that answers packets, and takes no streams, is waited for once: what is on its way to it is given up when one
// stream is, and for a while it is sent no large batch. Then it is tried again; and at once when it has answered for one.
func TestDeafMember(t *testing.T) {
	f := newTestNet(2, nil)
	root, deaf := f.root(), f.members[1].ID
	f.startPiece()
	first := root.Sends[0].Hop
	f.now = f.now.Add(time.Millisecond)
	f.startPiece()
	second := root.Sends[1].Hop
	for tries := 0; first.state != hopEnded; tries++ {
		if root.Written(first, false, f.now); tries > 2*largeTries {
			t.Fatal("the first is never given up")
		}
		f.pass()
		root.peer(deaf).heard(f.now) // by packet
	}
	for range 3 {
		if second.state != hopEnded {
			f.pass()
		}
	}
	if second.state != hopEnded {
		t.Error("the second is being written still")
	}
	sent := func(large bool) bool {
		root.Sends, root.Finished = nil, nil
		if large {
			f.startPiece()
		} else {
			f.startBatch()
		}
		return len(root.Sends) > 0
	}
	if sent(true) || !sent(false) {
		t.Error("sent a large batch, or no small one, to a member that is deaf")
	}
	if f.now = f.now.Add(deafFor); !sent(true) {
		t.Error("never tried again")
	}
	again := root.Sends[0].Hop
	root.peer(deaf).gaveUp(false, true, f.now)
	root.Report(deaf, wire.Report{ID: again.Batch.ID}, f.now)
	if !sent(true) {
		t.Error("it has answered for a large batch, and is not sent another")
	}
}
