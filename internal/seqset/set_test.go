package seqset

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/starling-go/starling/internal/seedtest"
)

// numberSet is what a set must be equal to: the members one by one, out of a universe of width numbers from base on.
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
func (n *numberSet) runs(lo, hi uint64, in bool) []Span {
	var runs []Span
	n.each(lo, hi, func(x uint64) {
		if n.members[x] != in {
			return
		}
		if k := len(runs); k > 0 && runs[k-1].Hi == x-1 {
			runs[k-1].Hi = x
			return
		}
		runs = append(runs, Span{x, x})
	})
	return runs
}

// step does operation op on both, and returns how they differ, if at all.
func (n *numberSet) step(s *Set, op byte, x, y uint64) error {
	switch op % 7 {
	case 0:
		s.Add(x)
		n.members[x] = true
	case 1:
		s.AddRange(x, y)
		n.each(x, y, func(z uint64) { n.members[z] = true })
	case 2:
		if got, want := s.Remove(x), n.members[x]; got != want {
			return fmt.Errorf("remove(%d) = %t", x, got)
		}
		delete(n.members, x)
	case 3:
		if got, want := s.RemoveRange(x, y), len(n.runs(x, y, true)) > 0; got != want {
			return fmt.Errorf("removeRange(%d, %d) = %t", x, y, got)
		}
		n.each(x, y, func(z uint64) { delete(n.members, z) })
	case 4:
		if x%8 == 0 { // seldom, or the sets stay empty
			s.Trim(x)
			n.each(0, x, func(z uint64) { delete(n.members, z) })
		}
	case 5:
		var got []Span
		for lo, hi := range s.Absent(x, y) {
			got = append(got, Span{lo, hi})
		}
		if want := n.runs(x, y, false); !slices.Equal(got, want) {
			return fmt.Errorf("absent(%d, %d) = %v, want %v", x, y, got, want)
		}
	case 6:
		return n.divide(s, x, y)
	}
	return n.compare(s)
}

// divide divides up to three spans of [x, y], and returns how what comes out differs, if at all.
func (n *numberSet) divide(s *Set, x, y uint64) error {
	if x > y {
		return nil
	}
	spans := []Span{{x, y}}
	if third := (y - x) / 3; third > 0 {
		spans = []Span{{x, x + third - 1}, {x + third, x + third}, {x + 2*third, y}}
	}
	var wantIn, wantOut []Span
	for _, sp := range spans {
		wantIn = append(wantIn, n.runs(sp.Lo, sp.Hi, true)...)
		wantOut = append(wantOut, n.runs(sp.Lo, sp.Hi, false)...)
	}
	if in, out := s.Divide(spans); !slices.Equal(in, wantIn) || !slices.Equal(out, wantOut) {
		return fmt.Errorf("divide(%v) = %v and %v, want %v and %v", spans, in, out, wantIn, wantOut)
	}
	return nil
}

func (n *numberSet) compare(s *Set) error {
	got, want := s.All(), n.runs(0, math.MaxUint64, true)
	if !slices.Equal(got, want) {
		return fmt.Errorf("ranges are %v, want %v", got, want)
	}
	if s.Count() != len(want) || size(s) != uint64(len(n.members)) {
		return fmt.Errorf("count %d, size %d of %v", s.Count(), size(s), want)
	}
	if x, ok := s.Max(); ok != (len(want) > 0) || ok && x != want[len(want)-1].Hi {
		return fmt.Errorf("max() = %d, %t of %v", x, ok, want)
	}
	for i := range n.width {
		x := n.base + i
		in := n.members[x]
		below, above := x > 0 && n.members[x-1], x < math.MaxUint64 && n.members[x+1]
		if s.Contains(x) != in {
			return fmt.Errorf("contains(%d) = %t", x, !in)
		}
		if s.Joins(x) != (in || below || above) {
			return fmt.Errorf("joins(%d) = %t in %v", x, s.Joins(x), want)
		}
		if s.Splits(x) != (in && below && above) {
			return fmt.Errorf("splits(%d) = %t in %v", x, s.Splits(x), want)
		}
		next, ok := s.Next(x)
		rest := n.runs(x, math.MaxUint64, true)
		if ok != (len(rest) > 0) || ok && next != rest[0].Lo {
			return fmt.Errorf("next(%d) = %d, %t in %v", x, next, ok, want)
		}
	}
	return nil
}

