package replica

import (
	"iter"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
)

// gaps decides what is lost: nobody has it any more.
type gaps struct {
	roster *roster
	intake *intake

	sweepAt time.Time // when the logs are looked at again
}

// sweepEvery is the pause between two looks at every log. A gap is late by no more than that.
const sweepEvery = 250 * time.Millisecond

const (
	// denialsForGap is how many members must lack a part before it is given up early: its origin, and three others.
	denialsForGap = 4
	// maxDenied bounds the ranges that others have denied of one origin's parts. The origin's own are bounded by receipt.MaxRanges beside it.
	// outdate may split ranges, and so exceed it for denialHolds.
	maxDenied = 8 * receipt.MaxRanges
)

const (
	// denialHolds is how long a member's word counts that it lacks a part: the part may be on its way to it.
	denialHolds = 2 * time.Second
	// fewDenials is how long a hole must be known where fewer members than denialsForGap are in view: after a partition others come
	// into view within seconds.
	fewDenials = 10 * time.Second
)

// deny notes that a member lacks parts. When the origin and three others do, or everybody, nobody has them. Members that were lost
// and may come back count as well: they may have what those in view lack. It reports whether there was room to remember all of it.
func (g *gaps) deny(origin *peer, by uint64, spans []seqset.Span, now time.Time) (all bool) {
	if g.age(origin, now); origin.denied == nil {
		origin.denied, origin.deniedAt = map[uint64]seqset.Set{}, now
	}
	set := origin.denied[by]
	room := receipt.MaxRanges - set.Count()
	if by == origin.ID {
		g.outdate(origin, set, spans)
	} else {
		others := 0
		for id, other := range origin.denied {
			if id != origin.ID {
				others += other.Count()
			}
		}
		room = min(room, maxDenied-others)
	}
	all = len(spans) <= room
	for _, s := range spans[:min(len(spans), max(room, 0))] {
		set.AddRange(s.Lo, s.Hi)
	}
	origin.denied[by] = set
	g.conclude(origin, now)
	return all
}

// conclude gives up what nobody has, by what they have denied.
func (g *gaps) conclude(origin *peer, now time.Time) {
	if !origin.live() || !origin.log.Based() {
		return // nobody can say for certain; a hole becomes a gap when its time is up
	}
	need := len(g.roster.ours)
	if need < denialsForGap {
		need += g.roster.failedSince(now.Add(-g.intake.age))
	}
	need = min(need, denialsForGap)
	for _, h := range origin.log.Missing(receipt.MaxRanges) {
		if need < denialsForGap && now.Sub(h.Since) < fewDenials {
			continue
		}
		for lo, hi := range common(origin.denied, origin.ID, seqset.Span{Lo: h.Lo, Hi: h.Hi}, need) {
			g.intake.giveUp(origin, lo, hi, now)
		}
	}
}

// outdate forgets what others have denied before the origin did: until it let go of a part, the part may have been on its way to them.
// set is what the origin has denied before.
func (g *gaps) outdate(origin *peer, set seqset.Set, spans []seqset.Span) {
	for by, other := range origin.denied {
		if by == origin.ID {
			continue
		}
		for _, s := range spans {
			for lo, hi := range set.Absent(s.Lo, s.Hi) {
				other.RemoveRange(lo, hi)
			}
		}
		origin.denied[by] = other
	}
}

// age forgets who has denied parts of an origin long ago: what lacked then may have come since.
func (g *gaps) age(origin *peer, now time.Time) {
	if now.Sub(origin.deniedAt) > denialHolds {
		origin.denied = nil
	}
}

// common yields the ranges within s that the origin and at least need members in all have denied.
func common(denied map[uint64]seqset.Set, origin uint64, s seqset.Span, need int) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for part := range alike(denied, s) {
			n, byOrigin := 0, false
			for by, set := range denied {
				if set.Contains(part.Lo) {
					n++
					byOrigin = byOrigin || by == origin
				}
			}
			if byOrigin && n >= need && !yield(part.Lo, part.Hi) {
				return
			}
		}
	}
}

// alike yields s in parts, each of which the same members have denied.
func alike(denied map[uint64]seqset.Set, s seqset.Span) iter.Seq[seqset.Span] {
	return func(yield func(seqset.Span) bool) {
		for lo := s.Lo; ; {
			hi := s.Hi
			for _, set := range denied {
				hi = min(hi, lastAlike(&set, lo, hi))
			}
			if !yield(seqset.Span{Lo: lo, Hi: hi}) || hi >= s.Hi {
				return
			}
			lo = hi + 1
		}
	}
}

// lastAlike returns the end of the longest run from lo, up to hi, that is all in the set or all not in it.
func lastAlike(set *seqset.Set, lo, hi uint64) uint64 {
	if set.Contains(lo) {
		for from := range set.Absent(lo, hi) {
			return from - 1
		}
		return hi
	}
	if next, ok := set.Next(lo); ok && next <= hi {
		return next - 1
	}
	return hi
}

// tick gives up, now and then, what has been missing for too long.
func (g *gaps) tick(now time.Time) (swept bool) {
	if now.Before(g.sweepAt) {
		return false
	}
	g.sweepAt = now.Add(sweepEvery)
	lacking := g.roster.sorted(func(p *peer) bool {
		if p.log == nil || !p.log.Incomplete() {
			p.denied = nil
			return false
		}
		return true
	})
	for _, p := range lacking {
		if !p.live() && now.Sub(p.log.MissingSince()) >= g.intake.age {
			g.intake.assumeBase(p, now) // who could have told is gone, and what is missing is too
		}
		for _, h := range p.log.Overdue(now, g.intake.age) {
			g.intake.giveUp(p, h.Lo, h.Hi, now)
		}
	}
	return true
}
