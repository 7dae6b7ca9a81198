package starling

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// replica is the protocol of one member: what it has, what it still has to send, and what is to be done next. It is pure:
// it holds no goroutine, clock, socket or lock. Its owner serialises all calls, passes the time in, and carries out what it
// finds in packets, streams and gaps; so a whole cluster of replicas can be driven by a plain loop.
type replica struct {
	id   uint64
	self sender
	from []byte // our id as the sender, encoded
	lim  limits

	room     room
	outbox   outbox
	local    *gossipQueue // our own parts
	spread   spread
	history  *history
	windows  map[uint64]*window
	channels map[string]*channel
	ordered  int               // of those, how many are FIFO
	peers    map[string]Member // live members but ourselves, by name
	foreign  []Member          // of those, who do not speak Starling, in no order
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
	relayed  uint64 // parts of others sent on to the slices
	drops    *dropCounters

	// What is to be done, for effects.
	streams   []parcel
	packets   []packet
	arrived   []*item // scratch: the parts of the packet that is being received
	gaps      []lostRange
	active    bool // something happened: tick is due
	turned    bool // the membership has changed: the ring is to be made anew
	acks      []*acks
	acksTo    map[uint64]*acks
	spareAcks []*acks
	second    []second  // foreign members' second copies, by time
	left      time.Time // when our last batch left
	lingering bool      // what is in the outbox waits for company
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

// maxWindows bounds how many origins a member keeps a record of. Live members have theirs whatever strangers were named.
const maxWindows = 4096

func newReplica(self sender, lim limits, drops *dropCounters) *replica {
	r := &replica{
		id: self.id, self: self, from: sender{id: self.id}.append(nil), lim: lim, drops: drops,
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
		acksTo:    map[uint64]*acks{},
		rep:       newRepairs(self.id),
	}
	members := func() int { return len(r.peers) + 1 }
	r.local = newGossipQueue(lim.queue.Messages, lim.retransmit, members, func(*item) {})
	r.spread = newSpread(self.id, lim.packet)
	r.turned = true
	return r
}

// broadcast accepts a message that room was taken for. It leaves at the next pump; at once, where there is nobody to send to.
func (r *replica) broadcast(o *outgoing, now time.Time) {
	o.accepted = now
	if replaced, was := r.outbox.put(o); replaced {
		// The room of the older message is the newer one's now; its own is given back.
		o.ch.stats.Accepted++
		o.ch.stats.Superseded++
		r.room.free(was)
		return
	}
	o.number = o.ch.accept()
	if r.alone() {
		r.pump(now)
	}
}

// leave gives a message its seq: from now on it is a part.
func (r *replica) leave(o *outgoing, now time.Time) *item {
	ch, it := o.ch, &o.item
	r.news(now)
	r.seq++
	it.id, it.key, it.prev, it.born = partID{r.id, r.seq}, ch.key, ch.last, now
	it.frame = appendIdentity(o.body, it.id, it.prev, 0)
	it.data = it.frame[len(o.body)-o.size : len(o.body) : len(o.body)]
	it.handled, it.via, it.out = !ch.echo, Echo, o
	ch.last = r.seq
	ch.stats.Sent++
	r.keep(it, now)
	if ch.echo {
		ch.offer(it.delivery())
	}
	return it
}

// landed notes that a part of our own is done: every member has it, but for those missing.
func (r *replica) landed(it *item, missing []Member) {
	o := it.out
	it.out = nil
	o.entry.done()
	r.room.free(len(o.body))
	o.ch.finish(o.number, len(missing) == 0)
	for _, confirm := range o.confirm {
		confirm <- landing{seq: it.id.seq, missing: missing}
	}
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
			ch.inbox.evict()
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

// open adds a channel.
func (r *replica) open(ch *channel, now time.Time) {
	r.channels[ch.key] = ch
	r.active = true
	if ch.order.enabled {
		r.ordered++
	}
	if !r.alone() {
		r.wantSync(ch, nil, 0, now)
	}
}

// close removes a channel; what waits for it needs no handler any more.
func (r *replica) close(ch *channel, now time.Time) {
	delete(r.channels, ch.key)
	if ch.order.enabled {
		r.ordered--
	}
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

// tell sends a control frame to a member, by packet if it may and fits one.
func (r *replica) tell(to Member, body protowire.Number, m proto.Message, stream bool) {
	frame := encodeControl(r.self, body, m)
	if stream || len(frame) > r.lim.packet {
		r.streams = append(r.streams, rawParcel(to, frame))
		return
	}
	r.post(packet{to: to, head: frame})
}

// post queues a packet.
func (r *replica) post(p packet) {
	if p.len() > r.lim.packet {
		r.streams = append(r.streams, rawParcel(p.to, p.frame()))
		return
	}
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
		if it.out != nil {
			oldest = earlier(oldest, it.out.accepted)
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

// landing is how a part of our own ended.
type landing struct {
	seq     uint64
	missing []Member // live members that were given up
}
