package starling

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// How a channel with state gets the state of others: as a newcomer, when it is opened late, and when members come that it
// may have to be merged with.

const (
	syncAfter   = 500 * time.Millisecond // after a membership change, so that several make one
	syncTimeout = 3 * time.Second        // without any frame of the answer, before somebody else is asked
	syncTries   = 4                      // members asked, until the channel goes on without
	syncBytes   = 64 << 20               // state in memory for one channel
	syncFrame   = 256 << 10              // items are sent in frames of about this size
	syncCrowd   = 16                     // beyond so many members, one newcomer is asked for its state by about so many
)

// syncState is what a channel with state knows of the state of others. The zero value has none to sync.
type syncState struct {
	enabled bool
	done    bool      // the state of the cluster is here, or nobody has it
	since   time.Time // when that became so
	at      time.Time // when to ask; zero: nothing to do
	from    []uint64  // whom to ask, the rest is at random; may be gone

	asked    map[uint64]bool // who was asked in this round
	donor    uint64          // who is being asked; 0: nobody
	id       uint64
	until    time.Time
	next     uint32 // index of the frame that is handled next
	early    map[uint32]*starlingpb.Sync
	bytes    int
	deferred []delivery // what must wait until the state is here

	// covered is what the first state contains already, by origin; it is dropped at coveredUntil.
	covered      map[uint64][]digest
	coveredUntil time.Time
}

// first reports whether the channel still waits for its first state.
func (s *syncState) first() bool { return s.enabled && !s.done && !s.at.IsZero() }

// covers reports whether a state that came contains the part.
func (s *syncState) covers(id partID) bool {
	for i := range s.covered[id.origin] {
		if d := &s.covered[id.origin][i]; id.seq <= d.floor || d.holds(id.seq) {
			return true
		}
	}
	return false
}

// wantSync makes a channel ask for state soon, of one of the given members or of anybody.
func (r *replica) wantSync(ch *channel, from []uint64, after time.Duration, now time.Time) {
	s := &ch.sync
	if !s.enabled {
		return
	}
	s.from = append(s.from, from...)
	if s.at.IsZero() {
		s.at, s.donor, s.asked = now.Add(after), 0, map[uint64]bool{}
	}
}

// syncing reports whether some channel waits for state.
func (r *replica) syncing() bool {
	for _, ch := range r.channels {
		if !ch.sync.at.IsZero() {
			return true
		}
	}
	return false
}

// syncTick asks for state where that is due.
func (r *replica) syncTick(now time.Time) {
	var due []*channel
	for _, ch := range r.channels {
		s := &ch.sync
		switch {
		case !s.coveredUntil.IsZero() && now.After(s.coveredUntil):
			s.covered, s.coveredUntil = nil, time.Time{}
		case s.at.IsZero() || now.Before(s.at):
		case s.donor == 0 || now.After(s.until):
			due = append(due, ch)
		}
	}
	slices.SortFunc(due, func(a, b *channel) int { return cmp.Compare(a.key, b.key) })
	for _, ch := range due {
		r.askSync(ch, now)
	}
}

// askSync asks the next member for a channel's state, or gives up when enough were asked.
func (r *replica) askSync(ch *channel, now time.Time) {
	s := &ch.sync
	fresh := func(m Member) bool { return !s.asked[m.ID] }
	var to Member
	ok := false
	for len(s.from) > 0 && !ok {
		at := r.rep.rng.IntN(len(s.from))
		to, ok = r.peerByID(s.from[at])
		ok = ok && fresh(to)
		s.from = slices.Delete(s.from, at, at+1)
	}
	if !ok {
		to, ok = r.randomPeer(fresh)
	}
	if !ok || len(s.asked) >= syncTries {
		r.endSync(ch, now)
		return
	}
	r.rep.lastPull++
	s.asked[to.ID] = true
	s.donor, s.id, s.until = to.ID, r.rep.lastPull, now.Add(syncTimeout)
	s.next, s.early, s.bytes = 0, map[uint32]*starlingpb.Sync{}, 0
	r.tell(to, bodySyncAsk, &starlingpb.SyncAsk{Id: s.id, Keys: []string{ch.key}}, true)
}

// endSync lets a channel go on: with the state, or without when nobody gave it.
func (r *replica) endSync(ch *channel, now time.Time) {
	s := &ch.sync
	if !s.done {
		s.done, s.since = true, now
	}
	s.at, s.donor, s.asked, s.from, s.early = time.Time{}, 0, nil, nil, nil
	deferred := s.deferred
	s.deferred = nil
	for _, d := range deferred {
		r.deliver(ch, d, now)
	}
}

// receiveSync takes a frame of the answer that is being waited for.
func (r *replica) receiveSync(from uint64, m *starlingpb.Sync, now time.Time) {
	ch := r.channels[m.GetKey()]
	if ch == nil || ch.sync.donor != from || ch.sync.id != m.GetId() || m.GetIndex() < ch.sync.next {
		return // of a question that is settled
	}
	s := &ch.sync
	for _, item := range m.GetItems() {
		s.bytes += len(item) + itemOverhead
	}
	if s.bytes > syncBytes || len(s.early) > syncBytes/syncFrame {
		r.drops.add(DropTooLarge)
		r.endSync(ch, now)
		return
	}
	s.until = now.Add(syncTimeout)
	s.early[m.GetIndex()] = m
	for {
		next, ok := s.early[s.next]
		if !ok {
			return
		}
		delete(s.early, s.next)
		s.next++
		r.takeSync(ch, next, now)
		if next.GetLast() {
			r.completeSync(ch, next.GetPartial(), now)
			return
		}
	}
}

