package starling

import (
	"context"
	"errors"
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

// sendStreams writes frames to their member in one stream, or gives up when ctx ends. It runs on the goroutine of their lane.
func (out *outlet) sendStreams(ctx context.Context, load []wire.Stream) error {
	ml := out.c.memberlist()
	if ml == nil {
		return errNotMade
	}
	to := load[0].To
	node := &memberlist.Node{Name: to.Name, Addr: to.Addr.Addr().AsSlice(), Port: to.Addr.Port()}
	alias, release, err := out.c.transport.Prepare(ctx, node.FullAddress())
	if err != nil {
		return err
	}
	defer release()
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
	return ml.SendReliable(node, frame)
}

// stream queues a frame that the replica wants sent by stream. The replica is told when it was written, if it wants to know.
func (out *outlet) stream(s wire.Stream) {
	done := out.streamSent
	if s.Written != nil {
		done = func(err error) {
			out.streamSent(err)
			out.c.do(func(_ *replica.Replica, now time.Time) { s.Written(err == nil, now) })
		}
	}
	out.streams.Put(s, done)
}

// streamSent counts a stream that was not sent. A member that is gone needs nothing.
func (out *outlet) streamSent(err error) {
	switch {
	case err == nil || errors.Is(err, errMemberGone):
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
