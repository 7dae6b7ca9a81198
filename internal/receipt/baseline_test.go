package receipt

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// TestNoBaseline: until there is a baseline all parts are admitted, what is missing above the first can be pulled, and
// nothing is overdue.
func TestNoBaseline(t *testing.T) {
	l := New(start)
	if l.AssumeBaseline() {
		t.Error("a baseline out of nothing")
	}
	l.Announce(12, at(0))
	if len(l.Missing(9)) != 0 {
		t.Error("parts are missing before any came")
	}
	l.Admit(10, at(100))
	l.SetHandled(10, at(100))
	l.Admit(8, at(200))
	if l.AssumeBaseline() {
		t.Error("a baseline out of what may be older than our meeting")
	}
	want := []seqset.Hole{{Lo: 9, Hi: 9, Since: at(200)}, {Lo: 11, Hi: 12, Since: at(100)}}
	if got := l.Missing(9); !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if l.floor != 0 || l.IsDone(7) || l.Overdue(at(1e6), 0) != nil {
		t.Errorf("floor %d: something is overdue or done without a baseline", l.floor)
	}

	told := New(start)
	told.Announce(12, at(0))
	told.Admit(10, at(100))
	told.SetHandled(10, at(100))
	told.Admit(8, at(200))
	told.SetBaseline(5, at(300))
	if got, want := told.Missing(1), []seqset.Hole{{Lo: 5, Hi: 7, Since: at(300)}}; !slices.Equal(got, want) || told.floor != 4 {
		t.Errorf("told 5: missing %v, want %v; floor %d", got, want, told.floor)
	}

	l.ProposeBaseline(10)
	l.ProposeBaseline(8)
	if !l.AssumeBaseline() || l.floor != 7 || !l.IsDone(7) || l.IsDone(8) {
		t.Errorf("assumed: floor %d", l.floor)
	}
	if got := l.Overdue(at(400), 200*time.Millisecond); len(got) != 2 {
		t.Errorf("overdue %v", got)
	}
}

// TestBaselineFirst: the baseline may be told before any part comes.
func TestBaselineFirst(t *testing.T) {
	for next, want := range map[uint64][]seqset.Hole{
		0: {{Lo: 1, Hi: 5, Since: at(1)}},
		1: {{Lo: 1, Hi: 5, Since: at(1)}},
		4: {{Lo: 4, Hi: 5, Since: at(1)}},
		5: {{Lo: 5, Hi: 5, Since: at(1)}},
		6: nil,
		9: nil,
	} {
		l := New(start)
		l.Announce(5, at(0))
		l.SetBaseline(next, at(1))
		if got := l.Missing(9); !slices.Equal(got, want) || l.floor != max(next, 1)-1 {
			t.Errorf("baseline %d: missing %v, want %v; floor %d", next, got, want, l.floor)
		}
		if err := checkInvariants(l); err != nil {
			t.Error(err)
		}
	}
}

// TestBaselineAbovePending: a part that was admitted before a baseline above it was set still waits for its handler, and is not
// done until then.
func TestBaselineAbovePending(t *testing.T) {
	l := New(start)
	l.Admit(3, start)
	l.Admit(6, start)
	l.SetBaseline(5, start)
	if l.floor != 4 || l.IsDone(3) || l.Admit(3, start) != Duplicate {
		t.Errorf("floor %d; 3 done: %t", l.floor, l.IsDone(3))
	}
	if l.SetHandled(3, start); !l.IsDone(3) {
		t.Error("3 was handled and is not done")
	}
	l.SetBaseline(2, start) // a late answer
	if l.floor != 4 {
		t.Errorf("floor fell to %d", l.floor)
	}
	l.SetBaseline(7, start) // a snapshot that contains more
	if l.floor != 6 || l.IsDone(6) || len(l.Missing(9)) != 0 {
		t.Errorf("floor %d, missing %v", l.floor, l.Missing(9))
	}
	if !l.Evicted(6, start) || !l.IsDone(6) {
		t.Error("what is evicted below the baseline must be given up at once")
	}
}

// TestCorrectBaseline: a baseline that is told after one was assumed names what was skipped wrongly, once.
func TestCorrectBaseline(t *testing.T) {
	for next, want := range map[uint64][]seqset.Span{
		1:  {{Lo: 1, Hi: 2}, {Lo: 4, Hi: 5}, {Lo: 7, Hi: 9}},
		2:  {{Lo: 2, Hi: 2}, {Lo: 4, Hi: 5}, {Lo: 7, Hi: 9}},
		8:  {{Lo: 8, Hi: 9}},
		10: nil,
		12: nil,
	} {
		l := New(start)
		for _, seq := range []uint64{3, 4, 6, 10, 12} {
			l.Admit(seq, start)
		}
		l.MarkTentative(4)
		l.SetHandled(3, start)
		l.SetHandled(6, start)
		l.ProposeBaseline(12)
		l.ProposeBaseline(10)
		if !l.AssumeBaseline() || l.Floor() != 9 || !l.Based() {
			t.Fatalf("floor %d", l.Floor())
		}
		if got := l.Missing(9); len(got) != 1 || got[0].Lo != 11 {
			t.Errorf("missing %v", got)
		}
		if !slices.Equal(l.TakeTentative(), []seqset.Span{{Lo: 4, Hi: 4}}) || l.TakeTentative() != nil {
			t.Error("4 is not tentative, or is so twice")
		}
		if got := l.CorrectBaseline(next); !slices.Equal(got, want) {
			t.Errorf("told %d: skipped %v, want %v", next, got, want)
		}
		if got := l.CorrectBaseline(1); len(got) != 0 {
			t.Errorf("told again: skipped %v", got)
		}
	}
}
