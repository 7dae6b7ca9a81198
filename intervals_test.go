package starling

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
)

// numberSet is what intervals must be equal to: the members one by one, out of
// a universe of width numbers from base on.
type numberSet struct {
	base    uint64
	width   uint64
	members map[uint64]bool
}

func (n *numberSet) each(lo, hi uint64, do func(x uint64)) {
	for i := range n.width {
		if x := n.base + i; lo <= x && x <= hi {
			do(x)
		}
	}
}

// runs returns the maximal ranges of [lo, hi] whose numbers are in, or not in.
func (n *numberSet) runs(lo, hi uint64, in bool) []span {
	var runs []span
	n.each(lo, hi, func(x uint64) {
		if n.members[x] != in {
			return
		}
		if k := len(runs); k > 0 && runs[k-1].hi == x-1 {
			runs[k-1].hi = x
			return
		}
		runs = append(runs, span{x, x})
	})
	return runs
}

// step does operation op on both, and returns how they differ, if at all.
func (n *numberSet) step(s *intervals, op byte, x, y uint64) error {
	switch op % 6 {
	case 0:
		if got, want := s.add(x), !n.members[x]; got != want {
			return fmt.Errorf("add(%d) = %t", x, got)
		}
		n.members[x] = true
	case 1:
		s.addRange(x, y)
		n.each(x, y, func(z uint64) { n.members[z] = true })
	case 2:
		if got, want := s.remove(x), n.members[x]; got != want {
			return fmt.Errorf("remove(%d) = %t", x, got)
		}
		delete(n.members, x)
	case 3:
		if got, want := s.removeRange(x, y), len(n.runs(x, y, true)) > 0; got != want {
			return fmt.Errorf("removeRange(%d, %d) = %t", x, y, got)
		}
		n.each(x, y, func(z uint64) { delete(n.members, z) })
	case 4:
		if x%8 == 0 { // seldom, or the sets stay empty
			s.trim(x)
			n.each(0, x, func(z uint64) { delete(n.members, z) })
		}
	case 5:
		var got []span
		for lo, hi := range s.holes(x, y) {
			got = append(got, span{lo, hi})
		}
		if want := n.runs(x, y, false); !slices.Equal(got, want) {
			return fmt.Errorf("holes(%d, %d) = %v, want %v", x, y, got, want)
		}
	}
	return n.compare(s)
}

func (n *numberSet) compare(s *intervals) error {
	var got []span
	for lo, hi := range s.ranges() {
		got = append(got, span{lo, hi})
	}
	want := n.runs(0, math.MaxUint64, true)
	if !slices.Equal(got, want) {
		return fmt.Errorf("ranges are %v, want %v", got, want)
	}
	if s.count() != len(want) || s.size() != uint64(len(n.members)) {
		return fmt.Errorf("count %d, size %d of %v", s.count(), s.size(), want)
	}
	if x, ok := s.max(); ok != (len(want) > 0) || ok && x != want[len(want)-1].hi {
		return fmt.Errorf("max() = %d, %t of %v", x, ok, want)
	}
	for i := range n.width {
		x := n.base + i
		in := n.members[x]
		below, above := x > 0 && n.members[x-1], x < math.MaxUint64 && n.members[x+1]
		if s.contains(x) != in {
			return fmt.Errorf("contains(%d) = %t", x, !in)
		}
		if s.joins(x) != (in || below || above) {
			return fmt.Errorf("joins(%d) = %t in %v", x, s.joins(x), want)
		}
		if s.splits(x) != (in && below && above) {
			return fmt.Errorf("splits(%d) = %t in %v", x, s.splits(x), want)
		}
		next, ok := s.next(x)
		rest := n.runs(x, math.MaxUint64, true)
		if ok != (len(rest) > 0) || ok && next != rest[0].lo {
			return fmt.Errorf("next(%d) = %d, %t in %v", x, next, ok, want)
		}
	}
	return nil
}

// TestIntervalsModel compares the set with one that is too simple to be wrong,
// at both ends of the numbers and in between.
func TestIntervalsModel(t *testing.T) {
	const width = 24
	rnd := seeded(t)
	for _, base := range []uint64{0, 1, 1 << 40, math.MaxUint64 - width + 1} {
		for range 500 {
			model := &numberSet{base: base, width: width, members: map[uint64]bool{}}
			var s intervals
			for i := range 60 {
				op, x, y := byte(rnd.Uint32()), base+rnd.Uint64N(width), base+rnd.Uint64N(width)
				if err := model.step(&s, op, x, y); err != nil {
					t.Fatalf("base %d, step %d (op %d, %d, %d): %v", base, i, op%6, x, y, err)
				}
			}
		}
	}
}

