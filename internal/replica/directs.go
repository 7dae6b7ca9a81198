package replica

import (
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Calls is messages to one member, which acknowledges them. What identifies a message is the run that sends it, the run that it
// is for, and its number in a series of that pair. Numbers never restart within a series, and both sides keep theirs as long as
// they know the other run at all, whatever the membership does meanwhile. So what is sent again is handled once.
type Calls struct {
	out      *output
	roster   *roster
	channels *channelSet
	types    *types
	intake   *intake

	message int // the largest that is taken
}

// Call is a message to one member that waits for its verdict.
type Call struct {
	Owner any // whatever the replica's owner keeps with it

	to         *peer
	series, id uint64
}

// calls is the sending side: the messages to one run of a member that wait for their verdicts.
type calls struct {
	series  uint64 // drawn at random; 0: nothing was sent yet
	last    uint64
	waiting map[uint64]*Call // by number in the series
}

// floor is the number up to which nothing will be sent again.
func (c *calls) floor() uint64 {
	low := c.last + 1
	for id := range c.waiting {
		low = min(low, id)
	}
	return low - 1
}

// maxSeries bounds the series of one sender that are remembered. An honest one has one, and another after it was told STALE.
const maxSeries = 4

// taken is the receiving side: which numbers of one run of a member were taken already, by series, the latest first.
type taken []*takenSeries

type takenSeries struct {
	series uint64
	floor  uint64     // the sender has said that it repeats nothing up to here
	above  seqset.Set // Invariant: each range lies above floor, and Count() ≤ receipt.MaxRanges
}

// of returns what is remembered of a series.
func (t *taken) of(series uint64) *takenSeries {
	for _, s := range *t {
		if s.series == series {
			return s
		}
	}
	*t = append(taken{{series: series}}, (*t)[:min(len(*t), maxSeries-1)]...)
	return (*t)[0]
}

// raise forgets the numbers up to floor.
func (s *takenSeries) raise(floor uint64) {
	if floor > s.floor {
		s.floor = floor
		s.above.Trim(floor)
	}
}

// Begin numbers a message to one member. It returns false if that is no member.
func (d *Calls) Begin(c *Call, to uint64) bool {
	p, live := d.roster.member(to)
	if !live {
		return false
	}
	cs := &p.calls
	if cs.series == 0 {
		*cs = calls{series: d.roster.rng.Uint64() | 1, waiting: map[uint64]*Call{}}
	}
	cs.last++
	c.to, c.series, c.id = p, cs.series, cs.last
	cs.waiting[c.id] = c
	return true
}

// Renumber numbers a call anew, in a series that its receiver has not heard of: it has said that the number is stale. It returns
// false if the receiver is no member.
func (d *Calls) Renumber(c *Call) bool {
	d.End(c)
	if c.to.calls.series == c.series {
		c.to.calls.series = 0
	}
	return d.Begin(c, c.to.ID)
}

// Try returns what is to be sent for a call: its owner adds the channel and the data. With stream it asks for an answer by stream.
func (d *Calls) Try(c *Call, stream bool) *starlingpb.Direct {
	m := &starlingpb.Direct{To: c.to.ID, Series: c.series, Id: c.id, Stream: stream, Types: d.types.untold(c.to)}
	if cs := &c.to.calls; cs.series == c.series {
		m.Floor = cs.floor()
	}
	return m
}

// End ends a call: nobody waits for its verdict any more.
func (d *Calls) End(c *Call) {
	if cs := &c.to.calls; cs.series == c.series {
		delete(cs.waiting, c.id)
	}
}

// answered passes a verdict on to whoever waits for it.
func (d *Calls) answered(from *peer, m *starlingpb.DirectAck) {
	if starlingpb.DirectAck_Verdict_name[int32(m.GetVerdict())] == "" {
		d.out.drop(DropLaterVersion) // and whoever waits tries again: no verdict of a later version may say that the message was taken
	}
	if c, ok := from.calls.waiting[m.GetId()]; ok && m.GetSeries() == c.series {
		d.out.Verdicts = append(d.out.Verdicts, Verdict{c, m.GetVerdict()})
	}
}

// receive takes a message that was sent to this member alone, and tells its sender the verdict.
func (d *Calls) receive(from *peer, m *starlingpb.Direct, now time.Time) {
	if m.GetId() == 0 || m.GetKey() == "" || m.GetFloor() >= m.GetId() {
		d.out.drop(DropMalformed)
		return
	}
	ack := &starlingpb.DirectAck{Id: m.GetId(), Series: m.GetSeries(), Verdict: starlingpb.DirectAck_OTHER_RUN}
	if m.GetTo() == d.roster.self.ID {
		d.types.introduced(from, m.GetTypes(), now)
		ack.Verdict = d.take(from, m, now)
	}
	d.out.tell(from.Peer, wire.BodyDirectAck, ack, m.GetStream() && from.live())
}

// take returns the verdict on a message for this run.
func (d *Calls) take(from *peer, m *starlingpb.Direct, now time.Time) starlingpb.DirectAck_Verdict {
	s := from.taken.of(m.GetSeries())
	s.raise(m.GetFloor())
	ch := d.channels.byKey[m.GetKey()]
	switch {
	case m.GetId() <= s.floor:
		return starlingpb.DirectAck_STALE
	case s.above.Contains(m.GetId()):
		ch.duplicate()
		return starlingpb.DirectAck_ACCEPTED
	case ch == nil:
		d.out.dropOn(DropUnknownKey, m.GetKey())
		return starlingpb.DirectAck_NO_CHANNEL
	case d.types.verdict(from, ch, now) == typeOther:
		d.out.dropOn(DropOtherType, ch.Key)
		return starlingpb.DirectAck_OTHER_TYPE
	case d.types.verdict(from, ch, now) == typeUnknown:
		return starlingpb.DirectAck_BUSY
	case len(m.GetData()) > d.message:
		d.out.dropOn(DropTooLarge, ch.Key)
		return starlingpb.DirectAck_TOO_LARGE
	case s.above.Count() >= receipt.MaxRanges || !d.intake.offer(ch, direct(m, from.ID, now)):
		d.out.dropOn(DropInboxFull, ch.Key)
		return starlingpb.DirectAck_BUSY
	}
	s.above.Add(m.GetId())
	ch.Counters.Received++
	if len(m.GetTraceContext()) > wire.MaxTraceSize {
		d.out.dropOn(DropMalformed, ch.Key)
		m.TraceContext = nil // under the lock: the handler has not been given it yet
	}
	return starlingpb.DirectAck_ACCEPTED
}

// ToSelf gives a message to this member's own handler, without the network, if there is room for it.
func (d *Calls) ToSelf(ch *Channel, m *starlingpb.Direct, now time.Time) bool {
	return d.intake.offer(ch, direct(m, d.roster.self.ID, now))
}

// direct is a message by Send on its way to its handler.
func direct(m *starlingpb.Direct, from uint64, now time.Time) Delivery {
	return Delivery{Data: m.GetData(), Origin: from, Born: now, Route: wire.RouteDirect, direct: m}
}
