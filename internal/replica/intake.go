package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// intake is what came and what is kept of it: the history, the log of each peer's parts, the seqs of our own; and the way from a
// part to its handler.
type intake struct {
	out      *output
	roster   *roster
	channels *channelSet
	observer *Observer

	age     time.Duration // Retention.Age
	history *store.History
	own     uint64     // seq of our last part
	ownLost boundedSet // our own parts that Echo could not hand on
	unheld  unheld     // messages of our own that nobody is known to hold
	lost    uint64     // messages reported in gaps
	moved   time.Time  // when a part came last, or one of our own left
	version uint64     // of what was received and what was lost: it grows with every change
}

func newIntake(out *output, ro *roster, chs *channelSet, o *Observer, lim Limits) *intake {
	return &intake{out: out, roster: ro, channels: chs, observer: o, age: lim.Age, history: store.New(lim.Bytes, lim.Age), version: 1}
}

// self is the identity of our last part.
func (in *intake) self() wire.PartID { return wire.PartID{Origin: in.roster.self.ID, Seq: in.own} }

// log returns the log of an origin's parts.
func (in *intake) log(origin uint64, now time.Time) *receipt.Log {
	p := in.roster.hear(origin, now)
	if p.log == nil {
		in.version++
		p.log = receipt.New(now)
		if p.next != 0 {
			p.log.SetBaseline(p.next, now)
		}
	}
	return p.log
}

// logged returns the log of an origin's parts, if there is one.
func (in *intake) logged(origin uint64) *receipt.Log {
	if p := in.roster.get(origin); p != nil {
		return p.log
	}
	return nil
}

// digestOf describes what was had of one origin, ourselves included, in at most so many ranges.
func (in *intake) digestOf(origin uint64, spans int) receipt.Digest {
	if origin == in.roster.self.ID {
		return receipt.Digest{Floor: in.own, Known: in.own, Top: in.own}
	}
	if log := in.logged(origin); log != nil {
		return log.Digest(spans)
	}
	return receipt.Digest{}
}

// expire lets go what is too old to be kept.
func (in *intake) expire(now time.Time) { in.evict(in.history.Expire(now), now) }

// keep puts a part into history. What had to go for it and no handler has had is missing again.
func (in *intake) keep(it *store.Item, now time.Time) { in.evict(in.history.Add(it, now), now) }

func (in *intake) evict(items []*store.Item, now time.Time) {
	for _, it := range items {
		if it.Handled || it.InHand {
			continue
		}
		in.version++
		if ch := in.channels.byKey[it.Key]; ch != nil {
			ch.evict(it)
		}
		// Of our own parts nobody else can give us back what Echo was to hand on.
		log := in.logged(it.ID.Origin)
		if it.ID.Origin == in.roster.self.ID || log != nil && log.Evicted(it.ID.Seq, now) {
			in.report(it.ID.Origin, it.ID.Seq, it.ID.Seq, 1)
		}
	}
}

// arrival is what take says of a part.
type arrival struct {
	item  *store.Item // as it is kept; nil: it was here before, or has no room
	held  bool        // this member has it, or has had it, or need not have it
	based bool        // it is known from where on its origin owes us its parts

	// doubtful: its number is far beyond what is known of its origin, which has to tell first what it has sent.
	doubtful bool
}

// maxJump is how far beyond what is known of its origin the number of a part may be. An origin has far fewer parts on their
// way: its window is 256 packets.
const maxJump = 1 << 16

// plausible reports whether an origin may have sent a part of that number, as far as is known: no other's word makes an
// origin's own parts look old.
func (in *intake) plausible(origin, seq uint64) bool {
	p := in.roster.get(origin)
	top := p.top
	if p.log != nil {
		top = max(top, p.log.Top())
	}
	return seq <= top || seq-top <= maxJump || p.untold
}

