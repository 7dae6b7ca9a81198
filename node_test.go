package starling

import (
	"net/netip"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/script"
)

// node is one member without a network: a replica, driven as the cluster's courier drives it. Nothing else in the tests of
// whole scripts knows how a replica is spoken to.
type node struct {
	r        *replica
	drops    *dropCounters
	member   Member
	channels []*channel // as in script.Channels; nil: not open
}

// Sizes of a packet as memberlist fills it: MaxGossipPacketSize less the header of compound messages, in which each part
// costs the length of its own.
const (
	gossipOverhead = 2
	gossipRoom     = MaxGossipPacketSize - packetCompound + 2
)

func newNode(number int, id uint64, retention Retention, now time.Time) *node {
	n := &node{drops: new(dropCounters)}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), 7946)
	n.member = Member{Name: nodeName(number), Addr: addr, ID: id, Version: wireVersion}
	n.r = newReplica(sender{id, n.member.Name, addr}, limits{
		gossip:      MaxGossipPacketSize / 2,
		packet:      MaxGossipPacketSize - packetTypeByte - packetCRC - packetCompound,
		message:     1 << 20,
		retransmit:  4,
		retention:   retention,
		queue:       Queue{Messages: DefaultQueueMessages, Bytes: DefaultQueueBytes},
		gossipEvery: simGossip,
		linger:      DefaultLinger,
	}, n.drops)
	for _, c := range script.Channels {
		if !c.OpenOn(number) {
			n.channels = append(n.channels, nil)
			continue
		}
		ch := &channel{key: c.Key, stream: c.Stream}
		ch.inbox.limit = Inbox{Messages: DefaultInboxMessages, Bytes: DefaultInboxBytes}
		ch.order.enabled, ch.order.hold = c.FIFO, retention.Age
		n.channels = append(n.channels, ch)
		n.r.open(ch, now)
	}
	return n
}

func nodeName(number int) string { return "m" + string(rune('0'+number)) }

// broadcast accepts a message if there is room.
func (n *node) broadcast(channel int, data []byte, now time.Time) bool {
	ch := n.channels[channel]
	body := appendBody(make([]byte, 0, bodySize(ch.key, len(data))+identityRoom), ch.key, data)
	if !n.r.room.take(len(body)) {
		return false
	}
	n.r.broadcast(&outgoing{ch: ch, body: body, size: len(data)}, now)
	return true
}

// receive takes a frame, as Cluster.receive does. The frame is destroyed then, as on the fast path: nothing may point into it.
func (n *node) receive(frame []byte, now time.Time) error {
	frame = slices.Clone(frame)
	defer clear(frame)
	p, err := parsePart(frame)
	if err != nil {
		return err
	}
	if len(p.key) == 0 {
		ctl, err := parseControl(p.control)
		if err != nil {
			return err
		}
		return n.r.control(ctl, now)
	}
	via := Gossip
	if len(frame) > n.r.lim.gossip {
		via = Stream
	}
	n.r.receive(p, frame, via, now)
	return nil
}

// change follows the membership.
func (n *node) change(was, is Member, now time.Time) { n.r.change(was, is, now) }

// gossip returns what goes into one packet of memberlist's.
func (n *node) gossip(now time.Time) [][]byte { return n.r.gossip(gossipOverhead, gossipRoom, now) }

// tick does what is due, returns the gaps found, and says whether there is more to come.
func (n *node) tick(now time.Time) (gaps []lostRange, busy bool) {
	n.r.tick(now)
	n.r.active = n.r.busy()
	gaps, n.r.gaps = n.r.gaps, nil
	return gaps, n.r.active
}

// stirred reports whether a tick is due although the last one said that there was nothing more to come.
func (n *node) stirred() bool { return n.r.active }

// pump lets leave what may, and returns when it has something to do again.
func (n *node) pump(now time.Time) (next time.Time, again bool) { return n.r.pump(now) }

// outputs takes what is to be sent.
func (n *node) outputs() ([]packet, []parcel) {
	packets, streams := n.r.packets, n.r.streams
	packets = slices.DeleteFunc(packets, func(p packet) bool { return p.len() > n.r.lim.packet })
	n.r.packets, n.r.streams = nil, nil
	return packets, streams
}

// take returns what a channel's handler is to do next.
func (n *node) take(channel int) (delivery, bool) {
	if n.channels[channel] == nil {
		return delivery{}, false
	}
	return n.r.take(n.channels[channel])
}

// handled notes that a handler has returned.
func (n *node) handled(d delivery, now time.Time) { n.r.handled(d, now) }
