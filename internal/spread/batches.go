package spread

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// batches is the batches that this member serves: its own until they are done, and those of others until keepDone later, so that
// a parent that asks again is answered. An entry takes about 2 KB with eight hops, beside its parts, which history has too as a
// rule: 16 MB for MaxBatches.
type batches struct {
	Batches map[wire.BatchID]*Batch // Invariant: at most MaxBatches, and our own
	Served  map[uint64]int          // by root, how many of others are not done. Invariant: 1 to maxServed, and reopened ones
	relayed map[wire.PartID]*Batch  // pieces of others' large messages that are not done

	// Watch fills Moved: pieces of our own large messages of which more may be known now. The owner empties it as the Spread's fields.
	Watch bool
	Moved []*Batch

	doneOnes []*Batch // those of others, by doneAt; some have been reopened since, or stand here twice
}

func newBatches() batches {
	return batches{Batches: map[wire.BatchID]*Batch{}, Served: map[uint64]int{}, relayed: map[wire.PartID]*Batch{}}
}

// admit makes a batch of others' parts, if there is room.
func (t *batches) admit(id wire.BatchID, items []*store.Item, ring *Ring, packet int, now time.Time) *Batch {
	if t.Served[id.Root] >= maxServed {
		return nil
	}
	t.forget(now)
	if len(t.Batches) >= MaxBatches {
		return nil
	}
	b := &Batch{ID: id, Items: slices.Clone(items), Ring: ring, reach: 1}
	for _, it := range items {
		b.Size += len(it.Frame)
	}
	b.large = b.Size > packet
	t.Batches[id] = b
	t.relay(b)
	t.Served[id.Root]++
	return b
}

// relay notes a batch of others that is not done, if it is a piece of a large message.
func (t *batches) relay(b *Batch) {
	if b.chunk() {
		t.relayed[b.Items[0].ID] = b
	}
}

// Brings reports whether this member brings a piece of another's large message to a member just now.
func (t *batches) Brings(piece wire.PartID, to uint64, now time.Time) bool {
	b := t.relayed[piece]
	return b != nil && b.Brings(to, now)
}

// Carries reports whether pieces of large messages are under way from this member to a member just now.
func (t *batches) Carries(to uint64, now time.Time) bool {
	for _, b := range t.Batches {
		if b.large && !b.done() && slices.ContainsFunc(b.Hops, func(h *Hop) bool {
			return h.To.ID == to && h.state != hopEnded && (h.flying || now.Sub(h.written) < bringsFor)
		}) {
			return true
		}
	}
	return false
}

// note notes that a batch has left, or that its hops have changed.
func (t *batches) note(b *Batch) {
	if t.Watch && b.ours() && b.chunk() && !slices.Contains(t.Moved, b) {
		t.Moved = append(t.Moved, b)
	}
}

// forget drops batches of others that have been done for long, or, where there is no room, those done longest.
func (t *batches) forget(now time.Time) {
	for len(t.doneOnes) > 0 && (len(t.Batches) >= MaxBatches || now.Sub(t.doneOnes[0].doneAt) > keepDone) {
		// One that was reopened is not done, or will be done later: it stands here again then.
		if b := t.doneOnes[0]; b.done() && t.Batches[b.ID] == b {
			delete(t.Batches, b.ID)
		}
		t.doneOnes[0] = nil
		t.doneOnes = t.doneOnes[1:]
	}
}

// retire notes that a batch of others is done. What is remembered of it is just that: if its slice grows, the parts come again.
func (t *batches) retire(b *Batch) {
	if t.Served[b.ID.Root]--; t.Served[b.ID.Root] == 0 {
		delete(t.Served, b.ID.Root)
	}
	t.doneOnes = append(t.doneOnes, b)
	if b.chunk() {
		delete(t.relayed, b.Items[0].ID)
	}
	b.parents, b.Items, b.encoded, b.Hops = nil, nil, nil, nil
}

// reopen takes up a batch of others that was done: its slice has grown.
func (t *batches) reopen(b *Batch, items []*store.Item) {
	b.doneAt, b.Items = time.Time{}, slices.Clone(items)
	t.Served[b.ID.Root]++
	t.relay(b)
}

// ordered returns the batches by root and number, so that what is done with all of them is done in the same order everywhere.
func (t *batches) ordered() []*Batch {
	return slices.SortedFunc(maps.Values(t.Batches), func(a, b *Batch) int {
		return cmp.Or(cmp.Compare(a.ID.Root, b.ID.Root), cmp.Compare(a.ID.N, b.ID.N))
	})
}
