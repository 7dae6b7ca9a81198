package starling

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// replica is the protocol of one member: what it has, what it still has to send, and what is to be done next. It is pure:
// it holds no goroutine, clock, socket or lock. Its owner serialises all calls, passes the time in, and carries out what
// effects returns; so a whole cluster of replicas can be driven by a plain loop.
type replica struct {
	id   uint64
	self sender
	from []byte // self, encoded
	lim  limits

	room     room
	outbox   outbox
	local    *gossipQueue // our own parts
	spread   spread
	history  *history
	windows  map[uint64]*window
	channels map[string]*channel
	peers    map[string]Member // live members but ourselves, by name
	foreign  int               // of those, how many do not speak Starling
	ours     []Member          // of those, the others, in no order
	byID     map[uint64]Member // those by id

	calls   map[uint64]*calls // messages sent to one member, by the receiver's id
	directs map[uint64]*taken // messages that were sent to us alone, by the sender's id

	rep       repairs
	inquiries map[uint64]*inquiry // by seq of ours
	tops      map[uint64]uint64   // the last seq seen of origins whose record was forgotten

	seq      uint64 // of our last part
	lost     uint64 // messages reported lost in gaps
	repaired uint64 // parts sent because somebody lacked them
	drops    *dropCounters

	// What is to be done, for effects.
	streams   []parcel
	packets   []packet
	gaps      []lostRange
	active    bool // something happened: tick is due
	turned    bool // the membership has changed: the ring is to be made anew
	acks      []*acks
	acksTo    map[uint64]*acks
	second    []second  // foreign members' second copies, by time
	left      time.Time // when our last batch left
	lingering bool      // what is in the outbox waits for company
}

// packet is an effect: a frame to be sent to a member in one packet.
type packet struct {
	to    Member
	frame []byte
}

// maxPackets bounds the packets that wait to be sent.
const maxPackets = 1 << 14

// limits are the bounds that a replica keeps.
type limits struct {
	gossip      int // largest encoded part that travels in packets
	packet      int // largest frame that fits a packet
	message     int // largest encoded message
	retransmit  int
	gossipEvery time.Duration
	linger      time.Duration
	retention   Retention
	queue       Queue
}

// maxWindows bounds how many origins a member keeps a record of.
const maxWindows = 4096

func newReplica(self sender, lim limits, drops *dropCounters) *replica {
	r := &replica{
		id: self.id, self: self, from: self.append(nil), lim: lim, drops: drops,
		room:      room{maxMessages: lim.queue.Messages, maxBytes: lim.queue.Bytes},
		history:   newHistory(lim.retention.Bytes, lim.retention.Age),
		windows:   map[uint64]*window{},
		channels:  map[string]*channel{},
		peers:     map[string]Member{},
		calls:     map[uint64]*calls{},
		directs:   map[uint64]*taken{},
		byID:      map[uint64]Member{},
		tops:      map[uint64]uint64{},
		inquiries: map[uint64]*inquiry{},
		rep:       newRepairs(self.id),
	}
	members := func() int { return len(r.peers) + 1 }
	r.local = newGossipQueue(lim.queue.Messages, lim.retransmit, members, func(*item) {})
	r.spread = newSpread(self.id, lim.packet)
	r.turned = true
	return r
}

// flight is what becomes of a part of our own.
type flight struct {
	entry   entry // its place in the gossip queue
	ch      *channel
	number  uint64 // of the message on its channel
	claimed int    // bytes of room
	since   time.Time
	confirm chan<- landing // who waits for it; has room for one
}

// landing is how a part of our own ended.
type landing struct {
	seq     uint64
	missing []Member // live members that were given up
}

// own is a part of our own, in one allocation.
type own struct {
	item
	flight
}

// broadcast accepts a message that room was taken for. It leaves at the next pump.
func (r *replica) broadcast(o outgoing, now time.Time) {
	o.accepted = now
	waiting := o
	if replaced, was := r.outbox.put(&waiting); replaced {
		// The room of the older message is the newer one's now; its own is given back.
		o.ch.stats.Accepted++
		o.ch.stats.Superseded++
		r.room.free(was)
		return
	}
	waiting.number = o.ch.accept()
}

