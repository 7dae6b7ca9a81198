package replica

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/internal/wiretest"
)

// node is one member without a network: a replica, driven as its cluster drives it. Nothing else in the tests of whole scripts
// knows how a replica is spoken to.
type node struct {
	r        *Replica
	lim      Limits
	member   wire.Peer
	channels []*Channel // as in script.Channels; nil: not open
	queue    gossipQueue
	later    *rand.Rand // not nil: what it receives is as of a later version
}

// Sizes of a packet as memberlist fills it: 1400 bytes less the header of compound messages, in which each part costs the length
// of its own.
const (
	packetSize     = 1400
	gossipOverhead = 2
	gossipRoom     = packetSize - 4 + 2
)

// bounds is how much a node keeps, and how long, and the largest message that it takes: 0 for 1 MiB.
type bounds struct {
	bytes   int
	age     time.Duration
	message int
}

func newNode(number int, id uint64, keep bounds, now time.Time) *node {
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), 7946)
	n := &node{
		member: wire.Peer{Name: nodeName(number), Addr: addr, ID: id, Features: wire.OwnFeatures},
		lim: Limits{
			Gossip: packetSize / 2, Packet: packetSize - 10, Message: cmp.Or(keep.message, 1<<20),
			GossipEvery: simGossip, Linger: time.Millisecond,
			Bytes: keep.bytes, Age: keep.age,
			QueueMessages: 4096, QueueBytes: 16 << 20,
		},
	}
	n.r = New(n.member, n.lim)
	n.r.Membership.Joined(true, now) // of a membership of its own
	for _, c := range script.Channels {
		if !c.OpenOn(number) {
			n.channels = append(n.channels, nil)
			continue
		}
		ch := &Channel{Key: c.Key, Stream: c.Stream, FIFO: c.FIFO, State: c.State, FIFOHold: keep.age, Inbox: testInbox}
		n.channels = append(n.channels, ch)
		n.r.Open(ch, now)
	}
	return n
}

func nodeName(number int) string { return "m" + strconv.Itoa(number) }

// broadcast accepts a message if there is room.
func (n *node) broadcast(channel int, name string, data []byte, now time.Time) (m, superseded *Message, ok bool) {
	defer n.carryOut()
	return sayAt(n.r, n.channels[channel], name, data, now)
}

// receive takes a frame, as a cluster does. The frame is destroyed then, as on the fast path: nothing may point into it.
func (n *node) receive(frame []byte, now time.Time) error {
	frame = slices.Clone(frame)
	if n.later != nil {
		frame = wiretest.Later(n.later, frame)
	}
	defer clear(frame)
	defer n.carryOut()
	p, err := wire.ParsePart(frame)
	if err != nil {
		return err
	}
	if len(p.Key) == 0 {
		c, err := wire.ParseControl(p.Control)
		if err != nil {
			return err
		}
		return n.r.Control(c, now)
	}
	via := wire.RouteGossip
	if len(frame) > n.lim.Gossip {
		via = wire.RouteStream
	}
	n.r.Receive(p, frame, via, now)
	return nil
}

// change follows the membership.
func (n *node) change(was, is wire.Peer, now time.Time) {
	n.r.Change(was, is, now)
	n.carryOut()
}

// join asks all members from where on they owe it their parts, as one does that joins.
func (n *node) join(now time.Time) {
	n.r.Membership.Join(nil, now)
	n.carryOut()
}

// gossip returns what goes into one packet of memberlist's.
func (n *node) gossip(now time.Time) [][]byte {
	frames := n.queue.next(gossipOverhead, gossipRoom, n.r.roster.count()+1)
	for i, frame := range frames {
		frames[i] = n.r.Restamp(frame, now)
	}
	return frames
}

// tick does what is due, returns the gaps found, and says whether there is more to come.
func (n *node) tick(now time.Time) (gaps []Gap, busy bool) {
	n.r.Tick(now)
	e := n.r.Effects()
	gaps, e.Gaps = e.Gaps, nil
	n.carryOut()
	return gaps, e.Stirred
}

