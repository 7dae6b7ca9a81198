package starling

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Stats is a picture of what a member has done and holds. Counters start at New and only grow.
type Stats struct {
	Members  int // live, this one included
	Foreign  int // of those, how many do not speak Starling
	Queue    QueueStats
	History  HistoryStats
	Relayed  uint64                  // messages of others sent on to members behind this one
	Repaired uint64                  // messages sent because somebody lacked them
	Lost     uint64                  // messages that this member was owed and nobody has any more: the sum of all gaps
	Channels map[string]ChannelStats // by key; channels that are open
	Dropped  map[Drop]uint64         // everything that was not delivered or not sent, and why
	Traffic  Traffic
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
	Received    uint64        // arrived for the first time
	Duplicates  uint64        // arrived again
	Delivered   uint64        // the handler returned
	Inbox       int           // waiting for the handler
	Deferred    int           // of another kind: waiting for their turn (FIFO), or for the state that goes first
	HandlerTime time.Duration // spent in the handler
}

// Direction tells whether a drop was of something on its way in or on its way out.
type Direction int

const (
	Inbound Direction = iota
	Outbound
)

func (d Direction) String() string {
	if d == Outbound {
		return "outbound"
	}
	return "inbound"
}

// A Drop names a reason for which something was dropped. Use it as a key of Stats.Dropped.
type Drop int

const (
	DropMalformed      Drop = iota // a frame that cannot be decoded or breaks a limit
	DropUnknownKey                 // a message of a channel that is not open here
	DropTooLarge                   // a message larger than MaxMessageSize
	DropUndecodable                // the channel's codec refused it
	DropInboxFull                  // no identity, so nobody keeps it while the handler is busy
	DropTooOld                     // older than Retention.Age
	DropTooManyHoles               // its origin's record is full of holes; it stays unseen and may come again
	DropTooManyOrigins             // too many origins are remembered already
	DropLate                       // a FIFO channel handed on a newer one already
	DropRateLimited                // a member asks for more than it may
	DropNoSnapshot                 // a channel's state could not be taken, or is too large
	DropStranger                   // a control frame from somebody who is no member
	DropLaneFull                   // too much waits for one member's streams already
	DropStreamFailed               // a stream to a member failed
	DropPacketFailed               // a packet could not be written, or too many wait
	drops                          // how many reasons there are
)

var dropNames = [...]string{
	"malformed", "unknown key", "too large", "undecodable", "inbox full", "too old", "too many holes",
	"too many origins", "late", "rate limited", "no snapshot", "stranger",
	"lane full", "stream failed", "packet failed",
}

func (d Drop) String() string {
	if d < 0 || int(d) >= len(dropNames) {
		return fmt.Sprintf("Drop(%d)", int(d))
	}
	return dropNames[d]
}

// Direction tells on which way things of this reason are dropped.
func (d Drop) Direction() Direction {
	if d >= DropLaneFull {
		return Outbound
	}
	return Inbound
}

// dropCounters counts by reason. Safe for concurrent use.
type dropCounters [drops]atomic.Uint64

func (c *dropCounters) add(d Drop) (first bool) { return c[d].Add(1) == 1 }

func (c *dropCounters) snapshot() map[Drop]uint64 {
	m := map[Drop]uint64{}
	for d := range c {
		if n := c[d].Load(); n > 0 {
			m[Drop(d)] = n
		}
	}
	return m
}
