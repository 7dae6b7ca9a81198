package replica

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// What the state of a channel contains is told by its coverage: of each origin, the parts that were received here as messages, or are
// contained in a state that came from another member. The parts of the origin's other channels are among them, since their numbers are
// common to all channels; so members that are equal have equal coverages. A part that was given up, or was broadcast before this
// member was owed anything, is not covered until a state comes that covers it.

const (
	// maxCoverSpans bounds the ranges of one origin. Beyond it the lowest ranges count as one, without what lies between them: so two
	// members that merge each other's coverage have the same one still. Invariant: 192 × 20 bytes < wire.MaxRangesSize.
	maxCoverSpans = 192
	// maxPast bounds the origins of which a channel remembers what states contained: about 6 MiB. Beyond it the ones with the highest
	// ids that are no members are forgotten, on all members the same.
	maxPast = 1 << 16
	// transit is how long a part may be on its way before it counts as missing where it has not come.
	transit = 5 * time.Second
)

// coverage is what a state contains, by origin. No set in it is empty.
type coverage map[uint64]seqset.Set

// covers reports whether the part is contained.
func (c coverage) covers(id wire.PartID) bool {
	set, ok := c[id.Origin]
	return ok && set.Contains(id.Seq)
}

// coverages tells what the states of channels contain.
type coverages struct{ intake *intake }

// past is what a channel with state keeps to know what its state contains, beside the logs.
type past struct {
	// opened is the first part of an origin that the channel was open for; none: 1. Invariant: it has an entry only for origins
	// of which something was known when the channel was opened.
	opened map[uint64]uint64
	// merged is what came by states, and what was received of origins that are forgotten. Invariant: len(merged) ≤ maxPast.
	merged coverage
	// refused is what was received, and its codec has refused; resigned is what states contained of which an item was refused here. It is
	// asked for no more, and given to nobody. Invariant: at most maxPast origins each.
	refused, resigned coverage
	// sums are of the coverage as it was at a version of the intake; 0: none.
	sums    sums
	version uint64
}

// sums are hashes of a coverage: equal ones of equal coverages.
type sums struct {
	all   uint64
	shape uint64 // without the last part of each origin
}

// openNow notes that the channel is opened: it gets nothing of what came before.
func (cs *coverages) openNow(ch *Channel) {
	c := &ch.sync.past
	*c = past{opened: map[uint64]uint64{}, merged: coverage{}, refused: coverage{}, resigned: coverage{}}
	if cs.intake.own > 0 {
		c.opened[cs.intake.roster.self.ID] = cs.intake.own + 1
	}
	for id, p := range cs.intake.roster.peers {
		if top := p.known(); top > 0 {
			c.opened[id] = top + 1
		}
	}
}

// covered returns what is covered of an origin on a channel with state.
func (cs *coverages) covered(ch *Channel, origin uint64) (set seqset.Set) {
	c := &ch.sync.past
	lost := &cs.intake.ownLost
	if p := cs.intake.roster.get(origin); origin == cs.intake.roster.self.ID {
		set.AddRange(1, cs.intake.own)
	} else if p != nil {
		lost = &p.lost
		if p.log != nil {
			p.log.AddReceived(&set)
		}
	}
	refused := c.refused[origin]
	for _, gone := range [][]seqset.Span{lost.All(), refused.All()} {
		for _, s := range gone {
			set.RemoveRange(s.Lo, s.Hi)
		}
	}
	if from := c.opened[origin]; from > 1 {
		set.Trim(from - 1)
	}
	merged := c.merged[origin]
	for _, s := range merged.All() {
		set.AddRange(s.Lo, s.Hi)
	}
	return bounded(set)
}

// have returns what a channel need not be given: what is covered, and what it cannot take.
func (cs *coverages) have(ch *Channel) coverage {
	c, p := cs.of(ch), &ch.sync.past
	c.add(p.refused)
	c.add(p.resigned)
	return c
}

