package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Inquiries is questions about what has become of a part, and the answers.
type Inquiries struct {
	out      *output
	roster   *roster
	channels *channelSet
	types    *types
	intake   *intake
	hinted   func(from *peer, top uint64, stream bool, now time.Time) // told of a part of a member that has not come

	open map[uint64][]*Inquiry // by seq of the last part: a message may have superseded others that are asked about too
}

// Inquiry is what members have said of one message of our own.
type Inquiry struct {
	Owner any // whatever the replica's owner keeps with it

	first  uint64 // the seqs of its parts
	seq    uint64
	key    string
	status map[uint64]Status // by the id of the member
}

// Status is what has become of a message at a member.
type Status = starlingpb.HeldAnswer_Fate

// Begin opens an inquiry about a message of our own, whose parts have the seqs from first to last.
func (c *Inquiries) Begin(q *Inquiry, first, last uint64, ch *Channel) {
	q.first, q.seq, q.key, q.status = first, last, ch.Key, map[uint64]Status{}
	c.open[last] = append(c.open[last], q)
}

// End closes an inquiry.
func (c *Inquiries) End(q *Inquiry) {
	others := slices.DeleteFunc(c.open[q.seq], func(o *Inquiry) bool { return o == q })
	if c.open[q.seq] = others; len(others) == 0 {
		delete(c.open, q.seq)
	}
}

// Ask asks a member what has become of the message.
func (c *Inquiries) Ask(q *Inquiry, of wire.Peer, stream bool, now time.Time) {
	p := c.roster.get(of.ID)
	if of.ID == c.roster.self.ID || p == nil { // of ourselves we know
		return
	}
	if !p.placed() {
		if p.doubted >= askNewcomer {
			return
		}
		p.doubted++
	}
	stream = stream && p.placed()
	m := &starlingpb.HeldAsk{Seq: q.seq, Key: q.key, Stream: stream}
	if q.first != q.seq {
		m.First = q.first
	}
	c.out.tell(p.Peer, wire.BodyHeldAsk, m, stream)
	if p.live() {
		c.out.asked(p, now)
	}
}

// StatusAt returns what is known of the message at a member, and whether that is still a member, or one to come.
func (c *Inquiries) StatusAt(q *Inquiry, of uint64, now time.Time) (s Status, there bool) {
	if of == c.roster.self.ID {
		return c.ownStatus(q), true
	}
	return q.status[of], c.roster.get(of).awaited(now)
}

// ownStatus tells what has become of a message of our own on a channel with Echo.
func (c *Inquiries) ownStatus(q *Inquiry) Status {
	id := wire.PartID{Origin: c.roster.self.ID, Seq: q.seq}
	it := c.intake.history.Get(id)
	switch {
	case c.intake.ownLost.any(q.first, q.seq):
		return starlingpb.HeldAnswer_LOST // evicted from history before the handler ran: it will never be handled
	case it == nil:
		return starlingpb.HeldAnswer_HANDLED
	case !it.Handled:
		return starlingpb.HeldAnswer_HELD
	case c.channels.byKey[it.Key] != nil && c.channels.byKey[it.Key].refused.has(id):
		return starlingpb.HeldAnswer_UNDECODABLE
	}
	return starlingpb.HeldAnswer_HANDLED
}

// Differs reports whether a member's channel of that key is known to carry another type than ours: its handler is given nothing of ours.
func (c *Inquiries) Differs(ch *Channel, member uint64) bool {
	return c.types.differs(c.roster.get(member), ch)
}

// asked answers a member's question about a part of its own.
func (c *Inquiries) asked(from *peer, m *starlingpb.HeldAsk, now time.Time) {
	a := &starlingpb.HeldAnswer{Seq: m.GetSeq()}
	log, ch := from.log, c.channels.byKey[m.GetKey()]
	first, last := cmp.Or(m.GetFirst(), m.GetSeq()), m.GetSeq()
	switch {
	case from.refused.any(first, last):
		a.Fate = starlingpb.HeldAnswer_REFUSED
	case from.lost.any(first, last):
		a.Fate = starlingpb.HeldAnswer_LOST
	case log == nil || !log.SeenAll(first, last):
		c.hinted(from, last, m.GetStream(), now)
	case ch == nil:
		a.Fate = starlingpb.HeldAnswer_NO_CHANNEL
	case c.types.verdict(from, ch, now) == typeOther:
		a.Fate = starlingpb.HeldAnswer_OTHER_TYPE
	case ch.refused.has(wire.PartID{Origin: from.ID, Seq: m.GetSeq()}):
		a.Fate = starlingpb.HeldAnswer_UNDECODABLE
	case log.AnyPending(first, last):
		a.Fate = starlingpb.HeldAnswer_HELD
	default:
		a.Fate = starlingpb.HeldAnswer_HANDLED
	}
	c.out.tell(from.Peer, wire.BodyHeldAnswer, a, m.GetStream())
}

// answered notes a member's answer.
func (c *Inquiries) answered(from *peer, m *starlingpb.HeldAnswer) {
	from.unanswered = time.Time{}
	if starlingpb.HeldAnswer_Fate_name[int32(m.GetFate())] == "" {
		c.out.drop(DropLaterVersion) // who asks again may be told something else
		return
	}
	for _, q := range c.open[m.GetSeq()] {
		q.status[from.ID] = m.GetFate()
		c.out.Answers = append(c.out.Answers, q)
	}
}
