package starling

import (
	"slices"
	"testing"
)

// TestWindowGrain: a top that creeps up, or a run of evictions, is not a record
// per call.
func TestWindowGrain(t *testing.T) {
	w := basedWindow()
	for i := range 10_000 {
		w.announce(uint64(i+1), at(i))
	}
	if n, most := len(w.missing(maxRanges)), 10_000/50+1; n > most {
		t.Errorf("%d holes for 10 s of announcements, want at most %d", n, most)
	}
	for _, h := range w.holes.list {
		if late := h.since.Sub(at(int(h.lo - 1))); late < 0 || late >= holeGrain {
			t.Errorf("hole %v is %v late", h, late)
		}
	}
}

// TestHolesLater: joined neighbours count from the later time, whichever side it
// is on and whichever came first.
func TestHolesLater(t *testing.T) {
	for _, ms := range [][3]int{{1, 2, 3}, {3, 1, 2}, {2, 3, 1}} {
		h := holes{epoch: genesis}
		h.insert(1, 1, at(ms[0]))
		h.insert(3, 3, at(ms[1]))
		h.insert(2, 2, at(ms[2]))
		if want := []hole{{1, 3, at(3)}}; !slices.Equal(h.list, want) {
			t.Errorf("%v: %v, want %v", ms, h.list, want)
		}
	}
}
