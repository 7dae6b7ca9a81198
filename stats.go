package starling

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/starling-go/starling/internal/replica"
)

// Stats is a picture of what a member has done and holds. Counters start at New and only grow.
type Stats struct {
	Members  int // live, this one included
	Foreign  int // of those, how many do not speak Starling
	Queue    QueueStats
	History  HistoryStats
	Relayed  uint64                  // messages of others sent on to members behind this one
	Repaired uint64                  // messages sent because somebody lacked them
	Lost     uint64                  // messages that this member was owed and nobody has any more; of a large one that it has nothing of, each part counts
	Channels map[string]ChannelStats // by key; channels that are open
	Dropped  map[Drop]uint64         // everything that was not delivered or not sent, and why
	Traffic  Traffic
}

// Stats returns what this member has done so far and holds now. After Leave or Close: as it was.
func (c *Cluster) Stats() Stats {
	s := Stats{
		Members: int(c.table.alive.Load()),
		Foreign: int(c.table.foreign.Load()),
		Traffic: Traffic(c.transport.Traffic()),
	}
	c.do(func(r *replica.Replica, now time.Time) {
		rs := r.Stats(now)
		s.Queue = QueueStats{Messages: rs.QueueMessages, Bytes: rs.QueueBytes, Oldest: rs.Oldest}
		s.History = HistoryStats{Messages: rs.KeptMessages, Bytes: rs.KeptBytes}
		s.Relayed, s.Repaired, s.Lost = rs.Relayed, rs.Repaired, rs.Lost
		s.Dropped = c.drops.counts.with(&rs.Drops)
		channels := r.Channels()
		s.Channels = make(map[string]ChannelStats, len(channels))
		for _, core := range channels {
			s.Channels[core.Key] = core.Owner.(*channel).stats(now)
		}
	})
	return s
}

// stats returns what the channel did. Call it under do.
func (ch *channel) stats(now time.Time) ChannelStats {
	n := &ch.core.Counters
	s := ChannelStats{
		Accepted: n.Accepted, Sent: n.Sent, Superseded: n.Superseded,
		Received: n.Received, Duplicates: n.Duplicates, Delivered: n.Delivered,
		HandlerTime: time.Duration(ch.handlerTime.Load()),
		Differing:   ch.core.Differing(), Dropped: ch.dropped.with(&n.Drops),
	}
	if !ch.busySince.IsZero() {
		s.Running = now.Sub(ch.busySince)
	}
	s.Inbox, s.Deferred = ch.core.Unhandled()
	return s
}

// QueueStats is what this member has accepted and not finished sending.
type QueueStats struct {
	Messages int
	Bytes    int
	Oldest   time.Duration // age of the oldest
}

// HistoryStats is what this member keeps for those that missed it, and for its own handlers.
type HistoryStats struct {
	Messages int
	Bytes    int // as charged against Retention.Bytes
}

// ChannelStats is what one channel did on this member.
type ChannelStats struct {
	Accepted    uint64        // by Broadcast
	Sent        uint64        // that left this member
	Superseded  uint64        // replaced by a newer one of the same name before they left
	Received    uint64        // arrived for the first time; of a Map's channel also what members tell each other to compare it
	Duplicates  uint64        // arrived again
	Delivered   uint64        // the handler returned
	Inbox       int           // messages whose turn has come, and that wait for the handler. Retention bounds them; ChannelOptions.Inbox bounds only some of them, see Inbox
	Deferred    int           // messages that are here and whose turn has not come: an earlier one is missing (FIFO), the first state, or the word of their sender's type
	HandlerTime time.Duration // spent in the handler, in calls that have returned
	Running     time.Duration // for how long the handler has been running; 0: it is not
	// Differing is how many members have a state that is not known to be equal to this one's: of a channel with a Snapshot, and a State.
	// It falls to 0 soon after messages stop, and after each comparison that finds nothing.
	Differing int
	Dropped   map[Drop]uint64 // of Stats.Dropped, what is known to be of this channel; nil: nothing
}

// Direction tells whether a drop was of something on its way in or on its way out.
type Direction int

const (
	DirectionInbound Direction = iota
	DirectionOutbound
)

var directions = []string{"inbound", "outbound"}

func (d Direction) String() string { return nameOf(d, directions) }

// A Drop names a reason for which something was dropped. Use it as a key of Stats.Dropped.
type Drop int

const (
	DropMalformed       Drop = iota // a frame that cannot be decoded or breaks a limit; or the context of a trace that is too long, whose message is delivered without it
	DropUnknownKey                  // a message of a channel that is not open here
	DropTooLarge                    // a message larger than MaxMessageSize
	DropUndecodable                 // the channel's codec refused it
	DropInboxFull                   // the channel's Inbox was full, or too much was coming in pieces: a Send was refused, and tries again; a foreign message was lost
	DropTooOld                      // older than Retention.Age
	DropTooManyHoles                // too many messages before it are missing (4,096 ranges); it is not lost, and is asked for again
	DropTooManyOrigins              // of too many that were remembered, one was forgotten before its time
	DropLate                        // a FIFO channel handed on a newer one already
	DropRateLimited                 // a member asks for more than it may
	DropStranger                    // a control frame whose sender is no member: a stranger, or one that joins or has left just now
	DropRefused                     // bytes that memberlist refused: of another protocol, label or key
	DropImplausible                 // a message numbered far beyond what its origin has sent
	DropLaterVersion                // a frame, an answer or a Map's entry that a later version of Starling knows, and this one does not
	DropOtherType                   // a message of another type than its channel carries here
	DropStreamQueueFull             // more than may wait for one member's streams waits already; what was dropped is sent again later
	DropNoSnapshot                  // a channel's state could not be given to members that lack it: it is too large, or Snapshot or MarshalBinary failed
	DropWrittenOff                  // a message of this member, given up for a live member that does not take it or does not answer
	DropStreamFailed                // a stream to a member failed
	DropForeignTooLarge             // a message of this member, of more than 20 MiB: members of other systems cannot take it
	DropPacketFailed                // a packet could not be written, or too many wait
	drops                           // how many reasons there are
)

