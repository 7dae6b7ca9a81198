package starling

import (
	"slices"
	"time"
)

// How the replica feeds the spread, and carries out what it wants.

// acks are the reports that wait to be sent to one member: all that were made since the last pump go in one frame, if they
// fit one.
type acks struct {
	to      Member
	content []byte // encoded
	stream  bool
}

// second is the second copy of some parts for foreign members, which acknowledge nothing.
type second struct {
	at    time.Time
	items []*item
}

// due reports whether pump has something to do.
func (r *replica) due() bool {
	o := r.outbox.peek()
	leaves := o != nil && r.mayLeave(o) && (!r.lingering || r.outbox.bytes >= r.batchRoom())
	return leaves || len(r.packets) > 0 ||
		len(r.spread.sends) > 0 || len(r.spread.reports) > 0 || len(r.spread.finished) > 0 || len(r.acks) > 0
}

// pump lets leave what may, does what is due, and turns it into packets and streams. It returns when it has something to do
// again, if nothing happens before.
func (r *replica) pump(now time.Time) (next time.Time, again bool) {
	r.refreshRing()
	r.spread.tick(now)
	r.carry(now)
	linger := r.depart(now)
	r.copyAgain(now)
	r.carry(now)
	r.sendAcks()
	next, again = r.spread.next()
	if linger.After(now) && (!again || linger.Before(next)) {
		next, again = linger, true
	}
	if len(r.second) > 0 && (!again || r.second[0].at.Before(next)) {
		next, again = r.second[0].at, true
	}
	return next, again
}

// depart lets messages leave while the window is open, as many to a packet as fit. If it lets them linger, it returns until
// when.
func (r *replica) depart(now time.Time) (linger time.Time) {
	r.lingering = false
	for o := r.outbox.peek(); o != nil && r.mayLeave(o); o = r.outbox.peek() {
		if r.large(o) {
			r.outbox.pop()
			r.send([]*item{r.leave(o, now)}, true, now)
			continue
		}
		if until := r.left.Add(r.lim.linger); now.Before(until) && r.outbox.bytes < r.batchRoom() && !r.alone() {
			r.lingering = true
			return until
		}
		r.send(r.fill(now), false, now)
		r.left = now
	}
	return time.Time{}
}

// mayLeave reports whether the window is open for a message.
func (r *replica) mayLeave(o *outgoing) bool {
	return r.alone() || r.spread.flowOf(r.large(o)).open()
}

// large reports whether a message goes by stream.
func (r *replica) large(o *outgoing) bool {
	size := len(o.body) + identitySize(r.seq+1, o.ch.last)
	return o.ch.stream || size > r.lim.gossip
}

// batchRoom is how many bytes of parts fit into one packet.
func (r *replica) batchRoom() int { return r.lim.packet - len(r.from) - spreadHead - controlFraming }

// fill takes from the outbox what fits into one packet, and gives it its seqs.
func (r *replica) fill(now time.Time) []*item {
	room := r.batchRoom()
	var items []*item
	for o := r.outbox.peek(); o != nil && !r.large(o); o = r.outbox.peek() {
		n := len(o.body) + identitySize(r.seq+1, o.ch.last)
		if room -= partSize(n); room < 0 && len(items) > 0 {
			break
		}
		items = append(items, r.leave(r.outbox.pop(), now))
	}
	return items
}

// send spreads parts of our own that have just left.
func (r *replica) send(items []*item, large bool, now time.Time) {
	size := 0
	for _, it := range items {
		size += len(it.frame)
		if !large && !r.alone() {
			r.local.push(&it.out.entry, it)
		}
	}
	if len(r.foreign) > 0 {
		r.copyForeign(items, large, now)
	}
	r.spread.start(items, size, large, now)
	r.carry(now)
}

// copyForeign gives parts that leave now, which have no age yet, to those who take no part in the spread: a large one by
// stream, small ones in packets.
func (r *replica) copyForeign(items []*item, large bool, now time.Time) {
	for _, m := range r.foreign {
		for _, it := range items {
			if large {
				r.streams = append(r.streams, parcel{to: m, bytes: len(it.frame), frame: it.restamped})
			} else {
				r.post(packet{to: m, head: it.frame})
			}
		}
	}
	if !large {
		r.second = append(r.second, second{now.Add(r.lim.gossipEvery), items})
	}
}

// copyAgain sends the second copies that are due.
func (r *replica) copyAgain(now time.Time) {
	due := 0
	for due < len(r.second) && !r.second[due].at.After(now) {
		due++
	}
	for _, m := range r.foreign {
		for _, s := range r.second[:due] {
			for _, it := range s.items {
				r.post(packet{to: m, head: it.frame, age: now.Sub(it.born)})
			}
		}
	}
	clear(r.second[:due])
	r.second = r.second[due:]
}

// restamped returns a copy of the part's frame with its age.
func (it *item) restamped(now time.Time) []byte {
	return appendRestamped(make([]byte, 0, len(it.frame)), it.frame, now.Sub(it.born))
}

// carry turns what the spread wants into frames, and ends what is done.
func (r *replica) carry(now time.Time) {
	s := &r.spread
	for _, send := range s.sends {
		r.transmit(send, now)
	}
	for _, rep := range s.reports {
		r.ack(rep)
	}
	finished := s.finished
	clear(s.sends)
	clear(s.reports)
	s.sends, s.reports, s.finished = s.sends[:0], s.reports[:0], nil
	for _, b := range finished {
		missing := r.missing(b)
		for _, it := range b.items {
			r.landed(it, missing)
		}
	}
}

