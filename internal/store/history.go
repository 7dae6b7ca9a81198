// Package store keeps recent parts: History finds them by origin and sequence number, and evicts the oldest when they are too
// many bytes or too old.
//
// A kept part serves three ends: it is sent on, it is given to members that lack it, and it waits there for this member's own
// handlers. What goes in is items; what comes out is the same items, and those that had to be evicted. The store does not
// know what is missing: that is package receipt.
//
// The package is pure: the time is always an argument, and there are no locks.
package store

import (
	"iter"
	"time"

	"github.com/starling-go/starling/internal/timeheap"
	"github.com/starling-go/starling/internal/wire"
)

// History is the parts that this member keeps, at most maxBytes of them, and none of age maxAge or more.
//
// It takes no lock: its owner serialises all calls, reads too. Nothing may change it while one of its iterators runs; Get is
// allowed there.
type History struct {
	maxBytes int
	maxAge   time.Duration

	parts shelf

	// The items in the order of their births, as distances from epoch. Two heaps, because handled items are evicted first.
	// Invariant: every item of parts is in exactly one of them: in done if it is handled, else in due.
	done, due timeheap.Heap[*Item]

	// Invariant: used == Σ (len(Frame) + ItemOverhead) <= maxBytes, always; now - Born < maxAge for every item after
	// Expire(now).
	used int

	epoch time.Time // when the first item was added
	first [1]*Item  // the array of what calls return, if that is one item, as it is nearly always
}

// New returns an empty history. It keeps at most maxBytes, where each part is charged its frame and ItemOverhead, and no part
// of age maxAge or more.
func New(maxBytes int, maxAge time.Duration) *History {
	// Items of one birth are evicted by id: otherwise the order would depend on how the heap was filled.
	order := timeheap.Heap[*Item]{
		Before: func(a, b *Item) bool { return a.ID.Less(b.ID) },
		Moved:  func(it *Item, place int) { it.place = place },
	}
	return &History{
		maxBytes: maxBytes,
		maxAge:   maxAge,
		done:     order,
		due:      order,
		parts:    newShelf(),
	}
}

// Add keeps the item, and returns what it evicted for that: first what is too old, then handled items, the oldest first, then
// unhandled ones, the oldest first. The caller must see to it that each unhandled one counts as missing again. What is returned is good until
// the next call.
//
// The caller adds only parts that are new. If the part is kept already, the new item takes the place of the old one. An item
// that is larger than the bound is returned as evicted, alone; callers should refuse such parts earlier.
func (h *History) Add(it *Item, now time.Time) (evicted []*Item) {
	if it.cost() > h.maxBytes {
		return append(h.first[:0], it)
	}
	if h.epoch.IsZero() {
		h.epoch = now
	}
	evicted = h.Expire(now)
	for h.used+it.cost() > h.maxBytes {
		oldest := h.evictable()
		h.drop(oldest)
		evicted = append(evicted, oldest)
	}
	if old := h.parts.put(it); old != nil {
		h.forget(old)
	}
	h.used += it.cost()
	h.order(it).Push(it.Born.Sub(h.epoch), it)
	return evicted
}

// Get returns the part, or nil if it is not kept.
func (h *History) Get(id wire.PartID) *Item { return h.parts.get(id) }

// Ascend yields what is kept of the origin's parts from seq from to seq to, both included, in ascending order.
func (h *History) Ascend(origin, from, to uint64) iter.Seq[*Item] {
	return h.parts.ascend(origin, from, to)
}

// Origins yields each origin of which anything is kept, ascending. Each takes logarithmic time, however many parts it has.
func (h *History) Origins() iter.Seq[uint64] { return h.parts.origins() }

// SetHandled marks the item as handled: from now on it is evicted before all unhandled ones. It may have been evicted already.
func (h *History) SetHandled(it *Item) {
	if it.Handled {
		return
	}
	it.Handled = true
	if it.Kept() {
		h.done.Push(h.due.Remove(it.place))
	}
}

// Expire evicts and returns every item of age maxAge or more: first the handled ones, then the others, the oldest first. What is returned is
// good until the next call.
func (h *History) Expire(now time.Time) (evicted []*Item) {
	evicted = h.first[:0]
	limit := now.Add(-h.maxAge).Sub(h.epoch)
	for _, order := range [...]*timeheap.Heap[*Item]{&h.done, &h.due} {
		for order.Len() > 0 {
			born, oldest := order.First()
			if born > limit {
				break
			}
			h.drop(oldest)
			evicted = append(evicted, oldest)
		}
	}
	return evicted
}

// Len returns the number of parts kept.
func (h *History) Len() int { return h.parts.len }

// Bytes returns what the parts kept are charged, at most maxBytes.
func (h *History) Bytes() int { return h.used }

// evictable returns the item that is evicted next when room is needed. Something must be kept.
func (h *History) evictable() *Item {
	first := &h.done
	if first.Len() == 0 {
		first = &h.due
	}
	_, it := first.First()
	return it
}

// order returns the heap that the item is in, or would be in if it were kept.
func (h *History) order(it *Item) *timeheap.Heap[*Item] {
	if it.Handled {
		return &h.done
	}
	return &h.due
}

// drop takes a kept item out.
func (h *History) drop(it *Item) {
	h.parts.remove(it)
	h.forget(it)
}

// forget takes an item that is no longer in parts out of its heap and out of used.
func (h *History) forget(it *Item) {
	h.order(it).Remove(it.place)
	h.used -= it.cost()
}
