package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Channel is what the protocol knows of an open channel: its key, what waits for its handler and in which order, and its
// counters. Set the exported fields before Replica.Open and do not write to them after.
type Channel struct {
	Key      string
	Owner    any           // whatever the replica's owner keeps with it
	Echo     bool          // own messages go to the own handler too
	Stream   bool          // messages of every size go by stream
	State    bool          // it has a snapshot, and gets those of others
	Whole    bool          // that is one item, of any size
	Type     string        // what its messages are; empty: that is not told. See starlingpb.ChannelType
	FIFO     bool          // the messages of one member are handed on in their order
	FIFOHold time.Duration // how long a hole may hold back what follows it
	Inbox    InboxLimits

	Counters ChannelCounters // to be read

	woken    bool // it is among the effects, to be woken
	closed   bool
	watched  bool // somebody wants to know how far its large messages have come
	inbox    inbox
	fifo     fifo
	assembly assembly
	refused  refused
	untyped  []Delivery // from members of which it is not known yet what their channel carries
	sync     syncState

	snapshots   []SnapshotRequest // who asks for the state; at most maxSnapshotRequests
	offers      map[uint64]*offer // states on their way, by the member that gets them; at most maxSnapshotRequests × maxGifts
	last        uint64            // seq of our own last part
	accepted    uint64            // own messages accepted, which numbers them
	outstanding int               // of those, how many are not done
	waiting     [laneKinds]int    // of those, how many wait in the outbox, by lane
}

// ChannelCounters count what happened on a channel.
type ChannelCounters struct {
	Accepted   uint64
	Sent       uint64
	Superseded uint64
	Received   uint64
	Duplicates uint64
	Delivered  uint64
	Drops      Drops
}

// Accepted returns how many own messages were accepted, and how many of them are not done yet.
func (ch *Channel) Accepted() (number uint64, outstanding int) { return ch.accepted, ch.outstanding }

// Waiting returns how many messages wait for the handler, and how many for something else: their turn, the first state, or
// word of what their senders' channels carry.
func (ch *Channel) Waiting() (inbox, deferred int) {
	return ch.inbox.len(), len(ch.untyped) + len(ch.sync.deferred) + ch.fifo.waiting()
}

// Unhandled is Waiting without the messages that are lost to the handler, because history let go of them before it came to them. It
// takes as long as there are messages.
func (ch *Channel) Unhandled() (inbox, deferred int) {
	return ch.inbox.kept(), len(ch.untyped) + len(ch.sync.deferred) + ch.fifo.waiting()
}

// Differing returns how many members have a state that is not known to be equal to ours.
func (ch *Channel) Differing() int {
	n := len(ch.sync.differ)
	for id := range ch.sync.awaiting.members {
		if !ch.sync.differ[id] {
			n++
		}
	}
	return n
}

// Asked reports whether members ask for the state.
func (ch *Channel) Asked() bool { return len(ch.snapshots) > 0 }

// Closed reports whether the channel was closed.
func (ch *Channel) Closed() bool { return ch.closed }

// SnapshotRequest is the question of a member for the channel's state.
type SnapshotRequest struct {
	From wire.Peer
	ID   uint64
}

// maxSnapshotRequests bounds the questions that wait for one channel.
const maxSnapshotRequests = 64

// request notes a question for the channel's state, if it has any.
func (ch *Channel) request(s SnapshotRequest) bool {
	if !ch.State {
		return false
	}
	if at := slices.IndexFunc(ch.snapshots, func(o SnapshotRequest) bool { return o.From.ID == s.From.ID }); at >= 0 {
		ch.snapshots[at] = s // its last question is the one it waits for
		return true
	}
	if len(ch.snapshots) >= maxSnapshotRequests {
		return false
	}
	ch.snapshots = append(ch.snapshots, s)
	return true
}

// evict notes that history let go of a part that no handler has had.
func (ch *Channel) evict(it *store.Item) {
	ch.fifo.evict(it)
	ch.assembly.evict(it)
	for _, d := range ch.inbox.evict() {
		ch.reassemble(d)
	}
}

// reassemble lets the parts of a message that are still kept wait for those that history let go of, and that have to come again. If these
// have come already, the message waits for the handler anew.
func (ch *Channel) reassemble(d Delivery) {
	for _, it := range d.Parts {
		if !it.Kept() {
			continue
		}
		if parts := ch.assembly.add(it); parts != nil {
			ch.inbox.force(assembled(parts))
		}
	}
}

// drain empties a channel that closes, and returns the parts that wait for its handler, or waited when history let them go.
func (ch *Channel) drain() (items []*store.Item) {
	ch.closed, ch.snapshots = true, nil
	waiting := slices.Concat(ch.sync.deferred, ch.untyped, ch.inbox.drain())
	ch.sync.deferred, ch.untyped = nil, nil
	for _, d := range waiting {
		items = append(items, d.items()...)
	}
	items = append(items, ch.assembly.drain()...)
	for _, s := range ch.fifo.streams {
		items = append(items, s.waiting...)
	}
	return items
}

// duplicate counts a part that was here before. ch may be nil.
func (ch *Channel) duplicate() {
	if ch != nil {
		ch.Counters.Duplicates++
	}
}
