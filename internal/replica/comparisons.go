package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// comparisons finds out whose states differ from ours. Members compare hashes of what their states contain: when they meet, when
// something was lost here, and, by memberlist's push/pull, now and then. Those that differ are compared with again and again, with
// growing pauses, until they do not or one is gone.
type comparisons struct {
	out       *output
	roster    *roster
	channels  *channelSet
	types     *types
	intake    *intake
	coverages *coverages
	differs   func(ch *Channel, p *peer, now time.Time) // told of each member whose state is not ours

	next   time.Time // when the next comparison is due, at the earliest; zero: none is
	sweep  time.Time // when a member is to be compared with part by part, although messages are on their way; zero: none is
	strict uint64    // that member; 0: none
	lost   uint64    // how many messages had been reported lost when that was looked at last
}

// comparison is ours with one member.
type comparison struct {
	at    time.Time // when it is made again; zero: not at all
	pause time.Duration
	tries int // since it was answered
}

const (
	compareAfter   = 500 * time.Millisecond // after members met
	compareFirst   = 200 * time.Millisecond // the first pause between two comparisons with a member that differs; it doubles
	compareLongest = time.Minute
	compareAtOnce  = 32               // comparisons that are made in one tick; the others wait for the next
	compareSome    = 3                // members that are compared with when something was lost here
	compareDonors  = 16               // members that are compared with at once when a state was merged
	sweepAfter     = 10 * time.Second // while messages are on their way
	awaitLongest   = time.Second      // the longest pause while this member is not ready without
)

// stateful reports whether any channel has state.
func (c *comparisons) stateful() bool {
	for _, ch := range c.channels.byKey {
		if ch.State {
			return true
		}
	}
	return false
}

// soon makes a comparison with a member due after a while, if it is not due before.
func (c *comparisons) soon(p *peer, after time.Duration, now time.Time) {
	if at := now.Add(after); p.compare.at.IsZero() || p.compare.at.After(at) {
		p.compare.at = at
		if c.next.IsZero() || c.next.After(at) {
			c.next = at
		}
	}
	c.out.stir()
}

// meet makes a comparison with a member that came.
func (c *comparisons) meet(p *peer, now time.Time) {
	p.compare = comparison{}
	if c.stateful() {
		c.soon(p, compareAfter+time.Duration(c.roster.rng.Int64N(int64(compareAfter)/2)), now)
	}
}

// seeLost makes comparisons if something was lost here that others may have.
func (c *comparisons) seeLost(now time.Time) {
	if c.lost == c.intake.lost || !c.stateful() {
		return
	}
	c.lost = c.intake.lost
	for range compareSome {
		if p := c.roster.random(nil); p != nil {
			c.soon(p, compareAfter, now)
		}
	}
}

// merged makes comparisons because a state was merged: with the member that gave it, and with some others that differed.
func (c *comparisons) merged(ch *Channel, donor uint64, now time.Time) {
	n := 0
	for _, p := range c.roster.ours {
		if p.ID == donor || !p.compare.at.IsZero() && n < compareDonors {
			p.compare.pause = 0
			c.soon(p, compareFirst/2, now)
			n++
		}
	}
}

// tick makes the comparisons that are due.
func (c *comparisons) tick(now time.Time) {
	c.seeLost(now)
	if !c.sweep.IsZero() && now.After(c.sweep) {
		c.sweep = time.Time{}
		if p := c.roster.random(nil); p != nil {
			c.strict = p.ID
			c.soon(p, 0, now)
		}
	}
	if c.next.IsZero() || now.Before(c.next) {
		return
	}
	c.next = time.Time{}
	n := 0
	for _, p := range c.roster.ours {
		o := &p.compare
		if !o.at.IsZero() && !now.Before(o.at) && n < compareAtOnce {
			n++
			c.ask(p, now)
		}
		if !o.at.IsZero() && (c.next.IsZero() || o.at.Before(c.next)) {
			c.next = o.at
		}
	}
}

// ask sends our hashes to a member, and makes the next comparison due.
func (c *comparisons) ask(p *peer, now time.Time) {
	o := &p.compare
	o.pause = min(max(2*o.pause, compareFirst), compareLongest)
	for _, ch := range c.channels.byKey {
		if ch.sync.awaiting.members[p.ID] {
			o.pause = min(o.pause, awaitLongest)
		}
	}
	o.at = now.Add(o.pause*3/4 + time.Duration(c.roster.rng.Int64N(int64(o.pause)/2+1)))
	o.tries++
	m := c.describe(false)
	m.Stream = o.tries > 2 // packets may not get through
	c.out.tell(p.Peer, wire.BodyStates, m, m.Stream)
	c.out.asked(p, now)
}

// describe tells what our states contain.
func (c *comparisons) describe(answer bool) *starlingpb.StateDigest {
	m := &starlingpb.StateDigest{Answer: answer, Types: c.types.own.sum}
	for _, ch := range c.channels.sorted() {
		if ch.State {
			s := c.coverages.sumsOf(ch)
			m.Channels = append(m.Channels, &starlingpb.ChannelDigest{Key: ch.Key, Sum: s.all, Shape: s.shape, First: ch.sync.first()})
		}
	}
	return m
}

