package starling

import (
	"iter"
	"math"
	"time"

	"github.com/google/btree"
)

// partID names one part for ever: its origin's random id and its sequence
// number there, from 1.
type partID struct{ origin, seq uint64 }

func (p partID) less(q partID) bool {
	if p.origin != q.origin {
		return p.origin < q.origin
	}
	return p.seq < q.seq
}

// itemOverhead is what a kept part is charged beyond its frame, so that a flood
// of tiny parts cannot cost many times the bound.
const itemOverhead = 128

// item is one kept part. Its frame and data never change, so they may be read
// after the item was evicted, and without the lock.
type item struct {
	id    partID
	key   string    // the channel's key
	prev  uint64    // seq of the origin's previous part with the same key; 0 = none
	frame []byte    // the encoded Part as it travels
	data  []byte    // the payload, a slice of frame
	born  time.Time // when it was broadcast, by this member's clock: arrival minus the age it carried

	// handled says that its handler has run or that nobody here wants it. It is
	// set before add, or by setHandled: the history sorts by it.
	handled bool

	via   Via       // how it came
	taken bool      // a handler has it in hand: it must not come again, whatever becomes of it here
	out   *outgoing // the message of our own that this part still is; nil once it is done, and for the parts of others

	place int // one more than its index in the history's ages; 0 = not kept
}

// cost is what the item counts for against the bound on bytes.
func (it *item) cost() int { return len(it.frame) + itemOverhead }

// delivery is the item on its way to its handler.
func (it *item) delivery() delivery {
	return delivery{item: it, data: it.data, origin: it.id.origin, seq: it.id.seq, born: it.born, via: it.via}
}

// kept reports whether the item is in the history.
func (it *item) kept() bool { return it.place != 0 }

// history is what this member still keeps, for relaying, for repair, and for
// its own slow handlers. It knows nothing of what it lacks; that is the window.
//
// It takes no lock: its owner serialises all calls, reads too. Nothing may
// change it while one of its iterators runs; get and has are allowed there.
type history struct {
	maxBytes int
	maxAge   time.Duration

	parts *btree.BTreeG[*item] // ordered by origin, then seq

	// Invariant: every item of parts is in exactly one of them: done if it is
	// handled, else due.
	done, due ages

	// Invariant: used == Σ (len(frame) + itemOverhead) <= maxBytes, always;
	// now - born < maxAge for every part after expire(now).
	used int

	epoch time.Time // when the first part was added; births are compared as distances from it
	probe item      // the key of lookups: a local one would be allocated each time
}

// newHistory returns an empty history that keeps at most maxBytes (as charged
// by cost), and nothing for maxAge or longer.
func newHistory(maxBytes int, maxAge time.Duration) *history {
	return &history{
		maxBytes: maxBytes,
		maxAge:   maxAge,
		parts: btree.NewG(32, func(a, b *item) bool {
			return a.id.less(b.id)
		}),
	}
}

// add keeps it, and returns what had to go for it: first what is beyond its
// age, then handled parts, oldest first, then unhandled ones, oldest first. The
// caller turns each unhandled one into a missing one.
//
// The caller has asked its window, so the part is not here yet (if it is, the
// new item takes the old one's place); and it has refused what the bound
// can never hold: such an item comes straight back as evicted, alone.
func (h *history) add(it *item, now time.Time) (evicted []*item) {
	if it.cost() > h.maxBytes {
		return []*item{it}
	}
	if h.epoch.IsZero() {
		h.epoch = now
	}
	evicted = h.expire(now)
	for h.used+it.cost() > h.maxBytes {
		oldest := h.next()
		h.drop(oldest)
		evicted = append(evicted, oldest)
	}
	if old, ok := h.parts.ReplaceOrInsert(it); ok {
		h.forget(old)
	}
	h.used += it.cost()
	h.order(it).push(aged{it.born.Sub(h.epoch), it})
	return evicted
}

// get returns the part, or nil if it is not kept.
func (h *history) get(id partID) *item {
	h.probe.id = id
	it, _ := h.parts.Get(&h.probe)
	return it
}

// has reports whether the part is kept.
func (h *history) has(id partID) bool { return h.get(id) != nil }

// ascend yields what is kept of the origin's parts from seq from to seq to,
// both included, in order of seq.
func (h *history) ascend(origin, from, to uint64) iter.Seq[*item] {
	return func(yield func(*item) bool) {
		first := &item{id: partID{origin, from}}
		h.parts.AscendGreaterOrEqual(first, func(it *item) bool {
			return it.id.origin == origin && it.id.seq <= to && yield(it)
		})
	}
}

// origins yields each origin of which anything is kept, ascending, in
// logarithmic time each.
func (h *history) origins() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		pivot := &item{}
		for {
			var first *item
			h.parts.AscendGreaterOrEqual(pivot, func(it *item) bool {
				first = it
				return false
			})
			if first == nil || !yield(first.id.origin) || first.id.origin == math.MaxUint64 {
				return
			}
			pivot.id = partID{origin: first.id.origin + 1}
		}
	}
}

// setHandled marks the item, which may have been evicted meanwhile, as handled:
// it goes before all unhandled ones when room is needed.
func (h *history) setHandled(it *item) {
	if it.handled {
		return
	}
	it.handled = true
	if it.place != 0 {
		h.done.push(h.due.remove(it))
	}
}

// expire drops and returns every part that is maxAge old or older.
func (h *history) expire(now time.Time) (evicted []*item) {
	limit := now.Add(-h.maxAge).Sub(h.epoch)
	for _, order := range [...]*ages{&h.done, &h.due} {
		for len(*order) > 0 && (*order)[0].born <= limit {
			oldest := (*order)[0].it
			h.drop(oldest)
			evicted = append(evicted, oldest)
		}
	}
	return evicted
}

// nextExpiry returns when expire will next find something; false if nothing is
// kept.
func (h *history) nextExpiry() (time.Time, bool) {
	var oldest aged
	for _, order := range [...]ages{h.done, h.due} {
		if len(order) > 0 && (oldest.it == nil || older(order[0], oldest)) {
			oldest = order[0]
		}
	}
	if oldest.it == nil {
		return time.Time{}, false
	}
	return oldest.it.born.Add(h.maxAge), true
}

// len returns the number of parts kept.
func (h *history) len() int { return h.parts.Len() }

// bytes returns what the parts kept count for, at most maxBytes.
func (h *history) bytes() int { return h.used }

// next returns what goes first when room is needed. Something must be kept.
func (h *history) next() *item {
	if len(h.done) > 0 {
		return h.done[0].it
	}
	return h.due[0].it
}

// order returns the heap that the item belongs to.
func (h *history) order(it *item) *ages {
	if it.handled {
		return &h.done
	}
	return &h.due
}

func (h *history) drop(it *item) {
	h.parts.Delete(it)
	h.forget(it)
}

// forget takes out of the books an item that is no longer in parts.
func (h *history) forget(it *item) {
	h.order(it).remove(it)
	h.used -= it.cost()
}
