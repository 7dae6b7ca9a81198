package receipt

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// basedLog returns the log of an origin whose baseline is seq 1.
func basedLog() *Log {
	l := New(start)
	l.SetBaseline(1, start)
	return l
}

// start is when the tests begin.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// TestLogInvalid: seq 0 names no part, and is the predecessor of none.
func TestLogInvalid(t *testing.T) {
	l := New(start)
	if l.Admit(0, at(5)) != Refused || l.top != 0 || l.Idle(at(5)) != 5*time.Millisecond {
		t.Error("seq 0 left a trace")
	}
	if !l.IsDone(0) {
		t.Error("a first part waits for a predecessor")
	}
}

// TestLogFloorWaits: a part that waits for a slow handler keeps the floor down; neither it nor a later part is admitted again.
func TestLogFloorWaits(t *testing.T) {
	l := basedLog()
	for seq := uint64(1); seq <= 5; seq++ {
		l.Admit(seq, start)
	}
	for _, seq := range []uint64{5, 3, 2} {
		l.SetHandled(seq, start)
	}
	if l.floor != 0 || l.IsDone(1) || !l.IsDone(3) || l.IsDone(4) {
		t.Errorf("floor %d while 1 is pending", l.floor)
	}
	l.SetHandled(1, start)
	if l.floor != 3 {
		t.Errorf("floor %d while 4 is pending", l.floor)
	}
	for seq := uint64(1); seq <= 5; seq++ {
		if l.Admit(seq, start) != Duplicate {
			t.Errorf("%d is admitted twice", seq)
		}
	}
	l.SetHandled(4, start)
	if l.floor != 5 || l.held.Count()+l.pending.Count() != 0 {
		t.Errorf("floor %d, %d ranges left", l.floor, l.held.Count())
	}
}

// TestLogEvicted: a pending part that is evicted is missing from that moment, can come again, and is handled once.
func TestLogEvicted(t *testing.T) {
	l := basedLog()
	for seq := uint64(1); seq <= 3; seq++ {
		l.Admit(seq, start)
	}
	l.SetHandled(3, start)
	if l.Evicted(2, at(100)) || l.Evicted(3, at(100)) {
		t.Error("given up at once")
	}
	if got, want := l.Missing(9), []seqset.Hole{{Lo: 2, Hi: 2, Since: at(100)}}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if l.IsDone(2) || l.Admit(2, at(200)) != Fresh || len(l.Missing(9)) != 0 {
		t.Error("the evicted part did not come back")
	}
	// Evicted while its handler ran: what ran must not be admitted again.
	l.Evicted(1, at(300))
	if !l.SetHandled(1, at(400)) || l.Admit(1, at(400)) != Duplicate || l.floor != 1 {
		t.Errorf("handled after its eviction: floor %d", l.floor)
	}
}

// TestLogHoleAges: what is left of a hole keeps the hole's time.
func TestLogHoleAges(t *testing.T) {
	l := basedLog()
	l.Announce(10, at(100))
	l.Announce(12, at(1000))
	l.Admit(5, at(2000))
	want := []seqset.Hole{{Lo: 1, Hi: 4, Since: at(100)}, {Lo: 6, Hi: 10, Since: at(100)}, {Lo: 11, Hi: 12, Since: at(1000)}}
	if got := l.Missing(9); !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if got := l.Missing(1); !slices.Equal(got, want[:1]) {
		t.Errorf("the first missing: %v", got)
	}
	if got := l.Missing(-1); len(got) != 0 {
		t.Errorf("no holes wanted, got %v", got)
	}
	if got := l.Overdue(at(2100), 2*time.Second); !slices.Equal(got, want[:2]) {
		t.Errorf("overdue %v, want %v", got, want[:2])
	}
	if got := l.GiveUp(6, 10); got != 5 || l.Admit(7, at(2100)) != Duplicate || l.IsDone(5) {
		t.Errorf("%d given up; one of them admitted again, or 5 done before it was handled", got)
	}
	if got := l.GiveUp(1, 20); got != 6 || l.floor != 4 || l.top != 12 {
		t.Errorf("%d given up, floor %d, top %d", got, l.floor, l.top)
	}
}

// TestLogIdle: parts and sights of the origin count, what others say of it does not.
func TestLogIdle(t *testing.T) {
	l := New(start)
	l.Admit(1, at(10))
	l.Admit(1, at(5)) // from a goroutine that read its clock earlier
	l.Announce(9, at(20))
	if got := l.Idle(at(30)); got != 20*time.Millisecond {
		t.Errorf("idle for %v", got)
	}
	l.Sight(at(30))
	if got := l.Idle(at(30)); got != 0 {
		t.Errorf("idle for %v", got)
	}
}

// TestLogGrain: a top that grows bit by bit is not one hole for each announcement.
func TestLogGrain(t *testing.T) {
	l := basedLog()
	for i := range 10_000 {
		l.Announce(uint64(i+1), at(i))
	}
	if n, most := len(l.Missing(MaxRanges)), 10_000/50+1; n > most {
		t.Errorf("%d holes for 10 s of announcements, want at most %d", n, most)
	}
}

// TestLogRetract: what the origin says it has not sent is no longer missing, unless a later part was here.
func TestLogRetract(t *testing.T) {
	l := basedLog()
	l.Admit(2, at(0))
	l.Announce(9, at(100))
	l.Retract(5)
	want := []seqset.Hole{{Lo: 1, Hi: 1, Since: at(0)}, {Lo: 3, Hi: 5, Since: at(100)}}
	if l.Top() != 5 || !slices.Equal(l.Missing(9), want) {
		t.Errorf("top %d, missing %v, want %v", l.Top(), l.Missing(9), want)
	}
	l.Admit(7, at(200))
	l.Retract(1)
	if l.Top() != 7 || len(l.Missing(9)) != 3 {
		t.Errorf("7 was here: top %d, missing %v", l.Top(), l.Missing(9))
	}
	if l.Admit(6, at(300)) != Fresh || l.Admit(9, at(300)) != Fresh {
		t.Error("what was retracted and comes all the same is not admitted")
	}
	if err := checkInvariants(l); err != nil {
		t.Error(err)
	}
	nothing := New(start)
	nothing.Announce(9, at(0))
	if nothing.Retract(4); nothing.Top() != 4 {
		t.Errorf("nothing seen: top %d", nothing.Top())
	}
}
