package starling

import "time"

// deny notes that a member lacks parts. When the origin and three others do, or everybody, nobody has them.
func (r *replica) deny(origin uint64, w *window, by uint64, spans []span, now time.Time) {
	all := r.rep.denied[origin]
	if all == nil {
		all = map[uint64]intervals{}
		r.rep.denied[origin] = all
	}
	set, known := all[by]
	if !known && len(all) >= 2*denialsForGap && by != origin {
		return
	}
	for _, s := range spans {
		if set.count() < maxRanges {
			set.addRange(s.lo, s.hi)
		}
	}
	all[by] = set
	if _, live := r.peerByID(origin); !live || !w.based {
		return // nobody can say for certain; a hole becomes a gap when its time is up
	}
	need := min(denialsForGap, len(r.ours))
	for _, h := range w.missing(maxRanges) {
		for lo, hi := range common(all, origin, span{h.lo, h.hi}, need) {
			r.gap(origin, w, lo, hi, now)
		}
	}
}

// common yields the ranges within s that the origin and at least need members in all have denied.
func common(all map[uint64]intervals, origin uint64, s span, need int) func(func(uint64, uint64) bool) {
	return func(yield func(uint64, uint64) bool) {
		for lo := s.lo; ; {
			hi, n, byOrigin := s.hi, 0, false
			for by, set := range all {
				if set.contains(lo) {
					n++
					byOrigin = byOrigin || by == origin
				}
				hi = min(hi, lastAlike(&set, lo, hi))
			}
			if byOrigin && n >= need && !yield(lo, hi) {
				return
			}
			if hi >= s.hi {
				return
			}
			lo = hi + 1
		}
	}
}

// lastAlike returns the end of the longest run from lo, up to hi, that is all in the set or all not in it.
func lastAlike(set *intervals, lo, hi uint64) uint64 {
	if set.contains(lo) {
		for from := range set.holes(lo, hi) {
			return from - 1
		}
		return hi
	}
	if next, ok := set.next(lo); ok && next <= hi {
		return next - 1
	}
	return hi
}

// gap gives up what is missing of [lo, hi] of an origin.
func (r *replica) gap(origin uint64, w *window, lo, hi uint64, now time.Time) {
	if n := w.lose(lo, hi); n > 0 {
		r.report(origin, lo, hi)
		r.releaseOrdered(origin, now)
	}
}

// report counts a gap, and leaves it to be told.
func (r *replica) report(origin, lo, hi uint64) {
	r.gaps = append(r.gaps, lostRange{origin, lo, hi})
	r.lost += hi - lo + 1
	r.active = true
}

// lostRange is a gap: parts of an origin that nobody has any more.
type lostRange struct{ origin, lo, hi uint64 }
