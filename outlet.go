package starling

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/transport"
	"github.com/starling-go/starling/internal/wire"
)

// outlet sends what leaves this member: in packets, in streams, and by memberlist's gossip.
type outlet struct {
	c          *Cluster
	packetRoom int  // how much of a user message fits a packet
	direct     bool // user messages pass memberlist by
	streams    *transport.StreamQueues
	posted     chan struct{} // holds a token when loop has something to do
	gossip     *gossipQueue  // the cluster's mu guards it
}

// newOutlet makes the outlet of a cluster whose memberlist is configured by conf.
func newOutlet(c *Cluster, conf *memberlist.Config) *outlet {
	out := &outlet{c: c, packetRoom: packetRoom(conf), direct: transport.FastPath(conf), posted: make(chan struct{}, 1)}
	out.streams = transport.NewStreamQueues(out.sendStreams, c.spawn)
	out.gossip = newGossipQueue(c.cfg.Queue.Messages, conf.RetransmitMult, out.members)
	return out
}

// members returns how many members there are, this one included.
func (out *outlet) members() int { return int(out.c.table.alive.Load()) }

// loop lets messages leave and sends what the replica posts, until the cluster closes.
func (out *outlet) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var packets, spare []wire.Packet
	var scratch []byte
	for {
		select {
		case <-out.posted:
		case <-timer.C:
		case <-out.c.ctx.Done():
			return
		}
		var next time.Time
		var again bool
		out.c.do(func(r *replica.Replica, now time.Time) {
			next, again = r.Sender.Pump(now)
			e := r.Effects()
			packets, e.Packets = e.Packets, spare[:0]
		})
		scratch = out.sendPackets(packets, scratch)
		clear(packets)
		spare = packets
		if again {
			timer.Reset(time.Until(next))
		}
	}
}

// sendPackets sends frames, best effort. They are put together in scratch, which is returned for the next ones.
func (out *outlet) sendPackets(ps []wire.Packet, scratch []byte) []byte {
	ml := out.c.memberlist()
	if ml == nil { // it is being made, and has called us already
		for range ps {
			out.c.drops.note(DropPacketFailed, errNotMade)
		}
		return scratch
	}
	var err error
	for len(ps) > 0 {
		n := 1
		if out.direct {
			n = transport.Compound(ps, out.packetRoom)
			scratch, err = out.c.transport.Post(ps[:n], scratch)
		} else {
			scratch = ps[0].Append(scratch[:0]) // of which memberlist makes a copy
			err = ml.SendToAddress(memberlist.Address{Addr: ps[0].To.Addr.String(), Name: ps[0].To.Name}, scratch)
		}
		if err != nil {
			out.c.drops.note(DropPacketFailed, err)
		}
		ps = ps[n:]
	}
	return scratch
}

// packet sends a frame to a member in one packet, best effort.
func (out *outlet) packet(to wire.Peer, frame []byte) {
	if len(frame) <= out.packetRoom {
		out.sendPackets([]wire.Packet{{To: to, Head: frame}}, nil)
	}
}

// errNotMade is what becomes of a frame that would leave before memberlist is there.
var errNotMade = errors.New("memberlist is being made")

// sendStreams writes frames to their member in one stream, or gives up when ctx ends. It runs on the goroutine of their lane. read is closed when
// the member has read them, or never will; nil: it does not tell.
func (out *outlet) sendStreams(ctx context.Context, load []wire.Stream, moved func()) (read <-chan struct{}, err error) {
	ml := out.c.memberlist()
	if ml == nil {
		return nil, errNotMade
	}
	to := load[0].To
	node := &memberlist.Node{Name: to.Name, Addr: to.Addr.Addr().AsSlice(), Port: to.Addr.Port()}
	alias, release, err := out.prepare(ctx, to.Features, node.FullAddress(), func() {
		moved()
		out.c.do(func(_ *replica.Replica, now time.Time) {
			for _, s := range load {
				if s.Moved != nil {
					s.Moved(now)
				}
			}
		})
	})
	if err != nil {
		return nil, err
	}
	node.Name = alias
	now := time.Now() // after the dial, for frames carry their age
	frame := load[0].Encode(now)
	if len(load) > 1 {
		frames := [][]byte{frame}
		for _, s := range load[1:] {
			frames = append(frames, s.Encode(now))
		}
		frame = wire.EncodeBundle(out.c.sender(), frames)
	}
	err = ml.SendReliable(node, frame)
	return release(), err
}

// prepare opens a stream as a member with these features takes it. moved is called when the member says that it has read more of it.
func (out *outlet) prepare(
	ctx context.Context, features wire.Features, a memberlist.Address, moved func(),
) (alias string, release func() <-chan struct{}, err error) {
	if !features.Has(wire.FeatureKept) { // or nobody knows yet
		alias, release, err := out.c.transport.Prepare(ctx, a, 0)
		return alias, func() <-chan struct{} { release(); return nil }, err
	}
	if !features.Has(wire.FeatureReads) {
		moved = nil
	}
	return out.c.transport.Kept.Prepare(ctx, a, moved)
}

// stream queues a frame that the replica wants sent by stream. The replica is told when it was written, if it wants to know.
func (out *outlet) stream(s wire.Stream) {
	done := func(err error) { out.streamSent(s.To, err) }
	if s.Written != nil {
		done = func(err error) {
			out.streamSent(s.To, err)
			out.c.do(func(_ *replica.Replica, now time.Time) { s.Written(err == nil, now) })
		}
	}
	out.streams.Put(s, done)
}

// streamSent counts a stream that was not sent. A member that is gone, or has said that it goes, needs nothing.
func (out *outlet) streamSent(to wire.Peer, err error) {
	switch {
	case err == nil || errors.Is(err, errMemberGone) || out.c.table.leaves(to.ID):
	case errors.Is(err, transport.ErrStreamQueueFull):
		out.c.drops.note(DropStreamQueueFull, err)
	default:
		out.c.drops.note(DropStreamFailed, err)
	}
}

// gossipFrames gives memberlist what fits its next packet. memberlist forgets its checksum when it counts what is left.
func (out *outlet) gossipFrames(overhead, limit int) (frames [][]byte) {
	out.c.do(func(r *replica.Replica, now time.Time) {
		frames = out.gossip.next(overhead, limit-packetCRC)
		for i, frame := range frames {
			frames[i] = r.Restamp(frame, now)
		}
	})
	return frames
}

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
