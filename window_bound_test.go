package starling

import (
	"math"
	"slices"
	"testing"
	"time"
)

// TestWindowHungChannel: while the handler of one channel hangs, the window
// must not fill up with the parts of the other that come in between.
func TestWindowHungChannel(t *testing.T) {
	w := basedWindow()
	const n = 20 * maxRanges
	for seq := uint64(1); seq <= n; seq++ {
		if got := w.admit(seq, genesis); got != admitFresh {
			t.Fatalf("admit(%d) = %d", seq, got)
		}
		if seq%2 == 0 {
			w.setHandled(seq, genesis)
		}
	}
	if w.floor != 0 || w.held.count() != 1 || !w.isDone(n) || w.isDone(n-1) {
		t.Errorf("floor %d, %d ranges held", w.floor, w.held.count())
	}
	if w.pending.count() != n/2 {
		t.Errorf("%d pending ranges of %d pending parts", w.pending.count(), n/2)
	}
	for seq := uint64(1); seq <= n; seq += 2 {
		w.setHandled(seq, genesis)
	}
	if w.floor != n || cap(w.pending.spans) > spareSpans {
		t.Errorf("floor %d, room for %d ranges kept", w.floor, cap(w.pending.spans))
	}
}

// TestWindowHostileHoles: an origin that leaves out every second part for ever
// is refused when the record is full, and costs no more from then on.
func TestWindowHostileHoles(t *testing.T) {
	w := basedWindow()
	n := uint64(0)
	for ; w.admit(2+2*n, genesis) == admitFresh; n++ {
	}
	if n != maxRanges {
		t.Errorf("refused after %d ranges", n)
	}
	capacity := cap(w.held.spans) + cap(w.holes.list) + cap(w.pending.spans) + cap(w.lost.spans)
	for i := range uint64(100_000) {
		if w.admit(2+2*(n+i), genesis) != admitRefused || w.announce(2+2*(n+i), genesis) {
			t.Fatalf("part %d was recorded", 2+2*(n+i))
		}
	}
	if got := cap(w.held.spans) + cap(w.holes.list) + cap(w.pending.spans) + cap(w.lost.spans); got != capacity {
		t.Errorf("capacity went from %d to %d", capacity, got)
	}
	if err := checkInvariants(w); err != nil {
		t.Error(err)
	}
	// The record closes from below, in order, and then all is well again.
	for seq := uint64(1); seq <= 2*n; seq++ {
		w.admit(seq, genesis)
		if !w.setHandled(seq, genesis) {
			t.Fatalf("%d does not fit", seq)
		}
	}
	if w.floor != 2*n || w.admit(2*n+2, genesis) != admitFresh {
		t.Errorf("floor %d of %d", w.floor, 2*n)
	}
	if n := max(cap(w.held.spans), cap(w.holes.list)); n > 2*spareSpans {
		t.Errorf("room for %d ranges is kept", n)
	}
}

