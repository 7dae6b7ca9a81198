package starling

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// What passes between memberlist and the replica: frames in, packets and streams out.

// receive takes a frame from memberlist.
func (c *Cluster) receive(frame []byte) {
	p, err := parsePart(frame)
	if err != nil {
		c.dropped(DropMalformed, err)
		return
	}
	if len(p.key) == 0 {
		ctl, err := parseControl(p.control)
		if err != nil {
			c.dropped(DropMalformed, err)
			return
		}
		c.control(ctl, frame)
		return
	}
	via := Gossip
	if len(frame) > c.replica.lim.gossip {
		via = Stream // the size rule leaves no other way
	}
	c.mu.Lock()
	c.replica.receive(p, frame, via, time.Now())
	c.mu.Unlock()
}

// control acts on a control frame. Bodies of a later version are ignored.
func (c *Cluster) control(ctl control, frame []byte) {
	if ctl.from.id == c.id {
		return
	}
	switch ctl.body {
	case bodyGoodbye:
		c.table.goodbye(ctl.from.id)
		c.answer(ctl.from, bodyGoodbyeAck, &starlingpb.GoodbyeAck{}, frame)
	case bodyGoodbyeAck:
		c.goodbyeHeard(ctl.from.id)
	case bodyDirect:
		c.receiveDirect(ctl, frame)
	case bodyDirectAck:
		var ack starlingpb.DirectAck
		if err := proto.Unmarshal(ctl.content, &ack); err != nil {
			c.dropped(DropMalformed, err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if out, ok := c.replica.calls[ctl.from.id]; ok {
			out.answer(ack.GetId(), ack.GetVerdict())
		}
	case bodyBatch:
		c.receiveBatch(ctl)
	}
}

func (c *Cluster) receiveDirect(ctl control, frame []byte) {
	var m starlingpb.Direct
	if err := proto.Unmarshal(ctl.content, &m); err != nil || m.GetId() == 0 || m.GetKey() == "" {
		c.dropped(DropMalformed, fmt.Errorf("%w: direct message: %v", errMalformed, err))
		return
	}
	if !c.table.knows(ctl.from.id) {
		c.dropped(DropStranger, nil)
		return
	}
	c.mu.Lock()
	verdict := c.replica.direct(ctl.from, &m, Direct, time.Now())
	c.mu.Unlock()
	c.answer(ctl.from, bodyDirectAck, &starlingpb.DirectAck{Id: m.GetId(), Verdict: verdict}, frame)
}

func (c *Cluster) receiveBatch(ctl control) {
	for frame, via := range batchParts(ctl.content) {
		p, err := parsePart(frame)
		if err != nil || len(p.key) == 0 {
			c.dropped(DropMalformed, err)
			continue
		}
		c.mu.Lock()
		c.replica.receive(p, frame, via, time.Now())
		c.mu.Unlock()
	}
}

// answer sends a control frame back to whoever wrote one. To somebody who is not in view it is never larger than what it
// answers, so that nobody can make us shout at a third.
func (c *Cluster) answer(to sender, body protowire.Number, m proto.Message, question []byte) {
	frame := encodeControl(c.sender(), body, m)
	if len(frame) > len(question) && !c.table.knows(to.id) {
		return
	}
	c.packet(Member{Name: to.name, Addr: to.addr}, frame)
}

// packet sends a frame to a member in one packet, best effort.
func (c *Cluster) packet(to Member, frame []byte) {
	ml := c.memberlist()
	if ml == nil || len(frame) > c.packetRoom {
		return
	}
	if err := ml.SendToAddress(memberlist.Address{Addr: to.Addr.String(), Name: to.Name}, frame); err != nil {
		c.dropped(DropPacketFailed, err)
	}
}

// sendParcel writes a parcel to its member by stream. It runs on the member's lane.
func (c *Cluster) sendParcel(p parcel) error {
	frame := p.raw
	if p.item != nil {
		plain := appendRestamped(make([]byte, 0, len(p.item.frame)), p.item.frame, time.Since(p.item.born))
		if frame = plain; !p.to.Foreign() {
			frame = encodeBatch(c.sender(), batchVia(p.via), plain)
		}
	}
	node := &memberlist.Node{Name: p.to.Name, Addr: p.to.Addr.Addr().AsSlice(), Port: p.to.Addr.Port()}
	return c.memberlist().SendReliable(node, frame)
}

func batchVia(v Via) starlingpb.Batch_Via {
	switch v {
	case Stream:
		return starlingpb.Batch_STREAM
	case Repair:
		return starlingpb.Batch_REPAIR
	}
	return starlingpb.Batch_GOSSIP
}

// gossip gives memberlist what fits its next packet.
func (c *Cluster) gossip(overhead, limit int) [][]byte {
	c.mu.Lock()
	frames := c.replica.gossip(overhead, limit, time.Now())
	effects := c.replica.effects()
	c.mu.Unlock()
	c.carryOut(effects)
	return frames
}

// carryOut does what the replica wants done.
func (c *Cluster) carryOut(effects []parcel) {
	for _, p := range effects {
		it := p.item
		p.done = func(err error) { c.landed(it, err) }
		c.lanes.put(p)
	}
}

func (c *Cluster) landed(it *item, err error) {
	switch {
	case err == nil, errors.Is(err, errMemberGone):
		err = nil // who is gone needs nothing
	case errors.Is(err, errLaneFull):
		c.dropped(DropLaneFull, err)
	default:
		c.dropped(DropStreamFailed, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if it.flight != nil {
		c.replica.landed(it, err == nil)
	}
}

// dropped counts a drop, and logs the first of its kind.
func (c *Cluster) dropped(d Drop, err error) {
	if c.drops.add(d) {
		c.log.Warn("dropped; further ones are only counted", "reason", d.String(), "direction", d.Direction().String(), "error", err)
	}
}

func (c *Cluster) localState(join bool) []byte        { return nil }
func (c *Cluster) mergeState(state []byte, join bool) {}
