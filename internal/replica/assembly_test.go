package replica

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// piecesOf cuts data into parts of 1 KiB from the given seq on, as the origin 101 sends them.
func piecesOf(data []byte, first uint64) (frames [][]byte) { return piecesFrom(101, data, first) }

// piecesFrom is piecesOf of another origin.
func piecesFrom(origin uint64, data []byte, first uint64) (frames [][]byte) {
	c := wire.Chunk{Total: uint32(len(data)), Size: wire.MinChunk}
	for i := range c.Count() {
		c.Index = uint32(i)
		prev := uint64(0)
		if seq := first + uint64(i); seq > 1 {
			prev = seq - 1
		}
		body := wire.AppendChunk(wire.AppendBody(nil, "ch", data[i*wire.MinChunk:][:c.Len()]), c)
		frames = append(frames, wire.AppendIdentity(body, wire.PartID{Origin: origin, Seq: first + uint64(i)}, prev, 0))
	}
	return frames
}

func someData(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return data
}

// TestAssembly: a message in pieces is handed on once, whole, in whatever order they come, and however often.
func TestAssembly(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		for name, order := range map[string][]int{"in order": {0, 1, 2, 3}, "backwards": {3, 2, 1, 0}, "twice": {2, 0, 0, 3, 2, 1, 1, 3}} {
			r := testReplica(testLimits(), 2)
			ch := openChannel(r, Channel{Key: "ch", FIFO: fifo, FIFOHold: time.Minute})
			told(t, r, 1, 0, start)
			data := someData(3*wire.MinChunk + 5)
			frames := piecesOf(data, 1)
			for _, i := range order {
				receivePart(t, r, frames[i], wire.RouteStream, start)
			}
			d, ok := r.Take(ch, start)
			if !ok || d.Seq != 4 || !bytes.Equal(d.Payload(), data) {
				t.Fatalf("%s: %v, seq %d, %d bytes", name, ok, d.Seq, len(d.Payload()))
			}
			if _, more := r.Take(ch, start); more || len(ch.assembly.partial) != 0 {
				t.Errorf("%s: more than one", name)
			}
			log := r.roster.get(101).log
			if log.IsDone(2) {
				t.Errorf("%s: done before it was handled", name)
			}
			if r.Handled(ch, d, false, start); log.Floor() != 4 || ch.Counters.Delivered != 1 {
				t.Errorf("%s: handled up to %d, %d delivered", name, log.Floor(), ch.Counters.Delivered)
			}
		}
	}
}

// TestAssemblyLosesAPiece: when a piece is lost the message is, all of it at once, and the handler of the channel goes on.
func TestAssemblyLosesAPiece(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	told(t, r, 1, 0, start)
	frames := piecesOf(someData(3*wire.MinChunk), 1)
	receivePart(t, r, frames[0], wire.RouteStream, start)
	receivePart(t, r, frames[2], wire.RouteStream, start)
	r.intake.giveUp(r.roster.get(101), 2, 2, start)
	r.assemblies.sweep(start)
	if want := []Gap{{101, 2, 2}, {101, 1, 1}, {101, 3, 3}}; !slices.Equal(r.out.Gaps, want) {
		t.Errorf("reported %v, want %v", r.out.Gaps, want)
	}
	if log := r.roster.get(101).log; log.Floor() != 3 || len(ch.assembly.partial) != 0 {
		t.Errorf("done up to %d, %d partial", log.Floor(), len(ch.assembly.partial))
	}
}

// TestAssemblyNeverComplete: a message of which a piece never comes is given up before history lets go of its pieces one by one, in one
// gap, that of which nobody told included.
func TestAssemblyNeverComplete(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	told(t, r, 1, 0, start)
	frames := piecesOf(someData(4*wire.MinChunk), 1)
	for _, f := range frames[:2] {
		receivePart(t, r, f, wire.RouteStream, start)
	}
	for now := start; now.Sub(start) < 3*lim.Age; now = now.Add(100 * time.Millisecond) {
		r.Tick(now)
	}
	if want := []Gap{{101, 1, 4}}; !slices.Equal(r.out.Gaps, want) || r.intake.lost != 1 || len(ch.assembly.partial) != 0 {
		t.Errorf("reported %v, %d lost, want %v", r.out.Gaps, r.intake.lost, want)
	}
}