// stirred reports whether a tick is due although the last one said that there was nothing more to come.
func (n *node) stirred() bool { return n.r.Effects().Stirred }

// pump lets leave what may, and returns when it has something to do again.
func (n *node) pump(now time.Time) (next time.Time, again bool) {
	next, again = n.r.Sender.Pump(now)
	n.carryOut()
	return next, again
}

// carryOut does what is to be done beside sending: it keeps the queue of memberlist's gossip.
func (n *node) carryOut() {
	e := n.r.Effects()
	for _, m := range e.Queue {
		n.queue.push(m)
	}
	if e.Unqueue {
		n.queue = gossipQueue{}
	}
	for _, f := range e.Finished {
		n.queue.remove(f.Message)
	}
	*e = Effects{
		Packets: e.Packets, Streams: e.Streams, Gaps: e.Gaps, States: e.States, Verdicts: e.Verdicts, Stirred: e.Stirred,
	}
}

// verdicts takes what members have said of messages that were sent to them alone.
func (n *node) verdicts() []Verdict {
	e := n.r.Effects()
	vs := e.Verdicts
	e.Verdicts = nil
	return vs
}

// outputs takes what is to be sent.
func (n *node) outputs() ([]wire.Packet, []wire.Stream) {
	e := n.r.Effects()
	packets, streams := e.Packets, e.Streams
	packets = slices.DeleteFunc(packets, func(p wire.Packet) bool { return p.Len() > n.lim.Packet })
	e.Packets, e.Streams = nil, nil
	return packets, streams
}

// take returns what a channel's handler is to do next.
func (n *node) take(channel int, now time.Time) (Delivery, bool) {
	if n.channels[channel] == nil {
		return Delivery{}, false
	}
	return n.r.Take(n.channels[channel], now)
}

// asked reports whether members ask for the state of a channel.
func (n *node) asked(channel int) bool {
	return n.channels[channel] != nil && n.channels[channel].Asked()
}

// weigh tells whether the state of a channel has anything in it, when that is to be told.
func (n *node) weigh(channel int, items func() [][]byte) {
	if ch := n.channels[channel]; ch != nil && n.r.States.Weigh(ch) {
		n.r.States.Weighed(ch, len(items()) > 0)
	}
}

// give gives the state of a channel to those who ask, or fails to.
func (n *node) give(channel int, items [][]byte, fails bool, now time.Time) {
	ch := n.channels[channel]
	who, s := n.r.States.Asked(ch)
	if fails {
		n.r.States.GiveNone(ch, who, 0)
	} else {
		n.r.States.Give(ch, who, s, items, now)
	}
	n.carryOut()
}

// handled notes that a handler has returned.
func (n *node) handled(channel int, d Delivery, now time.Time) {
	n.r.Handled(n.channels[channel], d, false, now)
	n.carryOut()
}

// gossipQueue is memberlist's queue of broadcasts: each is sent a few times, those first that were sent least.
type gossipQueue []*gossiped

type gossiped struct {
	*Message
	sent int
}

func (q *gossipQueue) push(m *Message) { *q = append(*q, &gossiped{Message: m}) }

func (q *gossipQueue) remove(m *Message) {
	*q = slices.DeleteFunc(*q, func(g *gossiped) bool { return g.Message == m })
}

// next returns frames that fit into limit bytes at overhead bytes each, for one of so many members.
func (q *gossipQueue) next(overhead, limit, members int) (frames [][]byte) {
	most := 4 * int(math.Ceil(math.Log10(float64(members+1))))
	slices.SortStableFunc(*q, func(a, b *gossiped) int { return cmp.Compare(a.sent, b.sent) })
	for _, g := range *q {
		if n := overhead + len(g.Frame()); n <= limit {
			limit -= n
			g.sent++
			frames = append(frames, g.Frame())
		}
	}
	*q = slices.DeleteFunc(*q, func(g *gossiped) bool { return g.sent >= most })
	return frames
}
