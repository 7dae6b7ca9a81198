package starling

import (
	"slices"
	"time"
)

// The acknowledged spread. Members stand on a ring by hash of their name. Who has something to tell cuts the ring after
// itself into slices, and gives each slice's first member the batch and the slice's end; that member does the same with its
// slice. Each hop is acknowledged, and each member reports when its whole slice is done, so that the root of a batch learns
// one round trip later that everybody has it. A silent member's slice is taken over by the next in it.
//
// A report is believed only if it agrees with the parent's own view of the slice; else the parent asks for the list, and
// serves the difference itself. So views of the membership that differ cost a repair, never a lie.

const (
	fanOut     = 8
	flatTries  = 3 // tries at the plain time-out, before it doubles
	maxTries   = 7
	streamTry  = 2                // packets unanswered, before the next try goes by stream too; and every third after it
	leafFor    = 10 * time.Second // how long a silent member heads no slice
	silentMin  = time.Second
	probeEvery = 250 * time.Millisecond // between batches that a silent member is tried with
	keepDone   = 5 * time.Second        // how long a batch that is done is remembered
	maxGone    = 64                     // members given up that a report names
	maxBatches = 8192                   // of others, remembered at once
	maxServed  = 1024                   // of those, for one root, not done
	patience   = 8                      // round trips after which a child that holds is asked whether it is done
)

// batchID names a batch: who cut the ring first, and its count of batches.
type batchID struct{ root, n uint64 }

// batch is some parts on their way through this member's slice.
type batch struct {
	id    batchID
	items []*item // what it carries
	size  int     // Σ len(frame)
	large bool    // goes to everybody by stream, straight from its root
	lack  bool    // this member could not keep all of it

	parents []parent
	reach   int    // Invariant: steps [1, reach) of ring are served
	ring    *ring  // as it was when the batch came
	end     uint64 // position up to which it is served
	legs    []*leg
	open    int // Invariant: legs that are not over
	gone    []uint64
	since   time.Time
	doneAt  time.Time // zero: not done
	wire    []byte    // the parts, encoded
	wireAt  time.Time
}

// parent is a member that waits for our report.
type parent struct {
	member Member
	end    uint64 // of the slice that it gave us
}

// leg is one slice of a batch on its way.
type leg struct {
	batch  *batch
	to     Member
	view   arc // the slice as we see it, to first
	end    uint64
	state  legState
	tries  int // sendings since the last answer
	sends  int // in all
	at     time.Time
	due    time.Time
	listed bool // the list was asked for
}

type legState uint8

const (
	legSent legState = iota // not answered
	legHeld                 // the child has it, its slice is not done
	legOver                 // done, taken over or given up
)

// report is a member's answer to a batch.
type report struct {
	id    batchID
	done  bool // else: held
	count uint64
	sum   uint64   // XOR of the positions of the holders
	gone  []uint64 // positions of those given up
	more  bool     // there are more than gone names
	list  []uint64 // positions of the holders, where the list was asked for
}

// What a spread wants done.
type (
	spreadSend struct {
		leg    *leg
		stream bool
		query  bool // only ask: the child has the parts
		list   bool // and wants the list of holders
	}
	spreadReport struct {
		to     Member
		report report
		stream bool
	}
)

// peerState is what a spread knows of one member.
type peerState struct {
	rtt       rtt
	leafUntil time.Time // heads no slice until then
	silent    bool      // has not answered for long: out of the window until it does
	waiting   time.Time // since when it owes us an answer; zero: it does not
	probed    time.Time
}

// spread is the state machine. It is pure: members, frames, reports and time go in; what is to be sent comes out in sends,
// reports and finished, which its owner takes.
type spread struct {
	self    uint64
	ring    *ring
	peers   map[uint64]*peerState
	batches map[batchID]*batch
	served  map[uint64]int // by root: batches of others that are not done
	last    uint64         // our last batch
	timers  timers
	old     []*batch // done ones of others, oldest first
	flow    flow     // of small parts
	bulk    flow     // of large ones

	sends    []spreadSend
	reports  []spreadReport
	finished []*batch // our own
}

func newSpread(self uint64, packet int) spread {
	return spread{
		self: self, peers: map[uint64]*peerState{}, batches: map[batchID]*batch{}, served: map[uint64]int{},
		flow: newFlow(packet), bulk: newBulkFlow(),
	}
}

