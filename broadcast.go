package starling

import (
	"strconv"

	"github.com/hashicorp/memberlist"
)

// maxQueueMessages bounds the slots of a gossip queue.
const maxQueueMessages = 1 << 16

// maxGossipFrame is the most bytes that memberlist may ask a queue for: its compound messages carry 16-bit lengths.
const maxGossipFrame = 1<<16 - 1

// gossipQueue hands parts to memberlist, a few transmissions each, on its gossip ticks and probes. It is memberlist's
// TransmitLimitedQueue with its traps closed:
//
//   - The queue restarts its ids when it runs empty, and then overwrites a part by a later one of the same length. A pin
//     that fits no packet lies in it for ever, so it never runs empty.
//   - The queue cannot remove. Each part travels under the name of a slot, and a part that is done yields nothing; the
//     next part in its slot replaces it.
//   - The queue is unbounded. A push beyond the slots is refused.
//   - A part that fits no packet would stay for ever: the size rule keeps it out (oversize.go).
//
// Nothing in it locks: its owner does.
type gossipQueue struct {
	queue memberlist.TransmitLimitedQueue
	// finished is told of each part that was transmitted often enough.
	finished func(*item)

	slots int      // Invariant: messages ≤ slots
	used  int      // slots named so far
	free  []string // Invariant: len(free) + messages = used

	messages int
	bytes    int // Invariant: Σ len(frame) of the messages
}

func newGossipQueue(slots, retransmitMult int, members func() int, finished func(*item)) *gossipQueue {
	q := &gossipQueue{slots: slots, finished: finished}
	q.queue.NumNodes = members
	q.queue.RetransmitMult = retransmitMult
	q.queue.QueueBroadcast(pin{})
	return q
}

// full reports whether a push would be refused.
func (q *gossipQueue) full() bool { return q.messages >= q.slots }

// push queues a part by an entry that is not in use, unless every slot is taken.
func (q *gossipQueue) push(e *entry, it *item) bool {
	if q.full() {
		return false
	}
	*e = entry{q: q, slot: q.takeSlot(), item: it}
	q.messages++
	q.bytes += len(it.frame)
	q.queue.QueueBroadcast(e)
	return true
}

// clear finishes all that is queued.
func (q *gossipQueue) clear() {
	q.queue.Reset()
	q.queue.QueueBroadcast(pin{})
}

func (q *gossipQueue) takeSlot() string {
	if n := len(q.free); n > 0 {
		slot := q.free[n-1]
		q.free = q.free[:n-1]
		return slot
	}
	q.used++
	return strconv.Itoa(q.used)
}

// next returns frames that fit into limit bytes at overhead bytes each. They belong to the queue: copy them.
func (q *gossipQueue) next(overhead, limit int) [][]byte {
	if q.messages == 0 {
		return nil
	}
	return q.queue.GetBroadcasts(overhead, min(limit, maxGossipFrame))
}

// entry is one part in the queue. It implements memberlist.NamedBroadcast.
type entry struct {
	q    *gossipQueue
	slot string
	item *item // nil: done
}

// done frees the entry's slot, whether or not it was transmitted often enough. Calling it twice does nothing.
func (e *entry) done() *item {
	it := e.item
	if it == nil {
		return nil
	}
	e.item = nil
	e.q.messages--
	e.q.bytes -= len(it.frame)
	e.q.free = append(e.q.free, e.slot)
	return it
}

// Finished is called by the queue after the last transmission, or when a new part takes the slot of one that is done.
func (e *entry) Finished() {
	if it := e.done(); it != nil {
		e.q.finished(it)
	}
}

func (e *entry) Name() string { return e.slot }

func (e *entry) Message() []byte {
	if e.item == nil {
		return nil
	}
	return e.item.frame
}

func (e *entry) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*entry)
	return ok && o.slot == e.slot
}

// pin is the broadcast that never fits. One array serves every queue: nobody reads it, its length is all that counts.
type pin struct{}

var pinMessage [maxGossipFrame + 1]byte

func (pin) Message() []byte                       { return pinMessage[:] }
func (pin) Finished()                             {}
func (pin) Invalidates(memberlist.Broadcast) bool { return false }
func (pin) UniqueBroadcast()                      {}