// TestWindowFullFromBelow: a full record has room for the part just above the
// floor, also in the middle of the longest hole, or it would never empty.
func TestWindowFullFromBelow(t *testing.T) {
	w := basedWindow()
	for seq := uint64(10); w.admit(seq, genesis) == admitFresh; seq += 2 {
	}
	if w.admit(2, genesis) != admitRefused {
		t.Error("there is room above the one above the floor")
	}
	for seq := uint64(1); seq < 9; seq++ {
		if w.admit(seq, genesis) != admitFresh {
			t.Fatalf("%d is refused", seq)
		}
		if seq%3 == 0 {
			w.setHandled(seq, genesis)
			w.setHandled(seq-1, genesis)
			w.setHandled(seq-2, genesis)
		}
		if err := checkInvariants(w); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWindowFullEviction: when every second pending part is evicted, in the
// worst order, the record stays bounded and no part just vanishes.
func TestWindowFullEviction(t *testing.T) {
	const n = 4 * maxRanges
	w := basedWindow()
	for seq := uint64(1); seq <= n; seq++ {
		w.admit(seq, genesis)
	}
	missing, lost := 0, 0
	for seq := uint64(2); seq <= n; seq += 2 {
		if w.unhold(seq, genesis) {
			lost++
		} else {
			missing++
		}
	}
	if !w.unhold(1, genesis) || w.floor != 1 || w.isDone(3) {
		t.Errorf("floor %d after 1 was lost for want of room", w.floor)
	}
	if missing+lost != n/2 || missing < maxRanges-1 || missing > maxRanges || len(w.missing(n)) != missing {
		t.Errorf("%d missing and %d lost of %d", missing, lost, n/2)
	}
	if err := checkInvariants(w); err != nil {
		t.Error(err)
	}
}

// TestWindowHostileTop: any number can be claimed, at the cost of one hole.
func TestWindowHostileTop(t *testing.T) {
	w := basedWindow()
	w.admit(1, genesis)
	w.setHandled(1, genesis)
	if !w.announce(math.MaxUint64, at(10)) {
		t.Error("not recorded")
	}
	if got, want := w.overdue(at(10), 0), []hole{{2, math.MaxUint64, at(10)}}; !slices.Equal(got, want) {
		t.Errorf("overdue %v, want %v", got, want)
	}
	if w.admit(math.MaxUint64, at(10)) != admitFresh || w.admit(2, at(10)) != admitFresh {
		t.Error("parts of a long sequence are not admitted")
	}
	if n := w.lose(0, math.MaxUint64); n != math.MaxUint64-3 {
		t.Errorf("%d lost", n)
	}
	w.setHandled(math.MaxUint64, at(10))
	w.setHandled(2, at(10))
	if w.floor != math.MaxUint64 || w.admit(math.MaxUint64, at(10)) != admitDuplicate {
		t.Errorf("floor %d", w.floor)
	}
	w.setBaseline(math.MaxUint64, at(10))
	if got := w.digest(9); got.floor != math.MaxUint64 || w.lose(1, math.MaxUint64) != 0 || w.unhold(math.MaxUint64, at(10)) {
		t.Errorf("at the end of the numbers: %v", got)
	}
}

// TestWindowInOrder: the usual case allocates nothing.
func TestWindowInOrder(t *testing.T) {
	w := basedWindow()
	seq := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		seq++
		w.admit(seq, genesis)
		w.setHandled(seq, genesis)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWindowInOrder(b *testing.B) {
	b.ReportAllocs()
	w, seq := basedWindow(), uint64(0)
	for b.Loop() {
		seq++
		w.admit(seq, genesis)
		w.setHandled(seq, genesis)
	}
}

func BenchmarkWindowBehind(b *testing.B) {
	b.ReportAllocs()
	w, seq := basedWindow(), uint64(0)
	for b.Loop() {
		seq++
		next := seq
		switch seq % 10 {
		case 5:
			next++
		case 6:
			next--
		}
		w.admit(next, genesis)
		if seq > 1000 {
			w.setHandled(seq-1000, genesis)
		}
	}
}

func BenchmarkWindowDuplicate(b *testing.B) {
	b.ReportAllocs()
	w := basedWindow()
	for seq := range uint64(maxRanges) {
		w.admit(2+2*seq, genesis)
	}
	for b.Loop() {
		w.admit(maxRanges, genesis)
	}
}

// TestWindowOverHistory drives both rooms as their owner does: a small history,
// a slow handler, a network that reorders and duplicates, and repair. Every part
// is handled once or reported as lost, and what is pending is kept.
func TestWindowOverHistory(t *testing.T) {
	rnd := seeded(t)
	var again, atOnce, gaps int
	for range 50 {
		const parts, room = 400, 6
		now, w, h := genesis, basedWindow(), newHistory(room*itemOverhead, time.Second)
		w.limit = 1 + rnd.IntN(6)
		handled, lost := map[uint64]int{}, map[uint64]bool{}
		evicted := func(items []*item) {
			for _, it := range items {
				switch {
				case it.handled:
				case w.unhold(it.id.seq, now):
					lost[it.id.seq] = true
					atOnce++
				default:
					again++
				}
			}
		}
		arrive := func(seq uint64) {
			if w.admit(seq, now) == admitFresh {
				evicted(h.add(&item{id: partID{1, seq}, born: now}, now))
			}
		}
		for step := uint64(1); w.floor < parts; step++ {
			if step > 100*parts {
				t.Fatalf("stuck at floor %d", w.floor)
			}
			now = now.Add(time.Millisecond)
			if seq := step + rnd.Uint64N(5); seq <= parts {
				arrive(seq)
			}
			w.announce(min(step, parts), now)
			for _, o := range w.missing(rnd.IntN(3)) {
				arrive(o.lo + rnd.Uint64N(o.hi-o.lo+1))
			}
			for it := range h.ascend(1, w.floor+1, parts) {
				if !it.handled && rnd.IntN(10) == 0 {
					handled[it.id.seq]++
					h.setHandled(it)
					w.setHandled(it.id.seq, now)
				}
			}
			evicted(h.expire(now))
			for _, o := range w.overdue(now, time.Second) {
				for seq := o.lo; seq <= o.hi; seq++ {
					lost[seq] = true
					gaps++
				}
				w.lose(o.lo, o.hi)
			}
			if w.pending.size() != uint64(len(h.due)) {
				t.Fatalf("%d pending, %d unhandled kept", w.pending.size(), len(h.due))
			}
			if err := checkInvariants(w); err != nil {
				t.Fatal(err)
			}
		}
		for seq := uint64(1); seq <= parts; seq++ {
			if n := handled[seq]; n > 1 || n == 1 == lost[seq] {
				t.Errorf("%d was handled %d times, lost: %t", seq, n, lost[seq])
			}
		}
	}
	if again == 0 || atOnce == 0 || gaps == 0 {
		t.Errorf("%d missing again, %d lost at once, %d overdue: the test tests nothing", again, atOnce, gaps)
	}
}
