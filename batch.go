package starling

import (
	"slices"
	"time"
)

// batchID names a batch: who cut the ring first, and its count of batches.
type batchID struct{ root, n uint64 }

// batch is some parts on their way through this member's slice.
type batch struct {
	id    batchID
	items []*item // what it carries; nil once it is done here
	size  int     // Σ len(frame)
	large bool    // goes to each member by stream, for it fits no packet
	lack  bool    // this member could not keep all of it

	parents []Member // who wait for our report
	reach   int      // Invariant: steps [1, reach) of ring are served
	ring    *ring    // as it was when the batch came
	end     uint64   // position up to which it is served
	legs    []*leg
	open    int  // Invariant: legs that are not over
	holding int  // Invariant: of those, the ones that are not excused; 0 pays
	paid    bool // the window has its bytes back
	gone    []uint64
	doneAt  time.Time // zero: not done
	wire    []byte    // the parts, encoded
	wireAt  time.Time
}

// report is a member's answer to a batch.
type report struct {
	id    batchID
	done  bool // else: held
	count uint64
	sum   uint64   // XOR of the positions of the holders
	gone  []uint64 // positions of those given up
	more  bool     // there are more than gone names
	list  []uint64 // positions of the holders, where the list was asked for
	try   uint64   // the try that is answered, from 1; 0: none in particular
}

func leafReport(own uint64, o offer) report {
	r := report{id: o.id, done: true, try: o.try}
	if o.lack {
		r.gone = []uint64{own}
		return r
	}
	r.count, r.sum = 1, own
	if o.list {
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
		if b := s.old[0]; !b.doneAt.IsZero() && s.batches[b.id] == b { // else its slice has grown, and it will be old again
			delete(s.batches, b.id)
		}
		s.old[0] = nil
		s.old = s.old[1:]
	}
	if len(s.batches) >= maxBatches {
		return nil
	}
	b := &batch{id: id, items: slices.Clone(items), ring: s.ring, reach: 1}
	for _, it := range items {
		b.size += len(it.frame)
	}
	b.large = b.size > s.flow.packet
	s.batches[id] = b
	s.served[id.root]++
	return b
}

// adopt notes who waits for our report.
func (b *batch) adopt(from Member) {
	same := func(m Member) bool { return m.ID == from.ID }
	if len(b.parents) < fanOut && !slices.ContainsFunc(b.parents, same) {
		b.parents = append(b.parents, from)
	}
}

// settle gives the window back what a batch of ours took, when no leg holds it any more, and ends a batch whose slices are all
// over.
func (s *spread) settle(b *batch, now time.Time) {
	if b.holding == 0 && b.id.root == s.self && !b.paid {
		b.paid = true
		s.flowOf(b.large).done(b.size)
	}
	if b.open > 0 || !b.doneAt.IsZero() {
		return
	}
	b.doneAt = now
	if b.id.root == s.self {
		delete(s.batches, b.id)
		s.finished = append(s.finished, b)
		return
	}
	if s.served[b.id.root]--; s.served[b.id.root] == 0 {
		delete(s.served, b.id.root)
	}
	s.old = append(s.old, b)
	for _, p := range b.parents {
		s.answer(b, offer{from: p})
	}
	// What is remembered of it now is that it is done. If its slice grows, the parts come again.
	b.parents, b.items, b.wire, b.legs = nil, nil, nil, nil
}

// answer reports on a batch to a parent.
func (s *spread) answer(b *batch, o offer) {
	r := report{id: b.id, try: o.try}
	if b.doneAt.IsZero() {
		if b.lack {
			return // not held: the parent shall try again, or give the slice to another
		}
		s.reports = append(s.reports, spreadReport{o.from, r, o.stream})
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
		if o.list {
			r.list = append(r.list, pos)
		}
	}
	r.gone, r.more = gone[:min(len(gone), maxGone)], len(gone) > maxGone
	s.reports = append(s.reports, spreadReport{o.from, r, o.stream})
}
