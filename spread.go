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
	doublings  = 3 // of it, at most: who is not silent is worth another packet, and streams are slow where packets are lost
	headTries  = 7 // after so many, the next of the slice takes it over, and who does not answer is tried alone
	maxTries   = 14
	streamTry  = 2                // packets unanswered, before the next try goes by stream too; and every third after it
	leafFor    = 10 * time.Second // how long a silent member heads no slice
	silentMin  = time.Second
	probeEvery = 250 * time.Millisecond // between batches that a silent member is tried with
	keepDone   = 5 * time.Second        // how long a batch that is done is remembered
	maxGone    = 64                     // members given up that a report names
	maxBatches = 8192                   // of others, remembered at once
	maxServed  = 1024                   // of those, for one root, not done
	heldMost   = 5 * time.Second        // how long a child may say that it holds and is not done
	patience   = 8                      // round trips after which a child that holds is asked whether it is done
)

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

func (s *spread) flowOf(large bool) *flow {
	if large {
		return &s.bulk
	}
	return &s.flow
}

// start sends parts of our own to everybody. A large batch goes to each member by stream.
func (s *spread) start(items []*item, size int, large bool, now time.Time) *batch {
	s.last++
	b := &batch{id: batchID{s.self, s.last}, items: items, size: size, large: large, ring: s.ring}
	b.end, b.reach = s.ring.places[s.ring.self].pos, 1
	s.batches[b.id] = b
	s.flowOf(large).add(size)
	s.serve(b, len(s.ring.places), b.end, now)
	s.settle(b, now)
	return b
}

// offer is a batch that a parent gives to us, with the slice that we are to serve.
type offer struct {
	from   Member
	id     batchID
	end    uint64
	items  []*item // none: it is only asked whether the slice is done
	lack   bool    // not all of it could be kept here
	list   bool    // answer with the list of holders
	stream bool    // answer by stream
	try    uint64
}

// receive takes a batch from a parent: serve what of the slice is not served yet, and answer.
func (s *spread) receive(o offer, now time.Time) {
	if o.id.root == s.self {
		return
	}
	s.heard(o.from.ID, now)
	b := s.batches[o.id]
	if b == nil {
		if s.ring.until(o.end) == 1 || len(o.items) == 0 {
			// Nobody between us and the end: nothing to remember. Or a question after what we have forgotten: the parent
			// will serve whom we do not name.
			own := s.ring.places[s.ring.self].pos
			s.reports = append(s.reports, spreadReport{o.from, leafReport(own, o), o.stream})
			return
		}
		if b = s.admit(o.id, o.items, now); b == nil {
			return
		}
	}
	if len(o.items) > 0 {
		b.lack = o.lack
	}
	b.adopt(o.from)
	over := !b.doneAt.IsZero()
	if reach := b.ring.until(o.end); reach > b.reach && (!over || len(o.items) > 0) {
		if over {
			over, b.doneAt, b.items = false, time.Time{}, slices.Clone(o.items)
			s.served[o.id.root]++
		}
		s.serve(b, reach, o.end, now)
	}
	if s.settle(b, now); over || b.doneAt.IsZero() || o.list {
		s.answer(b, o)
	}
}

// serve cuts the steps [b.reach, reach) into slices and sends the batch to the head of each.
func (s *spread) serve(b *batch, reach int, end uint64, now time.Time) {
	todo := arc{b.ring, b.reach, reach}
	b.reach, b.end = reach, end
	cuts := todo.cut(fanOut)
	if b.large {
		cuts = todo.cut(todo.len())
	}
	for i, slice := range cuts {
		stop := end
		if i+1 < len(cuts) {
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
	b.holding++
	s.transmit(l, now)
}

// giveUp notes that the member at a step will not get the batch from us. Repair will find it.
func (s *spread) giveUp(b *batch, step int) { b.gone = append(b.gone, b.ring.at(step).pos) }

// next returns when tick will next have something to do.
func (s *spread) next() (time.Time, bool) { return s.timers.next() }
