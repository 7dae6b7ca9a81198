package receipt

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// TestLogHungChannel: while the handler of one channel hangs, the log must not fill up with the parts of another channel that
// come in between.
func TestLogHungChannel(t *testing.T) {
	l := basedLog()
	const n = 20 * MaxRanges
	for seq := uint64(1); seq <= n; seq++ {
		if got := l.Admit(seq, start); got != Fresh {
			t.Fatalf("admit(%d) = %d", seq, got)
		}
		if seq%2 == 0 {
			l.SetHandled(seq, start)
		}
	}
	if l.floor != 0 || l.held.Count() != 1 || !l.IsDone(n) || l.IsDone(n-1) {
		t.Errorf("floor %d, %d ranges held", l.floor, l.held.Count())
	}
	if l.pending.Count() != n/2 {
		t.Errorf("%d pending ranges of %d pending parts", l.pending.Count(), n/2)
	}
	for seq := uint64(1); seq <= n; seq += 2 {
		l.SetHandled(seq, start)
	}
	if l.floor != n || l.Ranges() > 0 {
		t.Errorf("floor %d, %d ranges left", l.floor, l.Ranges())
	}
}

// TestLogHostileHoles: an origin that leaves out every second part for ever is refused when the record is full, and costs no
// more from then on.
func TestLogHostileHoles(t *testing.T) {
	l := basedLog()
	n := uint64(0)
	for ; l.Admit(2+2*n, start) == Fresh; n++ {
	}
	if n != MaxRanges {
		t.Errorf("refused after %d ranges", n)
	}
	ranges := l.held.Count() + l.holes.Count() + l.pending.Count() + l.givenUp.Count()
	for i := range uint64(100_000) {
		if l.Admit(2+2*(n+i), start) != Refused || l.Announce(2+2*(n+i), start) {
			t.Fatalf("part %d was recorded", 2+2*(n+i))
		}
	}
	if got := l.held.Count() + l.holes.Count() + l.pending.Count() + l.givenUp.Count(); got != ranges {
		t.Errorf("%d ranges have become %d", ranges, got)
	}
	if err := checkInvariants(l); err != nil {
		t.Error(err)
	}
	// Once the missing parts come, from below and in order, nothing is refused any more.
	for seq := uint64(1); seq <= 2*n; seq++ {
		l.Admit(seq, start)
		if !l.SetHandled(seq, start) {
			t.Fatalf("%d does not fit", seq)
		}
	}
	if l.floor != 2*n || l.Admit(2*n+2, start) != Fresh {
		t.Errorf("floor %d of %d", l.floor, 2*n)
	}
}

