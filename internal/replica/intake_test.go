package replica

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestPrev: each part names the one before it on its channel.
func TestPrev(t *testing.T) {
	r := testReplica(testLimits(), 1)
	a, b := testChannel(r, "a"), testChannel(r, "b")
	for _, ch := range []*Channel{a, b, a, a, b} {
		say(r, ch, "", nil)
	}
	r.Sender.Pump(start)
	want := []uint64{0, 0, 1, 3, 2}
	found := 0
	for it := range r.intake.history.Ascend(1, 1, 5) {
		found++
		if p, err := wire.ParsePart(it.Frame); err != nil || p.Prev != want[p.ID.Seq-1] || it.Prev != p.Prev {
			t.Errorf("part %d: prev %d, want %d (%v)", p.ID.Seq, p.Prev, want[p.ID.Seq-1], err)
		}
	}
	if found != len(want) {
		t.Errorf("%d parts are kept", found)
	}
}

// TestImplausible: a part numbered far beyond what is known of its origin is dropped and counted, and its origin is asked;
// when that has told that it has sent so much, it is taken.
func TestImplausible(t *testing.T) {
	const far = maxJump + 9
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	receive := func(seq uint64) {
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, 0, 0), wire.RouteGossip, start)
	}
	receive(1)
	r.out.Packets = nil
	told(t, r, 1, 1, start)
	receive(far)
	if log := r.intake.logged(101); r.out.drops != only(DropImplausible) || ch.inbox.len() != 1 || log.Top() != 1 || log.Incomplete() {
		t.Errorf("drops %v, inbox of %d, top %d", r.out.drops, ch.inbox.len(), log.Top())
	}
	if asked := takeTold(t, r, wire.BodyAsk, start); len(asked) != 1 || asked[0].to != "p1" {
		t.Errorf("asked %+v", asked)
	}
	receive(maxJump) // not far beyond
	told(t, r, 1, far, start)
	receive(far)
	if log := r.intake.logged(101); r.out.drops != only(DropImplausible) || ch.inbox.len() != 3 || log.Top() != far || len(r.out.Gaps) != 0 {
		t.Errorf("told: drops %v, inbox of %d, top %d, gaps %v", r.out.drops, ch.inbox.len(), log.Top(), r.out.Gaps)
	}
}

// TestOwnEvicted: a part of our own that had to go before Echo handed it on is reported, once.
func TestOwnEvicted(t *testing.T) {
	lim := testLimits()
	lim.Bytes = 10_000
	r := testReplica(lim, 1)
	ch := openChannel(r, Channel{Key: "ch", Echo: true})
	for range 3 {
		say(r, ch, "", make([]byte, 4000))
		confirmAll(r, start)
	}
	for range 2 {
		r.Tick(start.Add(time.Second))
	}
	if !slices.Equal(r.out.Gaps, []Gap{{1, 1, 1}}) || r.intake.lost != 1 {
		t.Errorf("reported %v", r.out.Gaps)
	}
	if seqs := seqsOf(handleAll(r, ch, start)); !slices.Equal(seqs, []uint64{2, 3}) {
		t.Errorf("handled %v", seqs)
	}
}

// TestRefusedForGood: a part that breaks our limits is a gap at once, reported once, and pulled no more; it holds back nobody.
func TestRefusedForGood(t *testing.T) {
	for _, order := range [][]uint64{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) { refusedForGood(t, order) })
	}
}