// TestAssemblyEvicted: a piece that history lets go of while its message waits for the handler comes again, before the handler looks or
// after, and then the message is handed on, once.
func TestAssemblyEvicted(t *testing.T) {
	for _, before := range []bool{false, true} {
		testAssemblyEvicted(t, before)
	}
}

func testAssemblyEvicted(t *testing.T, before bool) {
	lim := testLimits()
	lim.Bytes = 1 << 20
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	told(t, r, 1, 0, start)
	data := someData(2*wire.MinChunk + 1)
	frames := piecesOf(data, 1)
	for _, f := range frames {
		receivePart(t, r, f, wire.RouteStream, start)
	}
	it := r.intake.history.Get(wire.PartID{Origin: 101, Seq: 1}) // the first to go
	var fillers []*store.Item
	for seq := uint64(100); it.Kept(); seq++ { // until there is no room for it
		filler := &store.Item{ID: wire.PartID{Origin: 102, Seq: seq}, Key: "none", Frame: make([]byte, 1000), Born: start.Add(time.Second)}
		r.intake.keep(filler, start)
		fillers = append(fillers, filler)
	}
	for _, seq := range []uint64{2, 3} {
		if r.intake.history.Get(wire.PartID{Origin: 101, Seq: seq}) == nil {
			t.Fatalf("piece %d is gone, too", seq)
		}
	}
	for _, it := range fillers[:10] { // now there is
		r.intake.history.SetHandled(it)
	}
	if !before {
		if d, ok := r.Take(ch, start); ok {
			t.Fatalf("took %d bytes although a piece is not here", len(d.Payload()))
		}
	}
	receivePart(t, r, frames[0], wire.RouteRepair, start)
	if d, ok := r.Take(ch, start); !ok || !bytes.Equal(d.Payload(), data) {
		t.Errorf("after the piece has come again, before the handler looked: %v: handed on %v", before, ok)
	}
	if _, again := r.Take(ch, start); again || len(ch.assembly.partial) > 0 {
		t.Errorf("handed on again %v, %d partial", again, len(ch.assembly.partial))
	}
	if len(r.out.Gaps) > 0 {
		t.Errorf("reported %v", r.out.Gaps)
	}
}

// TestAssemblyOfLies: pieces that claim other totals under one identity never become a message, and go with their age.
func TestAssemblyOfLies(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	told(t, r, 1, 0, start)
	lie := func(seq uint64, c wire.Chunk) []byte {
		return wire.AppendIdentity(wire.AppendChunk(wire.AppendBody(nil, "ch", make([]byte, c.Len())), c), wire.PartID{Origin: 101, Seq: seq}, 0, 0)
	}
	receivePart(t, r, lie(1, wire.Chunk{Total: 2048, Size: 1024, Index: 0}), wire.RouteStream, start)
	receivePart(t, r, lie(2, wire.Chunk{Total: 2047, Size: 1024, Index: 1}), wire.RouteStream, start)
	receivePart(t, r, lie(3, wire.Chunk{Total: 1 << 19, Size: 1024, Index: 2}), wire.RouteStream, start)
	if _, ok := r.Take(ch, start); ok {
		t.Error("lies became a message")
	}
	for now := start; now.Sub(start) < 5*lim.Age; now = now.Add(100 * time.Millisecond) {
		r.Tick(now)
	}
	if len(ch.assembly.partial) != 0 || r.intake.history.Len() != 0 {
		t.Errorf("%d partial messages, %d parts kept", len(ch.assembly.partial), r.intake.history.Len())
	}
}

// heldPieces returns how often each piece is held by what waits for the handler, and for other pieces.
func heldPieces(ch *Channel) map[*store.Item]int {
	held := map[*store.Item]int{}
	for _, d := range ch.inbox.waiting[ch.inbox.head:] {
		for _, it := range d.Parts {
			held[it]++
		}
	}
	for _, p := range ch.assembly.partial {
		for _, it := range p.items {
			held[it]++
		}
	}
	return held
}

