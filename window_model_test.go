package starling

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

type seqState byte

const (
	unseen seqState = iota
	pendingHere
	handledHere
	lostHere
)

// naiveWindow is what a window must be equal to: every seq of a small universe
// by itself, and the floor by its definition.
type naiveWindow struct {
	base  uint64 // the universe is (base, base+width]
	width uint64

	state    map[uint64]seqState
	since    map[uint64]time.Time // of what is missing
	first    uint64
	top      uint64
	based    bool
	baseline uint64 // all below is pre-baseline; 1 if nothing was told
	low      uint64 // the floor must not fall below what it once was
}

func (n *naiveWindow) floor() uint64 {
	f := max(n.baseline-1, n.low)
	for f < n.base+n.width && (n.state[f+1] == handledHere || n.state[f+1] == lostHere) {
		f++
	}
	n.low = f
	return f
}

func (n *naiveWindow) missing(seq uint64) bool {
	return n.first != 0 && n.first <= seq && seq <= n.top && seq >= n.baseline && n.state[seq] == unseen
}

func (n *naiveWindow) seen(seq uint64) bool { return seq <= n.floor() || n.state[seq] != unseen }

// note gives each missing seq that was not missing before its time.
func (n *naiveWindow) note(now time.Time) {
	for i := range n.width {
		seq := n.base + 1 + i
		_, known := n.since[seq]
		switch m := n.missing(seq); {
		case m && !known:
			n.since[seq] = now
		case !m:
			delete(n.since, seq)
		}
	}
}

func (n *naiveWindow) admit(seq uint64) admission {
	if n.seen(seq) {
		return admitDuplicate
	}
	n.state[seq] = pendingHere
	n.top = max(n.top, seq)
	if n.first == 0 || seq < n.first {
		n.first = seq
	}
	return admitFresh
}

func (n *naiveWindow) setHandled(seq uint64) {
	if n.state[seq] == pendingHere || !n.seen(seq) {
		n.admit(seq)
		n.state[seq] = handledHere
	}
}

func (n *naiveWindow) unhold(seq uint64) (lost bool) {
	if n.state[seq] != pendingHere {
		return false
	}
	n.state[seq] = unseen
	if seq <= n.floor() {
		n.state[seq] = lostHere
		return true
	}
	return false
}

func (n *naiveWindow) lose(lo, hi uint64) (count uint64) {
	for i := range n.width {
		if seq := n.base + 1 + i; lo <= seq && seq <= hi && n.missing(seq) {
			n.state[seq] = lostHere
			count++
		}
	}
	return count
}

func (n *naiveWindow) setBaseline(next uint64) {
	switch {
	case !n.based && (n.first == 0 || next < n.first):
		n.first = next
	}
	n.based = true
	n.baseline = max(n.baseline, next)
	n.top = max(n.top, n.baseline-1)
}

func (n *naiveWindow) compare(w *window, now time.Time) error {
	if w.floor != n.floor() || w.top != n.top || w.based != n.based {
		return fmt.Errorf("floor %d, top %d, based %t; want %d, %d, %t",
			w.floor, w.top, w.based, n.floor(), n.top, n.based)
	}
	d, handled := w.digest(maxRanges), w.handledDigest(maxRanges)
	since := map[uint64]time.Time{}
	for _, h := range w.missing(maxRanges) {
		for seq := h.lo; ; seq++ {
			since[seq] = h.since
			if seq == h.hi || seq-h.lo > n.width {
				break
			}
		}
	}
	if len(since) != len(n.since) {
		return fmt.Errorf("missing %v, want %v", since, n.since)
	}
	for i := range n.width {
		seq := n.base + 1 + i
		state, above := n.state[seq], seq > w.floor
		if got := w.seen(seq); got != n.seen(seq) {
			return fmt.Errorf("seen(%d) = %t", seq, got)
		}
		if got := w.isDone(seq); got != (n.seen(seq) && state != pendingHere) {
			return fmt.Errorf("isDone(%d) = %t", seq, got)
		}
		here := above && (state == pendingHere || state == handledHere)
		if d.holds(seq) != here || d.lacks(seq) != (above && seq <= n.top && !here) {
			return fmt.Errorf("digest %v: holds(%d) = %t, lacks = %t", d, seq, d.holds(seq), d.lacks(seq))
		}
		if handled.holds(seq) != (above && state == handledHere) {
			return fmt.Errorf("handled digest %v: holds(%d) = %t", handled, seq, handled.holds(seq))
		}
		want, missing := n.since[seq]
		got, ok := since[seq]
		if ok != missing || got.Before(want) || got.Sub(want) >= holeGrain {
			return fmt.Errorf("%d is missing: %t since %v, want %t since %v", seq, ok, got, missing, want)
		}
	}
	return checkInvariants(w)
}

