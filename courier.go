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
		if ctl.body != bodyBundle {
			c.control(ctl, frame)
			return
		}
		for frame := range bundled(ctl.content) {
			c.unbundle(frame)
		}
		return
	}
	via := Gossip
	if len(frame) > c.replica.lim.gossip {
		via = Stream // the size rule leaves no other way
	}
	c.mu.Lock()
	defer c.release()
	c.replica.receive(p, frame, via, time.Now())
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
	case bodyBatch:
		c.receiveBatch(ctl)
	case bodyDirectAck:
		serve(c, ctl, func(from Member, m *starlingpb.DirectAck) {
			if out, ok := c.replica.calls[from.ID]; ok {
				out.answer(m.GetId(), m.GetVerdict())
			}
		})
	case bodyDigest:
		serve(c, ctl, func(from Member, m *starlingpb.Digest) { c.replica.receiveDigest(from, m, time.Now()) })
	case bodyPull:
		serve(c, ctl, func(from Member, m *starlingpb.Pull) { c.replica.serve(from, m, time.Now()) })
	case bodyAsk:
		serve(c, ctl, func(from Member, m *starlingpb.BaselineAsk) { c.replica.tellBaseline(from, m.GetStream()) })
	case bodyBaseline:
		serve(c, ctl, func(from Member, m *starlingpb.Baseline) {
			c.replica.told(from.ID, m.GetNext(), m.GetTop(), time.Now())
		})
	case bodySpread:
		c.receiveSpread(ctl)
	case bodyReports:
		c.mu.Lock()
		defer c.release()
		if c.replica.knows(ctl.from.id) {
			for rep := range reportsIn(ctl.content) {
				c.replica.spread.report(ctl.from.id, rep, time.Now())
			}
		}
	case bodyHeldAsk:
		serve(c, ctl, func(from Member, m *starlingpb.HeldAsk) {
			c.replica.tell(from, bodyHeldAnswer, c.replica.fate(from.ID, m), false)
		})
	case bodyHeldAnswer:
		serve(c, ctl, func(from Member, m *starlingpb.HeldAnswer) { c.replica.fated(from, m) })
	case bodySyncAsk:
		serve(c, ctl, func(from Member, m *starlingpb.SyncAsk) { c.replica.askedForState(from, m) })
	case bodySync:
		serve(c, ctl, func(from Member, m *starlingpb.Sync) { c.replica.receiveSync(from.ID, m, time.Now()) })
	}
}

// body is what the message type *T of a control frame's body is.
type body[T any] interface {
	*T
	proto.Message
}

// serve decodes the body of a control frame from a member and acts on it under mu.
func serve[T any, M body[T]](c *Cluster, ctl control, act func(Member, M)) {
	m := M(new(T))
	if err := proto.Unmarshal(ctl.content, m); err != nil {
		c.dropped(DropMalformed, fmt.Errorf("%w: control body %d: %v", errMalformed, ctl.body, err))
		return
	}
	c.mu.Lock()
	defer c.release()
	from, ok := c.replica.peerByID(ctl.from.id)
	if !ok {
		c.drops.add(DropStranger)
		return
	}
	act(from, m)
}

func (c *Cluster) receiveDirect(ctl control, frame []byte) {
	serve(c, ctl, func(from Member, m *starlingpb.Direct) {
		if m.GetId() == 0 || m.GetKey() == "" {
			c.drops.add(DropMalformed)
			return
		}
		verdict := c.replica.direct(ctl.from, m, Direct, time.Now())
		c.replica.tell(from, bodyDirectAck, &starlingpb.DirectAck{Id: m.GetId(), Verdict: verdict}, false)
	})
}