func (s *spread) peer(id uint64) *peerState {
	p, ok := s.peers[id]
	if !ok {
		p = new(peerState)
		s.peers[id] = p
	}
	return p
}

func (s *spread) flowOf(large bool) *flow {
	if large {
		return &s.bulk
	}
	return &s.flow
}

// start sends parts of our own to everybody. A large batch goes to each member by stream.
func (s *spread) start(items []*item, size int, large bool, now time.Time) *batch {
	s.last++
	b := &batch{id: batchID{s.self, s.last}, items: items, size: size, large: large, ring: s.ring, since: now}
	b.end, b.reach = s.ring.places[s.ring.self].pos, 1
	s.batches[b.id] = b
	s.flowOf(large).add(size)
	s.serve(b, len(s.ring.places), b.end, now)
	s.settle(b, now)
	return b
}

// receive takes a batch from a parent: serve what of the slice is not served yet, and answer. lack tells that not all of it
// could be kept here.
func (s *spread) receive(from Member, id batchID, end uint64, items []*item, lack, list, stream bool, now time.Time) {
	if id.root == s.self {
		return
	}
	s.heard(from.ID, now)
	b := s.batches[id]
	if b == nil {
		own := s.ring.places[s.ring.self].pos
		if s.ring.until(end) == 1 || len(items) == 0 {
			// Nobody between us and the end: nothing to remember. Or a question after what we have forgotten: the parent
			// will serve whom we do not name.
			s.reports = append(s.reports, spreadReport{from, leafReport(id, own, lack, list), stream})
			return
		}
		if b = s.admit(id, items, now); b == nil {
			return
		}
	}
	if len(items) > 0 {
		b.lack = lack
	}
	s.adopt(b, from, end)
	over := !b.doneAt.IsZero()
	if reach := b.ring.until(end); reach > b.reach {
		if over {
			over, b.doneAt = false, time.Time{}
			s.served[id.root]++
		}
		s.serve(b, reach, end, now)
	}
	if s.settle(b, now); over || b.doneAt.IsZero() || list {
		s.answer(b, from, end, list, stream)
	}
}

func leafReport(id batchID, own uint64, lack, list bool) report {
	r := report{id: id, done: true}
	if lack {
		r.gone = []uint64{own}
		return r
	}
	r.count, r.sum = 1, own
	if list {
		r.list = []uint64{own}
	}
	return r
}

// admit makes room for a batch of others.
func (s *spread) admit(id batchID, items []*item, now time.Time) *batch {
	if s.served[id.root] >= maxServed {
		return nil
	}
	for len(s.old) > 0 && (len(s.batches) >= maxBatches || now.Sub(s.old[0].doneAt) > keepDone) {
		if b := s.old[0]; !b.doneAt.IsZero() { // else its slice has grown, and it will be old again
			delete(s.batches, b.id)
		}
		s.old[0] = nil
		s.old = s.old[1:]
	}
	if len(s.batches) >= maxBatches {
		return nil
	}
	b := &batch{id: id, items: items, ring: s.ring, reach: 1, since: now}
	for _, it := range items {
		b.size += len(it.frame)
	}
	s.batches[id] = b
	s.served[id.root]++
	return b
}

func (s *spread) adopt(b *batch, from Member, end uint64) {
	for i := range b.parents {
		if b.parents[i].member.ID == from.ID {
			b.parents[i].end = end
			return
		}
	}
	if len(b.parents) < fanOut {
		b.parents = append(b.parents, parent{from, end})
	}
}

// serve cuts the steps [b.reach, reach) into slices and sends the batch to the head of each.
func (s *spread) serve(b *batch, reach int, end uint64, now time.Time) {
	todo := arc{b.ring, b.reach, reach}
	b.reach, b.end = reach, end
	slices := todo.cut(fanOut)
	if b.large {
		slices = todo.cut(todo.len())
	}
	for i, slice := range slices {
		stop := end
		if i+1 < len(slices) {
			stop = b.ring.at(slice.to).pos
		}
		s.head(b, slice, stop, now)
	}
}

