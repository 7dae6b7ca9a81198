package seqset

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// naiveHoles is what holes must be equal to: the time of each missing number by itself.
type naiveHoles map[uint64]time.Time

// compare holds the holes against their invariants, and their times against the true ones.
func (n naiveHoles) compare(h *Holes) error {
	missing := 0
	var oldest time.Time
	for i, o := range h.list {
		if i > 0 {
			if p := h.list[i-1]; p.Hi >= o.Lo || p.Hi+1 == o.Lo && h.sameGrain(p, o) {
				return fmt.Errorf("hole %v after %v", o, p)
			}
		}
		for x := o.Lo; ; x++ {
			since, ok := n[x]
			if late := o.Since.Sub(since); !ok || late < 0 || late >= holeGrain {
				return fmt.Errorf("%d in %v: missing %t since %v", x, o, ok, since)
			}
			if missing++; x == o.Hi {
				break
			}
		}
		if i == 0 || o.Since.Before(oldest) {
			oldest = o.Since
		}
	}
	if missing != len(n) || h.Count() != len(h.list) || len(h.list) > 0 && !h.Oldest().Equal(oldest) {
		return fmt.Errorf("%d missing in %d holes, want %d", missing, h.Count(), len(n))
	}
	return nil
}

// TestHolesModel compares the holes with a map, in the first numbers there are and in the last.
func TestHolesModel(t *testing.T) {
	const width = 24
	rnd := seedtest.Rand(t)
	for _, base := range []uint64{0, math.MaxUint64 - width + 1} {
		for range 500 {
			h, n, now := NewHoles(start), naiveHoles{}, start
			for range 60 {
				lo := base + rnd.Uint64N(width)
				hi := lo + rnd.Uint64N(base+width-lo)
				splits, count := h.Splits(lo, hi), h.Count()
				if rnd.IntN(2) == 0 {
					for x := range n {
						if lo <= x && x <= hi {
							delete(n, x)
						}
					}
					if h.Cut(lo, hi); h.Count() > count != splits {
						t.Fatalf("cut [%d, %d]: %d holes of %d, splits: %t", lo, hi, h.Count(), count, splits)
					}
				} else if _, missing := n[lo]; !missing {
					for hi > lo && slices.ContainsFunc(h.list, func(o Hole) bool { return o.Lo <= hi && lo <= o.Hi }) {
						hi--
					}
					h.Insert(lo, hi, now)
					for x := lo; ; x++ {
						if n[x] = now; x == hi {
							break
						}
					}
				}
				if err := n.compare(&h); err != nil {
					t.Fatalf("base %d: %v", base, err)
				}
				from := slices.Collect(h.From(lo))
				want := slices.DeleteFunc(slices.Clone(h.list), func(o Hole) bool { return o.Hi < lo })
				if !slices.Equal(from, want) {
					t.Fatalf("from %d: %v of %v", lo, from, h.list)
				}
				if n := h.Count(); n > 0 && (h.Lowest() != h.list[0] || h.Highest() != h.list[n-1]) {
					t.Fatalf("lowest %v, highest %v of %v", h.Lowest(), h.Highest(), h.list)
				}
				now = now.Add(time.Duration(rnd.IntN(40)) * time.Millisecond)
			}
		}
	}
}

// TestHolesJoined: neighbours that are joined count from the later time, whichever side it is on and whichever came first.
func TestHolesJoined(t *testing.T) {
	for _, ms := range [][3]int{{1, 2, 3}, {3, 1, 2}, {2, 3, 1}} {
		h := NewHoles(start)
		h.Insert(1, 1, at(ms[0]))
		h.Insert(3, 3, at(ms[1]))
		h.Insert(2, 2, at(ms[2]))
		if want := []Hole{{Lo: 1, Hi: 3, Since: at(3)}}; !slices.Equal(h.list, want) {
			t.Errorf("%v: %v, want %v", ms, h.list, want)
		}
	}
}

// TestHolesGrain: holes that come one after the other are not a record each.
func TestHolesGrain(t *testing.T) {
	h := NewHoles(start)
	for i := range 10_000 {
		h.Insert(uint64(i+1), uint64(i+1), at(i))
	}
	if most := 10_000/50 + 1; h.Count() > most {
		t.Errorf("%d records for 10 s of holes, want at most %d", h.Count(), most)
	}
}

// TestHolesMemory: memory that many holes needed is given back.
func TestHolesMemory(t *testing.T) {
	h := NewHoles(start)
	for x := range uint64(manyRanges) {
		h.Insert(2*x, 2*x, start)
	}
	for x := range uint64(manyRanges) {
		h.Cut(2*x, 2*x)
	}
	if h.Count() != 0 || cap(h.list) > spareSpans {
		t.Errorf("%d holes keep room for %d", h.Count(), cap(h.list))
	}
}
