package starling

import (
	"cmp"
	"iter"
	"math"
	"slices"
)

// span is the closed range [lo, hi] of sequence numbers.
type span struct {
	lo, hi uint64 // Invariant: lo <= hi
}

// intervals is a set of uint64 kept as its maximal ranges. What comes in order
// only moves the last bound; everything else is a binary search and a shift of
// the ranges behind it. The zero value is the empty set.
//
// Nothing may change the set while one of its iterators runs.
type intervals struct {
	// Invariant: spans[i].lo <= spans[i].hi, and spans[i+1].lo - spans[i].hi >= 2.
	spans []span
}

// spareSpans is how many ranges of unused room a set may keep for ever: enough
// that the in-order case never allocates, little enough for 1,000 origins.
const spareSpans = 32

// contains reports whether x is a member.
func (s *intervals) contains(x uint64) bool {
	i := s.search(x)
	return i < len(s.spans) && s.spans[i].lo <= x
}

// add puts x in and reports whether it was new.
func (s *intervals) add(x uint64) bool {
	n := len(s.spans)
	switch {
	case n == 0 || s.spans[n-1].hi < before(x):
		s.spans = append(s.spans, span{x, x})
	case s.spans[n-1].hi < x:
		s.spans[n-1].hi = x
	case s.contains(x):
		return false
	default:
		s.addRange(x, x)
	}
	return true
}

// addRange puts all of [lo, hi] in; lo > hi is the empty range.
func (s *intervals) addRange(lo, hi uint64) {
	if lo > hi {
		return
	}
	// Neighbours that only touch are merged too, hence one wider on each side.
	i, j := s.overlap(before(lo), after(hi))
	merged := span{lo, hi}
	if i < j {
		merged.lo = min(lo, s.spans[i].lo)
		merged.hi = max(hi, s.spans[j-1].hi)
	}
	s.spans = slices.Replace(s.spans, i, j, merged)
	s.shrink()
}

// remove takes x out and reports whether it was in.
func (s *intervals) remove(x uint64) bool {
	return s.removeRange(x, x)
}

// removeRange takes all of [lo, hi] out and reports whether any of it was in;
// lo > hi is the empty range.
func (s *intervals) removeRange(lo, hi uint64) bool {
	i, j := s.overlap(lo, hi)
	if lo > hi || i == j {
		return false
	}
	var rest [2]span
	n := 0
	if first := s.spans[i]; first.lo < lo {
		rest[n] = span{first.lo, lo - 1}
		n++
	}
	if last := s.spans[j-1]; last.hi > hi {
		rest[n] = span{hi + 1, last.hi}
		n++
	}
	if n <= j-i { // nearly always; Replace would do, at twice the price
		copy(s.spans[i:], rest[:n])
		s.spans = append(s.spans[:i+n], s.spans[j:]...)
	} else {
		s.spans = slices.Replace(s.spans, i, j, rest[:n]...)
	}
	s.shrink()
	return true
}

// trim takes out everything up to and including floor.
func (s *intervals) trim(floor uint64) { s.removeRange(0, floor) }

// count returns the number of ranges.
func (s *intervals) count() int { return len(s.spans) }

// size returns the number of members. The set of all 2^64 numbers is the one
// whose size does not fit; it counts as MaxUint64.
func (s *intervals) size() uint64 {
	var n uint64
	for _, sp := range s.spans {
		if sp.lo == 0 && sp.hi == math.MaxUint64 {
			return math.MaxUint64
		}
		n += sp.hi - sp.lo + 1
	}
	return n
}

// max returns the highest member; false if there is none.
func (s *intervals) max() (uint64, bool) {
	if len(s.spans) == 0 {
		return 0, false
	}
	return s.spans[len(s.spans)-1].hi, true
}

// next returns the lowest member that is not below x; false if there is none.
func (s *intervals) next(x uint64) (uint64, bool) {
	i := s.search(x)
	if i == len(s.spans) {
		return 0, false
	}
	return max(x, s.spans[i].lo), true
}

// joins reports whether x is a member or a direct neighbour of one, so that
// adding it cannot add a range.
func (s *intervals) joins(x uint64) bool {
	i, j := s.overlap(before(x), after(x))
	return i < j
}

// splits reports whether taking x out would leave two ranges of one.
func (s *intervals) splits(x uint64) bool {
	i := s.search(x)
	return i < len(s.spans) && s.spans[i].lo < x && x < s.spans[i].hi
}

// ranges yields the maximal ranges in ascending order.
func (s *intervals) ranges() iter.Seq2[uint64, uint64] {
	return func(yield func(lo, hi uint64) bool) {
		for _, sp := range s.spans {
			if !yield(sp.lo, sp.hi) {
				return
			}
		}
	}
}

// holes yields, in ascending order, the maximal ranges of [lo, hi] that hold
// no member.
func (s *intervals) holes(lo, hi uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(lo, hi uint64) bool) {
		if lo > hi {
			return
		}
		from := lo
		for _, sp := range s.spans[s.search(lo):] {
			if sp.lo > hi {
				break
			}
			if sp.lo > from && !yield(from, sp.lo-1) {
				return
			}
			if sp.hi >= hi {
				return
			}
			from = sp.hi + 1
		}
		yield(from, hi)
	}
}

// search returns the index of the first range that ends at or above x. Both
// ends are tried first: parts arrive at the one and are handled at the other.
func (s *intervals) search(x uint64) int {
	n := len(s.spans)
	if n == 0 || s.spans[n-1].hi < x {
		return n
	}
	if s.spans[0].hi >= x {
		return 0
	}
	i, _ := slices.BinarySearchFunc(s.spans, x, func(sp span, x uint64) int {
		return cmp.Compare(sp.hi, x)
	})
	return i
}

// overlap returns the half-open index range of the ranges that share a number
// with [lo, hi], where lo <= hi.
func (s *intervals) overlap(lo, hi uint64) (i, j int) {
	i = s.search(lo)
	j = s.search(hi)
	if j < len(s.spans) && s.spans[j].lo <= hi {
		j++
	}
	return i, j
}

// shrink gives back room that a storm of holes once needed: else 1,000 origins
// would keep what each needed on its worst day.
func (s *intervals) shrink() {
	if c := cap(s.spans); c > spareSpans && len(s.spans) < c/4 {
		s.spans = append(make([]span, 0, c/2), s.spans...)
	}
}

// before and after are the neighbours of x, or x itself at the end of the line.
func before(x uint64) uint64 { return x - min(x, 1) }
func after(x uint64) uint64  { return x + min(math.MaxUint64-x, 1) }