// missing returns the live members that a batch was given up for.
func (r *replica) missing(b *batch) []Member {
	if len(b.gone) == 0 {
		return nil
	}
	var ms []Member
	for _, p := range b.ring.places {
		if m, live := r.peerByID(p.member.ID); live && slices.Contains(b.gone, p.pos) {
			ms = append(ms, m)
		}
	}
	return ms
}

// transmit sends a batch, or a question about it, to the head of a slice.
func (r *replica) transmit(send spreadSend, now time.Time) {
	l := send.leg
	if l.batch.id.root != r.id && !send.query {
		r.relayed += uint64(len(l.batch.items))
	}
	flags := uint64(0)
	if send.list {
		flags |= flagList
	}
	from, id, end, items := r.from, l.batch.id, l.end, l.batch.items
	if try := len(l.sent); try <= maxTry && !send.stream {
		flags |= uint64(try) << tryShift // of the copy by packet alone: a stream tells nothing of the round trip
	}
	if send.query {
		items = nil
	}
	if send.stream {
		// Encoded on the lane, without our lock: from what cannot change.
		r.streams = append(r.streams, parcel{to: l.to, bytes: l.batch.size, frame: func(now time.Time) []byte {
			return encodeSpread(from, id, end, flags|flagStream, appendParts(nil, items, now))
		}})
		return
	}
	var parts []byte
	if items != nil {
		parts = l.batch.encoded(now)
	}
	r.post(packet{to: l.to, head: spreadHeader(from, id, end, flags, len(parts)), tail: parts})
}

// encodedFor is how old the ages in an encoded batch may be.
const encodedFor = 10 * time.Millisecond

// encoded returns the parts of a batch as they travel, encoded anew when their ages have gone stale.
func (b *batch) encoded(now time.Time) []byte {
	if b.wire == nil || now.Sub(b.wireAt) > encodedFor {
		b.wire, b.wireAt = appendParts(make([]byte, 0, b.size+4*len(b.items)), b.items, now), now
	}
	return b.wire
}

// ack queues a report for its member.
func (r *replica) ack(rep spreadReport) {
	a := r.acksTo[rep.to.ID]
	if a == nil {
		a = r.newAcks(rep.to)
	}
	room := r.lim.packet - len(r.from) - controlFraming
	if len(a.content) > 0 && len(a.content)+reportSize(rep.report) > room {
		r.postAcks(a)
	}
	a.content = appendReport(a.content, rep.report)
	a.stream = a.stream || rep.stream
}

func (r *replica) newAcks(to Member) *acks {
	a := new(acks)
	if n := len(r.spareAcks); n > 0 {
		a, r.spareAcks = r.spareAcks[n-1], r.spareAcks[:n-1]
	}
	a.to = to
	r.acksTo[to.ID] = a
	r.acks = append(r.acks, a)
	return a
}

// sendAcks sends the queued reports.
func (r *replica) sendAcks() {
	for _, a := range r.acks {
		delete(r.acksTo, a.to.ID)
		r.postAcks(a)
		if len(r.spareAcks) < maxSpareAcks {
			*a = acks{content: a.content}
			r.spareAcks = append(r.spareAcks, a)
		}
	}
	clear(r.acks)
	r.acks = r.acks[:0]
}

// maxSpareAcks is how many are kept for later: nearly always a member has few parents at a time.
const maxSpareAcks = 16

// postAcks sends the reports that wait for one member.
func (r *replica) postAcks(a *acks) {
	frame := append(controlHead(r.from, bodyReports, len(a.content), len(a.content)), a.content...)
	a.content = a.content[:0]
	if a.stream || len(frame) > r.lim.packet {
		r.streams = append(r.streams, rawParcel(a.to, frame))
		return
	}
	r.post(packet{to: a.to, head: frame})
}

// receiveSpread takes a batch from a member: holds what is new, serves its slice, and answers.
func (r *replica) receiveSpread(from Member, f spreadFrame, now time.Time) {
	r.refreshRing()
	via := Gossip
	if f.flags&flagStream != 0 {
		via = Stream
	}
	serves := r.spread.ring.until(f.end) > 1
	lack := false
	items := r.arrived[:0]
	for frame, ok := f.next(); ok; frame, ok = f.next() {
		it, held := r.hold(frame, via, serves, now)
		lack = lack || !held
		if it != nil {
			items = append(items, it)
		}
	}
	r.spread.receive(offer{
		from: from, id: f.id, end: f.end, items: items, lack: lack,
		list: f.flags&flagList != 0, stream: via == Stream, try: f.flags >> tryShift,
	}, now)
	clear(items)
	r.arrived = items
}

// hold takes one part of a batch. It returns the part if it is to be passed on, and whether this member has it, or need not.
func (r *replica) hold(frame []byte, via Via, pass bool, now time.Time) (it *item, held bool) {
	p, err := parsePart(frame)
	switch {
	case err != nil || len(p.key) == 0 || p.id.origin == 0:
		r.drops.add(DropMalformed)
		return nil, true
	case len(p.data) > r.lim.message:
		r.drops.add(DropTooLarge)
		return nil, true
	case p.age >= r.lim.retention.Age:
		r.drops.add(DropTooOld)
		return nil, true
	case p.id.origin == r.id:
		r.duplicate(r.channels[string(p.key)])
		held = true
	default:
		it, held = r.receiveOwned(r.channels[string(p.key)], p, frame, via, now)
	}
	if it == nil && held && pass {
		// It was here before; those behind us may lack it all the same.
		if it = r.history.get(p.id); it == nil {
			it = newItem(r.channels[string(p.key)], p, frame, now)
		}
	}
	return it, held
}
