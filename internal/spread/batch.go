package spread

import (
	"iter"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Batch is some parts on their way through this member's slice: the whole ring if they are its own.
type Batch struct {
	ID    wire.BatchID
	Items []*store.Item // what it carries; nil once a batch of others is done
	Size  int           // Σ len(Frame)
	Ring  *Ring         // as it was when the batch came
	Hops  []*Hop        // nil once a batch of others is done
	Gone  []uint64      // positions of the members given up

	began    time.Time   // when it left, if it is ours
	large    bool        // goes by stream, for it fits no packet
	lack     bool        // this member could not keep all of it
	parents  []wire.Peer // members that wait for our report
	reach    int         // Invariant: steps [1, reach) of Ring are served
	open     int         // Invariant: how many of Hops are not ended
	inWindow int         // Invariant: how many of Hops count in the window
	refunded bool        // the window has its bytes back
	doneAt   time.Time   // zero: not done

	encoded   []byte // the parts as they travel
	encodedAt time.Time
}

// ours reports whether the parts are this member's.
func (b *Batch) ours() bool { return b.ID.Root == b.Ring.at(0).Member.ID }

// chunk reports whether the batch is a piece of a large message.
func (b *Batch) chunk() bool { return b.large && len(b.Items) == 1 && !b.Items[0].Chunk.Whole() }

func (b *Batch) done() bool { return !b.doneAt.IsZero() }

// add counts a hop that starts.
func (b *Batch) add(h *Hop) {
	b.Hops = append(b.Hops, h)
	b.open++
	b.inWindow++
}

// moved counts a hop that goes from one state to another.
func (b *Batch) moved(from, to hopState) {
	if from.inWindow() && !to.inWindow() {
		b.inWindow--
	}
	if from != hopEnded && to == hopEnded {
		b.open--
	}
}

// cutUpTo cuts the steps [reach, to), which are not served yet, into slices, and says that they are served.
func (b *Batch) cutUpTo(to int) []Arc {
	todo := Arc{b.Ring, b.reach, to}
	b.reach = to
	if b.chunk() {
		return todo.cutAround(chunkFanOut, todo.step(b.ID.Root))
	}
	return todo.cut(fanOut)
}

// hopTo returns the hop to a member that is not ended, or nil.
func (b *Batch) hopTo(id uint64) *Hop {
	for _, h := range b.Hops {
		if h.To.ID == id && h.state != hopEnded {
			return h
		}
	}
	return nil
}

// giveUp notes that the members at some positions do not get the batch by the spread. Repair will find them.
func (b *Batch) giveUp(positions ...uint64) { b.Gone = append(b.Gone, positions...) }

// adopt notes a parent, for it waits for our report.
func (b *Batch) adopt(parent wire.Peer) {
	same := func(m wire.Peer) bool { return m.ID == parent.ID }
	if len(b.parents) < fanOut && !slices.ContainsFunc(b.parents, same) {
		b.parents = append(b.parents, parent)
	}
}

// report returns what this member has to say of the batch, with the list of holders if it is wanted. It has nothing to say of
// a batch that it could not keep and is not done with: the parent shall try again, or give the slice to another.
func (b *Batch) report(list bool) (r wire.Report, ok bool) {
	r.ID = b.ID
	if !b.done() {
		return r, !b.lack
	}
	r.Done = true
	gone := b.Gone
	if b.lack {
		gone = append(slices.Clone(gone), b.Ring.ownPos())
	}
	for n := range b.reach {
		pos := b.Ring.at(n).Pos
		if slices.Contains(gone, pos) {
			continue
		}
		r.Count++
		r.Sum ^= pos
		if list {
			r.List = append(r.List, pos)
		}
	}
	r.Gone, r.More = gone[:min(len(gone), maxGone)], len(gone) > maxGone
	return r, true
}

// leafReport is the report of a member that has nobody behind it: it alone holds the batch, or lacks it.
func leafReport(own uint64, o Offer) wire.Report {
	r := wire.Report{ID: o.ID, Done: true}
	if o.Lack {
		r.Gone = []uint64{own}
		return r
	}
	r.Count, r.Sum = 1, own
	if o.List {
		r.List = []uint64{own}
	}
	return r
}

// Encoded returns the parts of a batch as they travel, encoded anew when their ages have gone stale.
func (b *Batch) Encoded(now time.Time) []byte {
	if b.encoded == nil || now.Sub(b.encodedAt) > encodedFor {
		b.encoded, b.encodedAt = AppendParts(make([]byte, 0, b.Size+4*len(b.Items)), b.Items, now), now
	}
	return b.encoded
}

// AppendParts appends parts as fields of a Spread, with the ages that they have now.
func AppendParts(b []byte, items []*store.Item, now time.Time) []byte {
	for _, it := range items {
		b = wire.AppendPart(b, it.Frame, now.Sub(it.Born))
	}
	return b
}

// GivenUp yields the ids of the members that the batch was given up for.
func (b *Batch) GivenUp() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if len(b.Gone) == 0 {
			return
		}
		for _, p := range b.Ring.Places {
			if slices.Contains(b.Gone, p.Pos) && !yield(p.Member.ID) {
				return
			}
		}
	}
}

// Holders yields the ids of the members that are known to hold the batch, one of our own: those whose slice is done, and the head of a
// slice that has said that it holds it. Of the others in a slice nothing is known until all of it is done.
func (b *Batch) Holders() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		unknown := make([]bool, len(b.Ring.Places)) // by step
		for _, h := range b.Hops {
			for n := h.View.from; n < h.View.to && h.state != hopEnded; n++ {
				unknown[n%len(unknown)] = true
			}
		}
		for _, h := range b.Hops {
			if h.state == hopHeld || h.state == hopHeldReleased { // one that was asked for the list may have said that it lacks the batch
				unknown[h.View.from%len(unknown)] = false
			}
		}
		for n := 1; n < len(unknown); n++ {
			if p := b.Ring.at(n); !unknown[n] && !slices.Contains(b.Gone, p.Pos) && !yield(p.Member.ID) {
				return
			}
		}
	}
}

// Brings reports whether the batch is likely still on its way to a member, and was not given up for it: it began a moment ago, or whoever brings it
// there gets on with it, as slow as the link may be.
func (b *Batch) Brings(id uint64, now time.Time) bool {
	if b.done() || !b.Reached(id) {
		return false
	}
	return now.Sub(b.began) < bringsFor || slices.ContainsFunc(b.Hops, func(h *Hop) bool {
		return h.state != hopEnded && h.View.has(id) && (h.flying || h.state.held() || now.Sub(h.written) < bringsFor)
	})
}

// Reached reports whether a member is known to have all of the batch.
func (b *Batch) Reached(id uint64) bool {
	i := slices.IndexFunc(b.Ring.Places, func(p Place) bool { return p.Member.ID == id })
	return i >= 0 && !slices.Contains(b.Gone, b.Ring.Places[i].Pos)
}
