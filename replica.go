package starling

import (
	"time"
)

// replica is the protocol of one member: what it has, what it still has to send, and what is to be done next. It is pure:
// it holds no goroutine, clock, socket or lock. Its owner serialises all calls, passes the time in, and carries out what
// effects returns; so a whole cluster of replicas can be driven by a plain loop.
type replica struct {
	id  uint64
	lim limits

	room     room
	outbox   outbox
	local    *gossipQueue // our own parts
	relayed  *gossipQueue // parts of others that came here first
	history  *history
	windows  map[uint64]*window
	channels map[string]*channel
	peers    map[string]Member // live members but ourselves, by name
	foreign  int               // of those, how many do not speak Starling

	calls   map[uint64]*calls // messages sent to one member, by the receiver's id
	directs map[uint64]*taken // messages that were sent to us alone, by the sender's id

	seq     uint64 // of our last part
	streams []parcel
	drops   *dropCounters
}

// limits are the bounds that a replica keeps.
type limits struct {
	gossip     int // largest encoded part that travels in packets
	message    int // largest encoded message
	retransmit int
	retention  Retention
	queue      Queue
}

// maxWindows bounds how many origins a member keeps a record of.
const maxWindows = 4096

func newReplica(id uint64, lim limits, drops *dropCounters) *replica {
	r := &replica{
		id: id, lim: lim, drops: drops,
		room:     room{maxMessages: lim.queue.Messages, maxBytes: lim.queue.Bytes},
		history:  newHistory(lim.retention.Bytes, lim.retention.Age),
		windows:  map[uint64]*window{},
		channels: map[string]*channel{},
		peers:    map[string]Member{},
		calls:    map[uint64]*calls{},
		directs:  map[uint64]*taken{},
	}
	members := func() int { return len(r.peers) + 1 }
	r.local = newGossipQueue(lim.queue.Messages, lim.retransmit, members, func(it *item) { r.landed(it, true) })
	r.relayed = newGossipQueue(lim.queue.Messages, lim.retransmit, members, func(*item) {})
	return r
}

// flight is what becomes of a part of our own.
type flight struct {
	entry   entry // its place in the gossip queue
	ch      *channel
	number  uint64 // of the message on its channel
	claimed int    // bytes of room
	legs    int    // ways it is still travelling
	failed  bool   // one of them was given up
	since   time.Time
}

// own is a part of our own, in one allocation.
type own struct {
	item
	flight
}

// broadcast accepts a message that room was taken for.
func (r *replica) broadcast(o outgoing, now time.Time) {
	o.accepted = now
	if !o.ch.supersedes {
		r.leave(o, now)
		return
	}
	waiting := o
	if replaced, was := r.outbox.put(&waiting); replaced {
		// The room of the older message is the newer one's now; its own is given back.
		o.ch.stats.Accepted++
		o.ch.stats.Superseded++
		r.room.free(was)
	} else {
		waiting.number = o.ch.accept()
	}
	if r.alone() {
		r.empty(now)
	}
}

// alone reports whether there is nobody to send to.
func (r *replica) alone() bool { return len(r.peers) == 0 }

// empty lets all leave that waits in the outbox.
func (r *replica) empty(now time.Time) {
	for o := r.outbox.pop(); o != nil; o = r.outbox.pop() {
		r.leave(*o, now)
	}
}

// leave gives a message its seq and sends it on its way.
func (r *replica) leave(o outgoing, now time.Time) {
	ch := o.ch
	if o.number == 0 {
		o.number = ch.accept()
	}
	r.seq++
	prev := ch.last
	ch.last = r.seq
	ch.stats.Sent++

	p := &own{}
	p.id = partID{r.id, r.seq}
	p.key, p.prev, p.born = ch.key, prev, now
	p.frame = appendIdentity(o.body, p.id, prev, 0)
	p.data = p.frame[len(o.body)-o.size : len(o.body) : len(o.body)]
	p.handled = !ch.echo
	p.item.flight = &p.flight
	p.flight.ch, p.flight.number, p.flight.claimed, p.flight.since = ch, o.number, len(o.body), o.accepted
	r.keep(&p.item, now)
	if ch.echo {
		ch.offer(delivery{item: &p.item, data: p.data, origin: r.id, seq: r.seq, born: now, via: Echo})
	}
	r.send(&p.item, ch.stream)
}

