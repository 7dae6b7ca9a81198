package receipt

import (
	"iter"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// record is what a Log has recorded. Its methods only read; what changes it are the events of Log.
type record struct {
	// Invariant: floor never falls; every seq <= floor is done, except parts that were pending when a baseline above them was
	// set.
	floor uint64

	// top is the highest seq known to exist. Invariant: floor <= top.
	top uint64

	// first is where the record begins: the lowest seq seen or, if it is lower, the baseline; 0: neither is known yet.
	// Invariant: if first > 0, [max(first, floor+1), top] is the disjoint union of held, givenUp and holes; else all three are
	// empty.
	first uint64

	based bool   // a baseline was told or assumed
	base  uint64 // that baseline, if based

	// proposed is the baseline to assume if none can be told any more: see ProposeBaseline; 0: none yet.
	proposed uint64

	// skipped are the parts below an assumed baseline that no handler had. A baseline that is told after all may be lower: then
	// those above it must have been delivered, and are a gap.
	skipped seqset.Set

	// tentative are pending parts that are kept from their handlers until it is known whether the baseline is below them.
	// Invariant: tentative is a subset of pending. Its owner takes all of them when there is a baseline.
	tentative seqset.Set

	// held are the parts that were admitted above the floor and not evicted since.
	// Invariant: held.Count() <= limit + 1, the one more being the range that begins at floor+1.
	held seqset.Set

	// pending are the held parts that are not handled, and parts that were pending when a baseline above them was set.
	// Invariant: each pending part is in the history, if the owner reports every eviction; so pending.Count() is at most the
	// number of the origin's unhandled parts there.
	pending seqset.Set

	// givenUp are the parts above the floor that were given up.
	// Invariant: givenUp.Count() <= held.Count() + holes.Count() + 1, since a range of these lies between any two of its ranges.
	givenUp seqset.Set

	// holes are the missing parts.
	// Invariant: holes.Count() <= limit + 1, the one more being what lies between the baseline and the first part seen.
	holes seqset.Holes

	limit    int       // MaxRanges, outside tests
	lastSeen time.Time // when a part of the origin last came, or Sight was last called
}

// Seen reports whether Admit would call the part a duplicate.
func (r *record) Seen(seq uint64) bool {
	return seq <= r.floor || r.held.Contains(seq) || r.givenUp.Contains(seq)
}

// fits reports whether there is room to record a part that was not seen yet. There always is for the part just above the
// floor: otherwise a full record, which can only be emptied from below, would stay full.
func (r *record) fits(seq uint64) bool {
	if seq-1 == r.floor && r.first != 0 {
		return true
	}
	if r.held.Count() >= r.limit && !r.held.Joins(seq) {
		return false
	}
	if r.holes.Count() < r.limit {
		return true
	}
	switch {
	case seq > r.top:
		return seq-1 == r.top
	case seq < r.first:
		return seq+1 == r.first
	}
	return !r.holes.Splits(seq, seq)
}

// Idle returns how long ago the origin was last seen.
func (r *record) Idle(now time.Time) time.Duration { return now.Sub(r.lastSeen) }

// Floor returns the seq up to which all parts are done, except those that were pending when a baseline above them was set.
func (r *record) Floor() uint64 { return r.floor }

// Top returns the highest seq known to exist.
func (r *record) Top() uint64 { return r.top }

// Last returns the highest seq known to exist or, until there is a baseline, the highest that was here; 0: none.
func (r *record) Last() uint64 {
	if r.based {
		return r.top
	}
	last, _ := r.held.Max()
	return max(last, r.floor)
}

// AddReceived adds to a set what was received and must be delivered here: without what is below the baseline, but with what was given up
// at or below the floor, which the log does not know any more.
func (r *record) AddReceived(set *seqset.Set) {
	from := max(r.base, 1) // as long as there is no baseline, the floor has passed nothing that was not received
	set.AddRange(from, r.floor)
	for _, s := range r.held.All() {
		set.AddRange(max(s.Lo, from), s.Hi)
	}
}

// Pending returns the ranges of parts that wait for their handlers. The slice is the log's own: it is valid until the log changes.
func (r *record) Pending() []seqset.Span { return r.pending.All() }

// IsDone reports whether nothing need wait for the part any more: it was handled, given up, or is below the baseline and not
// pending. Seq 0, the predecessor of a channel's first part, is done.
func (r *record) IsDone(seq uint64) bool {
	return r.Seen(seq) && !r.pending.Contains(seq)
}

// IsPending reports whether the part waits for its handler.
func (r *record) IsPending(seq uint64) bool { return r.pending.Contains(seq) }

// AnyPending reports whether any of the parts from lo to hi waits for its handler.
func (r *record) AnyPending(lo, hi uint64) bool {
	seq, ok := r.pending.Next(lo)
	return ok && seq <= hi
}

// SeenAll reports whether all parts from lo to hi were seen, and none of those above the floor was given up.
func (r *record) SeenAll(lo, hi uint64) bool {
	if lo = max(lo, r.floor+1); lo > hi {
		return true
	}
	for range r.held.Absent(lo, hi) {
		return false
	}
	return true
}

// Lacking returns how many of the parts from lo to hi, above the floor, were not seen, or were given up.
func (r *record) Lacking(lo, hi uint64) (n uint64) {
	for from, to := range r.held.Absent(max(lo, r.floor+1), hi) {
		n += to - from + 1
	}
	return n
}

// IsGivenUp reports whether the part was given up. Of parts at or below the floor that is no longer known: it reports false.
func (r *record) IsGivenUp(seq uint64) bool { return r.givenUp.Contains(seq) }

// NotHeld yields the ranges of [lo, hi] that are not held. At or below the floor nothing is recorded as held.
func (r *record) NotHeld(lo, hi uint64) iter.Seq2[uint64, uint64] { return r.held.Absent(lo, hi) }

// Incomplete reports whether anything is missing.
func (r *record) Incomplete() bool { return r.holes.Count() > 0 }

// MissingSince returns when the hole that is known longest became known. Something must be missing.
func (r *record) MissingSince() time.Time { return r.holes.Oldest() }

// Missing returns the lowest holes, at most limit of them.
func (r *record) Missing(limit int) []seqset.Hole {
	var out []seqset.Hole
	for h := range r.holes.From(0) {
		if len(out) >= limit {
			break
		}
		out = append(out, h)
	}
	return out
}

// MayCome reports whether a part above after and below before may still come: one is missing there or, until there is a baseline,
// may have been sent.
func (r *record) MayCome(after, before uint64) bool {
	for h := range r.holes.From(after + 1) {
		return h.Lo < before || !r.based
	}
	return !r.based
}

// Overdue returns the holes that have been known for at least age. Until there is a baseline nothing is overdue.
func (r *record) Overdue(now time.Time, age time.Duration) []seqset.Hole {
	if !r.based {
		return nil
	}
	var due []seqset.Hole
	for h := range r.holes.From(0) {
		if now.Sub(h.Since) >= age {
			due = append(due, h)
		}
	}
	return due
}

// Ranges returns how many ranges the log records of the kind that it records most of.
func (r *record) Ranges() int {
	return max(r.holes.Count(), r.held.Count(), r.pending.Count(), r.givenUp.Count())
}

// Based reports whether there is a baseline, told or assumed.
func (r *record) Based() bool { return r.based }