// alone reports whether there is nobody to send to.
func (r *replica) alone() bool { return len(r.peers) == 0 }

// leave gives a message its seq: from now on it is one.
func (r *replica) leave(o *outgoing, now time.Time) *item {
	ch := o.ch
	r.news(now)
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
	p.item.via = Echo
	p.item.flight = &p.flight
	p.flight.ch, p.flight.number, p.flight.claimed, p.flight.since = ch, o.number, len(o.body), o.accepted
	p.flight.confirm = o.confirm
	r.keep(&p.item, now)
	if ch.echo {
		ch.offer(p.item.delivery())
	}
	return &p.item
}

// landed notes that a part of our own is done: every member has it, but for those missing.
func (r *replica) landed(it *item, missing []Member) {
	f := it.flight
	f.entry.done()
	r.room.free(f.claimed)
	f.ch.finish(f.number, len(missing) == 0)
	if f.confirm != nil {
		f.confirm <- landing{seq: it.id.seq, missing: missing}
	}
	it.flight = nil
}

// keep puts a part into history. What had to go for it unheard is missing again.
func (r *replica) keep(it *item, now time.Time) {
	r.evicted(r.history.add(it, now), now)
}

func (r *replica) evicted(items []*item, now time.Time) {
	for _, it := range items {
		w := r.windows[it.id.origin]
		if w == nil || it.handled || it.taken {
			continue
		}
		if ch := r.channels[it.key]; ch != nil {
			ch.order.drop(it)
		}
		if lost := w.unhold(it.id.seq, now); lost {
			r.report(it.id.origin, it.id.seq, it.id.seq)
		}
	}
}