// head sends the batch to the first member of a slice that may head it. Those before it are leaves.
func (s *spread) head(b *batch, slice arc, end uint64, now time.Time) {
	for slice.len() > 0 {
		first := b.ring.at(slice.from).member
		p := s.peer(first.ID)
		rest := arc{slice.ring, slice.from + 1, slice.to}
		switch {
		case p.silent:
			s.giveUp(b, slice.from)
			s.probe(b, first, p, now)
		case rest.len() > 0 && now.Before(p.leafUntil):
			s.send(b, first, arc{slice.ring, slice.from, slice.from + 1}, b.ring.at(slice.from+1).pos, now)
		default:
			s.send(b, first, slice, end, now)
			return
		}
		slice = rest
	}
}

func (s *spread) send(b *batch, to Member, view arc, end uint64, now time.Time) {
	l := &leg{batch: b, to: to, view: view, end: end}
	b.legs = append(b.legs, l)
	b.open++
	s.transmit(l, now)
}

// transmit sends a leg, again if it was not answered.
func (s *spread) transmit(l *leg, now time.Time) {
	p := s.peer(l.to.ID)
	rto := p.rtt.rto()
	stream := l.batch.large || l.tries%3 == streamTry
	wait := rto
	if l.batch.large {
		wait = max(silentMin, 8*rto)
	} else if l.tries >= flatTries {
		wait = min(rto<<(l.tries-flatTries+1), rtoMax)
	}
	if l.state == legHeld {
		wait = max(patience*rto, wait)
	}
	l.tries++
	l.sends++
	l.at, l.due = now, now.Add(wait)
	if p.waiting.IsZero() {
		p.waiting = now
	}
	s.timers.push(l.due, l)
	send := spreadSend{leg: l, query: l.state == legHeld && !l.batch.large, list: l.listed}
	if !l.batch.large {
		s.sends = append(s.sends, send)
	}
	if stream {
		// Beside the packet, not instead of it: a stream is sure, but slow where packets are lost.
		send.stream = true
		s.sends = append(s.sends, send)
	}
}

// probe lets a silent member have a batch now and then, so that it is noticed when it answers again.
func (s *spread) probe(b *batch, to Member, p *peerState, now time.Time) {
	if now.Sub(p.probed) < probeEvery || b.large {
		return
	}
	p.probed = now
	l := &leg{batch: b, to: to, end: position(to.Name) + 1, state: legOver}
	s.sends = append(s.sends, spreadSend{leg: l})
}

// giveUp notes that the member at a step will not get the batch from us. Repair will find it.
func (s *spread) giveUp(b *batch, step int) { b.gone = append(b.gone, b.ring.at(step).pos) }

// heard notes that a member lives.
func (s *spread) heard(id uint64, now time.Time) {
	p := s.peer(id)
	p.waiting = time.Time{}
	if p.silent {
		p.silent, p.leafUntil = false, time.Time{}
	}
}

// report takes a member's answer.
func (s *spread) report(from uint64, r report, now time.Time) {
	s.heard(from, now)
	b := s.batches[r.id]
	if b == nil {
		return
	}
	i := slices.IndexFunc(b.legs, func(l *leg) bool { return l.to.ID == from && l.state != legOver })
	if i < 0 {
		return
	}
	l := b.legs[i]
	if l.sends == 1 && l.state == legSent {
		s.peer(from).rtt.sample(now.Sub(l.at))
	}
	l.tries = 0
	switch {
	case !r.done:
		if l.state == legSent {
			l.state = legHeld
			l.due = now.Add(patience * s.peer(from).rtt.rto())
			s.timers.push(l.due, l)
		}
	case s.believes(l, r):
		s.over(l, r.gone)
	case r.list == nil && !l.listed:
		l.listed, l.state = true, legHeld
		s.transmit(l, now)
	default:
		s.difference(l, r, now)
	}
	s.settle(b, now)
}

// believes reports whether a report agrees with our view of the slice.
func (s *spread) believes(l *leg, r report) bool {
	if r.more {
		return false
	}
	count, sum := uint64(l.view.len()), l.view.sum()
	for _, pos := range r.gone {
		count--
		sum ^= pos
	}
	return r.count == count && r.sum == sum
}