// TestSetModel compares the set with one that is too simple to be wrong, at both ends of the numbers and in between.
func TestSetModel(t *testing.T) {
	const width = 24
	rnd := seedtest.Rand(t)
	for _, base := range []uint64{0, 1, 1 << 40, math.MaxUint64 - width + 1} {
		for range 500 {
			model := &numberSet{base: base, width: width, members: map[uint64]bool{}}
			var s Set
			for i := range 60 {
				op, x, y := byte(rnd.Uint32()), base+rnd.Uint64N(width), base+rnd.Uint64N(width)
				if err := model.step(&s, op, x, y); err != nil {
					t.Fatalf("base %d, step %d (op %d, %d, %d): %v", base, i, op%7, x, y, err)
				}
			}
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 5, 0, 0, 4, 0, 2, 4, 0, 5, 0, 31}, false)
	f.Add([]byte{1, 0, 31, 3, 31, 31, 0, 31, 0, 4, 8, 0}, true)
	f.Fuzz(func(t *testing.T, script []byte, high bool) {
		const width = 32
		model := &numberSet{width: width, members: map[uint64]bool{}}
		if high {
			model.base = math.MaxUint64 - width + 1
		}
		var s Set
		for op := range slices.Chunk(script[:min(len(script), 300)], 3) {
			if len(op) < 3 {
				break
			}
			x, y := model.base+uint64(op[1]%width), model.base+uint64(op[2]%width)
			if err := model.step(&s, op[0], x, y); err != nil {
				t.Fatalf("op %d(%d, %d): %v", op[0]%7, x, y, err)
			}
		}
	})
}

// TestSetEnds covers what the small universes of the model cannot reach.
func TestSetEnds(t *testing.T) {
	var s Set
	s.AddRange(0, math.MaxUint64)
	s.Add(0)
	s.Add(math.MaxUint64)
	if s.Count() != 1 || size(&s) != math.MaxUint64 {
		t.Errorf("all numbers: %v, size %d", s.spans, size(&s))
	}
	for lo, hi := range s.Absent(0, math.MaxUint64) {
		t.Errorf("[%d, %d] is absent from all numbers", lo, hi)
	}
	s.Remove(0)
	s.Remove(math.MaxUint64)
	if want := []Span{{1, math.MaxUint64 - 1}}; !slices.Equal(s.spans, want) {
		t.Errorf("without the ends: %v", s.spans)
	}
	ends := maps.Collect(s.Absent(0, math.MaxUint64))
	if want := map[uint64]uint64{0: 0, math.MaxUint64: math.MaxUint64}; !maps.Equal(ends, want) {
		t.Errorf("absent at the ends: %v", ends)
	}
	s.Trim(math.MaxUint64)
	if s.Count() != 0 {
		t.Errorf("trimmed at the end: %v", s.spans)
	}
	s.AddRange(7, 3)
	s.AddRange(1, 10)
	if s.RemoveRange(7, 3) || size(&s) != 10 {
		t.Errorf("empty ranges are not empty: %v", s.spans)
	}
}

// TestSetReplay runs one iterator twice, as any Seq may be run.
func TestSetReplay(t *testing.T) {
	var s Set
	s.Add(5)
	seq := s.Absent(1, 9)
	if a, b := maps.Collect(seq), maps.Collect(seq); !maps.Equal(a, b) || len(a) != 2 {
		t.Errorf("first %v, then %v", a, b)
	}
	for range seq {
		break // a consumer that leaves must not be called again
	}
}

// TestSetMemory: memory that many ranges needed is given back.
func TestSetMemory(t *testing.T) {
	var s Set
	for x := range uint64(manyRanges) {
		s.Add(2 * x)
	}
	if s.Count() != manyRanges {
		t.Fatalf("%d ranges", s.Count())
	}
	s.Trim(2 * manyRanges)
	for x := range uint64(10) {
		s.Add(3*manyRanges + x)
		s.Trim(3*manyRanges + x)
	}
	if cap(s.spans) > spareSpans {
		t.Errorf("an empty set keeps room for %d ranges", cap(s.spans))
	}
}

func BenchmarkSetInOrder(b *testing.B) {
	b.ReportAllocs()
	var s Set
	x := uint64(0)
	for b.Loop() {
		x++
		s.Add(x)
	}
}

// BenchmarkSetWorst joins two ranges in the middle of a large set, and splits them again.
func BenchmarkSetWorst(b *testing.B) {
	b.ReportAllocs()
	var s Set
	for x := range uint64(manyRanges) {
		s.Add(2 * x)
	}
	for b.Loop() {
		s.Add(manyRanges + 1)
		s.Remove(manyRanges + 1)
	}
}

// size returns the number of members, of which there may be one less than it can count.
func size(s *Set) (n uint64) {
	for _, sp := range s.All() {
		lo, hi := sp.Lo, sp.Hi
		if lo == 0 && hi == math.MaxUint64 {
			return math.MaxUint64
		}
		n += hi - lo + 1
	}
	return n
}

// manyRanges is how many ranges a record of an origin may have.
const manyRanges = 4096