// refusedForGood lets three parts come in an order; the second breaks our limits.
func refusedForGood(t *testing.T, order []uint64) {
	lim := testLimits()
	lim.Message = 100
	r := testReplica(lim, 2)
	ch := openChannel(r, Channel{Key: "ch", FIFO: true, FIFOHold: lim.Age})
	told(t, r, 1, 3, start)
	r.Tick(start.Add(time.Second)) // pulls
	for range 3 {
		for _, seq := range order {
			size := 1
			if seq == 2 {
				size = 101
			}
			receivePart(t, r, partOf("ch", make([]byte, size), wire.PartID{Origin: 101, Seq: seq}, seq-1, 0), wire.RouteRepair, start.Add(time.Second))
		}
	}
	if !slices.Equal(r.out.Gaps, []Gap{{101, 2, 2}}) || r.out.drops[DropTooLarge] != 3 || r.roster.get(101).log.Incomplete() {
		t.Errorf("reported %v, drops %v", r.out.Gaps, r.out.drops)
	}
	if seqs := seqsOf(handleAll(r, ch, start)); !slices.Equal(seqs, []uint64{1, 3}) {
		t.Errorf("handled %v", seqs)
	}
	r.out.Packets, r.out.Streams = nil, nil
	for i := range 40 {
		r.Tick(start.Add(time.Duration(i) * time.Second))
	}
	if asked := takeTold(t, r, wire.BodyPull, start); len(asked) != 0 {
		t.Errorf("pulled %+v", asked)
	}
	receiveControl(t, r, testPeer(1), wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: 2, Key: "ch"}, start)
	var m starlingpb.HeldAnswer
	if c := takeTold(t, r, wire.BodyHeldAnswer, start); len(c) != 1 {
		t.Errorf("answered %+v", c)
	} else if c[0].decode(t, &m); m.GetFate() != starlingpb.HeldAnswer_REFUSED {
		t.Errorf("its origin is told %v", &m)
	}
}

// FuzzNewItem: what was kept can be restamped, and is what came.
func FuzzNewItem(f *testing.F) {
	for _, frame := range seedFrames() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := wire.ParsePart(frame)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(p.Key) == 0 {
			return
		}
		it := newItem(nil, p, frame, start)
		again, err := wire.ParsePart(wire.AppendRestamped(nil, it.Frame, time.Minute))
		if err != nil || again.Age != time.Minute || again.ID != p.ID || !bytes.Equal(again.Key, p.Key) || !bytes.Equal(again.Data, p.Data) || !bytes.Equal(it.Data, p.Data) {
			t.Fatalf("restamped %+v (%v), was %+v", again, err, p)
		}
	})
}

// TestMemoryOfHistory: what parts take is within a few times of what history counts for them, whatever came in the same packets:
// nothing else, repeats, announcements of parts that are none, or parts that are evicted before them.
func TestMemoryOfHistory(t *testing.T) {
	const kept = 1 << 20
	part := func(b []byte, key string, seq uint64, data int) []byte {
		frame := partOf(key, make([]byte, data), wire.PartID{Origin: 2, Seq: seq}, 0, 0)
		return protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), frame)
	}
	for name, test := range map[string]struct {
		parts func(seq *uint64) []byte
		most  float64
	}{
		"all new": {func(seq *uint64) (b []byte) {
			for range 20 {
				*seq++
				b = part(b, "plain", *seq, 20)
			}
			return b
		}, 5},
		"all but one repeated": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 20)
			for range 19 {
				b = part(b, "plain", 1, 20)
			}
			return b
		}, 5},
		"all but one announced": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 1)
			for len(b) < 1300 {
				b = append(b, 5<<3|2, 0)
			}
			return b
		}, 5},
		"all but one of a channel that is not open": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 20)
			for range 19 {
				*seq++
				b = part(b, "nobody's", *seq, 20)
			}
			return b
		}, 6}, // each that is kept is a range of its own in the log
	} {
		before := heapInUse()
		n := newNode(0, 1, bounds{bytes: kept, age: time.Hour}, start)
		from := newNode(1, 2, bounds{bytes: kept, age: time.Hour}, start)
		n.change(wire.Peer{}, from.member, start)
		seq := uint64(0)
		for batch := range uint64(12_000) {
			now := start.Add(time.Duration(batch) * time.Millisecond)
			content := spreadContent(wire.BatchID{Root: 2, N: batch + 1}, spread.Position(n.member.Name)+1, 0, test.parts(&seq))
			if err := n.receive(wire.FrameControl(wire.Peer{ID: 2}, wire.BodySpread, content), now); err != nil {
				t.Fatal(err)
			}
			n.pump(now)
			n.outputs()
		}
		counted := n.r.intake.history.Bytes()
		if times := float64(heapInUse()-before) / float64(counted); times > test.most || counted < kept/2 {
			t.Errorf("%s: %.1f bytes for each of the %d that history counts", name, times, counted)
		}
		runtime.KeepAlive(n)
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