// difference serves ourselves whom the child did not: its view of the slice is another one.
func (s *spread) difference(l *leg, r report, now time.Time) {
	have := map[uint64]bool{}
	for _, pos := range r.list {
		have[pos] = true
	}
	for _, pos := range r.gone {
		have[pos] = true
	}
	var gone []uint64
	b := l.batch
	for n := l.view.from; n < l.view.to; n++ {
		p := l.view.ring.at(n)
		switch {
		case have[p.pos] && slices.Contains(r.gone, p.pos):
			gone = append(gone, p.pos)
		case have[p.pos]:
		case r.more || p.member.ID == l.to.ID || s.peer(p.member.ID).silent:
			gone = append(gone, p.pos)
		default:
			s.send(b, p.member, arc{l.view.ring, n, n + 1}, p.pos+1, now)
		}
	}
	s.over(l, gone)
}

func (s *spread) over(l *leg, gone []uint64) {
	if l.state == legOver {
		return
	}
	l.state = legOver
	l.batch.open--
	l.batch.gone = append(l.batch.gone, gone...)
}

// takeOver gives the slice of a silent member to the next in it.
func (s *spread) takeOver(l *leg, now time.Time) {
	b := l.batch
	s.over(l, []uint64{l.view.ring.at(l.view.from).pos})
	s.head(b, arc{l.view.ring, l.view.from + 1, l.view.to}, l.end, now)
}

// settle ends a batch whose slices are all over.
func (s *spread) settle(b *batch, now time.Time) {
	if b.open > 0 || !b.doneAt.IsZero() {
		return
	}
	b.doneAt = now
	if b.id.root == s.self {
		delete(s.batches, b.id)
		s.flowOf(b.large).done(b.size)
		s.finished = append(s.finished, b)
		return
	}
	if s.served[b.id.root]--; s.served[b.id.root] == 0 {
		delete(s.served, b.id.root)
	}
	s.old = append(s.old, b)
	for _, p := range b.parents {
		s.answer(b, p.member, p.end, false, false)
	}
	b.parents = nil
}

// answer reports on a batch to a parent.
func (s *spread) answer(b *batch, to Member, end uint64, list, stream bool) {
	r := report{id: b.id}
	if b.doneAt.IsZero() {
		if b.lack {
			return // not held: the parent shall try again, or give the slice to another
		}
		s.reports = append(s.reports, spreadReport{to, r, stream})
		return
	}
	r.done = true
	own := b.ring.places[b.ring.self].pos
	gone := b.gone
	if b.lack {
		gone = append(slices.Clone(gone), own)
	}
	holders := func(yield func(uint64) bool) {
		for n := range b.reach {
			if pos := b.ring.at(n).pos; !slices.Contains(gone, pos) && !yield(pos) {
				return
			}
		}
	}
	for pos := range holders {
		r.count++
		r.sum ^= pos
		if list {
			r.list = append(r.list, pos)
		}
	}
	r.gone, r.more = gone[:min(len(gone), maxGone)], len(gone) > maxGone
	s.reports = append(s.reports, spreadReport{to, r, stream})
}

// tick does what is due: tries again what was not answered, and gives up on whom has been silent.
func (s *spread) tick(now time.Time) {
	for l := s.timers.pop(now); l != nil; l = s.timers.pop(now) {
		if l.state == legOver || now.Before(l.due) {
			continue
		}
		p := s.peer(l.to.ID)
		if l.batch.id.root == s.self && !l.batch.large {
			s.flow.late(now, p.rtt.rto())
		}
		limit := maxTries
		if l.batch.large {
			limit = flatTries
		}
		silent := !p.waiting.IsZero() && now.Sub(p.waiting) >= max(silentMin, 8*p.rtt.rto())
		if l.tries < limit && !silent {
			s.transmit(l, now)
			continue
		}
		p.leafUntil = now.Add(leafFor)
		p.silent = p.silent || silent
		s.takeOver(l, now)
		s.settle(l.batch, now)
	}
}

// next returns when tick will next have something to do.
func (s *spread) next() (time.Time, bool) { return s.timers.next() }

// lost takes over at once what a member that is gone should have served.
func (s *spread) lost(id uint64, now time.Time) {
	delete(s.peers, id)
	for _, b := range s.batches {
		for _, l := range slices.Clone(b.legs) {
			if l.to.ID == id && l.state != legOver {
				s.takeOver(l, now)
			}
		}
		s.settle(b, now)
	}
}
