package starling

import (
	"cmp"
	"slices"
	"time"
)

// hole is a range of parts that exist and are not here.
type hole struct {
	lo, hi uint64    // Invariant: lo <= hi
	since  time.Time // when it became known that they are missing
}

// holeGrain is how closely it is remembered since when a hole is known. Without
// it each announcement of a higher top, and each eviction in a run of them,
// would be a record of its own, although they make one hole.
const holeGrain = 50 * time.Millisecond

// holes are the holes of one window, in ascending order. What arrives of a hole
// cuts it, and both sides remember since when they are missing. Neighbours are
// one record if they became known in the same grain of time; the later time
// counts, so that no hole is ever taken for older than it is, nor for more than
// a grain younger.
type holes struct {
	// Invariant: list[i].lo <= list[i].hi < list[i+1].lo, and neighbours that
	// touch became known in different grains.
	list []hole

	epoch time.Time // grains are counted from here
}

// oldest returns since when the hole is known that is known longest. There must be one.
func (h *holes) oldest() time.Time {
	since := h.list[0].since
	for _, o := range h.list[1:] {
		since = earlier(since, o.since)
	}
	return since
}

// insert puts in [lo, hi], of which nothing may be in yet.
func (h *holes) insert(lo, hi uint64, since time.Time) {
	i := h.search(lo)
	j := i
	in := hole{lo, hi, since}
	if i > 0 && h.list[i-1].hi+1 == lo && h.sameGrain(h.list[i-1], in) {
		i--
		in.lo = h.list[i].lo
		in.since = later(in.since, h.list[i].since)
	}
	if j < len(h.list) && hi+1 == h.list[j].lo && h.sameGrain(h.list[j], in) {
		in.hi = h.list[j].hi
		in.since = later(in.since, h.list[j].since)
		j++
	}
	h.list = slices.Replace(h.list, i, j, in)
}

// cut takes out whatever is in of [lo, hi]. It adds a record only if splits
// says so.
func (h *holes) cut(lo, hi uint64) {
	i := h.search(lo)
	j := i
	for j < len(h.list) && h.list[j].lo <= hi {
		j++
	}
	if i == j {
		return
	}
	var rest [2]hole
	n := 0
	if first := h.list[i]; first.lo < lo {
		rest[n] = hole{first.lo, lo - 1, first.since}
		n++
	}
	if last := h.list[j-1]; last.hi > hi {
		rest[n] = hole{hi + 1, last.hi, last.since}
		n++
	}
	h.list = slices.Replace(h.list, i, j, rest[:n]...)
	if c := cap(h.list); c > spareSpans && len(h.list) < c/4 {
		h.list = append(make([]hole, 0, c/2), h.list...)
	}
}

// splits reports whether cutting [lo, hi] out would leave two records of one.
func (h *holes) splits(lo, hi uint64) bool {
	i := h.search(lo)
	return i < len(h.list) && h.list[i].lo < lo && hi < h.list[i].hi
}

// search returns the index of the first hole that ends at or above x.
func (h *holes) search(x uint64) int {
	if n := len(h.list); n == 0 || h.list[n-1].hi < x {
		return n
	}
	i, _ := slices.BinarySearchFunc(h.list, x, func(o hole, x uint64) int {
		return cmp.Compare(o.hi, x)
	})
	return i
}

func (h *holes) sameGrain(a, b hole) bool {
	return a.since.Sub(h.epoch)/holeGrain == b.since.Sub(h.epoch)/holeGrain
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
