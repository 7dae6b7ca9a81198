package starling

import (
	"slices"
	"testing"
	"time"
)

// basedWindow returns the window of an origin whose parts are owed from seq 1.
func basedWindow() *window {
	w := newWindow(genesis)
	w.setBaseline(1, genesis)
	return w
}

func at(ms int) time.Time { return genesis.Add(time.Duration(ms) * time.Millisecond) }

// TestWindowInvalid: seq 0 names no part, and is the predecessor of none.
func TestWindowInvalid(t *testing.T) {
	w := newWindow(genesis)
	if w.admit(0, at(5)) != admitRefused || w.top != 0 || w.idle(at(5)) != 5*time.Millisecond {
		t.Error("seq 0 left a trace")
	}
	if !w.isDone(0) {
		t.Error("a first part waits for a predecessor")
	}
}

// TestWindowFloorWaits: what a slow handler has not run keeps the floor down,
// and still is no reason to admit it, or its successors, again.
func TestWindowFloorWaits(t *testing.T) {
	w := basedWindow()
	for seq := uint64(1); seq <= 5; seq++ {
		w.admit(seq, genesis)
	}
	for _, seq := range []uint64{5, 3, 2} {
		w.setHandled(seq, genesis)
	}
	if w.floor != 0 || w.isDone(1) || !w.isDone(3) || w.isDone(4) {
		t.Errorf("floor %d while 1 is pending", w.floor)
	}
	w.setHandled(1, genesis)
	if w.floor != 3 {
		t.Errorf("floor %d while 4 is pending", w.floor)
	}
	for seq := uint64(1); seq <= 5; seq++ {
		if w.admit(seq, genesis) != admitDuplicate {
			t.Errorf("%d is admitted twice", seq)
		}
	}
	w.setHandled(4, genesis)
	if w.floor != 5 || w.held.count()+w.pending.count() != 0 {
		t.Errorf("floor %d, %d ranges left", w.floor, w.held.count())
	}
}

// TestWindowEvicted: an unhandled part that was evicted is missing from that
// moment, can come again, and is handled once.
func TestWindowEvicted(t *testing.T) {
	w := basedWindow()
	for seq := uint64(1); seq <= 3; seq++ {
		w.admit(seq, genesis)
	}
	w.setHandled(3, genesis)
	if w.unhold(2, at(100)) || w.unhold(3, at(100)) {
		t.Error("lost at once")
	}
	if got, want := w.missing(9), []hole{{2, 2, at(100)}}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if w.isDone(2) || w.admit(2, at(200)) != admitFresh || len(w.missing(9)) != 0 {
		t.Error("the evicted part did not come back")
	}
	// Evicted while its handler ran: what ran must not be admitted again.
	w.unhold(1, at(300))
	if !w.setHandled(1, at(400)) || w.admit(1, at(400)) != admitDuplicate || w.floor != 1 {
		t.Errorf("handled after its eviction: floor %d", w.floor)
	}
}

// TestWindowUnknownBaseline: parts are delivered from the first on, what is
// missing above it can be pulled, and nothing is owed.
func TestWindowUnknownBaseline(t *testing.T) {
	w := newWindow(genesis)
	if w.assumeBaseline() {
		t.Error("a baseline out of nothing")
	}
	w.announce(12, at(0))
	if len(w.missing(9)) != 0 {
		t.Error("parts are missing before any came")
	}
	w.admit(10, at(100))
	w.setHandled(10, at(100))
	w.admit(8, at(200))
	if w.assumeBaseline() {
		t.Error("a baseline out of what may be older than our meeting")
	}
	if got, want := w.missing(9), []hole{{9, 9, at(200)}, {11, 12, at(100)}}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if w.floor != 0 || w.isDone(7) || w.overdue(at(1e6), 0) != nil {
		t.Errorf("floor %d: something is owed, or known to be done, without a baseline", w.floor)
	}

	told := *w
	told.holes.list = slices.Clone(w.holes.list)
	told.setBaseline(5, at(300))
	if got, want := told.missing(1), []hole{{5, 7, at(300)}}; !slices.Equal(got, want) || told.floor != 4 {
		t.Errorf("told 5: missing %v, want %v; floor %d", got, want, told.floor)
	}

	w.owe(10)
	w.owe(8)
	if !w.assumeBaseline() || w.floor != 7 || !w.isDone(7) || w.isDone(8) {
		t.Errorf("assumed: floor %d", w.floor)
	}
	if got := w.overdue(at(400), 200*time.Millisecond); len(got) != 2 {
		t.Errorf("overdue %v", got)
	}
}

