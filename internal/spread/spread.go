package spread

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Spread is one member's part in the spread of its own batches and of others': see the package's documentation.
type Spread struct {
	batches        // Batches and Served, to be read by the owner; Watch and Moved
	Ring    *Ring  // the members now; the owner sets it before the first call, and whenever the membership changes
	Flow    Flow   // the send window of small batches
	Ahead   Ahead  // what of large ones is on its way
	answers rtt    // how long it takes from when a large batch was written to the first answer
	self    uint64 // our id
	lastN   uint64 // number of our last batch
	due     dueHops
	peer    func(id uint64) *Peer

	// What the owner takes after each call, and empties.
	Sends    []Send
	Reports  []Answer
	Finished []*Batch // our own

	// Impossible counts events that came to a hop in a state for which hopTable has none. They change nothing; it stays 0.
	Impossible uint64
}

type (
	// Send is a frame for a child: a batch with the slice that the child is to serve, or a question about it.
	Send struct {
		Hop    *Hop
		Stream bool // by stream
		Query  bool // only ask: the child has the parts
		List   bool // the child shall answer with the list of holders
	}
	// Answer is a report for a parent.
	Answer struct {
		To     wire.Peer
		Report wire.Report
		Stream bool // by stream
	}
	// Offer is a Send as it reaches the child.
	Offer struct {
		From   wire.Peer // the parent
		ID     wire.BatchID
		End    uint64        // where the slice ends
		Items  []*store.Item // none: the parent only asks
		Lack   bool          // this member could not keep all of it
		List   bool          // answer with the list of holders
		Stream bool          // answer by stream
		Try    uint64        // of the parent's, from 1; 0: none in particular
	}
)

// New returns the spread of the member with the id self, for packets of packet bytes.
//
// peer returns the record of the run of a member that has this id, never nil. The owner keeps the records, bounds how many there
// are, and drops one before it calls Lost. If an id is not a member's, peer may return a new zero value each time.
func New(self uint64, packet int, peer func(id uint64) *Peer) *Spread {
	return &Spread{batches: newBatches(), Flow: newFlow(packet), self: self, peer: peer}
}

// Open reports whether another large or small batch of ours may leave.
func (s *Spread) Open(large bool) bool {
	if large {
		return s.Ahead.Open()
	}
	return s.Flow.Open()
}

// Start sends parts of our own to everybody along the slices: small ones by packet, a large one by stream.
func (s *Spread) Start(items []*store.Item, size int, large bool, now time.Time) *Batch {
	s.lastN++
	b := &Batch{ID: wire.BatchID{Root: s.self, N: s.lastN}, Items: items, Size: size, large: large, Ring: s.Ring, reach: 1, began: now}
	s.Batches[b.ID] = b
	if !large {
		s.Flow.spend(size)
	}
	if b.chunk() {
		s.rotate(b, now)
	} else {
		s.serve(b, b.cutUpTo(len(s.Ring.Places)), s.Ring.ownPos(), now)
	}
	s.conclude(b, now)
	s.note(b)
	return b
}

// Receive takes a batch from a parent: it serves what of the slice is not served yet, and answers.
func (s *Spread) Receive(o Offer, now time.Time) {
	if o.ID.Root == s.self {
		return
	}
	s.peer(o.From.ID).heard(now)
	b := s.Batches[o.ID]
	if b == nil {
		if s.Ring.Until(o.End) == 1 || len(o.Items) == 0 {
			// Nobody stands between us and the end, so there is nothing to remember. Or the parent asks about a batch that was
			// forgotten here; then it sends the batch itself to the members that this report does not name.
			s.answer(o, leafReport(s.Ring.ownPos(), o))
			return
		}
		if b = s.admit(o.ID, o.Items, s.Ring, s.Flow.packet, now); b == nil {
			return
		}
	}
	if len(o.Items) > 0 {
		b.lack = o.Lack
	}
	b.adopt(o.From)
	wasDone := b.done()
	if reach := b.Ring.Until(o.End); reach > b.reach && (!wasDone || len(o.Items) > 0) {
		if wasDone {
			wasDone = false
			s.reopen(b, o.Items)
		}
		s.serve(b, b.cutUpTo(reach), o.End, now)
	}
	s.conclude(b, now)
	// Where the batch has become done just now, conclude has answered all parents, but without the list.
	if wasDone || !b.done() || o.List {
		if r, ok := b.report(o.List); ok {
			s.answer(o, r)
		}
	}
}