// receiveBatch takes parts that travelled together. Each stands for itself.
func (c *Cluster) receiveBatch(ctl control) {
	for frame, via := range batchParts(ctl.content) {
		p, err := parsePart(frame)
		if err != nil || len(p.key) == 0 {
			c.dropped(DropMalformed, err)
			continue
		}
		c.mu.Lock()
		c.replica.receive(p, frame, via, time.Now())
		c.release()
	}
	id, lacks := batchEnd(ctl.content)
	if id == 0 {
		return
	}
	c.mu.Lock()
	defer c.release()
	if from, ok := c.replica.peerByID(ctl.from.id); ok {
		c.replica.pulled(from, id, lacks, time.Now())
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

// gossip gives memberlist what fits its next packet. memberlist forgets its checksum when it counts what is left.
func (c *Cluster) gossip(overhead, limit int) [][]byte {
	c.mu.Lock()
	defer c.release()
	return c.replica.gossip(overhead, limit-packetCRC, time.Now())
}

// release unlocks mu and sees to it that what the replica wants done is done. It may run under the locks of memberlist and
// of the table, so it calls neither.
func (c *Cluster) release() {
	r := c.replica
	streams := r.streams
	r.streams = nil
	send, wake := r.due(), r.active && c.asleep
	c.asleep = c.asleep && !wake
	c.mu.Unlock()
	if send {
		signal(c.posted)
	}
	if wake {
		signal(c.stirred)
	}
	for _, p := range streams {
		p.done = c.failed
		c.lanes.put(p)
	}
}

// signal leaves a token in a channel that holds one.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// courier lets leave what may and sends what the replica posts, until the cluster closes.
func (c *Cluster) courier() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-c.posted:
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		now := time.Now()
		c.mu.Lock()
		next, again := c.replica.pump(now)
		packets := c.replica.packets
		c.replica.packets = nil
		c.release()
		for _, p := range packets {
			c.packet(p.to, p.frame)
		}
		if again {
			timer.Reset(time.Until(next))
		}
	}
}

// tickEvery is how often the replica is ticked while it is busy.
const tickEvery = 25 * time.Millisecond

// mend ticks the replica while it is busy, and sleeps when it is not.
func (c *Cluster) mend() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.stirred:
			ticker.Reset(tickEvery)
		case <-c.ctx.Done():
			return
		}
		c.mu.Lock()
		c.replica.tick(time.Now())
		if c.replica.active = c.replica.busy(); !c.replica.active {
			c.asleep = true
			ticker.Stop()
		}
		gaps := c.replica.gaps
		c.replica.gaps = nil
		c.release()
		for _, g := range gaps {
			c.reportGap(g)
		}
	}
}

// reportGap tells that messages of an origin are lost to this member.
func (c *Cluster) reportGap(g lostRange) {
	origin := c.table.origin(g.origin)
	c.log.Warn("gap: messages are lost to this member", "origin", origin.Name, "id", g.origin, "first", g.lo, "last", g.hi)
	c.table.gap(Gap{Origin: origin, First: g.lo, Last: g.hi})
}

// failed counts a parcel that was not sent. Who is gone needs nothing.
func (c *Cluster) failed(err error) {
	if err != nil && !errors.Is(err, errMemberGone) {
		c.dropped(dropOf(err), err)
	}
}

// dropOf tells why a parcel was not sent.
func dropOf(err error) Drop {
	if errors.Is(err, errLaneFull) {
		return DropLaneFull
	}
	return DropStreamFailed
}

// dropped counts a drop, and logs the first of its kind.
func (c *Cluster) dropped(d Drop, err error) {
	if c.drops.add(d) {
		c.log.Warn("dropped; further ones are only counted", "reason", d.String(), "direction", d.Direction().String(), "error", err)
	}
}

// unbundle takes a frame of a bundle, which is a control frame but no bundle.
func (c *Cluster) unbundle(frame []byte) {
	p, err := parsePart(frame)
	if err == nil && len(p.key) > 0 {
		err = errMalformed
	}
	ctl := control{}
	if err == nil {
		ctl, err = parseControl(p.control)
	}
	if err != nil || ctl.body == bodyBundle {
		c.dropped(DropMalformed, err)
		return
	}
	c.control(ctl, frame)
}

func (c *Cluster) receiveSpread(ctl control) {
	f, err := parseSpread(ctl.content)
	if err != nil {
		c.dropped(DropMalformed, err)
		return
	}
	c.mu.Lock()
	defer c.release()
	from, ok := c.replica.peerByID(ctl.from.id)
	if !ok {
		c.drops.add(DropStranger)
		return
	}
	c.replica.receiveSpread(from, f, time.Now())
}

// sendParcels writes parcels to their member in one stream. It runs on the member's lane.
func (c *Cluster) sendParcels(load []parcel) error {
	to, now := load[0].to, time.Now()
	frame := load[0].frame(now)
	if len(load) > 1 {
		frames := [][]byte{frame}
		for _, p := range load[1:] {
			frames = append(frames, p.frame(now))
		}
		frame = encodeBundle(c.sender(), frames)
	}
	node := &memberlist.Node{Name: to.Name, Addr: to.Addr.Addr().AsSlice(), Port: to.Addr.Port()}
	return c.memberlist().SendReliable(node, frame)
}
