package replica

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Effects is what a replica wants done. Its owner carries them out after each call, and clears those that it has carried out.
// Packets, Gaps, States, Types and Strange may wait, everything else may not.
type Effects struct {
	Packets    []wire.Packet
	Streams    []wire.Stream
	Gaps       []Gap
	States     []StateEvent
	Types      []TypeEvent
	FirstDrops []FirstDrop
	Strange    []wire.Peer // members that answer nothing that only a member may ask: memberlist may not have told them of us
	Queue      []*Message  // small parts of this member's own that memberlist's gossip shall carry too
	Unqueue    bool        // what is in that queue is of no use: nobody is there
	Finished   []Finished  // messages of this member's own that are done
	Wake       []*Channel  // whose handler has something to do
	Verdicts   []Verdict   // on messages that were sent to one member
	Answers    []*Inquiry  // about which another member has answered
	Progress   []Progress  // of large messages on channels that are watched
	Room       bool        // messages may be accepted again
	Told       bool        // a member has told from where on it owes us its parts, or why not
	Stirred    bool        // something happened: Tick is due
}

// FirstDrop is the first thing that was dropped for a reason.
type FirstDrop struct {
	Drop
	Key  string         // of its channel; empty: not known, or of none
	From netip.AddrPort // DropStranger: where it says it is; invalid otherwise
}

// Gap is messages of an origin that this member was owed, and nobody has any more.
type Gap struct{ Origin, First, Last uint64 }

// StateEvent is something that happened to the state of a channel.
type StateEvent struct {
	*Channel
	Kind StateEventKind
	From wire.Peer // whose state it is; of StateSynced: none
	Size uint64    // bytes of what is too large, as far as it was counted
}

// StateEventKind tells what happened to the state of a channel.
type StateEventKind uint8

const (
	StateSynced       StateEventKind = iota // it is that of all members that were there when this one joined
	StateTooLarge                           // the state of a member is too large to be given
	StateItemTooLarge                       // an item of it is larger than Limits.Message
)

// TypeEvent tells that the channel of a member carries another type than ours of the same key.
type TypeEvent struct {
	*Channel
	From   wire.Peer
	Theirs string // what it carries there
}

// Finished is a message of this member's own that every member has, but for those missing.
type Finished struct {
	*Message
	Missing []wire.Peer // live members that the message was given up for
}

// Holds reports whether a member is known to hold the message.
func (f Finished) Holds(id uint64) bool {
	for i := range f.pieces {
		if !f.pieces[i].batch.Reached(id) {
			return false
		}
	}
	return true
}

// Verdict is what a member says to a message that was sent to it alone.
type Verdict struct {
	Call    *Call
	Verdict starlingpb.DirectAck_Verdict
}

const (
	// strangeAfter is how long a member may leave unanswered what only a member may ask: longer than packets and streams take that are lost.
	strangeAfter = time.Second
	// strangeAgain is how often it is said of a member that it may not know of us.
	strangeAgain = 10 * time.Second
)

// asked notes that a member was asked what only a member may ask: one that does not know of us gives no answer. That a single question long ago had
// none says nothing: nobody has asked again.
func (o *output) asked(p *peer, now time.Time) {
	before := p.queried
	p.queried = now
	switch {
	case p.unanswered.IsZero() || now.Sub(before) >= strangeAgain:
		p.unanswered = now
	case now.Sub(p.unanswered) >= strangeAfter && now.Sub(p.strange) >= strangeAgain:
		p.strange = now
		o.Strange = append(o.Strange, p.Peer)
		o.stir()
	}
}

// bulkSize is the largest control frame that counts as small. Larger ones are the answers of repair, and states.
const bulkSize = 32 << 10

// maxPackets bounds the packets that wait to be sent.
const maxPackets = 1 << 14

// output collects effects.
type output struct {
	Effects
	self   wire.Peer
	packet int    // the largest frame that fits a packet
	meta   []byte // our metadata, for whoever decides whether we may come in
	drops  Drops

	channels *channelSet // to count what is dropped on them
}

// tell sends a control frame to a member, by packet if it may and fits one.
func (o *output) tell(to wire.Peer, body protowire.Number, m proto.Message, stream bool) {
	frame := wire.EncodeControl(o.self, body, m)
	if stream || len(frame) > o.packet {
		s := wire.RawStream(to, frame)
		s.Bulk = s.Size > bulkSize
		o.Streams = append(o.Streams, s)
		return
	}
	o.post(wire.Packet{To: to, Head: frame})
}

// post queues a packet.
func (o *output) post(p wire.Packet) {
	if p.Len() > o.packet {
		o.Streams = append(o.Streams, wire.RawStream(p.To, p.Frame()))
		return
	}
	if len(o.Packets) >= maxPackets {
		o.drop(DropPacketFailed)
		return
	}
	o.Packets = append(o.Packets, p)
}

// stream sends a kept part to a member by stream. It is copied when it leaves, with the age it has then.
func (o *output) stream(to wire.Peer, it *store.Item) {
	o.Streams = append(o.Streams, wire.Stream{To: to, Size: len(it.Frame), Bulk: true, Encode: it.Restamped})
}

// wake lets the handler of a channel look what there is to do.
func (o *output) wake(ch *Channel) {
	if !ch.woken {
		ch.woken = true
		o.Wake = append(o.Wake, ch)
	}
}

// stir makes Tick due.
func (o *output) stir() { o.Stirred = true }

// drop counts a drop. The first of its kind is to be told.
func (o *output) drop(d Drop) { o.dropOn(d, "") }

// dropOn is drop of something that belongs to the channel of that key.
func (o *output) dropOn(d Drop, key string) {
	if key != "" {
		if ch := o.channels.byKey[key]; ch != nil {
			ch.Counters.Drops[d]++
		}
	}
	if o.drops[d]++; o.drops[d] == 1 {
		o.FirstDrops = append(o.FirstDrops, FirstDrop{Drop: d, Key: key})
		o.stir()
	}
}

// Drop is a reason for which a replica drops something.
type Drop uint8

const (
	DropMalformed       Drop = iota // breaks a limit, or cannot be decoded; or the context of a trace is too long, and its message is delivered without it
	DropUnknownKey                  // of a channel that is not open here
	DropTooLarge                    // larger than Limits.Message
	DropInboxFull                   // without identity, while the handler is busy
	DropTooOld                      // older than Limits.Age
	DropTooManyHoles                // its origin's record has no room
	DropTooManyOrigins              // its origin's record would be one too many
	DropLate                        // FIFO: a newer one was handed on already
	DropRateLimited                 // a member asks for more than it may
	DropStranger                    // a control frame of no member
	DropImplausible                 // numbered far beyond what its origin has sent
	DropLaterVersion                // a frame, an answer, or an entry of a Map, that a later version knows
	DropOtherType                   // of another type than its channel's
	DropForeignTooLarge             // of our own, and larger than memberlist takes: a foreign member goes without
	DropPacketFailed                // too many packets wait
	dropKinds
)

// Drops counts drops by reason.
type Drops [dropKinds]uint64
