package replica

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Progress is how far a message in pieces has come at one member.
type Progress struct {
	Channel *Channel
	From    wire.Peer // who broadcast it
	Seq     uint64    // of its last part; 0: it goes by Send
	Send    uint64    // counts what goes by Send, here: what is sent, and what comes; 0: it is broadcast
	Member  wire.Peer // who receives it
	Done    int       // bytes that the member is known to hold
	Total   int
	State   ProgressState
}

// ProgressState is how it stands. All but the first are final.
type ProgressState uint8

const (
	ProgressUnderWay ProgressState = iota
	ProgressHeld                   // the member holds all of it
	ProgressGone                   // the member was lost before
	ProgressGivenUp                // the member does not answer, or does not take it
	ProgressLost                   // nobody has what is missing
)

// Observer follows messages in pieces on the channels that somebody watches: those of our own at every member that was here when they
// left, those that go by Send at their receiver, and those of others as they arrive here. It only looks at what is known anyway: what the
// hops of the spread, digests and verdicts tell, and the logs. On other channels it does nothing.
type Observer struct {
	out    *output
	roster *roster
	age    time.Duration // Limits.Age

	watched  int                       // channels
	sends    uint64                    // the last Progress.Send
	sending  []*Message                // those with a watch. Invariant: they are under way
	arriving map[wire.PartID]*arriving // by the last part. Invariant: at most maxArriving
}

// watch is who holds how much of a message of our own.
type watch struct {
	members []*watched
	byID    map[uint64]*watched
}

// watched is one member's share of a message.
type watched struct {
	wire.Peer
	pieces seqset.Set // by the index
	done   int        // Σ their bytes
	state  ProgressState
}

// arriving is a message of which some pieces are here.
type arriving struct {
	Progress
	first uint64
	born  time.Time
}

// maxArriving bounds the messages that are followed while they arrive. Who begins many and ends none cannot make us remember more.
const maxArriving = 4096

// Watch begins or ends the observation of a channel.
func (o *Observer) Watch(ch *Channel, on bool) {
	if ch.watched == on || on && ch.closed {
		return
	}
	if ch.watched = on; on {
		o.watched++
		return
	}
	o.watched--
	o.sending = slices.DeleteFunc(o.sending, func(m *Message) bool {
		if m.ch == ch {
			m.watch = nil
		}
		return m.ch == ch
	})
	maps.DeleteFunc(o.arriving, func(_ wire.PartID, a *arriving) bool { return a.Channel == ch })
}

// follow takes what the hops of some pieces tell.
func (o *Observer) follow(moved []*spread.Batch) {
	for _, b := range moved {
		m, ok := b.Items[0].Message.(*Message)
		switch {
		case !ok || !m.ch.watched:
		case m.watch == nil:
			o.begin(m)
		default:
			o.held(m, b.Items[0].Chunk.Index)
		}
	}
}

// begin begins to follow a message that has left. It is owed to those who were here when its first piece left.
func (o *Observer) begin(m *Message) {
	m.watch = &watch{byID: map[uint64]*watched{}}
	o.sending = append(o.sending, m)
	for _, p := range m.pieces[0].batch.Ring.Places {
		if p.Member.ID == o.roster.self.ID {
			continue
		}
		w := &watched{Peer: p.Member}
		m.watch.members = append(m.watch.members, w)
		m.watch.byID[w.ID] = w
		if _, live := o.roster.member(w.ID); !live {
			w.state = ProgressGone
		}
		o.tell(m, w)
	}
	for i := range m.pieces {
		if m.pieces[i].batch != nil {
			o.held(m, uint32(i))
		}
	}
}

// held notes who is known to hold a piece.
func (o *Observer) held(m *Message, piece uint32) {
	for id := range m.pieces[piece].batch.Holders() {
		if w := m.watch.byID[id]; w != nil {
			o.has(m, w, piece)
		}
	}
}

// has notes that a member holds a piece.
func (o *Observer) has(m *Message, w *watched, piece uint32) {
	if w.state != ProgressUnderWay || w.pieces.Contains(uint64(piece)) {
		return
	}
	w.pieces.Add(uint64(piece))
	if w.done += m.pieces[piece].item.Chunk.Len(); w.done == m.bytes() {
		w.state = ProgressHeld
	}
	o.tell(m, w)
}

// told takes what a member's digest says of our parts. That is finer than what hops tell, where the whole of a slice has to answer.
func (o *Observer) told(id uint64, d *receipt.Digest) {
	for _, m := range o.sending {
		w := m.watch.byID[id]
		if w == nil || w.state != ProgressUnderWay {
			continue
		}
		for i := range m.pieces {
			if p := &m.pieces[i]; p.batch != nil && d.Holds(p.item.ID.Seq) {
				o.has(m, w, uint32(i))
			}
		}
	}
}