// checkInvariants is the arithmetic on the fields of window, holes and
// intervals.
func checkInvariants(w *window) error {
	if w.floor > w.top {
		return fmt.Errorf("floor %d above top %d", w.floor, w.top)
	}
	if w.held.count() > w.limit+1 || len(w.holes.list) > w.limit+1 || w.lost.count() > w.held.count()+len(w.holes.list)+1 {
		return fmt.Errorf("%d ranges held, %d lost, %d missing", w.held.count(), w.lost.count(), len(w.holes.list))
	}
	for lo, hi := range w.spared.ranges() {
		for a, b := range w.pending.holes(lo, hi) {
			return fmt.Errorf("spared [%d, %d] is not pending", a, b)
		}
	}
	var union intervals
	total := uint64(0)
	for _, s := range []*intervals{&w.held, &w.lost} {
		for lo, hi := range s.ranges() {
			union.addRange(lo, hi)
			total += hi - lo + 1
		}
	}
	for i, h := range w.holes.list {
		if i > 0 {
			if p := w.holes.list[i-1]; p.hi >= h.lo || p.hi+1 == h.lo && w.holes.sameGrain(p, h) {
				return fmt.Errorf("hole %v after %v", h, p)
			}
		}
		union.addRange(h.lo, h.hi)
		total += h.hi - h.lo + 1
	}
	switch from := max(w.first, w.floor+1); {
	case w.first == 0 || w.floor == w.top:
		if total != 0 {
			return fmt.Errorf("%d seqs recorded of none", total)
		}
	case total != w.top-from+1 || union.count() != 1 || !union.contains(from) || !union.contains(w.top):
		return fmt.Errorf("recorded are %v, %d in all, not [%d, %d]", union.spans, total, from, w.top)
	}
	for lo, hi := range w.pending.ranges() {
		for a, b := range w.held.holes(max(lo, after(w.floor)), hi) {
			return fmt.Errorf("pending [%d, %d] is not held", a, b)
		}
	}
	return nil
}

// windowWalk makes one random call on both, and returns how their answers
// differ. It returns what it did, too.
func windowWalk(rnd *rand.Rand, w *window, n *naiveWindow, now time.Time) (string, error) {
	seq := n.base + 1 + rnd.Uint64N(n.width)
	do := func(what string, got, want any) (string, error) {
		if got != want {
			return what, fmt.Errorf("%v, want %v", got, want)
		}
		return what, nil
	}
	switch op := rnd.IntN(100); {
	case op < 45:
		got := w.admit(seq, now)
		if got == admitFresh {
			if w.owe(seq); !w.based && rnd.IntN(4) == 0 {
				w.spare(seq)
			}
		}
		return do(fmt.Sprintf("admit(%d)", seq), got, n.admit(seq))
	case op < 75:
		n.setHandled(seq)
		defer w.owe(seq) // which may be the first that was seen of it
		return do(fmt.Sprintf("setHandled(%d)", seq), w.setHandled(seq, now), true)
	case op < 84:
		return do(fmt.Sprintf("unhold(%d)", seq), w.unhold(seq, now), n.unhold(seq))
	case op < 89:
		hi := seq + rnd.Uint64N(n.base+n.width-seq+1)
		return do(fmt.Sprintf("lose(%d, %d)", seq, hi), w.lose(seq, hi), n.lose(seq, hi))
	case op < 93:
		n.top = max(n.top, seq)
		return do(fmt.Sprintf("announce(%d)", seq), w.announce(seq, now), true)
	case op < 95:
		w.setBaseline(seq, now)
		w.unspare()
		n.setBaseline(seq)
		return do(fmt.Sprintf("setBaseline(%d)", seq), true, true)
	case op < 96:
		want := n.based || n.first != 0
		if want && !n.based {
			n.setBaseline(n.first)
		}
		got := w.assumeBaseline()
		if got {
			w.unspare()
		}
		return do("assumeBaseline()", got, want)
	default:
		return do("overdue", overdueSum(w, now), naiveOverdue(w, n, now))
	}
}