// TestHangingHandlerKeepsNoPieces: while a handler hangs, what history lets go of the messages that wait for it is let go of altogether.
// What is still kept of them waits for the rest, which may come again.
func TestHangingHandlerKeepsNoPieces(t *testing.T) {
	lim := testLimits()
	lim.Bytes = 256 << 10
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	told(t, r, 1, 0, start)
	data := someData(3 * wire.MinChunk)
	kept := 0
	for i := range uint64(500) {
		for _, frame := range piecesOf(data, 1+3*i) {
			receivePart(t, r, frame, wire.RouteStream, start)
		}
		held := slices.Collect(maps.Keys(heldPieces(ch)))
		gone := len(held)
		held = slices.DeleteFunc(held, func(it *store.Item) bool { return !it.Kept() })
		kept = len(held)
		if gone -= kept; gone > inboxSlack || kept != r.intake.history.Len() {
			t.Fatalf("%d parts that are gone are held, and %d of %d that are kept", gone, kept, r.intake.history.Len())
		}
	}
	n := 0
	for d, ok := r.Take(ch, start); ok; d, ok = r.Take(ch, start) {
		if n++; !bytes.Equal(d.Payload(), data) {
			t.Error("damaged")
		}
	}
	if n < kept/3-inboxSlack || n > kept/3 {
		t.Errorf("%d are handed on of %d parts", n, kept)
	}
}

// TestAssemblyParts: a piece that comes again takes the place of the one before, whose end then changes nothing; a message without pieces
// is forgotten, and so are all that are drained.
func TestAssemblyParts(t *testing.T) {
	var a assembly
	piece := func(seq uint64, index uint32) *store.Item {
		return &store.Item{ID: wire.PartID{Origin: 101, Seq: seq}, Chunk: wire.Chunk{Total: 2 * wire.MinChunk, Size: wire.MinChunk, Index: index}}
	}
	before, again, other := piece(1, 0), piece(1, 0), piece(2, 1)
	a.add(before)
	if all := a.add(again); all != nil {
		t.Errorf("twice the same piece is %d", len(all))
	}
	a.evict(before)
	if all := a.add(other); !slices.Equal(all, []*store.Item{again, other}) || len(a.partial) != 0 {
		t.Errorf("they become %v", all)
	}
	a.add(other)
	if a.evict(other); len(a.partial) != 0 {
		t.Error("a message without pieces is left")
	}
	a.add(other)
	if first, second := a.drain(), a.drain(); len(first) != 1 || len(second) != 0 {
		t.Errorf("%d are drained, then %d", len(first), len(second))
	}
}

// TestAssemblyIsNotOwed: a message whose first pieces are not owed, or that claims to be longer than its origin may have sent, is given up
// without a gap.
func TestAssemblyIsNotOwed(t *testing.T) {
	lim := testLimits()
	lim.Message = 1 << 30
	for name, test := range map[string]struct {
		next  uint64
		chunk wire.Chunk
	}{
		"not owed": {3, wire.Chunk{Total: 9 * wire.MinChunk, Size: wire.MinChunk, Index: 3}},
		"too long": {1, wire.Chunk{Total: 2 * maxJump * wire.MinChunk, Size: wire.MinChunk, Index: 3}},
	} {
		r := testReplica(lim, 2)
		ch := testChannel(r, "ch")
		told(t, r, test.next, test.next-1, start)
		body := wire.AppendChunk(wire.AppendBody(nil, "ch", make([]byte, wire.MinChunk)), test.chunk)
		receivePart(t, r, wire.AppendIdentity(body, wire.PartID{Origin: 101, Seq: 4}, 0, 0), wire.RouteStream, start)
		if len(ch.assembly.partial) != 1 {
			t.Fatalf("%s: it does not wait for the rest", name)
		}
		r.assemblies.sweep(start.Add(lim.Age - giveUpBefore))
		if top := r.roster.get(101).log.Top(); len(ch.assembly.partial) != 0 || len(r.out.Gaps) != 0 || top != 4 {
			t.Errorf("%s: %d wait, gaps %v, known up to %d", name, len(ch.assembly.partial), r.out.Gaps, top)
		}
	}
}

// TestAssemblyLetsGoOn: what waited for its turn behind a message on a FIFO channel is handed on when that is given up.
func TestAssemblyLetsGoOn(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := openChannel(r, Channel{Key: "ch", FIFO: true, FIFOHold: time.Hour})
	told(t, r, 1, 0, start)
	for _, f := range piecesOf(someData(4*wire.MinChunk), 1)[:2] {
		receivePart(t, r, f, wire.RouteStream, start)
	}
	now := start.Add(lim.Age - giveUpBefore)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 5}, 4, 0), wire.RouteGossip, now)
	if n := ch.inbox.len(); n != 0 {
		t.Fatalf("%d are handed on too soon", n)
	}
	if r.assemblies.sweep(now); !slices.Equal(seqsOf(handleAll(r, ch, now)), []uint64{5}) {
		t.Error("what is behind it is not handed on")
	}
}
