package receipt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/seqset"
)

type seqState byte

const (
	unseen seqState = iota
	pendingHere
	handledHere
	givenUpHere
)

// grain is how much younger than it is a hole may be taken for: see seqset.Holes.
const grain = 50 * time.Millisecond

// naiveLog is what a log must be equal to: the state of every seq of a small universe by itself, and the floor by its
// definition.
type naiveLog struct {
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

func (n *naiveLog) floor() uint64 {
	f := max(n.baseline-1, n.low)
	for f < n.base+n.width && (n.state[f+1] == handledHere || n.state[f+1] == givenUpHere) {
		f++
	}
	n.low = f
	return f
}

func (n *naiveLog) missing(seq uint64) bool {
	return n.first != 0 && n.first <= seq && seq <= n.top && seq >= n.baseline && n.state[seq] == unseen
}

func (n *naiveLog) seen(seq uint64) bool { return seq <= n.floor() || n.state[seq] != unseen }

// note gives each missing seq that was not missing before its time.
func (n *naiveLog) note(now time.Time) {
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

func (n *naiveLog) admit(seq uint64) Admission {
	if n.seen(seq) {
		return Duplicate
	}
	n.state[seq] = pendingHere
	n.top = max(n.top, seq)
	if n.first == 0 || seq < n.first {
		n.first = seq
	}
	return Fresh
}

func (n *naiveLog) setHandled(seq uint64) {
	if n.state[seq] == pendingHere || !n.seen(seq) {
		n.admit(seq)
		n.state[seq] = handledHere
	}
}

func (n *naiveLog) evicted(seq uint64) (givenUp bool) {
	if n.state[seq] != pendingHere {
		return false
	}
	n.state[seq] = unseen
	if seq <= n.floor() {
		n.state[seq] = givenUpHere
		return true
	}
	return false
}

func (n *naiveLog) giveUp(lo, hi uint64) (count uint64) {
	for i := range n.width {
		if seq := n.base + 1 + i; lo <= seq && seq <= hi && n.missing(seq) {
			n.state[seq] = givenUpHere
			count++
		}
	}
	return count
}

func (n *naiveLog) setBaseline(next uint64) {
	switch {
	case !n.based && (n.first == 0 || next < n.first):
		n.first = next
	}
	n.based = true
	n.baseline = max(n.baseline, next)
	n.top = max(n.top, n.baseline-1)
}

func (n *naiveLog) retract(top uint64) {
	for n.top > max(top, n.floor()) && (n.first == 0 || n.missing(n.top)) {
		n.top--
	}
}

func (n *naiveLog) compare(l *Log, now time.Time) error {
	if l.floor != n.floor() || l.top != n.top || l.based != n.based {
		return fmt.Errorf("floor %d, top %d, based %t; want %d, %d, %t",
			l.floor, l.top, l.based, n.floor(), n.top, n.based)
	}
	d, handled := l.Digest(MaxRanges), l.HandledDigest(MaxRanges)
	since := map[uint64]time.Time{}
	for _, h := range l.Missing(MaxRanges) {
		for seq := h.Lo; ; seq++ {
			since[seq] = h.Since
			if seq == h.Hi || seq-h.Lo > n.width {
				break
			}
		}
	}
	if len(since) != len(n.since) {
		return fmt.Errorf("missing %v, want %v", since, n.since)
	}
	may := !l.based
	for i := range n.width {
		seq := n.base + 1 + i
		state, above := n.state[seq], seq > l.floor
		if got := l.Seen(seq); got != n.seen(seq) {
			return fmt.Errorf("seen(%d) = %t", seq, got)
		}
		if got := l.IsDone(seq); got != (n.seen(seq) && state != pendingHere) {
			return fmt.Errorf("isDone(%d) = %t", seq, got)
		}
		if above && l.MayCome(l.floor, seq) != may {
			return fmt.Errorf("mayCome(%d, %d) = %t", l.floor, seq, !may)
		}
		may = may || above && n.missing(seq)
		here := above && (state == pendingHere || state == handledHere)
		if d.Holds(seq) != here || d.lacks(seq) != (above && seq <= n.top && !here) {
			return fmt.Errorf("digest %v: holds(%d) = %t, lacks = %t", d, seq, d.Holds(seq), d.lacks(seq))
		}
		if handled.Holds(seq) != (above && state == handledHere) {
			return fmt.Errorf("handled digest %v: holds(%d) = %t", handled, seq, handled.Holds(seq))
		}
		want, missing := n.since[seq]
		got, ok := since[seq]
		if ok != missing || got.Before(want) || got.Sub(want) >= grain {
			return fmt.Errorf("%d is missing: %t since %v, want %t since %v", seq, ok, got, missing, want)
		}
	}
	return checkInvariants(l)
}

// checkInvariants holds a log against the invariants on its fields.
func checkInvariants(l *Log) error {
	if l.floor > l.top {
		return fmt.Errorf("floor %d above top %d", l.floor, l.top)
	}
	if l.held.Count() > l.limit+1 || l.holes.Count() > l.limit+1 || l.givenUp.Count() > l.held.Count()+l.holes.Count()+1 {
		return fmt.Errorf("%d ranges held, %d given up, %d missing", l.held.Count(), l.givenUp.Count(), l.holes.Count())
	}
	for _, s := range l.tentative.All() {
		for a, b := range l.pending.Absent(s.Lo, s.Hi) {
			return fmt.Errorf("tentative [%d, %d] is not pending", a, b)
		}
	}
	var union seqset.Set
	total := uint64(0)
	for _, s := range slices.Concat(l.held.All(), l.givenUp.All()) {
		union.AddRange(s.Lo, s.Hi)
		total += s.Hi - s.Lo + 1
	}
	for h := range l.holes.From(0) {
		union.AddRange(h.Lo, h.Hi)
		total += h.Hi - h.Lo + 1
	}
	switch from := max(l.first, l.floor+1); {
	case l.first == 0, l.floor == l.top, from > l.top:
		if total != 0 {
			return fmt.Errorf("%d seqs recorded of none", total)
		}
	case total != l.top-from+1 || union.Count() != 1 || !union.Contains(from) || !union.Contains(l.top):
		return fmt.Errorf("recorded are %v, %d in all, not [%d, %d]", union.All(), total, from, l.top)
	}
	for _, s := range l.pending.All() {
		if s.Hi <= l.floor {
			continue
		}
		for a, b := range l.held.Absent(max(s.Lo, l.floor+1), s.Hi) {
			return fmt.Errorf("pending [%d, %d] is not held", a, b)
		}
	}
	return nil
}

// walk makes one random call on both logs. It returns what it did, and how their answers differ.
func walk(rnd *rand.Rand, l *Log, n *naiveLog, now time.Time) (string, error) {
	seq := n.base + 1 + rnd.Uint64N(n.width)
	do := func(what string, got, want any) (string, error) {
		if got != want {
			return what, fmt.Errorf("%v, want %v", got, want)
		}
		return what, nil
	}
	switch op := rnd.IntN(100); {
	case op < 45:
		got := l.Admit(seq, now)
		if got == Fresh {
			if l.ProposeBaseline(seq); !l.based && rnd.IntN(4) == 0 {
				l.MarkTentative(seq)
			}
		}
		return do(fmt.Sprintf("admit(%d)", seq), got, n.admit(seq))
	case op < 75:
		n.setHandled(seq)
		defer l.ProposeBaseline(seq) // which may be the first that was seen of it
		return do(fmt.Sprintf("setHandled(%d)", seq), l.SetHandled(seq, now), true)
	case op < 84:
		return do(fmt.Sprintf("evicted(%d)", seq), l.Evicted(seq, now), n.evicted(seq))
	case op < 89:
		hi := seq + rnd.Uint64N(n.base+n.width-seq+1)
		return do(fmt.Sprintf("giveUp(%d, %d)", seq, hi), l.GiveUp(seq, hi), n.giveUp(seq, hi))
	case op < 93:
		n.top = max(n.top, seq)
		return do(fmt.Sprintf("announce(%d)", seq), l.Announce(seq, now), true)
	case op < 95:
		l.SetBaseline(seq, now)
		l.TakeTentative()
		n.setBaseline(seq)
		return do(fmt.Sprintf("setBaseline(%d)", seq), true, true)
	case op < 96:
		want := n.based || n.first != 0
		if want && !n.based {
			n.setBaseline(n.first)
		}
		got := l.AssumeBaseline()
		if got {
			l.TakeTentative()
		}
		return do("assumeBaseline()", got, want)
	case op < 98:
		l.Retract(seq)
		n.retract(seq)
		return do(fmt.Sprintf("retract(%d)", seq), true, true)
	default:
		return do("overdue", overdueSum(l, now), naiveOverdue(l, n, now))
	}
}

const testAge = 200 * time.Millisecond

// overdueSum and naiveOverdue count what has been missing for testAge. The naive count takes the times of the log under test,
// which compare holds against the true ones.
func overdueSum(l *Log, now time.Time) (sum int) {
	for _, h := range l.Overdue(now, testAge) {
		sum += int(h.Hi - h.Lo + 1)
	}
	return sum
}

func naiveOverdue(l *Log, n *naiveLog, now time.Time) (sum int) {
	if !n.based {
		return 0
	}
	for seq := range n.since {
		for h := range l.holes.From(0) {
			if h.Lo <= seq && seq <= h.Hi && !now.Before(h.Since.Add(testAge)) {
				sum++
			}
		}
	}
	return sum
}

// TestLogModel compares the log with one that keeps every seq by itself, in the first numbers there are and in the last.
func TestLogModel(t *testing.T) {
	const width = 30
	rnd := seedtest.Rand(t)
	for _, base := range []uint64{0, 1 << 40, math.MaxUint64 - width} {
		for range 500 {
			now := start
			l := New(now)
			n := &naiveLog{
				base: base, width: width, baseline: 1,
				state: map[uint64]seqState{}, since: map[uint64]time.Time{},
			}
			if rnd.IntN(2) == 0 {
				l.SetBaseline(base+1, now)
				n.setBaseline(base + 1)
			}
			var log []string
			for range 80 {
				what, err := walk(rnd, l, n, now)
				log = append(log, what)
				n.note(now)
				if err == nil {
					err = n.compare(l, now)
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

// TestLogFull drives logs with room for a few ranges only: whatever comes, the bounds hold, nothing recorded is forgotten, and
// a refusal leaves no trace.
func TestLogFull(t *testing.T) {
	const width = 60
	rnd := seedtest.Rand(t)
	var refusals, unrecorded, givenUpAtOnce int
	for range 1000 {
		now := start
		l := New(now)
		l.limit = 1 + rnd.IntN(5)
		base := []uint64{0, math.MaxUint64 - width}[rnd.IntN(2)]
		if rnd.IntN(2) == 0 {
			l.SetBaseline(base+1, now)
		}
		handled := map[uint64]bool{}
		for range 120 {
			seq := base + 1 + rnd.Uint64N(width)
			before, floor := l.Digest(width), l.floor
			switch op := rnd.IntN(20); {
			case op < 11:
				was := l.Seen(seq)
				switch got := l.Admit(seq, now); {
				case got == Duplicate != was:
					t.Fatalf("admit(%d) = %d though seen: %t", seq, got, was)
				case got == Refused:
					refusals++
					if fmt.Sprint(l.Digest(width)) != fmt.Sprint(before) {
						t.Fatalf("refused %d, and the record changed", seq)
					}
				}
			case op < 15:
				if l.pending.Contains(seq) {
					l.SetHandled(seq, now)
					handled[seq] = true
				}
			case op < 17:
				if was := l.pending.Contains(seq); l.Evicted(seq, now) {
					givenUpAtOnce++
					if !was || !l.IsDone(seq) {
						t.Fatalf("gave up %d at once: pending %t, done %t", seq, was, l.IsDone(seq))
					}
				}
			case op < 18:
				l.GiveUp(seq, seq+rnd.Uint64N(base+width-seq+1))
			case op < 19:
				if !l.Announce(seq, now) {
					unrecorded++
				}
			default:
				l.SetBaseline(seq, now)
			}
			now = now.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
			if err := checkInvariants(l); err != nil {
				t.Fatal(err)
			}
			if l.floor < floor {
				t.Fatalf("floor fell from %d to %d", floor, l.floor)
			}
			for seq := range handled {
				if l.Admit(seq, now) != Duplicate {
					t.Fatalf("%d was handled and is admitted again", seq)
				}
			}
		}
	}
	if refusals == 0 || unrecorded == 0 || givenUpAtOnce == 0 {
		t.Errorf("%d refusals, %d unrecorded, %d given up at once: the test tests nothing", refusals, unrecorded, givenUpAtOnce)
	}
}
