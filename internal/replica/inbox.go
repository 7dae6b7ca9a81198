package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// InboxLimits bounds what waits for a channel's handler and is kept nowhere else.
type InboxLimits struct{ Messages, Bytes int }

// Delivery is one message on its way to a handler.
type Delivery struct {
	Item   *store.Item   // where it is kept, its last part if it has several; nil: it is kept nowhere but here
	Parts  []*store.Item // all parts, if it has several
	Data   []byte        // immutable; nil if it has several parts or pieces: see Payload
	Origin uint64        // 0: unknown
	Seq    uint64
	Born   time.Time
	direct *starlingpb.Direct // the message by Send that it is; nil: it is none
	pieces [][]byte           // of a message by Send that came in pieces, in order
	size   int                // Σ their bytes
	Route  wire.Route
	state  bool // an item of a state of another member
}

// deliveryOf is a kept part on its way to its handler.
func deliveryOf(it *store.Item) Delivery {
	return Delivery{Item: it, Data: it.Data, Origin: it.ID.Origin, Seq: it.ID.Seq, Born: it.Born, Route: it.Route}
}

// assembled is a message of several kept parts on its way to its handler.
func assembled(parts []*store.Item) Delivery {
	d := deliveryOf(parts[len(parts)-1])
	d.Parts, d.Data = parts, nil
	return d
}

// Payload returns the data. That of a message in several parts or pieces is put together anew at each call: it needs no lock of the
// replica's owner.
func (d *Delivery) Payload() []byte {
	if d.pieces != nil {
		return slices.Concat(d.pieces...)
	}
	if d.Parts == nil {
		return d.Data
	}
	data := make([]byte, 0, d.Item.Chunk.Total)
	for _, it := range d.Parts {
		data = append(data, it.Data...)
	}
	return data
}

// unkept is how many bytes it takes that are kept nowhere else.
func (d *Delivery) unkept() int { return len(d.Data) + d.size }

// Trace returns the context of the trace that the message belongs to; nil: none. Nobody may write to it. It needs no lock, as Payload.
func (d *Delivery) Trace() []byte {
	switch {
	case d.direct != nil:
		return d.direct.GetTraceContext()
	case d.Parts != nil:
		return d.Parts[0].Trace()
	case d.Item != nil:
		return d.Item.Trace()
	}
	return nil
}

// items returns where the message is kept.
func (d *Delivery) items() []*store.Item {
	switch {
	case d.Item == nil:
		return nil
	case d.Parts == nil:
		return []*store.Item{d.Item}
	}
	return d.Parts
}

// kept reports whether history has not let go of any of it.
func (d *Delivery) kept() bool {
	if d.Parts == nil {
		return d.Item == nil || d.Item.Kept()
	}
	return !slices.ContainsFunc(d.Parts, func(it *store.Item) bool { return !it.Kept() })
}

// inbox is what waits for a channel's handler, in order.
type inbox struct {
	limit InboxLimits

	waiting  []Delivery // waiting[head:]
	head     int
	messages int // Invariant: the deliveries without an item; ≤ limit.Messages, but for those forced in
	bytes    int // Invariant: Σ unkept() of those; ≤ limit.Bytes likewise, or messages = 1
	evicted  int // parts that history let go since the inbox was last compacted; most of them wait here
}

// push appends a delivery. It is refused only if it is kept nowhere else and the bound is reached. One alone may be larger than the bound:
// it would never come otherwise.
func (b *inbox) push(d Delivery) bool {
	if d.Item == nil && b.messages > 0 && (b.messages >= b.limit.Messages || b.bytes+d.unkept() > b.limit.Bytes) {
		return false
	}
	b.force(d)
	return true
}

// force appends a delivery, full or not: it is bounded elsewhere.
func (b *inbox) force(d Delivery) {
	if d.Item == nil {
		b.messages++
		b.bytes += d.unkept()
	}
	if b.head > 0 && len(b.waiting) == cap(b.waiting) {
		n := copy(b.waiting, b.waiting[b.head:])
		clear(b.waiting[n:])
		b.waiting, b.head = b.waiting[:n], 0
	}
	b.waiting = append(b.waiting, d)
}

// putBack puts deliveries that were taken, and that are kept in history, before all that waits.
func (b *inbox) putBack(ds []Delivery) {
	b.waiting, b.head = slices.Concat(ds, b.waiting[b.head:]), 0
}

// pop takes the delivery that has waited longest. A part that was evicted before its turn is passed over: it is missing again,
// and may come back. A message of several parts of which some were evicted is not: the others are still here.
func (b *inbox) pop() (Delivery, bool) {
	for b.head < len(b.waiting) {
		d := b.waiting[b.head]
		b.waiting[b.head] = Delivery{}
		b.head++
		if d.Item == nil {
			b.messages--
			b.bytes -= d.unkept()
			return d, true
		}
		if d.Parts != nil || d.Item.Kept() {
			return d, true
		}
	}
	b.waiting, b.head = b.waiting[:0], 0
	return Delivery{}, false
}

// drain takes all deliveries, those of evicted parts too.
func (b *inbox) drain() []Delivery {
	all := b.waiting[b.head:]
	*b = inbox{limit: b.limit}
	return all
}

// inboxSlack is how many parts that history let go may wait here, or half of all that wait if that is more. So compacting costs
// less than two moves for each part that is evicted.
const inboxSlack = 64

// evict notes that history let go of a part that nobody has handled. Its place here must not keep it: a handler that hangs would
// hold all that ever came. It returns the messages of several parts that had to go: some of their parts may be kept still.
func (b *inbox) evict() (broken []Delivery) {
	if b.evicted++; b.evicted <= max(inboxSlack, b.len()/2) {
		return nil
	}
	b.evicted = 0
	b.waiting = slices.DeleteFunc(b.waiting[b.head:], func(d Delivery) bool {
		if d.kept() {
			return false
		}
		if d.Parts != nil {
			broken = append(broken, d)
		}
		return true
	})
	b.head = 0
	return broken
}

// kept returns how many deliveries there are but for the evicted ones.
func (b *inbox) kept() (n int) {
	for _, d := range b.waiting[b.head:] {
		if d.kept() {
			n++
		}
	}
	return n
}

func (b *inbox) len() int { return len(b.waiting) - b.head }