// TestLogFullFromBelow: a full record has room for the part just above the floor, also in the middle of the longest hole, or
// it would never empty.
func TestLogFullFromBelow(t *testing.T) {
	l := basedLog()
	for seq := uint64(10); l.Admit(seq, start) == Fresh; seq += 2 {
	}
	if l.Admit(2, start) != Refused {
		t.Error("there is room for another part")
	}
	for seq := uint64(1); seq < 9; seq++ {
		if l.Admit(seq, start) != Fresh {
			t.Fatalf("%d is refused", seq)
		}
		if seq%3 == 0 {
			l.SetHandled(seq, start)
			l.SetHandled(seq-1, start)
			l.SetHandled(seq-2, start)
		}
		if err := checkInvariants(l); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogFullEviction: when every second pending part is evicted, the record stays bounded, and each of these parts is missing
// or given up.
func TestLogFullEviction(t *testing.T) {
	const n = 4 * MaxRanges
	l := basedLog()
	for seq := uint64(1); seq <= n; seq++ {
		l.Admit(seq, start)
	}
	missing, givenUp := 0, 0
	for seq := uint64(2); seq <= n; seq += 2 {
		if l.Evicted(seq, start) {
			givenUp++
		} else {
			missing++
		}
	}
	if !l.Evicted(1, start) || l.floor != 1 || l.IsDone(3) {
		t.Errorf("floor %d after 1 was given up for want of room", l.floor)
	}
	if missing+givenUp != n/2 || missing < MaxRanges-1 || missing > MaxRanges || len(l.Missing(n)) != missing {
		t.Errorf("%d missing and %d given up of %d", missing, givenUp, n/2)
	}
	if err := checkInvariants(l); err != nil {
		t.Error(err)
	}
}

// TestLogHostileTop: any number can be claimed, at the cost of one hole.
func TestLogHostileTop(t *testing.T) {
	l := basedLog()
	l.Admit(1, start)
	l.SetHandled(1, start)
	if !l.Announce(math.MaxUint64, at(10)) {
		t.Error("not recorded")
	}
	if got, want := l.Overdue(at(10), 0), []seqset.Hole{{Lo: 2, Hi: math.MaxUint64, Since: at(10)}}; !slices.Equal(got, want) {
		t.Errorf("overdue %v, want %v", got, want)
	}
	if l.Admit(math.MaxUint64, at(10)) != Fresh || l.Admit(2, at(10)) != Fresh {
		t.Error("parts of a long sequence are not admitted")
	}
	if n := l.GiveUp(0, math.MaxUint64); n != math.MaxUint64-3 {
		t.Errorf("%d given up", n)
	}
	l.SetHandled(math.MaxUint64, at(10))
	l.SetHandled(2, at(10))
	if l.floor != math.MaxUint64 || l.Admit(math.MaxUint64, at(10)) != Duplicate {
		t.Errorf("floor %d", l.floor)
	}
	l.SetBaseline(math.MaxUint64, at(10))
	if got := l.Digest(9); got.Floor != math.MaxUint64 || l.GiveUp(1, math.MaxUint64) != 0 || l.Evicted(math.MaxUint64, at(10)) {
		t.Errorf("at the end of the numbers: %v", got)
	}
}

// TestLogInOrder: the usual case allocates nothing.
func TestLogInOrder(t *testing.T) {
	l := basedLog()
	seq := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		seq++
		l.Admit(seq, start)
		l.SetHandled(seq, start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLogInOrder(b *testing.B) {
	b.ReportAllocs()
	l, seq := basedLog(), uint64(0)
	for b.Loop() {
		seq++
		l.Admit(seq, start)
		l.SetHandled(seq, start)
	}
}

func BenchmarkLogBehind(b *testing.B) {
	b.ReportAllocs()
	l, seq := basedLog(), uint64(0)
	for b.Loop() {
		seq++
		next := seq
		switch seq % 10 {
		case 5:
			next++
		case 6:
			next--
		}
		l.Admit(next, start)
		if seq > 1000 {
			l.SetHandled(seq-1000, start)
		}
	}
}

func BenchmarkLogDuplicate(b *testing.B) {
	b.ReportAllocs()
	l := basedLog()
	for seq := range uint64(MaxRanges) {
		l.Admit(2+2*seq, start)
	}
	for b.Loop() {
		l.Admit(MaxRanges, start)
	}
}

// TestLogOverHistory drives a log and a history as their owner does: the history is small, the handler slow, the network
// reorders and duplicates, and there is repair. Every part is handled once or reported as given up, and pending parts are
// kept.
func TestLogOverHistory(t *testing.T) {
	rnd := seedtest.Rand(t)
	var again, atOnce, gaps int
	for range 50 {
		const parts, kept = 400, 6
		now, l, h := start, basedLog(), store.New(kept*store.ItemOverhead, time.Second)
		l.limit = 1 + rnd.IntN(6)
		handled, givenUp := map[uint64]int{}, map[uint64]bool{}
		evicted := func(items []*store.Item) {
			for _, it := range items {
				switch {
				case it.Handled:
				case l.Evicted(it.ID.Seq, now):
					givenUp[it.ID.Seq] = true
					atOnce++
				default:
					again++
				}
			}
		}
		arrive := func(seq uint64) {
			if l.Admit(seq, now) == Fresh {
				evicted(h.Add(&store.Item{ID: wire.PartID{Origin: 1, Seq: seq}, Born: now}, now))
			}
		}
		for step := uint64(1); l.floor < parts; step++ {
			if step > 100*parts {
				t.Fatalf("stuck at floor %d", l.floor)
			}
			now = now.Add(time.Millisecond)
			if seq := step + rnd.Uint64N(5); seq <= parts {
				arrive(seq)
			}
			l.Announce(min(step, parts), now)
			for _, o := range l.Missing(rnd.IntN(3)) {
				arrive(o.Lo + rnd.Uint64N(o.Hi-o.Lo+1))
			}
			for it := range h.Ascend(1, l.floor+1, parts) {
				if !it.Handled && rnd.IntN(10) == 0 {
					handled[it.ID.Seq]++
					h.SetHandled(it)
					l.SetHandled(it.ID.Seq, now)
				}
			}
			evicted(h.Expire(now))
			for _, o := range l.Overdue(now, time.Second) {
				for seq := o.Lo; seq <= o.Hi; seq++ {
					givenUp[seq] = true
					gaps++
				}
				l.GiveUp(o.Lo, o.Hi)
			}
			due := uint64(0)
			for it := range h.Ascend(1, 0, parts) {
				if !it.Handled {
					due++
				}
			}
			if pendingCount(l) != due {
				t.Fatalf("%d pending, %d unhandled kept", pendingCount(l), due)
			}
			if err := checkInvariants(l); err != nil {
				t.Fatal(err)
			}
		}
		for seq := uint64(1); seq <= parts; seq++ {
			if n := handled[seq]; n > 1 || n == 1 == givenUp[seq] {
				t.Errorf("%d was handled %d times, given up: %t", seq, n, givenUp[seq])
			}
		}
	}
	if again == 0 || atOnce == 0 || gaps == 0 {
		t.Errorf("%d missing again, %d given up at once, %d overdue: the test tests nothing", again, atOnce, gaps)
	}
}

// pendingCount returns how many parts wait for their handler.
func pendingCount(l *Log) (n uint64) {
	for _, s := range l.pending.All() {
		n += s.Hi - s.Lo + 1
	}
	return n
}