// gossip returns copies of parts of our own that are not done, for one packet of memberlist's.
func (r *replica) gossip(overhead, limit int, now time.Time) [][]byte {
	var out [][]byte
	for _, frame := range r.local.next(overhead, limit) {
		if len(frame) > 0 {
			out = append(out, r.restamp(frame, now))
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
	r.deliver(ch, delivery{data: data, born: now, via: via}, now)
}

// receiveOwned takes a part with an identity, once. It returns the part as it is kept, nil if it was here before, and
// whether this member has it, or has had it, or need not have it.
func (r *replica) receiveOwned(ch *channel, p part, frame []byte, via Via, now time.Time) (it *item, held bool) {
	w := r.window(p.id.origin, now)
	if w == nil {
		r.drops.add(DropTooManyOrigins)
		return nil, false
	}
	switch w.admit(p.id.seq, now) {
	case admitDuplicate:
		r.duplicate(ch)
		return nil, true
	case admitRefused:
		r.drops.add(DropTooManyHoles)
		return nil, false
	}
	it = newItem(p, frame, now)
	it.via = via
	r.keep(it, now)
	r.news(now)
	if !w.based {
		r.askBaseline(p.id.origin, now)
	}
	switch {
	case ch == nil:
		r.drops.add(DropUnknownKey)
		r.markHandled(it, now)
	case r.older(w, it):
		r.markHandled(it, now)
	default:
		ch.stats.Received++
		r.deliver(ch, it.delivery(), now)
	}
	// Whatever it was, it may be what others waited for.
	r.releaseOrdered(p.id.origin, now)
	return it, true
}

// older reports whether a part of an origin that can no longer tell our baseline was broadcast before we met.
func (r *replica) older(w *window, it *item) bool {
	if w.based {
		return false
	}
	met, ok := r.rep.met[it.id.origin]
	_, live := r.peerByID(it.id.origin)
	return ok && !live && it.born.Before(met)
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
		if top, ok := r.tops[origin]; ok {
			w.setBaseline(top+1, now)
			delete(r.tops, origin)
		}
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
		r.releaseOrdered(d.origin, now)
	}
}

// open adds a channel.
func (r *replica) open(ch *channel, now time.Time) {
	r.channels[ch.key] = ch
	r.active = true
	if !r.alone() {
		r.wantSync(ch, nil, 0, now)
	}
}

// close removes a channel; what waits for it needs no handler any more.
func (r *replica) close(ch *channel, now time.Time) {
	delete(r.channels, ch.key)
	ch.jobs = nil
	waiting := ch.sync.deferred
	for d, ok := ch.inbox.pop(); ok; d, ok = ch.inbox.pop() {
		waiting = append(waiting, d)
	}
	for _, l := range ch.order.lines {
		for _, it := range l.waiting {
			waiting = append(waiting, it.delivery())
		}
	}
	for _, d := range waiting {
		if d.item != nil {
			r.markHandled(d.item, now)
		}
	}
}

// change follows the membership.
func (r *replica) change(was, is Member, now time.Time) {
	wasAlone := r.alone()
	if was.Name != "" {
		r.drop(was, was.ID != is.ID, now)
	}
	if is.Name != "" {
		r.peers[is.Name] = is
		if is.Foreign() {
			r.foreign++
		} else {
			r.byID[is.ID] = is
			r.ours = append(r.ours, is)
			if was.ID != is.ID {
				r.meet(is, wasAlone, now)
			}
		}
	}
	if r.alone() && !wasAlone {
		r.rep.aloneFrom = r.seq + 1
		r.local.clear()
	}
	r.active, r.turned = true, true
}

// drop takes out a member; gone tells that it is not only changed.
func (r *replica) drop(was Member, gone bool, now time.Time) {
	delete(r.peers, was.Name)
	if was.Foreign() {
		r.foreign--
		return
	}
	delete(r.byID, was.ID)
	r.ours = slices.DeleteFunc(r.ours, func(m Member) bool { return m.ID == was.ID })
	if !gone {
		return
	}
	delete(r.calls, was.ID)
	delete(r.directs, was.ID)
	delete(r.rep.pulls, was.ID)
	delete(r.rep.failures, was.ID)
	delete(r.rep.buckets, was.ID)
	if w := r.windows[was.ID]; w != nil {
		w.sight(now)
	}
	r.spread.lost(was.ID, now)
}

// meet notes from where on we owe a member our parts, and that it may have state of its own.
func (r *replica) meet(m Member, first bool, now time.Time) {
	if _, met := r.rep.met[m.ID]; !met && len(r.rep.met) < maxWindows {
		r.rep.met[m.ID] = now
	}
	if _, owed := r.rep.bases[m.ID]; !owed {
		base := r.seq + 1
		if first {
			// What was broadcast while we were alone is owed to whom we meet, as far as it is kept.
			for it := range r.history.ascend(r.id, r.rep.aloneFrom, r.seq) {
				base = it.id.seq
				break
			}
		}
		r.rep.bases[m.ID] = base
	}
	r.news(now)
	for _, ch := range r.channels {
		if !ch.sync.done || len(r.peers) <= syncCrowd || r.rep.rng.IntN(len(r.peers)) < syncCrowd {
			r.wantSync(ch, []uint64{m.ID}, syncAfter, now)
		}
	}
}

// peerByID finds a live member of ours.
func (r *replica) peerByID(id uint64) (Member, bool) {
	m, ok := r.byID[id]
	return m, ok
}

// randomPeer returns a random live member of ours that fits, if there is one.
func (r *replica) randomPeer(fits func(Member) bool) (Member, bool) {
	if len(r.ours) == 0 {
		return Member{}, false
	}
	at := r.rep.rng.IntN(len(r.ours))
	for i := range r.ours {
		if m := r.ours[(at+i)%len(r.ours)]; fits == nil || fits(m) {
			return m, true
		}
	}
	return Member{}, false
}

// tell sends a control frame to a member, by packet if it may and fits one.
func (r *replica) tell(to Member, body protowire.Number, m proto.Message, stream bool) {
	frame := encodeControl(r.self, body, m)
	if stream || len(frame) > r.lim.packet {
		r.streams = append(r.streams, rawParcel(to, frame))
		return
	}
	r.post(packet{to, frame})
}

// post queues a packet.
func (r *replica) post(p packet) {
	if len(r.packets) >= maxPackets {
		r.drops.add(DropPacketFailed)
		return
	}
	r.packets = append(r.packets, p)
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
