package starling

import (
	"slices"
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

	slots int      // Invariant: messages ≤ slots
	used  int      // slots named so far
	free  []string // Invariant: len(free) + messages = used

	messages int
}

func newGossipQueue(slots, retransmitMult int, members func() int) *gossipQueue {
	q := &gossipQueue{slots: slots}
	q.queue.NumNodes = members
	q.queue.RetransmitMult = retransmitMult
	q.queue.QueueBroadcast(pin{})
	return q
}

// push queues a part by an entry that is not in use, unless every slot is taken.
func (q *gossipQueue) push(e *entry, frame []byte) bool {
	if q.messages >= q.slots {
		return false
	}
	*e = entry{q: q, slot: q.takeSlot(), frame: frame}
	q.messages++
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

// next returns parts, as they left, that fit into limit bytes at overhead bytes each. They are not to be written to.
func (q *gossipQueue) next(overhead, limit int) [][]byte {
	if q.messages == 0 {
		return nil
	}
	frames := q.queue.GetBroadcasts(overhead, min(limit, maxGossipFrame))
	return slices.DeleteFunc(frames, func(f []byte) bool { return len(f) == 0 })
}

// entry is one part in the queue. It implements memberlist.NamedBroadcast.
type entry struct {
	q     *gossipQueue
	slot  string
	frame []byte // the encoded part, as it left; nil: done
}

// done frees the entry's slot, whether or not it was transmitted often enough. Calling it twice does nothing.
func (e *entry) done() {
	if e.frame != nil {
		e.frame = nil
		e.q.messages--
		e.q.free = append(e.q.free, e.slot)
	}
}

// Finished is called by the queue after the last transmission, or when a new part takes the slot of one that is done.
func (e *entry) Finished() { e.done() }

func (e *entry) Name() string { return e.slot }

// Message returns the part as it left: memberlist relies on a length that never changes.
func (e *entry) Message() []byte { return e.frame }

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