var dropNames = []string{
	"malformed", "unknown key", "too large", "undecodable", "inbox full", "too old", "too many holes",
	"too many origins", "late", "rate limited", "stranger", "refused", "implausible", "later version", "other type",
	"stream queue full", "no snapshot", "written off", "stream failed", "foreign too large", "packet failed",
}

func (d Drop) String() string { return nameOf(d, dropNames) }

// Direction tells on which way things of this reason are dropped.
func (d Drop) Direction() Direction {
	if d >= DropStreamQueueFull {
		return DirectionOutbound
	}
	return DirectionInbound
}

// replicaDrops names the reasons for which a replica drops something. The type lets none be forgotten at its end.
var replicaDrops [len(replica.Drops{})]Drop = [...]Drop{
	replica.DropMalformed: DropMalformed, replica.DropUnknownKey: DropUnknownKey, replica.DropTooLarge: DropTooLarge,
	replica.DropInboxFull: DropInboxFull, replica.DropTooOld: DropTooOld, replica.DropTooManyHoles: DropTooManyHoles,
	replica.DropTooManyOrigins: DropTooManyOrigins, replica.DropLate: DropLate, replica.DropRateLimited: DropRateLimited,
	replica.DropStranger: DropStranger, replica.DropPacketFailed: DropPacketFailed, replica.DropImplausible: DropImplausible,
	replica.DropOtherType: DropOtherType, replica.DropLaterVersion: DropLaterVersion,
	replica.DropForeignTooLarge: DropForeignTooLarge,
}

// dropCounters counts by reason. Safe for concurrent use.
type dropCounters struct {
	log    *slog.Logger
	ending func() bool // Leave or Close has begun: that what goes out is cut off is no news then; Leave returns what came of it
	counts dropCounts
}

// dropCounts is how much the shell has dropped, by reason.
type dropCounts [drops]atomic.Uint64

// note counts a drop, and logs the first of its kind. err may be nil.
func (c *dropCounters) note(d Drop, err error) { c.noteOn(d, "", err) }

// drop is note of something that belongs to the channel.
func (ch *channel) drop(d Drop, err error) {
	ch.dropped[d].Add(1)
	ch.c.drops.noteOn(d, ch.core.Key, err)
}

// noteOn is note of something that belongs to the channel of that key.
func (c *dropCounters) noteOn(d Drop, key string, err error) {
	if c.count(d) == 1 && !(d.Direction() == DirectionOutbound && c.ending()) {
		c.tell(d, key, netip.AddrPort{}, err)
	}
}

// count counts a drop and returns how many of its kind there were.
func (c *dropCounters) count(d Drop) uint64 { return c.counts[d].Add(1) }

// tell logs the first drop of a kind, with what is known of it: the key of its channel, who sent it, an error.
func (c *dropCounters) tell(d Drop, key string, from netip.AddrPort, err error) {
	attrs := []any{"reason", d.String(), "direction", d.Direction().String()}
	if key != "" {
		attrs = append(attrs, "channel", key)
	}
	if from.IsValid() {
		attrs = append(attrs, "from", from)
	}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	c.log.Warn("dropped; further ones are only counted", attrs...)
}

// with returns the counts and those of the replica together, without the reasons that had none; nil if all had none.
func (n *dropCounts) with(core *replica.Drops) map[Drop]uint64 {
	var m map[Drop]uint64
	add := func(d Drop, count uint64) {
		if count == 0 {
			return
		}
		if m == nil {
			m = map[Drop]uint64{}
		}
		m[d] += count
	}
	for d := range n {
		add(Drop(d), n[d].Load())
	}
	for d, count := range core {
		add(replicaDrops[d], count)
	}
	return m
}

// Traffic counts what a member's transport has carried since it was made. Bytes are those of packets and streams
// themselves, without the headers of UDP, TCP and IP. The counters of one snapshot are read one after the other, so sums
// over them are exact only while nothing moves. A received packet with one user message goes straight to the member where there
// is no label, key or compression; all others but the dropped go to memberlist.
type Traffic struct {
	PacketsSent         uint64 // packets given to the network; it may still lose them
	PacketsReceived     uint64 // packets that came from an allowed source
	PacketBytesSent     uint64 // bytes in PacketsSent
	PacketBytesReceived uint64 // bytes in PacketsReceived
	PacketsRefused      uint64 // packets from outside the allowed networks, or of unknown source
	PacketsDropped      uint64 // received packets that went to nobody: empty, or caught by the shutdown
	PacketErrors        uint64 // packets that could not be written, and failed reads of the socket
	StreamsDialed       uint64 // connections opened to other members, for one stream or for many
	StreamsReused       uint64 // streams to other members on a connection that an earlier one had opened
	StreamsAccepted     uint64 // connections opened by other members, from an allowed source
	StreamsRefused      uint64 // streams from outside the allowed networks, or of unknown source
	StreamErrors        uint64 // dials that failed, failed accepts, and streams that took no deadline
	StreamBytesSent     uint64 // bytes written to streams, dialled and accepted
	StreamBytesReceived uint64 // bytes read from streams, dialled and accepted
	PacketsUnsent       uint64 // with TLS: of PacketsSent, those that no connection took: there was none, or too much waited for it
	TLSLinks            uint64 // with TLS: connections opened to other members for packets
	TLSRefused          uint64 // with TLS: connections, accepted and dialled, whose handshake failed on either side
}
