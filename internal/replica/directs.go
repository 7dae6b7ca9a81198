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
	out        *output
	roster     *roster
	channels   *channelSet
	types      *types
	intake     *intake
	observer   *Observer
	gatherings *gatherings

	message int // the largest that is taken
}

// Call is a message to one member that waits for its verdict.
type Call struct {
	Owner any // whatever the replica's owner keeps with it

	to         *peer
	series, id uint64
	channel    *Channel
	shipment   *shipment // nil: it goes whole
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
	floor  uint64 // the sender has said that it repeats nothing up to here
	// above is the numbers taken beyond floor. Invariant: Count() ≤ receipt.MaxRanges, and one more for floor+1: that is the oldest that its
	// sender waits for, and only when it is taken the floor rises.
	above seqset.Set
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

// raise forgets the numbers up to floor, and reports whether it is higher than before.
func (s *takenSeries) raise(floor uint64) bool {
	if floor <= s.floor {
		return false
	}
	s.floor = floor
	s.above.Trim(floor)
	return true
}

// Begin numbers a message to a member, or to one to come. It returns false if that is neither.
func (d *Calls) Begin(c *Call, to uint64, now time.Time) bool {
	p := d.roster.get(to)
	if !p.reachable(now) {
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
func (d *Calls) Renumber(c *Call, now time.Time) bool {
	d.forget(c)
	if c.to.calls.series == c.series {
		c.to.calls.series = 0
	}
	if c.shipment != nil {
		c.shipment.renew()
	}
	return d.Begin(c, c.to.ID, now)
}

// Reaches reports whether the receiver of a call is a member, or one to come, and how it is reached now; and, placed, whether it is where it says it
// is: to one that is not nothing is sent yet.
func (d *Calls) Reaches(c *Call, now time.Time) (to wire.Peer, there, placed bool) {
	p := c.to
	return p.Peer, d.roster.get(p.ID) == p && p.reachable(now), p.placed()
}

// Cut lets the message of a call, of a channel and so many bytes, travel in pieces of that size.
func (d *Calls) Cut(c *Call, ch *Channel, total, size int) {
	c.channel = ch
	c.shipment = newShipment(total, size, d.observer.count())
	d.observer.shipped(c, ProgressUnderWay)
}

// Shipped is a frame of a call in pieces: a piece, or a question about one.
type Shipped struct {
	*starlingpb.Direct // to which its owner adds the channel, and, if it is no question, the data and the trace of the first piece
	Chunk              wire.Chunk
	Asks               bool
	Stream             bool // the question goes by stream
}

// Ship returns what leaves now of a call in pieces, and when to call it again if nothing happens before; the zero time: not at all.
func (d *Calls) Ship(c *Call, now time.Time) (frames []Shipped, again time.Time) {
	s := c.shipment
	frame := func(index int, asks, stream bool) {
		m := d.Try(c, stream)
		chunk := s.piece(index)
		m.Total, m.Size, m.Index = chunk.Total, chunk.Size, chunk.Index
		frames = append(frames, Shipped{m, chunk, asks, stream})
	}
	for index, stream, ok := s.ask(now); ok; index, stream, ok = s.ask(now) {
		if frame(index, true, false); stream {
			frame(index, true, true)
		}
	}
	for index, ok := s.leave(); ok; index, ok = s.leave() {
		frame(index, false, false)
	}
	return frames, s.again()
}

// Written notes that a piece was written, or could not be.
func (d *Calls) Written(c *Call, chunk wire.Chunk, ok bool, now time.Time) {
	c.shipment.written(int(chunk.Index), ok, now)
}

// Busy reports whether the last that the receiver of a call in pieces has said is that it has no room.
func (d *Calls) Busy(c *Call) bool { return c.shipment.busy }

// Try returns what is to be sent for a call: its owner adds the channel and the data. With stream it asks for an answer by stream.
func (d *Calls) Try(c *Call, stream bool) *starlingpb.Direct {
	m := &starlingpb.Direct{To: c.to.ID, Series: c.series, Id: c.id, Stream: stream, Types: d.types.untold(c.to)}
	if cs := &c.to.calls; cs.series == c.series {
		m.Floor = cs.floor()
	}
	return m
}

// End ends a call: nobody waits for its verdict any more. For its progress it tells whether the receiver has it.
func (d *Calls) End(c *Call, state ProgressState) {
	d.forget(c)
	if c.shipment != nil {
		d.observer.shipped(c, state)
	}
}

// forget lets go of the number of a call.
func (d *Calls) forget(c *Call) {
	if cs := &c.to.calls; cs.series == c.series {
		delete(cs.waiting, c.id)
	}
}

// answered passes a verdict on to whoever waits for it. Of a call in pieces it is told that there is something to do, and the verdict that ends it.
func (d *Calls) answered(from *peer, m *starlingpb.DirectAck, now time.Time) {
	if starlingpb.DirectAck_Verdict_name[int32(m.GetVerdict())] == "" {
		d.out.drop(DropLaterVersion) // and whoever waits tries again: no verdict of a later version may say that the message was taken
	}
	c, ok := from.calls.waiting[m.GetId()]
	if !ok || m.GetSeries() != c.series {
		return
	}
	if s := c.shipment; s != nil {
		if s.over {
			return
		}
		done := s.done
		if s.answer(m, now); s.done != done {
			d.observer.shipped(c, ProgressUnderWay)
		}
	}
	d.out.Verdicts = append(d.out.Verdicts, Verdict{c, m.GetVerdict()})
}

// receive takes a message that was sent to this member alone, or a piece of one, and tells its sender the verdict.
func (d *Calls) receive(from *peer, m *starlingpb.Direct, now time.Time) {
	chunk, err := wire.DirectChunk(m)
	if err != nil || m.GetId() == 0 || m.GetKey() == "" || m.GetFloor() >= m.GetId() {
		d.out.drop(DropMalformed)
		return
	}
	ack := &starlingpb.DirectAck{Id: m.GetId(), Series: m.GetSeries(), Index: chunk.Index, Verdict: starlingpb.DirectAck_OTHER_RUN}
	if m.GetTo() == d.roster.self.ID {
		d.types.introduced(from, m.GetTypes(), now)
		if !d.take(from, m, chunk, ack, now) {
			d.out.drop(DropMalformed)
			return
		}
	}
	d.out.tell(from.Peer, wire.BodyDirectAck, ack, m.GetStream() && from.placed())
}

// take lets a message for this run, or a piece of one, be taken, and puts the verdict into its answer. It returns false if the piece is none of its message.
func (d *Calls) take(from *peer, m *starlingpb.Direct, chunk wire.Chunk, ack *starlingpb.DirectAck, now time.Time) (ok bool) {
	s := from.taken.of(m.GetSeries())
	if s.raise(m.GetFloor()) {
		d.gatherings.raise(from.ID, m.GetSeries(), m.GetFloor())
	}
	key := gatheringKey{from.ID, m.GetSeries(), m.GetId()}
	ch := d.channels.byKey[m.GetKey()]
	switch {
	case m.GetId() <= s.floor:
		ack.Verdict = starlingpb.DirectAck_STALE
	case s.above.Contains(m.GetId()):
		ch.duplicate()
		ack.Verdict = starlingpb.DirectAck_ACCEPTED
	case ch == nil:
		d.out.dropOn(DropUnknownKey, m.GetKey())
		ack.Verdict = starlingpb.DirectAck_NO_CHANNEL
	case d.types.verdict(from, ch, now) == typeOther:
		d.out.dropOn(DropOtherType, ch.Key)
		d.gatherings.refuse(key)
		ack.Verdict = starlingpb.DirectAck_OTHER_TYPE
	case max(len(m.GetData()), int(chunk.Total)) > d.message:
		d.out.dropOn(DropTooLarge, ch.Key)
		ack.Verdict = starlingpb.DirectAck_TOO_LARGE
	case !chunk.Whole():
		return d.gather(key, from, ch, m, chunk, ack, now)
	default:
		d.boundTrace(ch, m)
		ack.Verdict = d.hand(from, ch, s, m.GetId(), direct(m, from.ID, now), now)
	}
	return true
}

// gather takes a piece of a message, or a question about one, and puts the verdict into its answer. It returns false if the piece is none of the message.
func (d *Calls) gather(
	key gatheringKey, from *peer, ch *Channel, m *starlingpb.Direct, chunk wire.Chunk, ack *starlingpb.DirectAck, now time.Time,
) (ok bool) {
	g := d.gatherings.find(key, from.Peer, ch, chunk, now)
	if g == nil {
		d.out.dropOn(DropInboxFull, ch.Key)
		ack.Verdict = starlingpb.DirectAck_BUSY
		return true
	}
	if !g.matches(chunk, ch) {
		return false
	}
	ack.Gathering = g.number
	switch asks := len(m.GetData()) == 0; {
	case g.has(chunk) && !asks:
		ch.duplicate()
	case !g.has(chunk) && asks:
		ack.Verdict = starlingpb.DirectAck_LACKING
		return true
	case !asks:
		d.boundTrace(ch, m)
		g.add(chunk, m, now)
		d.observer.gathered(g, ProgressUnderWay)
	}
	if ack.Verdict = starlingpb.DirectAck_KEPT; !g.complete() {
		return true
	}
	if ack.Verdict = d.hand(from, ch, from.taken.of(key.series), key.id, g.delivery(now), now); ack.Verdict == starlingpb.DirectAck_ACCEPTED {
		d.gatherings.end(g)
		d.observer.gathered(g, ProgressHeld)
	}
	return true
}

// hand hands a message on to its channel, and returns the verdict.
func (d *Calls) hand(from *peer, ch *Channel, s *takenSeries, id uint64, m Delivery, now time.Time) starlingpb.DirectAck_Verdict {
	if d.types.verdict(from, ch, now) == typeUnknown {
		return starlingpb.DirectAck_BUSY
	}
	if s.above.Count() >= receipt.MaxRanges && id != s.floor+1 || !d.intake.offer(ch, m) {
		d.out.dropOn(DropInboxFull, ch.Key)
		return starlingpb.DirectAck_BUSY
	}
	s.above.Add(id)
	ch.Counters.Received++
	return starlingpb.DirectAck_ACCEPTED
}

// boundTrace leaves out the context of a trace that breaks the limit.
func (d *Calls) boundTrace(ch *Channel, m *starlingpb.Direct) {
	if len(m.GetTraceContext()) > wire.MaxTraceSize {
		d.out.dropOn(DropMalformed, ch.Key)
		m.TraceContext = nil
	}
}

// ToSelf gives a message to this member's own handler, without the network, if there is room for it.
func (d *Calls) ToSelf(ch *Channel, m *starlingpb.Direct, now time.Time) bool {
	return d.intake.offer(ch, direct(m, d.roster.self.ID, now))
}

// direct is a message by Send on its way to its handler.
func direct(m *starlingpb.Direct, from uint64, now time.Time) Delivery {
	return Delivery{Data: m.GetData(), Origin: from, Born: now, Route: wire.RouteDirect, direct: m}
}
