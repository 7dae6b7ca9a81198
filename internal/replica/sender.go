package replica

import (
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Sender is what leaves: this member's own messages, accepted, left and done, and what the spread wants sent.
type Sender struct {
	out       *output
	roster    *roster
	observer  *Observer
	intake    *intake
	digests   *digests
	reminders *reminders
	spreader  *spreader
	lim       Limits

	budget    budget
	outbox    outbox
	transfers transfers
	left      time.Time    // when our last batch left
	lingering bool         // what is in the outbox waits for company
	second    []secondCopy // by time
}

// secondCopy is the second copy of some parts for foreign members, which acknowledge nothing.
type secondCopy struct {
	at    time.Time
	items []*store.Item
}

// Accept accepts a message of our own, if there is room for it. superseded is the message that takes the content of m, if there is one: m
// itself is done with then. A message leaves with the next Pump; at once where there is nobody to send to.
func (s *Sender) Accept(m *Message, now time.Time) (superseded *Message, ok bool) {
	if !s.budget.take(m.room) {
		return nil, false
	}
	m.accepted = now
	ch := m.ch
	ch.Counters.Accepted++
	if old, freed := s.outbox.put(m, s.large); old != nil {
		// The room of the older message is the newer one's now; its own is given back.
		ch.Counters.Superseded++
		s.free(freed)
		return old, true
	}
	ch.accepted++
	ch.outstanding++
	m.number = ch.accepted
	if s.roster.alone() {
		s.Pump(now)
	}
	return nil, true
}

func (s *Sender) free(n int) {
	s.budget.free(n)
	s.out.Room = true
}

// Due reports whether Pump has something to do.
func (s *Sender) Due() bool {
	return s.mayLeave() || len(s.out.Packets) > 0 || s.spreader.due()
}

// mayLeave reports whether a message may leave now.
func (s *Sender) mayLeave() bool {
	small := s.outbox.small.peek() != nil && s.open(false) && (!s.lingering || s.outbox.small.bytes >= s.batchRoom())
	if small || !s.open(true) {
		return small
	}
	m := s.outbox.large.peek()
	return len(s.transfers) > 0 || m != nil && (s.large(m) || s.open(false))
}

// Pump lets messages leave while the window is open, as many to a packet as fit, does what the spread has due, and turns it into packets
// and streams. It returns when it has something to do again, if nothing happens before.
func (s *Sender) Pump(now time.Time) (next time.Time, again bool) {
	sp := s.spreader.spread
	sp.Ring, sp.Watch = s.roster.refresh(), s.observer.watched > 0
	sp.Tick(now)
	s.finish(s.spreader.carry(now), now)
	next, again = s.pumpSmall(now)
	s.pumpLarge(now)
	s.copyAgain(now)
	s.finish(s.spreader.carry(now), now)
	s.spreader.sendAcks()
	if len(s.second) > 0 && (!again || s.second[0].at.Before(next)) {
		next, again = s.second[0].at, true
	}
	if at, due := sp.Next(); due && (!again || at.Before(next)) {
		next, again = at, true
	}
	return next, again
}

// pumpSmall lets small messages leave. It returns when it has something to do again, because they wait for company.
func (s *Sender) pumpSmall(now time.Time) (next time.Time, again bool) {
	s.lingering = false
	waiting := &s.outbox.small
	for m := waiting.peek(); m != nil && s.open(false); m = waiting.peek() {
		if s.large(m) || m.ch.FIFO && m.ch.waiting[laneLarge] > 0 { // it waited for others of its FIFO channel
			s.outbox.large.push(waiting.remove(0))
			s.pumpLarge(now)
			continue
		}
		if until := s.left.Add(s.lim.Linger); now.Before(until) && waiting.bytes < s.batchRoom() && !s.roster.alone() {
			s.lingering = true
			return until, true
		}
		s.spread(s.fill(now), false, now)
		s.left = now
	}
	return time.Time{}, false
}

// pumpLarge lets large messages leave, piece by piece, in turns with each other.
func (s *Sender) pumpLarge(now time.Time) {
	for s.open(true) {
		s.begin(now)
		it := s.transfers.next()
		if it == nil {
			return
		}
		s.spread([]*store.Item{it}, true, now)
	}
}

// begin makes parts of the large messages that are next.
func (s *Sender) begin(now time.Time) {
	waiting := &s.outbox.large
	for m := waiting.peek(); m != nil && len(s.transfers) < maxTransfers; m = waiting.peek() {
		if !s.large(m) { // it waited for others of its FIFO channel
			if !s.open(false) {
				return
			}
			s.spread(s.intake.issue(nil, s.outbox.pop(waiting), now), false, now)
			continue
		}
		items := s.intake.issue(nil, s.outbox.pop(waiting), now)
		if len(s.roster.foreign) > 0 {
			s.copyForeign(m, now)
		}
		s.transfers.add(items)
	}
}

// open reports whether the window is open for small or for large messages.
func (s *Sender) open(large bool) bool {
	return s.roster.alone() || s.spreader.spread.Open(large)
}

// large reports whether a message goes by stream.
func (s *Sender) large(m *Message) bool {
	return m.ch.Stream || !m.whole() || s.frameSize(m) > s.lim.Gossip
}

// frameSize is the length of the part that a message in one piece will be.
func (s *Sender) frameSize(m *Message) int {
	return m.room + wire.IdentitySize(s.intake.own+1, m.ch.last)
}

// batchRoom is how many bytes of parts fit into one packet.
func (s *Sender) batchRoom() int {
	return s.lim.Packet - len(s.spreader.from) - wire.SpreadHead - wire.ControlFraming
}

// fill takes from the outbox what fits into one packet, and gives it its seqs.
func (s *Sender) fill(now time.Time) []*store.Item {
	room := s.batchRoom()
	var items []*store.Item
	for m := s.outbox.small.peek(); m != nil && !s.large(m); m = s.outbox.small.peek() {
		if room -= wire.PartSize(s.frameSize(m)); room < 0 && len(items) > 0 {
			break
		}
		items = s.intake.issue(items, s.outbox.pop(&s.outbox.small), now)
	}
	return items
}

// spread sends parts of our own that have just left.
func (s *Sender) spread(items []*store.Item, large bool, now time.Time) {
	s.digests.news(now)
	size := 0
	for _, it := range items {
		size += len(it.Frame)
		if !large && !s.roster.alone() {
			s.out.Queue = append(s.out.Queue, it.Message.(*Message))
		}
	}
	if len(s.roster.foreign) > 0 && !large {
		s.copySmall(items, now)
	}
	b := s.spreader.spread.Start(items, size, large, now)
	for _, it := range items {
		it.Message.(*Message).pieces[it.Chunk.Index].batch = b
	}
	s.finish(s.spreader.carry(now), now)
}

// copyForeign gives a large message, whole, to those who take no part in the spread.
func (s *Sender) copyForeign(m *Message, now time.Time) {
	for _, to := range s.roster.foreign {
		switch {
		case m.whole():
			s.out.stream(to, &m.one[0].item)
		case m.room > wire.MaxStreamSize:
			s.out.dropOn(DropForeignTooLarge, m.ch.Key)
			s.observer.refused(m, to)
		default:
			written := s.observer.whole(m, to)
			s.out.Streams = append(s.out.Streams, wire.Stream{To: to, Size: m.room, Bulk: true, Encode: m.foreign, Written: written})
		}
	}
}

// copySmall gives parts that leave now, which have no age yet, to the same ones in packets.
func (s *Sender) copySmall(items []*store.Item, now time.Time) {
	for _, m := range s.roster.foreign {
		for _, it := range items {
			s.out.post(wire.Packet{To: m, Head: it.Frame})
		}
	}
	s.second = append(s.second, secondCopy{now.Add(s.lim.GossipEvery), items})
}

// copyAgain sends the second copies that are due.
func (s *Sender) copyAgain(now time.Time) {
	due := 0
	for due < len(s.second) && !s.second[due].at.After(now) {
		due++
	}
	for _, m := range s.roster.foreign {
		for _, c := range s.second[:due] {
			for _, it := range c.items {
				s.out.post(wire.Packet{To: m, Head: it.Frame, Age: now.Sub(it.Born)})
			}
		}
	}
	clear(s.second[:due])
	s.second = s.second[due:]
}

// finish ends the messages whose batches are all done.
func (s *Sender) finish(done []*spread.Batch, now time.Time) {
	sp := s.spreader.spread
	s.observer.follow(sp.Moved)
	clear(sp.Moved)
	sp.Moved = sp.Moved[:0]
	for _, b := range done {
		missing := s.missing(b, now)
		for _, it := range b.Items {
			m := it.Message.(*Message)
			it.Message = nil
			m.done(missing)
			if m.left > 0 {
				continue
			}
			s.free(m.room)
			m.ch.outstanding--
			s.observer.finish(m)
			s.intake.unheld.finished(m)
			s.out.Finished = append(s.out.Finished, Finished{m, m.missing})
		}
	}
}

// missing returns the live members that a batch was given up for. They are told of it until they have heard that.
func (s *Sender) missing(b *spread.Batch, now time.Time) (ms []wire.Peer) {
	for id := range b.GivenUp() {
		if p, live := s.roster.member(id); live {
			s.reminders.remind(p, now)
			ms = append(ms, p.Peer)
		}
	}
	return ms
}

// oldest returns when the oldest message was accepted that is not done; now if there is none.
func (s *Sender) oldest(now time.Time) time.Time {
	oldest := now
	if m := s.outbox.oldest(); m != nil {
		oldest = m.accepted
	}
	for it := range s.intake.history.Ascend(s.roster.self.ID, 1, s.intake.own) {
		if m, ok := it.Message.(*Message); ok {
			if m.accepted.Before(oldest) {
				oldest = m.accepted
			}
			break
		}
	}
	return oldest
}
