package seqset

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Hole is a range of numbers that are missing.
type Hole struct {
	Lo, Hi uint64    // Invariant: Lo <= Hi
	Since  time.Time // when it became known that they are missing
}

// holeGrain is how exactly Holes remembers times. With exact times each announcement of a higher number, and each eviction
// in a run of them, would be a record of its own, although together they are one hole.
const holeGrain = 50 * time.Millisecond

// Holes are ranges of missing numbers, each with the time since when it is known. A number that arrives splits its hole, and
// both rests keep the hole's time. Two holes that touch are one record if they became known in the same grain of time; the
// record has the later time. So no hole is ever taken for older than it is, nor for more than a grain younger.
//
// Nothing may change the holes while one of their iterators runs.
type Holes struct {
	// Invariant: list[i].Lo <= list[i].Hi < list[i+1].Lo, and neighbours that touch became known in different grains.
	list []Hole

	epoch time.Time // grains are counted from here
}

// NewHoles returns no holes. Grains of time are counted from epoch.
func NewHoles(epoch time.Time) Holes { return Holes{epoch: epoch} }

// Count returns the number of records.
func (h *Holes) Count() int { return len(h.list) }

// Lowest returns the lowest hole. There must be one.
func (h *Holes) Lowest() Hole { return h.list[0] }

// Highest returns the highest hole. There must be one.
func (h *Holes) Highest() Hole { return h.list[len(h.list)-1] }

// From yields the holes that end at or above x, ascending.
func (h *Holes) From(x uint64) iter.Seq[Hole] { return slices.Values(h.list[h.search(x):]) }

// Oldest returns the earliest time since when a hole is known. There must be one.
func (h *Holes) Oldest() time.Time {
	return slices.MinFunc(h.list, func(a, b Hole) int { return a.Since.Compare(b.Since) }).Since
}

// Insert adds [lo, hi], of which nothing may be missing yet.
func (h *Holes) Insert(lo, hi uint64, since time.Time) {
	i := h.search(lo)
	j := i
	in := Hole{lo, hi, since}
	if i > 0 && h.list[i-1].Hi+1 == lo && h.sameGrain(h.list[i-1], in) {
		i--
		in.Lo = h.list[i].Lo
		in.Since = later(in.Since, h.list[i].Since)
	}
	if j < len(h.list) && hi+1 == h.list[j].Lo && h.sameGrain(h.list[j], in) {
		in.Hi = h.list[j].Hi
		in.Since = later(in.Since, h.list[j].Since)
		j++
	}
	h.list = slices.Replace(h.list, i, j, in)
}

// Cut takes [lo, hi] out of the holes. The number of records grows only if Splits reports true for the same range.
func (h *Holes) Cut(lo, hi uint64) {
	i := h.search(lo)
	j := i
	for j < len(h.list) && h.list[j].Lo <= hi {
		j++
	}
	if i == j {
		return
	}
	var rest [2]Hole
	n := 0
	if first := h.list[i]; first.Lo < lo {
		rest[n] = Hole{first.Lo, lo - 1, first.Since}
		n++
	}
	if last := h.list[j-1]; last.Hi > hi {
		rest[n] = Hole{hi + 1, last.Hi, last.Since}
		n++
	}
	h.list = shrunk(slices.Replace(h.list, i, j, rest[:n]...))
}

// Splits reports whether [lo, hi] lies within one hole, with something missing on both sides: cutting it out leaves two.
func (h *Holes) Splits(lo, hi uint64) bool {
	i := h.search(lo)
	return i < len(h.list) && h.list[i].Lo < lo && hi < h.list[i].Hi
}

// search returns the index of the first hole that ends at or above x.
func (h *Holes) search(x uint64) int {
	if n := len(h.list); n == 0 || h.list[n-1].Hi < x {
		return n
	}
	i, _ := slices.BinarySearchFunc(h.list, x, func(o Hole, x uint64) int {
		return cmp.Compare(o.Hi, x)
	})
	return i
}

func (h *Holes) sameGrain(a, b Hole) bool {
	return a.Since.Sub(h.epoch)/holeGrain == b.Since.Sub(h.epoch)/holeGrain
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