// gone notes that a member was lost.
func (o *Observer) gone(id uint64) {
	for _, m := range o.sending {
		if w := m.watch.byID[id]; w != nil {
			o.end(m, w, ProgressGone)
		}
	}
}

// finish notes that a message of our own is done: it was given up for members that are not known to hold it.
func (o *Observer) finish(m *Message) {
	if m.watch == nil {
		return
	}
	for _, w := range m.watch.members {
		o.end(m, w, ProgressGivenUp)
	}
	o.sending = slices.DeleteFunc(o.sending, func(other *Message) bool { return other == m })
}

// end ends what is under way at one member.
func (o *Observer) end(m *Message, w *watched, s ProgressState) {
	if w.state == ProgressUnderWay {
		w.state = s
		o.tell(m, w)
	}
}

// whole follows a message that goes to a foreign member, which acknowledges nothing. It returns what is to be called when the message was
// written, nil if nobody wants to know.
func (o *Observer) whole(m *Message, to wire.Peer) (written func(ok bool, now time.Time)) {
	if !m.ch.watched {
		return nil
	}
	w := &watched{Peer: to}
	o.tell(m, w)
	return func(ok bool, _ time.Time) {
		if w.state = ProgressGivenUp; ok {
			w.done, w.state = m.bytes(), ProgressHeld
		}
		o.tell(m, w)
	}
}

// refused notes that a message is too large for a foreign member.
func (o *Observer) refused(m *Message, to wire.Peer) {
	o.tell(m, &watched{Peer: to, state: ProgressGivenUp})
}

// tell tells how a message of our own stands at a member.
func (o *Observer) tell(m *Message, w *watched) {
	_, last := m.Span()
	o.put(Progress{Channel: m.ch, From: o.roster.self, Seq: last, Member: w.Peer, Done: w.done, Total: m.bytes(), State: w.state})
}

func (o *Observer) put(p Progress) {
	if p.Channel.watched {
		o.out.Progress = append(o.out.Progress, p)
	}
}

// count gives a message by Send in pieces its number.
func (o *Observer) count() uint64 {
	o.sends++
	return o.sends
}

// shipped tells how a message by Send of our own stands.
func (o *Observer) shipped(c *Call, state ProgressState) {
	s := c.shipment
	p := Progress{Channel: c.channel, From: o.roster.self, Send: s.send, Member: c.to.Peer, Done: s.done, Total: int(s.chunk.Total), State: state}
	if state == ProgressHeld {
		p.Done = p.Total
	}
	o.put(p)
}

// gathered tells how a message by Send stands that comes in pieces.
func (o *Observer) gathered(g *gathering, state ProgressState) {
	o.put(Progress{
		Channel: g.channel, From: g.from, Send: g.send, Member: o.roster.self, Done: g.done, Total: int(g.chunk.Total), State: state,
	})
}

// arrived takes note of a piece that has come. Of a message that is not owed to us nothing is told, nor while it is not known whether it
// is, unless it is complete.
func (o *Observer) arrived(ch *Channel, it *store.Item, origin *peer) {
	log := origin.log
	first, last := it.Chunk.Span(it.ID.Seq)
	if first <= log.Floor() {
		return
	}
	lacking := log.Lacking(first, last)
	if lacking > 0 && !log.Based() {
		return
	}
	id := wire.PartID{Origin: it.ID.Origin, Seq: last}
	a := o.arriving[id]
	if a == nil {
		if len(o.arriving) >= maxArriving {
			return
		}
		a = &arriving{first: first, born: it.Born}
		a.Progress = Progress{Channel: ch, From: origin.Peer, Seq: last, Member: o.roster.self, Total: int(it.Chunk.Total)}
		o.arriving[id] = a
	}
	if a.Done = it.Chunk.Bytes(it.Chunk.Count()-int(lacking), log.Seen(last)); lacking == 0 {
		o.conclude(id, a, ProgressHeld)
		return
	}
	o.put(a.Progress)
}

// conclude ends what arrived here.
func (o *Observer) conclude(id wire.PartID, a *arriving, s ProgressState) {
	a.State = s
	o.put(a.Progress)
	delete(o.arriving, id)
}

// sweep ends what will not be complete any more.
func (o *Observer) sweep(now time.Time) {
	ids := slices.SortedFunc(maps.Keys(o.arriving), func(a, b wire.PartID) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Seq, b.Seq))
	})
	for _, id := range ids {
		a := o.arriving[id]
		switch p := o.roster.get(id.Origin); {
		case p == nil || p.log == nil || p.lost.any(a.first, id.Seq) || now.Sub(a.born) > o.age+sweepEvery:
			o.conclude(id, a, ProgressLost)
		case p.log.SeenAll(a.first, id.Seq): // a snapshot has it, say
			a.Done = a.Total
			o.conclude(id, a, ProgressHeld)
		}
	}
}
