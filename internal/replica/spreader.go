package replica

import (
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// spreader carries out what the spread wants: it turns sends and reports into frames, and takes the batches of others.
type spreader struct {
	out      *output
	roster   *roster
	receiver *receiver

	from    []byte // our id as the sender, encoded
	spread  *spread.Spread
	relayed uint64 // parts of others sent on to members behind us

	arrived []*store.Item // scratch: the parts of the packet that is being received
	acks    []*ackFrame   // in the order in which they were begun
	acksTo  map[uint64]*ackFrame
	spare   []*ackFrame
}

// ackFrame is the reports that wait to be sent to one member: all that were made since the last pump go in one frame, if they fit
// one.
type ackFrame struct {
	to      wire.Peer
	content []byte // encoded
	stream  bool
}

// due reports whether there is something to carry out.
func (sp *spreader) due() bool {
	return len(sp.acks) > 0 || len(sp.spread.Sends) > 0 || len(sp.spread.Reports) > 0 || len(sp.spread.Finished) > 0 ||
		len(sp.spread.Moved) > 0
}

// carry turns what the spread wants into frames, and returns the batches of our own that are done.
func (sp *spreader) carry(now time.Time) (done []*spread.Batch) {
	s := sp.spread
	for _, send := range s.Sends {
		sp.transmit(send, now)
	}
	for _, rep := range s.Reports {
		sp.acknowledge(rep)
	}
	done = s.Finished
	clear(s.Sends)
	clear(s.Reports)
	s.Sends, s.Reports, s.Finished = s.Sends[:0], s.Reports[:0], nil
	return done
}

// transmit sends a batch, or a question about it, to the head of a slice.
func (sp *spreader) transmit(send spread.Send, now time.Time) {
	h := send.Hop
	if h.Batch.ID.Root != sp.roster.self.ID && !send.Query {
		sp.relayed += uint64(len(h.Batch.Items))
	}
	flags := uint64(0)
	if send.List {
		flags |= wire.FlagList
	}
	from, id, end, items := sp.from, h.Batch.ID, h.End, h.Batch.Items
	if try := len(h.Sent); try <= wire.MaxTry && !send.Stream {
		flags |= uint64(try) << wire.TryShift // of the copy by packet alone: a stream tells nothing of the round trip
	}
	if send.Query {
		items = nil
	}
	if send.Stream {
		// Encoded when it leaves, without the owner's lock: from what cannot change.
		st := wire.Stream{To: h.To, Size: h.Batch.Size, Bulk: h.Flying(), Encode: func(now time.Time) []byte {
			return wire.EncodeSpread(from, id, end, flags|wire.FlagStream, spread.AppendParts(nil, items, now))
		}}
		if h.Flying() {
			st.Written = func(ok bool, now time.Time) { sp.spread.Written(h, ok, now) }
			st.Moved = func(now time.Time) { sp.spread.Read(h, now) }
		}
		sp.out.Streams = append(sp.out.Streams, st)
		return
	}
	var parts []byte
	if items != nil {
		parts = h.Batch.Encoded(now)
	}
	sp.out.post(wire.Packet{To: h.To, Head: wire.SpreadHeader(from, id, end, flags, len(parts)), Tail: parts})
}

// acknowledge queues a report for its member.
func (sp *spreader) acknowledge(rep spread.Answer) {
	a := sp.acksTo[rep.To.ID]
	if a == nil {
		a = sp.newAckFrame(rep.To)
	}
	room := sp.out.packet - len(sp.from) - wire.ControlFraming
	if len(a.content) > 0 && len(a.content)+wire.ReportSize(rep.Report) > room {
		sp.post(a)
	}
	a.content = wire.AppendReport(a.content, rep.Report)
	a.stream = a.stream || rep.Stream
}

func (sp *spreader) newAckFrame(to wire.Peer) *ackFrame {
	a := new(ackFrame)
	if n := len(sp.spare); n > 0 {
		a, sp.spare = sp.spare[n-1], sp.spare[:n-1]
	}
	a.to = to
	sp.acksTo[to.ID] = a
	sp.acks = append(sp.acks, a)
	return a
}

// maxSpareAcks is how many frames are kept for later: nearly always a member has few parents at a time.
const maxSpareAcks = 16

// sendAcks sends the queued reports.
func (sp *spreader) sendAcks() {
	for _, a := range sp.acks {
		delete(sp.acksTo, a.to.ID)
		sp.post(a)
		if len(sp.spare) < maxSpareAcks {
			*a = ackFrame{content: a.content}
			sp.spare = append(sp.spare, a)
		}
	}
	clear(sp.acks)
	sp.acks = sp.acks[:0]
}

// post sends the reports that wait for one member.
func (sp *spreader) post(a *ackFrame) {
	frame := append(wire.ControlHead(sp.from, wire.BodyReports, len(a.content), len(a.content)), a.content...)
	a.content = a.content[:0]
	if a.stream || len(frame) > sp.out.packet {
		sp.out.Streams = append(sp.out.Streams, wire.RawStream(a.to, frame))
		return
	}
	sp.out.post(wire.Packet{To: a.to, Head: frame})
}

// receive takes a batch from a member: holds what is new, serves its slice, and answers.
func (sp *spreader) receive(from wire.Peer, f wire.SpreadFrame, now time.Time) {
	sp.spread.Ring = sp.roster.refresh()
	via := wire.RouteGossip
	if f.Flags&wire.FlagStream != 0 {
		via = wire.RouteStream
	}
	serves := sp.spread.Ring.Until(f.End) > 1
	lack := false
	items := sp.arrived[:0]
	for frame, ok := f.Next(); ok; frame, ok = f.Next() {
		it, held := sp.receiver.passOn(frame, via, serves, now)
		lack = lack || !held
		if it != nil {
			items = append(items, it)
		}
	}
	sp.spread.Receive(spread.Offer{
		From: from, ID: f.ID, End: f.End, Items: items, Lack: lack,
		List: f.Flags&wire.FlagList != 0, Stream: via == wire.RouteStream, Try: f.Flags >> wire.TryShift,
	}, now)
	clear(items)
	sp.arrived = items
}

// report takes the reports of a member.
func (sp *spreader) report(from *peer, content []byte, now time.Time) {
	for rep := range wire.ReportsIn(content) {
		sp.spread.Report(from.ID, rep, now)
	}
}
