package starling

import (
	"slices"
	"time"
)

// Inbox bounds what waits for a channel's handler without being kept in history: messages sent to this member alone, and
// those of foreign members. Beyond it the former are refused, so that their senders try again, and the latter are dropped
// and counted. Everything else waits in history, and is bounded by Retention alone.
type Inbox struct {
	Messages int // default 1024
	Bytes    int // default 16 MiB
}

// Defaults of an Inbox.
const (
	DefaultInboxMessages = 1024
	DefaultInboxBytes    = 16 << 20
)

// delivery is one message on its way to a handler.
type delivery struct {
	item   *item  // where it is kept; nil: it is kept nowhere but here
	data   []byte // immutable
	origin uint64 // 0: unknown
	seq    uint64
	born   time.Time
	via    Via
}

// inbox is what waits for a channel's handler, in order. Its owner locks.
type inbox struct {
	limit Inbox

	waiting  []delivery // waiting[head:]
	head     int
	messages int // Invariant: the deliveries without an item; ≤ limit.Messages, but for those forced in
	bytes    int // Invariant: Σ len(data) of those; ≤ limit.Bytes likewise
	evicted  int // parts that history let go since the inbox was last compacted; most of them wait here
}

// push appends a delivery. It is refused only if it is kept nowhere else and the bound is reached.
func (b *inbox) push(d delivery) bool {
	if d.item == nil && (b.messages >= b.limit.Messages || b.bytes+len(d.data) > b.limit.Bytes) {
		return false
	}
	b.force(d)
	return true
}

// force appends a delivery, full or not: it is bounded elsewhere.
func (b *inbox) force(d delivery) {
	if d.item == nil {
		b.messages++
		b.bytes += len(d.data)
	}
	if b.head > 0 && len(b.waiting) == cap(b.waiting) {
		n := copy(b.waiting, b.waiting[b.head:])
		clear(b.waiting[n:])
		b.waiting, b.head = b.waiting[:n], 0
	}
	b.waiting = append(b.waiting, d)
}

// pop takes the delivery that has waited longest.
func (b *inbox) pop() (delivery, bool) {
	if b.head == len(b.waiting) {
		b.waiting, b.head = b.waiting[:0], 0
		return delivery{}, false
	}
	d := b.waiting[b.head]
	b.waiting[b.head] = delivery{}
	b.head++
	if d.item == nil {
		b.messages--
		b.bytes -= len(d.data)
	}
	return d, true
}

// inboxSlack is how many parts that history let go may wait here, or half of all that wait if that is more.
const inboxSlack = 64

// evict notes that history let go of a part that nobody has handled. Its place here must not keep it: a handler that hangs would
// hold all that ever came.
func (b *inbox) evict() {
	if b.evicted++; b.evicted <= max(inboxSlack, b.len()/2) {
		return
	}
	b.evicted = 0
	b.waiting = slices.DeleteFunc(b.waiting[b.head:], func(d delivery) bool { return d.item != nil && !d.item.kept() })
	b.head = 0
}

func (b *inbox) len() int { return len(b.waiting) - b.head }
