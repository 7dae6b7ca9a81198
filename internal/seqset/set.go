// Package seqset keeps sets of sequence numbers as ranges: Set is the numbers themselves, Holes is numbers that are missing,
// with the time since when. The numbers are all of uint64, and may come in any order.
//
// What a set costs is its number of ranges, not of numbers. A set has no bound of its own: its owner asks Count, Joins and
// Splits before it lets a number in. Memory that a set no longer needs is given back.
//
// The package is pure: it reads no clock and takes no lock.
package seqset

import (
	"cmp"
	"iter"
	"math"
	"slices"
)

// Span is the closed range [Lo, Hi] of sequence numbers.
type Span struct {
	Lo, Hi uint64 // Invariant: Lo <= Hi
}

// Set is a set of numbers, kept as its maximal ranges. Numbers that come in order only move the last bound; any other costs a
// binary search and a shift of the ranges above it. The zero value is the empty set.
//
// Nothing may change the set while one of its iterators runs.
type Set struct {
	// Invariant: spans[i].Lo <= spans[i].Hi, and spans[i+1].Lo - spans[i].Hi >= 2.
	spans []Span
}

// Contains reports whether x is a member.
func (s *Set) Contains(x uint64) bool {
	i := s.search(x)
	return i < len(s.spans) && s.spans[i].Lo <= x
}

// Add adds x.
func (s *Set) Add(x uint64) {
	switch n := len(s.spans); {
	case n == 0 || s.spans[n-1].Hi < before(x):
		s.spans = append(s.spans, Span{x, x})
	case s.spans[n-1].Hi < x:
		s.spans[n-1].Hi = x
	default:
		s.AddRange(x, x)
	}
}

// AddRange adds all of [lo, hi]; lo > hi is the empty range.
func (s *Set) AddRange(lo, hi uint64) {
	if lo > hi {
		return
	}
	// Ranges that only touch [lo, hi] are merged too, hence one number more on each side.
	i, j := s.overlap(before(lo), after(hi))
	merged := Span{lo, hi}
	if i < j {
		merged.Lo = min(lo, s.spans[i].Lo)
		merged.Hi = max(hi, s.spans[j-1].Hi)
	}
	s.spans = shrunk(slices.Replace(s.spans, i, j, merged))
}

// Remove takes x out and reports whether it was in.
func (s *Set) Remove(x uint64) bool {
	return s.RemoveRange(x, x)
}

// RemoveRange takes all of [lo, hi] out and reports whether any of it was in; lo > hi is the empty range.
func (s *Set) RemoveRange(lo, hi uint64) bool {
	i, j := s.overlap(lo, hi)
	if lo > hi || i == j {
		return false
	}
	var rest [2]Span
	n := 0
	if first := s.spans[i]; first.Lo < lo {
		rest[n] = Span{first.Lo, lo - 1}
		n++
	}
	if last := s.spans[j-1]; last.Hi > hi {
		rest[n] = Span{hi + 1, last.Hi}
		n++
	}
	if n <= j-i { // nearly always; slices.Replace would do, and takes twice as long
		copy(s.spans[i:], rest[:n])
		s.spans = append(s.spans[:i+n], s.spans[j:]...)
	} else {
		s.spans = slices.Replace(s.spans, i, j, rest[:n]...)
	}
	s.spans = shrunk(s.spans)
	return true
}

// Trim takes out everything up to and including floor.
func (s *Set) Trim(floor uint64) { s.RemoveRange(0, floor) }

// Count returns the number of ranges.
func (s *Set) Count() int { return len(s.spans) }

// All returns the maximal ranges in ascending order. The slice is the set's own: it is valid until the set changes.
func (s *Set) All() []Span { return s.spans }

// Max returns the highest member; false if there is none.
func (s *Set) Max() (uint64, bool) {
	if len(s.spans) == 0 {
		return 0, false
	}
	return s.spans[len(s.spans)-1].Hi, true
}