// tentativeAfter is how long after this member met the origin a part must have been broadcast to be surely owed. What the part
// took to get here makes it look younger than it is, and streams take long where packets are lost.
const tentativeAfter = 5 * time.Second

// take takes a part with an identity, once.
func (in *intake) take(ch *Channel, p wire.Part, frame []byte, via wire.Route, now time.Time) arrival {
	log := in.log(p.ID.Origin, now)
	if !in.plausible(p.ID.Origin, p.ID.Seq) {
		in.out.drop(DropImplausible)
		return arrival{doubtful: true}
	}
	switch log.Admit(p.ID.Seq, now) {
	case receipt.Duplicate:
		ch.duplicate()
		return arrival{held: true}
	case receipt.Refused:
		in.out.drop(DropTooManyHoles)
		return arrival{}
	}
	in.version++
	in.moved = now
	if p.LongTrace {
		in.out.dropOn(DropMalformed, string(p.Key))
	}
	it := newItem(ch, p, frame, now)
	it.Route = via
	in.keep(it, now)
	origin := in.roster.get(p.ID.Origin)
	if ch != nil && ch.watched && !p.Chunk.Whole() {
		in.observer.arrived(ch, it, origin)
	}
	if !p.Chunk.Whole() && via != wire.RouteRepair {
		first, last := p.Chunk.Span(p.ID.Seq)
		origin.coming.came(first, last, now)
	}
	if !log.Based() && !origin.met.IsZero() && it.Born.Sub(origin.met) >= tentativeAfter {
		first, _ := it.Chunk.Span(it.ID.Seq)
		log.ProposeBaseline(first)
	}
	switch {
	case ch == nil:
		in.out.dropOn(DropUnknownKey, it.Key)
		in.markHandled(it, now)
	case !log.Based() && origin.gone() && it.Born.Before(origin.met):
		// From before we met its origin, which is gone and cannot tell whether it is owed.
		log.MarkTentative(it.ID.Seq)
	default:
		ch.Counters.Received++
		in.deliver(ch, deliveryOf(it), now)
	}
	in.release(p.ID.Origin, now) // whatever it was, it may be what others waited for
	return arrival{item: it, held: true, based: log.Based()}
}

// newItem copies an arrived part into one that can be kept and passed on: its age is its last field. ch may be nil. Each part has
// memory of its own: what it came with may be gone long before it.
func newItem(ch *Channel, p wire.Part, frame []byte, now time.Time) *store.Item {
	it := &store.Item{ID: p.ID, Prev: p.Prev, Chunk: p.Chunk, Born: now.Add(-p.Age), Traced: p.Trace != nil}
	if ch != nil {
		it.Key = ch.Key
	} else {
		it.Key = string(p.Key)
	}
	size := len(frame)
	if !p.AgedEnd {
		size += wire.AgeFieldSize
	}
	it.Frame = append(make([]byte, 0, size), frame...)
	if !p.AgedEnd {
		it.Frame = wire.AppendAge(it.Frame, p.Age)
	}
	// The data lies in the copy where it lay in the original.
	if len(p.Data) > 0 {
		end := p.DataAt + len(p.Data)
		it.Data = it.Frame[p.DataAt:end:end]
	}
	return it
}

// markHandled notes that a part needs no handler any more.
func (in *intake) markHandled(it *store.Item, now time.Time) {
	in.version++
	in.history.SetHandled(it)
	if log := in.logged(it.ID.Origin); log != nil {
		log.SetHandled(it.ID.Seq, now)
	}
}