// answer sends a parent the report that its frame asks for.
func (s *Spread) answer(o Offer, r wire.Report) {
	r.Try = o.Try
	s.Reports = append(s.Reports, Answer{o.From, r, o.Stream})
}

// Report takes a child's answer.
func (s *Spread) Report(from uint64, r wire.Report, now time.Time) {
	p := s.peer(from)
	p.heard(now)
	b := s.Batches[r.ID]
	if b == nil {
		return
	}
	h := b.hopTo(from)
	if h == nil {
		return
	}
	if left, ok := h.sentAt(r.Try); ok {
		p.rtt.sample(now.Sub(left))
		if b.ours() && r.Try < uint64(len(h.Sent)) {
			s.Flow.undoTimeout() // the time-out of this try was spurious
		}
	}
	if b.large {
		p.deafUntil = time.Time{}
	}
	if h.carries() && !h.flying && len(h.Sent) == 1 {
		s.answers.sample(now.Sub(h.written))
	}
	h.unanswered = 0
	h.lacks = h.lacks || slices.Contains(r.Gone, h.View.first().Pos)
	s.step(h, h.reportEvent(r), r, now)
	s.conclude(b, now)
}

// Tick does what is due: it tries again what was not answered, hands on slices, and gives up.
func (s *Spread) Tick(now time.Time) {
	for h := s.due.pop(now); h != nil; h = s.due.pop(now) {
		s.timeout(h, now)
	}
}

// timeout does what is due for one hop.
func (s *Spread) timeout(h *Hop, now time.Time) {
	p := s.peer(h.To.ID)
	if h.carries() && h.patient(p, now) {
		s.due.push(h)
		return
	}
	if h.Batch.large { // it was written before anybody had answered, perhaps, and the wait for it was a guess
		h.muteAfter = max(min(h.muteAfter, p.muteAfter(s.answerWait(h, p))), largeMutes*p.readEvery)
	}
	ev := h.timeoutEvent(p, now)
	if ev != dueBehind && ev != dueBehindReleased && h.state.inWindow() && h.Batch.ours() && !h.Batch.large {
		s.Flow.timedOut(now, p.RTO())
	}
	s.step(h, ev, wire.Report{}, now)
	s.conclude(h.Batch, now)
}

// Next returns when Tick will next have something to do.
func (s *Spread) Next() (time.Time, bool) { return s.due.next() }

// Lost takes over at once the slices of a member that has left the membership. The owner has dropped its Peer before.
func (s *Spread) Lost(id uint64, now time.Time) {
	for _, b := range s.ordered() {
		for _, h := range slices.Clone(b.Hops) {
			if h.To.ID == id && h.state != hopEnded {
				s.step(h, peerLost, wire.Report{}, now)
			}
		}
		s.conclude(b, now)
	}
}

// rotate sends a piece of a large message of ours to one member, which passes it on to all others: another one for each piece, so that
// each leaves us once, and every member passes on about as much as any other.
func (s *Spread) rotate(b *Batch, now time.Time) {
	n := len(s.Ring.Places)
	b.reach = n
	if n == 1 {
		return
	}
	at := 1 + int(b.ID.N%uint64(n-1))
	all := Arc{s.Ring, at, at + n} // ourselves among them: whoever cuts it passes over us
	s.assign(b, all, all.first().Pos, now)
}

// serve sends the batch to the head of each slice. The last one ends at position end.
func (s *Spread) serve(b *Batch, slices []Arc, end uint64, now time.Time) {
	for i, slice := range slices {
		stop := end
		if i+1 < len(slices) {
			stop = slice.ring.at(slice.to).Pos
		}
		s.assign(b, slice, stop, now)
	}
}

// assign sends the batch to the first member of a slice that may head it. Those before it get it as leaves, or not at all if
// they are silent.
func (s *Spread) assign(b *Batch, slice Arc, end uint64, now time.Time) {
	for ; slice.Len() > 0; slice = slice.rest() {
		first, rest := slice.first(), slice.rest()
		if first.Member.ID == b.ID.Root {
			continue // it has it
		}
		p := s.peer(first.Member.ID)
		switch {
		case p.silent:
			b.giveUp(first.Pos)
			s.probe(b, first.Member, p, now)
		case b.large && p.deaf(now):
			b.giveUp(first.Pos)
		case rest.Len() > 0 && now.Before(p.leafUntil):
			s.startHop(b, first.Member, slice.leaf(), rest.first().Pos, now)
		default:
			s.startHop(b, first.Member, slice, end, now)
			return
		}
	}
}

