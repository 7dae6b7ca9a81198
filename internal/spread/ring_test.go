package spread

import "testing"

// TestPosition: the wire depends on where a name stands.
func TestPosition(t *testing.T) {
	for name, want := range map[string]uint64{"": 0x2180a92350d49cce, "a": 0x55e22b8ccbb1816f, "starling-1": 0xea9648fdcb0a6d28} {
		if got := Position(name); got != want {
			t.Errorf("%q stands at %#x, want %#x", name, got, want)
		}
	}
}

// TestUntil: the members before a position are counted from this member on, around the end of the circle too.
func TestUntil(t *testing.T) {
	f := newTestNet(30, nil)
	for _, m := range f.members {
		r := f.spreads[m.ID].Ring
		if got := r.Until(r.ownPos()); got != len(r.Places) {
			t.Errorf("%s: %d steps around the circle", m.Name, got)
		}
		for n := 1; n < len(r.Places); n++ {
			pos := r.at(n).Pos
			if at, beyond := r.Until(pos), r.Until(pos+1); at != n || beyond != n+1 {
				t.Errorf("%s: the member %d steps on is %d steps on, and what follows it %d", m.Name, n, at, beyond)
			}
		}
	}
}

// TestCut: the slices cover the arc without a gap, and differ by at most one member.
func TestCut(t *testing.T) {
	r := newTestNet(60, nil).root().Ring
	for length := range 50 {
		at, least, most := 3, 60, 0
		cuts := Arc{r, 3, 3 + length}.cut(fanOut)
		for _, c := range cuts {
			if c.from != at || c.Len() < 1 {
				t.Errorf("an arc of %d: slice [%d, %d) after %d", length, c.from, c.to, at)
			}
			at, least, most = c.to, min(least, c.Len()), max(most, c.Len())
		}
		if at != 3+length || len(cuts) != min(length, fanOut) || length > 0 && most-least > 1 {
			t.Errorf("an arc of %d: %d slices of %d to %d, up to %d", length, len(cuts), least, most, at)
		}
	}
}

// TestCutAround: the place that gets nothing heads no slice and counts for none, wherever it stands.
func TestCutAround(t *testing.T) {
	r := newTestNet(60, nil).root().Ring
	for length := 1; length < 40; length++ {
		for step := 3; step <= 3+length; step++ {
			around := min(1, 3+length-step) // 0: it is not in the arc
			at, least, most := 3, 60, 0
			cuts := Arc{r, 3, 3 + length}.cutAround(chunkFanOut, step)
			for _, c := range cuts {
				count := c.Len()
				if c.from <= step && step < c.to {
					count--
				}
				if c.from == step || c.from != at && (at != step || c.from != at+1) || count < 1 {
					t.Errorf("an arc of %d around %d: slice [%d, %d) after %d", length, step, c.from, c.to, at)
				}
				at, least, most = c.to, min(least, count), max(most, count)
			}
			if at != 3+length && length > around || len(cuts) != min(length-around, chunkFanOut) || most-least > 1 && len(cuts) > 0 {
				t.Errorf("an arc of %d around %d: %d slices of %d to %d, up to %d", length, step, len(cuts), least, most, at)
			}
		}
	}
}