// receive compares a member's hashes with ours.
func (c *comparisons) receive(from *peer, m *starlingpb.StateDigest, now time.Time) {
	if !m.GetAnswer() {
		answer := c.describe(true)
		c.out.tell(from.Peer, wire.BodyStates, answer, m.GetStream())
	}
	if m.GetTypes() != 0 {
		c.types.heard(from, m.GetTypes(), now)
	}
	from.compare.tries = 0
	from.unanswered = time.Time{}
	theirs := map[string]*starlingpb.ChannelDigest{}
	for _, d := range m.GetChannels() {
		theirs[d.GetKey()] = d
	}
	for _, ch := range c.channels.sorted() {
		if !ch.State {
			continue
		}
		d := theirs[ch.Key]
		switch verdict := c.types.verdict(from, ch, now); {
		case d == nil || verdict == typeOther:
			c.agreed(ch, from) // it has no such channel
		case verdict == typeUnknown:
			c.soon(from, compareAfter, now)
		default:
			c.compare(ch, from, d, now)
		}
	}
}

// compare compares the states of one channel.
func (c *comparisons) compare(ch *Channel, from *peer, d *starlingpb.ChannelDigest, now time.Time) {
	if ch.sync.first() || d.GetFirst() {
		c.soon(from, compareLongest, now) // it is compared with again when the first state is there
		return
	}
	switch s := c.coverages.sumsOf(ch); {
	case s.all == d.GetSum():
		c.agreed(ch, from)
	case s.shape == d.GetShape() && c.coverages.moving(now) && c.strict != from.ID:
		// What differs is likely on its way. Whether it is will be seen part by part with one member, not with each.
		c.agreed(ch, from)
		if c.sweep.IsZero() {
			c.sweep = now.Add(sweepAfter/2 + time.Duration(c.roster.rng.Int64N(int64(sweepAfter))))
			c.out.stir()
		}
	default:
		c.differs(ch, from, now)
		c.soon(from, compareLongest, now)
	}
}

// agreed notes that a member's state of a channel contains nothing that ours does not. It is not compared with again when it differs on
// no channel.
func (c *comparisons) agreed(ch *Channel, p *peer) {
	delete(ch.sync.differ, p.ID)
	delete(ch.sync.awaiting.members, p.ID)
	if len(ch.sync.differ) == 0 && ch.sync.synced {
		ch.sync.pause = 0
	}
	if c.strict == p.ID {
		c.strict = 0
	}
	for _, o := range c.channels.byKey {
		if o.State && (o.sync.differ[p.ID] || o.sync.first()) {
			return
		}
	}
	p.compare = comparison{}
}

// awaiting is whom a channel compares its state with before it counts as equal to those of the members that were there when this one
// joined, or the channel was opened.
type awaiting struct {
	open    bool              // it does not count as equal yet
	blocks  bool              // this member is not ready until it does
	told    bool              // that it was so was told
	members map[uint64]bool   // whose state was not found equal yet
	goal    map[uint64]uint64 // what is to be handled after that, by origin; nil: not known yet
}

// await makes a channel wait until its state is that of all members that are here now.
func (c *comparisons) await(ch *Channel, blocks bool, now time.Time) {
	if !ch.State {
		return
	}
	if s := &ch.sync; blocks && s.first() && s.at.After(now) {
		s.at = now
	}
	w := &ch.sync.awaiting
	w.open, w.blocks, w.goal, w.members = true, w.blocks || blocks, nil, map[uint64]bool{}
	for _, p := range c.roster.ours {
		if !c.roster.replaced(p) {
			w.members[p.ID] = true
			c.soon(p, 0, now)
		}
	}
	c.out.stir()
}

// awaited ends that: when all were compared with, and what had been broadcast by then was handled.
func (c *comparisons) awaited(ch *Channel, now time.Time) {
	s := &ch.sync
	w := &s.awaiting
	if !w.open || !s.synced && len(c.roster.ours) > 0 || len(w.members) > 0 || s.digested < s.arrived || len(s.unmerged) > 0 {
		return
	}
	if w.goal == nil {
		w.goal = map[uint64]uint64{}
		for id, p := range c.roster.peers {
			if p.log != nil {
				w.goal[id] = p.log.Top()
			}
		}
	}
	for id, top := range w.goal {
		if p := c.roster.get(id); p == nil || c.settledUpTo(ch, p, top) {
			delete(w.goal, id)
		}
	}
	if len(w.goal) > 0 {
		return
	}
	told := w.told
	*w = awaiting{told: true}
	if !told {
		c.out.States = append(c.out.States, StateEvent{Channel: ch, Kind: StateSynced})
		c.out.stir()
	}
}

// settledUpTo reports whether nothing of an origin's parts up to top is missing, or waits for the channel's handler. What of an origin that is
// gone is kept from its handler, because it was broadcast before this member met it, does not count: the members' states have it.
func (c *comparisons) settledUpTo(ch *Channel, p *peer, top uint64) bool {
	if p.log == nil {
		return true
	}
	for _, h := range p.log.Missing(1) {
		if h.Lo <= top && p.log.Based() {
			return false
		}
	}
	for _, s := range p.log.Pending() {
		if s.Lo > top {
			break
		}
		for it := range c.intake.history.Ascend(p.ID, s.Lo, min(s.Hi, top)) {
			if it.Key == ch.Key && !it.Handled && !p.log.IsTentative(it.ID.Seq) {
				return false
			}
		}
	}
	return true
}