// startHop sends the batch to the head of a slice.
func (s *Spread) startHop(b *Batch, to wire.Peer, slice Arc, end uint64, now time.Time) {
	h := &Hop{Batch: b, To: to, View: slice, End: end}
	b.add(h)
	if b.large && b.ours() {
		s.Ahead.add(1, b.Size)
	}
	s.try(h, now)
}

// try sends a hop, the first time or again.
func (s *Spread) try(h *Hop, now time.Time) {
	p := s.peer(h.To.ID)
	stream, wait := h.unanswered%streamEvery == streamEvery-1, h.wait(p.RTO())
	h.unanswered++
	if h.state.held() {
		h.questions++
	}
	h.Sent = append(h.Sent, now)
	if h.carries() {
		h.flying, h.failed, h.due = true, false, now.Add(h.flight())
		s.due.push(h)
		s.Sends = append(s.Sends, Send{Hop: h, Stream: true})
		return
	}
	p.asked(now)
	h.due = now.Add(wait)
	s.due.push(h)
	send := Send{Hop: h, Query: h.state.held(), List: h.state.listed()}
	s.Sends = append(s.Sends, send)
	if stream {
		// Beside the packet, not instead of it: a stream is sure, but slow where packets are dropped.
		send.Stream = true
		s.Sends = append(s.Sends, send)
	}
}

// Written takes note that the stream of a large batch was written, or could not be: it may take long, and no clock runs meanwhile.
func (s *Spread) Written(h *Hop, ok bool, now time.Time) {
	if !h.flying {
		return
	}
	h.flying, h.failed, h.written = false, !ok, now
	p := s.peer(h.To.ID)
	wait := s.answerWait(h, p)
	h.muteAfter = p.muteAfter(wait)
	if h.state.held() {
		return // its answer was faster, and it is asked later what of its slice
	}
	h.due = now.Add(wait)
	s.due.push(h)
}

// Read takes note that the other end has read more of the stream of a large batch: it lives, and what was written is on its way.
func (s *Spread) Read(h *Hop, now time.Time) {
	if h.state == hopEnded {
		return
	}
	p := s.peer(h.To.ID)
	p.heardAt = now
	if !h.readAt.IsZero() {
		p.read(now.Sub(h.readAt))
	}
	if h.readAt = now; !h.flying {
		h.written = now
	}
}

// answerWait is how long the answer to a large batch that was written is waited for before others are given its slice: longer than others
// took. The buffers of the system hold much, and links may be slow.
func (s *Spread) answerWait(h *Hop, p *Peer) time.Duration {
	if s.answers.smooth == 0 {
		return max(largeWait, silentRTOs*p.RTO()) + time.Duration(h.Batch.Size)*time.Second/firstRate
	}
	return max(largeWait, silentRTOs*p.RTO(), s.answers.smooth+4*s.answers.vary)
}

// probe lets a silent member have a batch now and then, so that it is noticed when it answers again.
func (s *Spread) probe(b *Batch, to wire.Peer, p *Peer, now time.Time) {
	if now.Sub(p.probedAt) < probeEvery || b.large {
		return
	}
	p.probedAt = now
	s.Sends = append(s.Sends, Send{Hop: &Hop{Batch: b, To: to, End: Position(to.Name) + 1, state: hopEnded}})
}

// conclude gives the window back the bytes of a batch of ours once no hop of it counts there, and ends a batch once none of its
// hops is open.
func (s *Spread) conclude(b *Batch, now time.Time) {
	if b.inWindow == 0 && b.ours() && !b.refunded {
		b.refunded = true
		if !b.large {
			s.Flow.refund(b.Size)
		}
	}
	if b.open > 0 || b.done() {
		return
	}
	b.doneAt = now
	if b.ours() {
		delete(s.Batches, b.ID)
		s.Finished = append(s.Finished, b)
		return
	}
	if r, ok := b.report(false); ok {
		for _, parent := range b.parents {
			s.Reports = append(s.Reports, Answer{To: parent, Report: r})
		}
	}
	s.retire(b)
}
