package starling

import (
	"errors"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// What passes between the replica and the world: frames in, packets and streams out.

// receive takes a frame, from memberlist or past it.
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

// control acts on a control frame: on the goodbyes itself, the rest is the replica's.
func (c *Cluster) control(ctl control, frame []byte) {
	switch {
	case ctl.from.id == c.id:
	case ctl.body == bodyGoodbye:
		c.table.goodbye(ctl.from.id)
		c.answer(ctl.from, bodyGoodbyeAck, &starlingpb.GoodbyeAck{}, frame)
	case ctl.body == bodyGoodbyeAck:
		c.goodbyeHeard(ctl.from.id)
	default:
		c.mu.Lock()
		err := c.replica.control(ctl, time.Now())
		c.release()
		if err != nil {
			c.dropped(DropMalformed, err)
		}
	}
}

// answer sends a control frame back to whoever wrote one. To somebody who is not in view it is never larger than what it
// answers, so that nobody can make us shout at a third.
func (c *Cluster) answer(to sender, body protowire.Number, m proto.Message, question []byte) {
	frame := encodeControl(c.sender(), body, m)
	if len(frame) > len(question) && !c.table.knows(to.id) {
		return
	}
	if len(frame) > c.packetRoom {
		return
	}
	// By the courier: whoever reads packets must not wait for one to be written, or two of them wait for each other.
	c.mu.Lock()
	c.replica.post(packet{to: Member{Name: to.name, Addr: to.addr, ID: to.id}, head: frame})
	c.release()
}

// packet sends a frame to a member in one packet, best effort.
func (c *Cluster) packet(to Member, frame []byte) {
	if len(frame) <= c.packetRoom {
		c.packets([]packet{{to: to, head: frame}}, nil)
	}
}

// packets sends frames, best effort. They are put together in scratch, which is returned for the next ones.
func (c *Cluster) packets(ps []packet, scratch []byte) []byte {
	ml := c.memberlist()
	if ml == nil { // it is being made, and has called us already
		for range ps {
			c.dropped(DropPacketFailed, errNotMade)
		}
		return scratch
	}
	var err error
	for len(ps) > 0 {
		n := 1
		if c.fast {
			n = compound(ps, c.packetRoom)
			scratch, err = c.transport.post(ps[:n], scratch)
		} else {
			scratch = ps[0].append(scratch[:0]) // of which memberlist makes a copy
			err = ml.SendToAddress(memberlist.Address{Addr: ps[0].to.Addr.String(), Name: ps[0].to.Name}, scratch)
		}
		if err != nil {
			c.dropped(DropPacketFailed, err)
		}
		ps = ps[n:]
	}
	return scratch
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
	var spare []packet
	var scratch []byte
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
		c.replica.packets = spare[:0]
		c.release()
		scratch = c.packets(packets, scratch)
		clear(packets)
		spare = packets
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

// sendParcels writes parcels to their member in one stream. It runs on the member's lane.
func (c *Cluster) sendParcels(load []parcel) error {
	ml := c.memberlist()
	if ml == nil {
		return errNotMade
	}
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
	return ml.SendReliable(node, frame)
}

// errNotMade is what becomes of a stream that would leave before memberlist is there.
var errNotMade = errors.New("memberlist is being made")