// send routes a part of our own by the size of what travels.
func (r *replica) send(it *item, stream bool) {
	f := it.flight
	f.legs = 1
	switch {
	case r.alone():
	case !stream && len(it.frame) <= r.lim.gossip:
		if r.local.push(&f.entry, it) {
			return
		}
		f.failed = true // the room for messages is no larger than the queue, so there is a slot
	default:
		for _, m := range r.peers {
			f.legs++
			r.streams = append(r.streams, parcel{to: m, item: it, via: Stream})
		}
	}
	r.landed(it, true)
}

// landed notes that one of the ways of an own part has ended.
func (r *replica) landed(it *item, ok bool) {
	f := it.flight
	f.failed = f.failed || !ok
	if f.legs--; f.legs > 0 {
		return
	}
	r.room.free(f.claimed)
	f.ch.finish(f.number, !f.failed)
	it.flight = nil
}

// keep puts a part into history. What had to go for it unheard is missing again.
func (r *replica) keep(it *item, now time.Time) {
	r.evicted(r.history.add(it, now), now)
}

func (r *replica) evicted(items []*item, now time.Time) {
	for _, it := range items {
		if w := r.windows[it.id.origin]; w != nil && !it.handled && !it.taken {
			w.unhold(it.id.seq, now)
		}
	}
}

// gossip returns copies of parts for one packet of memberlist's, our own before those that we pass on.
func (r *replica) gossip(overhead, limit int, now time.Time) [][]byte {
	limit = min(limit, maxGossipFrame)
	for room := limit - r.local.bytes; room > 0 && len(r.outbox.waiting) > 0; {
		o := r.outbox.pop()
		room -= len(o.body) + overhead
		r.leave(*o, now)
	}
	var out [][]byte
	for _, q := range [...]*gossipQueue{r.local, r.relayed} {
		for _, frame := range q.next(overhead, limit) {
			if len(frame) > 0 {
				out = append(out, r.restamp(frame, now))
				limit -= len(frame) + overhead
			}
		}
	}
	return out
}

// restamp copies a queued frame with the age that its part has by now.
func (r *replica) restamp(frame []byte, now time.Time) []byte {
	p, err := parsePart(frame)
	if err != nil {
		return append([]byte(nil), frame...)
	}
	age := p.age
	if it := r.history.get(p.id); it != nil {
		age = now.Sub(it.born)
	}
	return appendRestamped(make([]byte, 0, len(frame)), frame, age)
}

// receive takes a part that arrived. frame belongs to the caller.
func (r *replica) receive(p part, frame []byte, via Via, now time.Time) {
	ch := r.channels[string(p.key)]
	switch {
	case len(p.data) > r.lim.message:
		r.drops.add(DropTooLarge)
	case p.id.origin == 0:
		r.receiveForeign(ch, p, via, now)
	case p.id.origin == r.id:
		r.duplicate(ch)
	case p.age >= r.lim.retention.Age:
		r.drops.add(DropTooOld)
	default:
		r.receiveOwned(ch, p, frame, via, now)
	}
}

// receiveForeign delivers a part that nobody can tell from another: as it comes, kept by nobody.
func (r *replica) receiveForeign(ch *channel, p part, via Via, now time.Time) {
	if ch == nil {
		r.drops.add(DropUnknownKey)
		return
	}
	ch.stats.Received++
	data := append([]byte(nil), p.data...)
	if !ch.offer(delivery{data: data, born: now, via: via}) {
		r.drops.add(DropInboxFull)
	}
}

// receiveOwned takes a part with an identity: once, and passes it on.
func (r *replica) receiveOwned(ch *channel, p part, frame []byte, via Via, now time.Time) {
	w := r.window(p.id.origin, now)
	if w == nil {
		r.drops.add(DropTooManyOrigins)
		return
	}
	switch w.admit(p.id.seq, now) {
	case admitDuplicate:
		r.duplicate(ch)
		return
	case admitRefused:
		r.drops.add(DropTooManyHoles)
		return
	}
	it := newItem(p, frame, now)
	r.keep(it, now)
	if len(it.frame) <= r.lim.gossip && !r.alone() {
		r.relayed.push(new(entry), it)
	}
	if ch == nil {
		r.drops.add(DropUnknownKey)
		r.markHandled(it, now)
		return
	}
	ch.stats.Received++
	ch.offer(delivery{item: it, data: it.data, origin: p.id.origin, seq: p.id.seq, born: it.born, via: via})
}