func FuzzIntervals(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 5, 0, 0, 4, 0, 2, 4, 0, 5, 0, 31}, false)
	f.Add([]byte{1, 0, 31, 3, 31, 31, 0, 31, 0, 4, 8, 0}, true)
	f.Fuzz(func(t *testing.T, script []byte, high bool) {
		const width = 32
		model := &numberSet{width: width, members: map[uint64]bool{}}
		if high {
			model.base = math.MaxUint64 - width + 1
		}
		var s intervals
		for op := range slices.Chunk(script[:min(len(script), 300)], 3) {
			if len(op) < 3 {
				break
			}
			x, y := model.base+uint64(op[1]%width), model.base+uint64(op[2]%width)
			if err := model.step(&s, op[0], x, y); err != nil {
				t.Fatalf("op %d(%d, %d): %v", op[0]%6, x, y, err)
			}
		}
	})
}

// TestIntervalsEnds covers what the small universes of the model cannot reach.
func TestIntervalsEnds(t *testing.T) {
	var s intervals
	s.addRange(0, math.MaxUint64)
	if s.count() != 1 || s.size() != math.MaxUint64 || s.add(0) || s.add(math.MaxUint64) {
		t.Errorf("all numbers: %v, size %d", s.spans, s.size())
	}
	for lo, hi := range s.holes(0, math.MaxUint64) {
		t.Errorf("all numbers have a hole [%d, %d]", lo, hi)
	}
	s.remove(0)
	s.remove(math.MaxUint64)
	if want := []span{{1, math.MaxUint64 - 1}}; !slices.Equal(s.spans, want) {
		t.Errorf("without the ends: %v", s.spans)
	}
	holes := maps.Collect(s.holes(0, math.MaxUint64))
	if want := map[uint64]uint64{0: 0, math.MaxUint64: math.MaxUint64}; !maps.Equal(holes, want) {
		t.Errorf("holes at the ends: %v", holes)
	}
	s.trim(math.MaxUint64)
	if s.count() != 0 {
		t.Errorf("trimmed at the end: %v", s.spans)
	}
	s.addRange(7, 3)
	s.addRange(1, 10)
	if s.removeRange(7, 3) || s.size() != 10 {
		t.Errorf("empty ranges are not empty: %v", s.spans)
	}
}

// TestIntervalsReplay runs one iterator twice: a Seq may be.
func TestIntervalsReplay(t *testing.T) {
	var s intervals
	s.add(5)
	seq := s.holes(1, 9)
	if a, b := maps.Collect(seq), maps.Collect(seq); !maps.Equal(a, b) || len(a) != 2 {
		t.Errorf("first %v, then %v", a, b)
	}
	for range seq {
		break // a consumer that leaves must not be called again
	}
}

// TestIntervalsMemory: what a storm of holes needed is given back.
func TestIntervalsMemory(t *testing.T) {
	var s intervals
	for x := range uint64(maxRanges) {
		s.add(2 * x)
	}
	if s.count() != maxRanges {
		t.Fatalf("%d ranges", s.count())
	}
	s.trim(2 * maxRanges)
	for x := range uint64(10) {
		s.add(3*maxRanges + x)
		s.trim(3*maxRanges + x)
	}
	if cap(s.spans) > spareSpans {
		t.Errorf("an empty set keeps room for %d ranges", cap(s.spans))
	}
}

func BenchmarkIntervalsInOrder(b *testing.B) {
	b.ReportAllocs()
	var s intervals
	x := uint64(0)
	for b.Loop() {
		x++
		s.add(x)
	}
}

// BenchmarkIntervalsWorst fills and empties a hole in the middle of a full set.
func BenchmarkIntervalsWorst(b *testing.B) {
	b.ReportAllocs()
	var s intervals
	for x := range uint64(maxRanges) {
		s.add(2 * x)
	}
	for b.Loop() {
		s.add(maxRanges + 1)
		s.remove(maxRanges + 1)
	}
}