// TestWindowBaselineFirst: the baseline may be told before any part comes.
func TestWindowBaselineFirst(t *testing.T) {
	for next, want := range map[uint64][]hole{
		0: {{1, 5, at(1)}},
		1: {{1, 5, at(1)}},
		4: {{4, 5, at(1)}},
		5: {{5, 5, at(1)}},
		6: nil,
		9: nil,
	} {
		w := newWindow(genesis)
		w.announce(5, at(0))
		w.setBaseline(next, at(1))
		if got := w.missing(9); !slices.Equal(got, want) || w.floor != before(next) {
			t.Errorf("baseline %d: missing %v, want %v; floor %d", next, got, want, w.floor)
		}
		if err := checkInvariants(w); err != nil {
			t.Error(err)
		}
	}
}

// TestWindowBaselineAbovePending: what was admitted before the baseline was told
// still waits for its handler, and FIFO for it.
func TestWindowBaselineAbovePending(t *testing.T) {
	w := newWindow(genesis)
	w.admit(3, genesis)
	w.admit(6, genesis)
	w.setBaseline(5, genesis)
	if w.floor != 4 || w.isDone(3) || w.admit(3, genesis) != admitDuplicate {
		t.Errorf("floor %d; 3 done: %t", w.floor, w.isDone(3))
	}
	if w.setHandled(3, genesis); !w.isDone(3) {
		t.Error("3 was handled and is not done")
	}
	w.setBaseline(2, genesis) // a late answer
	if w.floor != 4 {
		t.Errorf("floor fell to %d", w.floor)
	}
	w.setBaseline(7, genesis) // a snapshot that contains more
	if w.floor != 6 || w.isDone(6) || len(w.missing(9)) != 0 {
		t.Errorf("floor %d, missing %v", w.floor, w.missing(9))
	}
	if !w.unhold(6, genesis) || !w.isDone(6) {
		t.Error("what is evicted below the baseline must be lost at once")
	}
}

// TestWindowHoleAges: what remains of a hole remembers since when it is one.
func TestWindowHoleAges(t *testing.T) {
	w := basedWindow()
	w.announce(10, at(100))
	w.announce(12, at(1000))
	w.admit(5, at(2000))
	want := []hole{{1, 4, at(100)}, {6, 10, at(100)}, {11, 12, at(1000)}}
	if got := w.missing(9); !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if got := w.missing(1); !slices.Equal(got, want[:1]) {
		t.Errorf("the first missing: %v", got)
	}
	if got := w.missing(-1); len(got) != 0 {
		t.Errorf("no holes wanted, got %v", got)
	}
	if got := w.overdue(at(2100), 2*time.Second); !slices.Equal(got, want[:2]) {
		t.Errorf("overdue %v, want %v", got, want[:2])
	}
	if got := w.lose(6, 10); got != 5 || w.admit(7, at(2100)) != admitDuplicate || w.isDone(5) {
		t.Errorf("%d lost; a lost part admitted again, or 5 done before it was handled", got)
	}
	if got := w.lose(1, 20); got != 6 || w.floor != 4 || w.top != 12 {
		t.Errorf("%d lost, floor %d, top %d", got, w.floor, w.top)
	}
}

// TestWindowIdle: parts and sights of the origin count, what others say of it
// does not.
func TestWindowIdle(t *testing.T) {
	w := newWindow(genesis)
	w.admit(1, at(10))
	w.admit(1, at(5)) // from a goroutine that read its clock earlier
	w.announce(9, at(20))
	if got := w.idle(at(30)); got != 20*time.Millisecond {
		t.Errorf("idle for %v", got)
	}
	w.sight(at(30))
	if got := w.idle(at(30)); got != 0 {
		t.Errorf("idle for %v", got)
	}
}
