package starling

import "testing"

// TestLine: who comes first is first, and is overtaken by nobody, be it one that comes anew; who leaves makes room for the next, and the
// first alone is told that there may be room.
func TestLine(t *testing.T) {
	var l line
	if !l.first(nil) {
		t.Error("somebody is before us in an empty line")
	}
	a, b := l.join(nil), l.join(nil)
	if l.join(a) != a || l.join(b) != b || len(l) != 2 {
		t.Errorf("who is in the line joins it again: %d wait", len(l))
	}
	firsts := func(want *turn) {
		t.Helper()
		for _, who := range []*turn{nil, a, b} {
			if got := l.first(who); got != (who == want) {
				t.Errorf("first %v of a, b %v, %v", got, who == a, who == b)
			}
		}
	}
	told := func(who *turn) bool {
		select {
		case <-who.come:
			return true
		default:
			return false
		}
	}
	firsts(a)
	l.wake()
	l.wake() // once is enough
	if !told(a) || told(a) || told(b) {
		t.Error("another one than the first was told")
	}
	if l.leave(nil); told(a) {
		t.Error("nobody left, and the first was told")
	}
	l.leave(a)
	if firsts(b); !told(b) || told(a) {
		t.Error("the next was not told when the first left")
	}
	if l.leave(b); !l.first(nil) || told(b) {
		t.Error("the line is not empty")
	}
	l.wake()
}