// refuse notes that the codec of a channel has refused a part.
func (cs *coverages) refuse(ch *Channel, id wire.PartID) {
	cs.intake.version++
	p := &ch.sync.past
	p.refused.add(coverage{id.Origin: spanOf(id.Seq, id.Seq)})
	cs.prune(p.refused)
}

// resign notes what a state contains that cannot be taken.
func (cs *coverages) resign(ch *Channel, contains coverage) {
	p := &ch.sync.past
	p.resigned.add(contains)
	cs.prune(p.resigned)
}

func spanOf(lo, hi uint64) (set seqset.Set) {
	set.AddRange(lo, hi)
	return set
}

// add adds what another coverage has.
func (c coverage) add(other coverage) {
	for origin, set := range other {
		mine := c[origin]
		for _, s := range set.All() {
			mine.AddRange(s.Lo, s.Hi)
		}
		c[origin] = bounded(mine)
	}
}

// remove takes out what another coverage has, but of one origin.
func (c coverage) remove(other coverage, but uint64) {
	for origin, set := range other {
		mine, ok := c[origin]
		if !ok || origin == but {
			continue
		}
		for _, s := range set.All() {
			mine.RemoveRange(s.Lo, s.Hi)
		}
		if c[origin] = bounded(mine); mine.Count() == 0 {
			delete(c, origin)
		}
	}
}

// bounded returns the set in at most maxCoverSpans ranges.
func bounded(set seqset.Set) seqset.Set {
	if spans := set.All(); len(spans) > maxCoverSpans {
		set.AddRange(spans[0].Lo, spans[len(spans)-maxCoverSpans].Hi)
	}
	return set
}

// of returns all that is covered on a channel with state.
func (cs *coverages) of(ch *Channel) coverage {
	c := coverage{}
	add := func(origin uint64) {
		if set := cs.covered(ch, origin); set.Count() > 0 {
			c[origin] = set
		}
	}
	add(cs.intake.roster.self.ID)
	for id, p := range cs.intake.roster.peers {
		if p.log != nil {
			add(id)
		}
	}
	for id := range ch.sync.past.merged {
		if _, known := c[id]; !known {
			add(id)
		}
	}
	return c
}

// handled returns the coverage without what waits for the channel's own handler: what a state contains that is taken now.
func (cs *coverages) handled(ch *Channel) coverage {
	c := cs.of(ch)
	for id, p := range cs.intake.roster.peers {
		if p.log != nil {
			for _, s := range p.log.Pending() {
				cs.exceptWaiting(c, ch, id, s.Lo, s.Hi)
			}
		}
	}
	for _, u := range ch.sync.unmerged {
		if u.covers { // the handler gets the items, and not the parts: those count as handled, and are not in our state before the items are
			c.remove(u.contains, cs.intake.roster.self.ID)
		}
	}
	if ch.Echo {
		cs.exceptWaiting(c, ch, cs.intake.roster.self.ID, 1, cs.intake.own)
	}
	return c
}

// exceptWaiting takes out of a coverage those of an origin's parts that wait for the handler of a channel.
func (cs *coverages) exceptWaiting(c coverage, ch *Channel, origin, lo, hi uint64) {
	set, ok := c[origin]
	if !ok {
		return
	}
	merged := ch.sync.past.merged[origin]
	for it := range cs.intake.history.Ascend(origin, lo, hi) {
		if it.Key == ch.Key && !it.Handled && !merged.Contains(it.ID.Seq) {
			set.Remove(it.ID.Seq)
		}
	}
	if c[origin] = bounded(set); set.Count() == 0 {
		delete(c, origin)
	}
}

// merge adds what a state contains that has come. Of a member it contains no more than that has sent, whatever the donor says; it
// returns the members of which that is not known.
func (cs *coverages) merge(ch *Channel, contains coverage) (untold []*peer) {
	c := &ch.sync.past
	cs.intake.version++
	for origin, set := range sortedMap(contains) {
		if p := cs.intake.roster.get(origin); p.live() {
			if top := p.known(); set.RemoveRange(top+1, math.MaxUint64) {
				untold = append(untold, p)
			}
		}
		mine := c.merged[origin]
		for _, s := range set.All() {
			mine.AddRange(s.Lo, s.Hi)
		}
		if mine = bounded(mine); mine.Count() > 0 {
			c.merged[origin] = mine
		}
	}
	cs.prune(c.merged)
	return untold
}