// takeSync hands the items of one frame to the handler, before all that waits.
func (r *replica) takeSync(ch *channel, m *starlingpb.Sync, now time.Time) {
	s := &ch.sync
	if !s.done { // who had a state lacks what it lacks, whatever the other one has
		r.cover(s, m.GetHandled(), now)
	}
	for _, data := range m.GetItems() {
		if len(data) > r.lim.message {
			r.drops.add(DropTooLarge)
			continue
		}
		ch.stats.Received++
		ch.inbox.force(delivery{data: data, origin: s.donor, born: now, via: Sync})
		ch.poke()
	}
}

// completeSync ends a sync, unless the donor was waiting for the state itself: then another one is asked too.
func (r *replica) completeSync(ch *channel, partial bool, now time.Time) {
	if partial && !ch.sync.done {
		r.askSync(ch, now)
		return
	}
	r.endSync(ch, now)
}

// deliver hands a part or message to its channel: at once, or when the channel has its first state, or in its turn.
func (r *replica) deliver(ch *channel, d delivery, now time.Time) {
	// Who knew us first may send us parts before we know anybody: then we are a newcomer all the same.
	joining := d.item != nil && ch.sync.enabled && !ch.sync.done && r.alone()
	switch {
	case joining || ch.sync.first():
		if d.item != nil || len(ch.sync.deferred) < ch.inbox.limit.Messages {
			ch.sync.deferred = append(ch.sync.deferred, d)
			return
		}
		r.drops.add(DropInboxFull)
	case d.item != nil && ch.sync.covers(d.item.id):
		r.markHandled(d.item, now)
	case d.item != nil && ch.order.enabled:
		r.deliverOrdered(ch, d, now)
	case !ch.offer(d):
		r.drops.add(DropInboxFull)
	}
}

// deliverOrdered lets a part of a FIFO channel wait for its turn, with those that it lets through.
func (r *replica) deliverOrdered(ch *channel, d delivery, now time.Time) {
	l := ch.order.line(d.origin)
	if l.late(d.item) {
		// It was overtaken: handing it on would break the order, so it is lost, and said to be if it was owed.
		r.drops.add(DropLate)
		if w := r.windows[d.origin]; w != nil && w.based {
			r.report(d.origin, d.seq, d.seq)
		} else {
			l.excuse(d.seq)
		}
		r.markHandled(d.item, now)
		return
	}
	d.item.via = d.via
	l.put(d.item, now)
	r.releaseLine(ch, d.origin, l, now)
}

// reportLate reports what came too late and turns out to have been owed.
func (r *replica) reportLate(origin, next uint64) {
	for _, ch := range sorted(r.channels) {
		if l, ok := ch.order.lines[origin]; ok {
			l.excused.trim(next - 1)
			for lo, hi := range l.excused.ranges() {
				r.report(origin, lo, hi)
			}
			l.excused = intervals{}
		}
	}
}

// releaseLine hands on what need not wait any longer.
func (r *replica) releaseLine(ch *channel, origin uint64, l *line, now time.Time) {
	w := r.windows[origin]
	settled := func(seq uint64) bool { return w == nil || w.isDone(seq) }
	for it := l.next(settled, now); it != nil; it = l.next(settled, now) {
		ch.offer(it.delivery())
	}
}

// releaseOrdered lets go what waited for parts of the origin that will not come.
func (r *replica) releaseOrdered(origin uint64, now time.Time) {
	if r.ordered == 0 {
		return
	}
	for _, ch := range r.channels {
		if l, ok := ch.order.lines[origin]; ok {
			r.releaseLine(ch, origin, l, now)
		}
	}
}

// overrule lets go what a hole has held back for too long. What comes of the hole later is late.
func (r *replica) overrule(now time.Time) {
	for _, ch := range r.channels {
		for origin, l := range sorted(ch.order.lines) {
			hold := ch.order.hold
			if r.gone(origin) && !r.based(origin) {
				hold = min(hold, time.Second) // nobody will tell where it begins
			}
			if l.overdue(hold, now) || l.dying(r.lim.retention.Age, now) {
				ch.offer(l.take(now).delivery())
				r.releaseLine(ch, origin, l, now)
			}
		}
	}
}

// cover notes what the first state of a channel contains of the parts that are known here. What is not known yet may be
// handled once more; a donor that lies can hide nothing that is yet to come.
func (r *replica) cover(s *syncState, handled []*starlingpb.OriginDigest, now time.Time) {
	if s.covered == nil {
		s.covered = map[uint64][]digest{}
	}
	for _, o := range handled {
		w := r.windows[o.GetOrigin()]
		if d, ok := decodeDigest(o); ok && w != nil {
			d.floor, d.held = min(d.floor, w.top), upTo(d.held, w.top)
			s.covered[o.GetOrigin()] = append(s.covered[o.GetOrigin()], d)
		}
	}
	s.coveredUntil = now.Add(2 * r.lim.retention.Age)
}