// deliver hands a part or message to its channel: at once, or when the channel has its first state, or in its turn.
func (in *intake) deliver(ch *Channel, d Delivery, now time.Time) {
	// Who knew us first may send us parts before we know anybody: then we are a newcomer all the same.
	joining := d.Item != nil && ch.State && !ch.sync.done && in.roster.alone()
	switch {
	case joining || ch.sync.first():
		if d.Item != nil || len(ch.sync.deferred) < ch.Inbox.Messages {
			ch.sync.deferred = append(ch.sync.deferred, d)
			return
		}
		in.out.dropOn(DropInboxFull, ch.Key)
	case d.Item != nil && ch.sync.covers(d.Item.ID):
		in.markHandled(d.Item, now)
	case d.Item != nil && ch.FIFO:
		in.deliverInOrder(ch, d, now)
	case !in.offer(ch, d):
		in.out.dropOn(DropInboxFull, ch.Key)
	}
}

// offer puts a delivery into the inbox of its channel, if there is room.
func (in *intake) offer(ch *Channel, d Delivery) bool {
	if d.Item != nil && !d.Item.Chunk.Whole() {
		parts := ch.assembly.add(d.Item)
		if parts == nil {
			return true
		}
		d = assembled(parts)
	}
	if !ch.inbox.push(d) {
		return false
	}
	in.out.wake(ch)
	return true
}

// deliverInOrder lets a part of a FIFO channel wait for its turn, with those that it lets through.
func (in *intake) deliverInOrder(ch *Channel, d Delivery, now time.Time) {
	s := ch.fifo.stream(d.Origin)
	if s.isLate(d.Seq) {
		// It was overtaken. To hand it on would break the order, so it is lost, and reported if it was owed.
		in.out.dropOn(DropLate, ch.Key)
		if in.roster.get(d.Origin).based() {
			in.report(d.Origin, d.Seq, d.Seq, 1)
		} else {
			s.noteLate(d.Seq)
		}
		in.markHandled(d.Item, now)
		return
	}
	d.Item.Route = d.Route
	s.put(d.Item, now)
	in.releaseStream(ch, d.Origin, s, now)
}

// releaseStream hands on what need not wait any longer.
func (in *intake) releaseStream(ch *Channel, origin uint64, s *fifoStream, now time.Time) {
	log := in.logged(origin)
	done := func(seq uint64) bool {
		// Of a part that was given up nobody knows which one was before it on the channel: any that may still come.
		return log == nil || log.IsDone(seq) && !(log.IsGivenUp(seq) && log.MayCome(s.last, seq))
	}
	for it := s.next(done, now); it != nil; it = s.next(done, now) {
		in.offer(ch, deliveryOf(it))
	}
}

// release lets go what waited for parts of the origin that will not come.
func (in *intake) release(origin uint64, now time.Time) {
	for _, ch := range in.channels.fifo {
		if s, ok := ch.fifo.streams[origin]; ok {
			in.releaseStream(ch, origin, s, now)
		}
	}
}

// overrule lets go what a hole has held back for too long. What comes of the hole later is late.
func (in *intake) overrule(now time.Time) {
	for _, ch := range in.channels.fifo {
		for origin, s := range sortedMap(ch.fifo.streams) {
			hold := ch.FIFOHold
			if p := in.roster.get(origin); p.gone() && !p.based() {
				hold = min(hold, time.Second) // nobody will tell where it begins
			}
			if s.overdue(hold, now) || s.expiring(in.age, now) {
				in.offer(ch, deliveryOf(s.first(now)))
				in.releaseStream(ch, origin, s, now)
			}
		}
	}
}

// rebase takes what an origin says of its parts: the first that it owes us, and the last that it has sent.
func (in *intake) rebase(p *peer, next, top uint64, now time.Time) {
	in.version++
	origin := p.ID
	p.top = top
	if p.next == 0 {
		p.next = next
	}
	if p.log == nil && top < next {
		return // none of its parts is owed so far: that needs no record
	}
	log := in.log(origin, now)
	if !log.Based() {
		log.SetBaseline(next, now)
		in.reportLate(origin, next)
		in.releaseTentative(origin, log, now)
	}
	for _, lost := range log.CorrectBaseline(next) {
		in.report(origin, lost.Lo, lost.Hi, lost.Hi-lost.Lo+1)
	}
	log.Announce(top, now)
	log.Retract(top)
	in.release(origin, now)
}