func (r *replica) duplicate(ch *channel) {
	if ch != nil {
		ch.stats.Duplicates++
	}
}

// window returns the record of an origin, or nil when there are too many.
func (r *replica) window(origin uint64, now time.Time) *window {
	w, ok := r.windows[origin]
	if !ok {
		if len(r.windows) >= maxWindows {
			return nil
		}
		w = newWindow(now)
		r.windows[origin] = w
	}
	return w
}

// newItem copies an arrived part into one that can be kept and passed on: its age is its last field.
func newItem(p part, frame []byte, now time.Time) *item {
	it := &item{id: p.id, key: string(p.key), prev: p.prev, born: now.Add(-p.age)}
	it.frame = make([]byte, 0, len(frame)+ageFieldSize)
	it.frame = append(it.frame, frame...)
	if !p.agedEnd {
		it.frame = appendAge(it.frame, p.age)
	}
	// The data lies in the copy where it lay in the original.
	if len(p.data) > 0 {
		end := p.dataAt + len(p.data)
		it.data = it.frame[p.dataAt:end:end]
	}
	return it
}

// take returns what the channel's handler is to do next.
func (r *replica) take(ch *channel) (delivery, bool) {
	for {
		d, ok := ch.inbox.pop()
		if !ok || d.item == nil {
			return d, ok
		}
		if d.item.kept() {
			d.item.taken = true
			return d, true
		}
		// Evicted before its turn: it is missing again, and may come back.
	}
}

// markHandled notes that a part needs no handler any more.
func (r *replica) markHandled(it *item, now time.Time) {
	r.history.setHandled(it)
	if w := r.windows[it.id.origin]; w != nil {
		w.setHandled(it.id.seq, now)
	}
}

// handled notes that the handler has returned from a delivery.
func (r *replica) handled(d delivery, now time.Time) {
	if d.item != nil {
		r.markHandled(d.item, now)
	}
}

// open adds a channel.
func (r *replica) open(ch *channel) { r.channels[ch.key] = ch }

// close removes a channel; what waits for it needs no handler any more.
func (r *replica) close(ch *channel, now time.Time) {
	delete(r.channels, ch.key)
	for d, ok := ch.inbox.pop(); ok; d, ok = ch.inbox.pop() {
		if d.item != nil {
			r.markHandled(d.item, now)
		}
	}
}

// change follows the membership.
func (r *replica) change(was, is Member, now time.Time) {
	if was.Name != "" && was.Foreign() {
		r.foreign--
	}
	delete(r.peers, was.Name)
	if was.ID != is.ID {
		delete(r.calls, was.ID)
		delete(r.directs, was.ID)
	}
	if is.Name != "" {
		r.peers[is.Name] = is
		if is.Foreign() {
			r.foreign++
		}
	}
	if r.alone() {
		r.strand(now)
	}
}

// strand ends what was on its way when the last member went: there is nobody to gossip to.
func (r *replica) strand(now time.Time) {
	r.empty(now)
	r.local.clear()
	r.relayed.clear()
}

// effects hands over what is to be sent by streams.
func (r *replica) effects() []parcel {
	s := r.streams
	r.streams = nil
	return s
}

// queueStats tells what was accepted and is not finished.
func (r *replica) queueStats(now time.Time) QueueStats {
	s := QueueStats{Messages: r.room.messages, Bytes: r.room.bytes}
	oldest := now
	if len(r.outbox.waiting) > 0 {
		oldest = r.outbox.waiting[0].accepted
	}
	for it := range r.history.ascend(r.id, 1, r.seq) {
		if it.flight != nil {
			oldest = earlier(oldest, it.flight.since)
			break
		}
	}
	s.Oldest = now.Sub(oldest)
	return s
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