// Next returns the lowest member that is x or above; false if there is none.
func (s *Set) Next(x uint64) (uint64, bool) {
	i := s.search(x)
	if i == len(s.spans) {
		return 0, false
	}
	return max(x, s.spans[i].Lo), true
}

// Joins reports whether x is a member or next to one: adding it cannot add a range.
func (s *Set) Joins(x uint64) bool {
	i, j := s.overlap(before(x), after(x))
	return i < j
}

// Splits reports whether x lies within one range, with members on both sides: taking it out leaves two.
func (s *Set) Splits(x uint64) bool {
	i := s.search(x)
	return i < len(s.spans) && s.spans[i].Lo < x && x < s.spans[i].Hi
}

// Absent yields, in ascending order, the maximal ranges of [lo, hi] that hold no member; lo > hi is the empty range.
func (s *Set) Absent(lo, hi uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(lo, hi uint64) bool) {
		if lo > hi {
			return
		}
		from := lo
		for _, sp := range s.spans[s.search(lo):] {
			if sp.Lo > hi {
				break
			}
			if sp.Lo > from && !yield(from, sp.Lo-1) {
				return
			}
			if sp.Hi >= hi {
				return
			}
			from = sp.Hi + 1
		}
		yield(from, hi)
	}
}

// Divide returns what of spans, which ascend, is in the set, and what is not. The slices may be spans itself.
func (s *Set) Divide(spans []Span) (in, out []Span) {
	if len(s.spans) == 0 || len(spans) == 0 {
		return nil, spans
	}
	ranges := s.spans[s.search(spans[0].Lo):]
	for _, sp := range spans {
		for len(ranges) > 0 && ranges[0].Hi < sp.Lo {
			ranges = ranges[1:]
		}
		lo, rest := sp.Lo, true // what is left of sp, if any
		for i := 0; rest && i < len(ranges) && ranges[i].Lo <= sp.Hi; i++ {
			r := ranges[i]
			if r.Lo > lo {
				out = append(out, Span{lo, r.Lo - 1})
			}
			in = append(in, Span{max(lo, r.Lo), min(r.Hi, sp.Hi)})
			rest = r.Hi < sp.Hi
			lo = r.Hi + 1
		}
		if rest {
			out = append(out, Span{lo, sp.Hi})
		}
	}
	return in, out
}

// search returns the index of the first range that ends at or above x. It tries both ends first: parts arrive at the upper
// end, and leave at the lower one when they have been handled.
func (s *Set) search(x uint64) int {
	n := len(s.spans)
	if n == 0 || s.spans[n-1].Hi < x {
		return n
	}
	if s.spans[0].Hi >= x {
		return 0
	}
	i, _ := slices.BinarySearchFunc(s.spans, x, func(sp Span, x uint64) int {
		return cmp.Compare(sp.Hi, x)
	})
	return i
}

// overlap returns the half-open range of indexes of the ranges that share a number with [lo, hi], where lo <= hi.
func (s *Set) overlap(lo, hi uint64) (i, j int) {
	i = s.search(lo)
	j = s.search(hi)
	if j < len(s.spans) && s.spans[j].Lo <= hi {
		j++
	}
	return i, j
}

// spareSpans is how many unused records a list may keep for ever: enough that numbers that come in order never allocate,
// little enough to be kept for each of 1,000 origins.
const spareSpans = 32

// shrunk returns the list, in less memory if it uses less than a quarter of what it has. Otherwise the lists of 1,000 origins
// would all keep the memory that each needed once, when many of its parts were missing.
func shrunk[T any](list []T) []T {
	if c := cap(list); c > spareSpans && len(list) < c/4 {
		return append(make([]T, 0, c/2), list...)
	}
	return list
}

// before returns the number below x, or 0.
func before(x uint64) uint64 { return x - min(x, 1) }

// after returns the number above x, or the highest there is.
func after(x uint64) uint64 { return x + min(math.MaxUint64-x, 1) }