const testAge = 200 * time.Millisecond

// overdueSum and naiveOverdue count what has been missing for testAge. The naive
// count takes the window's own times, which compare checks against the true ones.
func overdueSum(w *window, now time.Time) (sum int) {
	for _, h := range w.overdue(now, testAge) {
		sum += int(h.hi - h.lo + 1)
	}
	return sum
}

func naiveOverdue(w *window, n *naiveWindow, now time.Time) (sum int) {
	if !n.based {
		return 0
	}
	for seq := range n.since {
		for _, h := range w.holes.list {
			if h.lo <= seq && seq <= h.hi && !now.Before(h.since.Add(testAge)) {
				sum++
			}
		}
	}
	return sum
}

// TestWindowModel compares the window with one that keeps every seq by itself,
// in the first numbers there are and in the last.
func TestWindowModel(t *testing.T) {
	const width = 30
	rnd := seeded(t)
	for _, base := range []uint64{0, 1 << 40, math.MaxUint64 - width} {
		for range 500 {
			now := genesis
			w := newWindow(now)
			n := &naiveWindow{
				base: base, width: width, baseline: 1,
				state: map[uint64]seqState{}, since: map[uint64]time.Time{},
			}
			if rnd.IntN(2) == 0 {
				w.setBaseline(base+1, now)
				n.setBaseline(base + 1)
			}
			var log []string
			for range 80 {
				what, err := windowWalk(rnd, w, n, now)
				log = append(log, what)
				n.note(now)
				if err == nil {
					err = n.compare(w, now)
				}
				if err != nil {
					t.Fatalf("base %d: %v\nafter %q", base, err, log)
				}
				if rnd.IntN(4) == 0 {
					now = now.Add(time.Duration(rnd.IntN(80)) * time.Millisecond)
				}
			}
		}
	}
}

// TestWindowFull walks windows with room for a few ranges only: whatever comes,
// the bounds hold, nothing recorded is forgotten, and a refusal leaves no trace.
func TestWindowFull(t *testing.T) {
	const width = 60
	rnd := seeded(t)
	var refusals, unheard, lostAtOnce int
	for range 1000 {
		now := genesis
		w := newWindow(now)
		w.limit = 1 + rnd.IntN(5)
		base := []uint64{0, math.MaxUint64 - width}[rnd.IntN(2)]
		if rnd.IntN(2) == 0 {
			w.setBaseline(base+1, now)
		}
		handled := map[uint64]bool{}
		for range 120 {
			seq := base + 1 + rnd.Uint64N(width)
			before, floor := w.digest(width), w.floor
			switch op := rnd.IntN(20); {
			case op < 11:
				was := w.seen(seq)
				switch got := w.admit(seq, now); {
				case got == admitDuplicate != was:
					t.Fatalf("admit(%d) = %d though seen: %t", seq, got, was)
				case got == admitRefused:
					refusals++
					if fmt.Sprint(w.digest(width)) != fmt.Sprint(before) {
						t.Fatalf("refused %d, and the record changed", seq)
					}
				}
			case op < 15:
				if w.pending.contains(seq) {
					w.setHandled(seq, now)
					handled[seq] = true
				}
			case op < 17:
				if was := w.pending.contains(seq); w.unhold(seq, now) {
					lostAtOnce++
					if !was || !w.isDone(seq) {
						t.Fatalf("lost %d at once: pending %t, done %t", seq, was, w.isDone(seq))
					}
				}
			case op < 18:
				w.lose(seq, seq+rnd.Uint64N(base+width-seq+1))
			case op < 19:
				if !w.announce(seq, now) {
					unheard++
				}
			default:
				w.setBaseline(seq, now)
			}
			now = now.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
			if err := checkInvariants(w); err != nil {
				t.Fatal(err)
			}
			if w.floor < floor {
				t.Fatalf("floor fell from %d to %d", floor, w.floor)
			}
			for seq := range handled {
				if w.admit(seq, now) != admitDuplicate {
					t.Fatalf("%d was handled and is admitted again", seq)
				}
			}
		}
	}
	if refusals == 0 || unheard == 0 || lostAtOnce == 0 {
		t.Errorf("%d refusals, %d unheard, %d lost at once: the test tests nothing", refusals, unheard, lostAtOnce)
	}
}