// assumeBase takes as an origin's baseline the first part that it surely owed, since nobody can tell any more.
func (in *intake) assumeBase(origin *peer, now time.Time) {
	in.version++
	if origin.log.AssumeBaseline() {
		in.releaseTentative(origin.ID, origin.log, now)
	}
}

// reportLate reports what came too late and turns out to have been owed.
func (in *intake) reportLate(origin, next uint64) {
	for _, ch := range in.channels.fifo {
		if s, ok := ch.fifo.streams[origin]; ok {
			for _, late := range s.takeLate(next) {
				in.report(origin, late.Lo, late.Hi, late.Hi-late.Lo+1)
			}
		}
	}
}

// releaseTentative gives to their handlers, or lets go, the parts of an origin that waited for its baseline.
func (in *intake) releaseTentative(origin uint64, log *receipt.Log, now time.Time) {
	for _, span := range log.TakeTentative() {
		for _, it := range slices.Collect(in.history.Ascend(origin, span.Lo, span.Hi)) {
			if ch := in.channels.byKey[it.Key]; ch != nil && it.ID.Seq > log.Floor() {
				ch.Counters.Received++
				in.deliver(ch, deliveryOf(it), now)
			} else {
				in.markHandled(it, now)
			}
		}
	}
}

// giveUp gives up what is missing of a range of an origin's parts: a gap.
func (in *intake) giveUp(origin *peer, lo, hi uint64, now time.Time) {
	if origin.log.GiveUp(lo, hi) > 0 {
		in.report(origin.ID, lo, hi, hi-lo+1)
		in.release(origin.ID, now)
	}
}

// report counts a gap, and leaves it to be told. messages is how many messages the parts are, as far as is known: of a large one that
// nobody has a part of, each part counts.
func (in *intake) report(origin, lo, hi, messages uint64) {
	in.out.Gaps = append(in.out.Gaps, Gap{origin, lo, hi})
	in.lostOf(origin).add(lo, hi)
	in.version++
	in.lost += messages
	in.out.stir()
}

// lostOf is the parts of an origin that were reported lost.
func (in *intake) lostOf(origin uint64) *boundedSet {
	if p := in.roster.get(origin); p != nil {
		return &p.lost
	}
	return &in.ownLost
}

// refuse gives up, once and for ever, a message that breaks our limits, of which a part has come. It is not asked for again, and does
// not count as here. doubtful says that its origin has to tell first whether it owes us the message: then it is refused when it comes
// again, or is pulled.
func (in *intake) refuse(part *wire.Part, why Drop, now time.Time) (doubtful bool) {
	id := part.ID
	first, last := part.Chunk.Span(id.Seq)
	log, p := in.log(id.Origin, now), in.roster.get(id.Origin)
	in.out.dropOn(why, string(part.Key))
	if !in.plausible(id.Origin, last) || !log.Based() {
		return true
	}
	log.Announce(last, now)
	if log.GiveUp(first, last) > 0 {
		p.refused.add(first, last)
		in.report(id.Origin, first, last, 1)
		in.release(id.Origin, now)
	}
	return false
}

// issue gives a message of our own its seqs: from then on it is parts. They are appended to items.
func (in *intake) issue(items []*store.Item, m *Message, now time.Time) []*store.Item {
	ch := m.ch
	in.version++
	in.moved = now
	ch.Counters.Sent++
	for i := range m.pieces {
		p := &m.pieces[i]
		in.own++
		p.issue(in.self(), ch.last)
		it := &p.item
		it.Key, it.Born = ch.Key, now
		it.Handled, it.Route, it.Message = !ch.Echo, wire.RouteEcho, m
		ch.last = in.own
		in.keep(it, now)
		items = append(items, it)
		if ch.Echo {
			in.offer(ch, deliveryOf(it))
		}
	}
	return items
}