// fold keeps what was received of an origin that is about to be forgotten.
func (cs *coverages) fold(origin uint64) {
	cs.intake.version++
	for _, ch := range cs.intake.channels.byKey {
		if !ch.State {
			continue
		}
		c := &ch.sync.past
		set := cs.covered(ch, origin)
		delete(c.opened, origin)
		if set.Count() > 0 {
			c.merged[origin] = set
			cs.prune(c.merged)
		}
	}
}

// prune keeps the bound of what is remembered of origins.
func (cs *coverages) prune(c coverage) {
	if len(c) <= maxPast {
		return
	}
	ids := slices.Sorted(maps.Keys(c))
	ids = slices.DeleteFunc(ids, func(id uint64) bool { return cs.intake.roster.get(id).live() })
	for n := len(ids); n > 0 && len(c) > maxPast; n-- {
		delete(c, ids[n-1])
	}
}

// sumsOf returns the hashes of what a channel's state covers.
func (cs *coverages) sumsOf(ch *Channel) sums {
	c := &ch.sync.past
	if c.version == cs.intake.version && c.version != 0 {
		return c.sums
	}
	c.version, c.sums = cs.intake.version, sums{}
	for origin, set := range cs.of(ch) {
		spans := set.All()
		h := mix(origin)
		for i, s := range spans {
			h = mix(h ^ s.Lo)
			if i == len(spans)-1 {
				c.sums.shape ^= h
			}
			h = mix(h ^ bits.ReverseBytes64(s.Hi))
		}
		c.sums.all ^= h
	}
	return c.sums
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// exceeds reports whether coverage ours has anything beyond theirs. What is kept here and young may be on its way to them.
func (cs *coverages) exceeds(ours, theirs coverage, now time.Time) bool {
	for origin, set := range ours {
		has := theirs[origin]
		for _, s := range set.All() {
			for lo, hi := range has.Absent(s.Lo, s.Hi) {
				if !cs.inTransit(origin, lo, hi, now) {
					return true
				}
			}
		}
	}
	return false
}

// inTransit reports whether all of some parts are kept here, and young.
func (cs *coverages) inTransit(origin, lo, hi uint64, now time.Time) bool {
	next := lo
	for it := range cs.intake.history.Ascend(origin, lo, hi) {
		if it.ID.Seq != next || now.Sub(it.Born) >= min(transit, cs.intake.age/2) {
			return false
		}
		next++
	}
	return next == hi+1
}

// encode describes the coverage, by origin, in messages of at most room bytes in all; 0: whatever it takes.
func (c coverage) encode(room int) (out []*starlingpb.Ranges) {
	for origin, set := range sortedMap(c) {
		m := &starlingpb.Ranges{Origin: origin, Spans: wire.AppendSpans(nil, 0, set.All())}
		if room > 0 {
			// A varint has at most ten bytes.
			if room -= 16 + 10*len(m.Spans); room <= 0 {
				return out
			}
		}
		out = append(out, m)
	}
	return out
}

// decode adds what was described to the coverage. It reports false for what encode cannot have written.
func (c coverage) decode(ms []*starlingpb.Ranges) bool {
	for _, m := range ms {
		spans, ok := wire.ReadSpans(m.GetSpans(), 0)
		if !ok || m.GetOrigin() == 0 || len(spans) > maxCoverSpans {
			return false
		}
		set := c[m.GetOrigin()]
		for _, s := range spans {
			set.AddRange(s.Lo, s.Hi)
		}
		if set.Count() > 0 {
			c[m.GetOrigin()] = bounded(set)
		}
	}
	return true
}

// moving reports whether messages are likely on their way.
func (cs *coverages) moving(now time.Time) bool { return now.Sub(cs.intake.moved) < transit }
