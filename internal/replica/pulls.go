package replica

import (
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// pulls asks members for what is missing, and serves them what they miss.
type pulls struct {
	out       *output
	roster    *roster
	intake    *intake
	baselines *baselines
	gaps      *gaps
	relays    interface { // what we bring to others of what is not ours
		Brings(piece wire.PartID, to uint64, now time.Time) bool
		Carries(to uint64, now time.Time) bool
	}

	open     []*peer // who is asked; Invariant: those whose pull is not nil; at most pullsAtOnce
	last     uint64  // the number of the last pull
	repaired uint64  // parts sent because somebody lacked them
}

// pull is what one member is asked for.
type pull struct {
	id     uint64
	began  time.Time
	until  time.Time
	want   map[uint64][]seqset.Span // by origin
	stream bool
}

// bucket limits how much one member is served.
type bucket struct {
	left float64
	at   time.Time // zero: full
}

const (
	pullAfter   = spread.FlatTime       // a hole this young may still be filled by the spread
	pullFirst   = 20 * time.Millisecond // for the answer to a pull, at least; doubled while there is none
	pullTimeout = time.Second
	pullsAtOnce = 4
	packetAgain = 8 // a member whom packets did not reach is tried by packet once in so many times

	serveByPacket = 4 * 1400  // an answer up to here goes in packets
	serveByStream = 256 << 10 // one answer is at most this, or one part: over a slow link it still comes before it is asked for again
	unproven      = 10        // an answer is at most so many times the question, to a member that has not shown that it is where it says
	serveBurst    = 8 << 20   // a member is served this much at once, and as much again each second
)

// take takes n bytes if they are there.
func (b *bucket) take(n int, now time.Time) bool {
	if b.at.IsZero() {
		b.left = serveBurst
	} else {
		b.left = min(serveBurst, b.left+serveBurst*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}

// pull asks a member for parts. One pull to a member at a time, and a few in all.
func (pu *pulls) pull(from *peer, want map[uint64][]seqset.Span, stream bool, now time.Time) {
	if from.pull != nil || len(pu.open) >= pullsAtOnce {
		return
	}
	room := pu.out.packet - controlRoom
	m := &starlingpb.Pull{}
	p := &pull{want: map[uint64][]seqset.Span{}}
	for origin, spans := range sortedMap(want) {
		spans = spans[:min(len(spans), wire.PullSpans, max(room/8, 0))]
		if len(spans) == 0 {
			continue
		}
		ranges := &starlingpb.Ranges{Origin: origin, Spans: wire.AppendSpans(nil, 0, spans)}
		room -= proto.Size(ranges) + 3
		m.Want = append(m.Want, ranges)
		p.want[origin] = spans
	}
	if len(m.Want) == 0 {
		return
	}
	pu.last++
	p.id, p.began = pu.last, now
	p.until = now.Add(min(max(from.spread.RTO(), pullFirst)<<min(from.failures, 8), pullTimeout))
	if p.stream = stream || from.failures >= 2; p.stream {
		p.until = now.Add(pullTimeout) // it may be long
	}
	m.Id, m.Stream, m.Proof = p.id, p.stream, from.proofOf
	from.pull = p
	pu.open = append(pu.open, from)
	pu.out.stir() // to see to its end
	pu.out.tell(from.Peer, wire.BodyPull, m, p.stream)
}

// end ends the pull from a peer.
func (pu *pulls) end(from *peer) {
	if from.pull != nil {
		from.pull = nil
		pu.open = slices.DeleteFunc(pu.open, func(o *peer) bool { return o == from })
	}
}

// tick gives up pulls that were not answered, and pulls what has been missing for a moment: from its origin, or from anybody.
func (pu *pulls) tick(now time.Time) {
	for _, p := range slices.Clone(pu.open) {
		if now.After(p.pull.until) {
			p.late = p.pull
			pu.end(p)
			p.failures++
		}
	}
	if len(pu.open) >= pullsAtOnce {
		return
	}
	lacking := pu.roster.sorted(func(p *peer) bool { return p.log != nil && p.log.Incomplete() })
	want := map[uint64]map[uint64][]seqset.Span{} // by member, by origin
	for _, origin := range lacking {
		pu.gaps.age(origin, now)
		pu.divide(origin, pu.openHoles(origin, pullAfter, now), want)
	}
	for _, answering := range []bool{true, false} { // those first that will not keep one of the few pulls busy for nothing
		for id, w := range sortedMap(want) {
			if p := pu.roster.get(id); p.answers() == answering {
				pu.pull(p, w, false, now)
			}
		}
	}
}

// divide adds to want, by member, whom to ask for which holes of an origin: rather one member than many. What anybody may have does not
// wait for the answer of the only one who may have something else.
func (pu *pulls) divide(origin *peer, holes []seqset.Span, want map[uint64]map[uint64][]seqset.Span) {
	if len(holes) == 0 {
		return
	}
	for donor := range pu.donors(origin) {
		denied := origin.denied[donor.ID]
		lacks, has := denied.Divide(holes)
		if len(has) > 0 {
			if want[donor.ID] == nil {
				want[donor.ID] = map[uint64][]seqset.Span{}
			}
			want[donor.ID][origin.ID] = has
		}
		if holes = lacks; len(holes) == 0 {
			return
		}
	}
}

// donors yields whom parts of an origin can be pulled from now: the origin first, then all from a random one on, those last who have not
// answered lately.
func (pu *pulls) donors(origin *peer) iter.Seq[*peer] {
	return func(yield func(*peer) bool) {
		if origin.live() && origin.answers() && origin.pull == nil && !yield(origin) {
			return
		}
		ours := pu.roster.ours
		if len(ours) == 0 {
			return
		}
		at := pu.roster.rng.IntN(len(ours))
		for _, answering := range []bool{true, false} {
			for i := range ours {
				p := ours[(at+i)%len(ours)]
				if p.pull == nil && p.answers() == answering && !yield(p) {
					return
				}
			}
		}
	}
}

// unbased returns what to look for of an origin that is gone and cannot tell our baseline any more.
func (pu *pulls) unbased(origin *peer, top uint64) []seqset.Span {
	if !origin.gone() {
		return nil
	}
	var out []seqset.Span
	lo := max(top-min(top, lookBack)+1, origin.log.Floor()+1)
	for from, to := range origin.log.NotHeld(lo, top) {
		out = append(out, seqset.Span{Lo: from, Hi: to})
	}
	return pu.notAsked(origin.ID, out)
}

// openHoles returns the holes of an origin known for at least age, but for what is being pulled already.
func (pu *pulls) openHoles(origin *peer, age time.Duration, now time.Time) []seqset.Span {
	var out []seqset.Span
	for _, h := range origin.log.Missing(wire.PullSpans) {
		if now.Sub(h.Since) >= age {
			out = append(out, seqset.Span{Lo: h.Lo, Hi: h.Hi})
		}
	}
	return pu.notAsked(origin.ID, origin.coming.without(out, now))
}

// notAsked takes out what some member has been asked for and may still send.
func (pu *pulls) notAsked(origin uint64, spans []seqset.Span) []seqset.Span {
	if len(spans) == 0 || len(pu.open) == 0 {
		return spans
	}
	var set seqset.Set
	for _, s := range spans {
		set.AddRange(s.Lo, s.Hi)
	}
	for _, p := range pu.open {
		for _, s := range p.pull.want[origin] {
			set.RemoveRange(s.Lo, s.Hi)
		}
	}
	return set.All()
}

// serve answers a pull, within what the member may still ask for.
func (pu *pulls) serve(from *peer, m *starlingpb.Pull, now time.Time) {
	var items []*store.Item
	var lacks []*starlingpb.Ranges
	sending := false
	size, limit := 0, serveByStream
	if !pu.roster.proven(from, m.GetProof()) {
		limit = unproven * proto.Size(m)
	}
	for _, ranges := range m.GetWant() {
		origin := ranges.GetOrigin()
		spans, ok := wire.ReadSpans(ranges.GetSpans(), 0)
		if !ok {
			pu.out.drop(DropMalformed)
			return
		}
		if own := pu.intake.own; origin == pu.roster.self.ID && len(spans) > 0 && spans[len(spans)-1].Hi > own {
			// We cannot lack what we have not sent yet.
			pu.baselines.tell(from, from.Peer, 0, m.GetStream(), now)
			spans = upTo(spans, own)
		}
		found, missing, full := pu.gather(from.ID, origin, spans, &size, limit, &sending, now)
		items = append(items, found...)
		if len(missing) > 0 {
			lacks = append(lacks, &starlingpb.Ranges{Origin: origin, Spans: wire.AppendSpans(nil, 0, missing)})
		}
		if full {
			break
		}
	}
	if !from.bucket.take(min(size+256, serveBurst), now) { // one part may be larger
		pu.out.drop(DropRateLimited)
		return
	}
	end := &starlingpb.Batch{Via: starlingpb.Batch_REPAIR, Pull: m.GetId(), Lacks: lacks, Proof: from.proof, Sending: sending}
	pu.answer(from.Peer, end, items, m.GetStream() && from.placed(), size, now)
}

// upTo cuts off what is above top.
func upTo(spans []seqset.Span, top uint64) (out []seqset.Span) {
	for _, s := range spans {
		if s.Lo <= top {
			out = append(out, seqset.Span{Lo: s.Lo, Hi: min(s.Hi, top)})
		}
	}
	return out
}

// gather collects for a member the kept parts of an origin in the given ranges, until the answer is full, and what is not kept of them.
// What is on its way to the member already is sending.
func (pu *pulls) gather(to, origin uint64, spans []seqset.Span, size *int, limit int, sending *bool, now time.Time) (found []*store.Item, lacks []seqset.Span, full bool) {
	for _, s := range spans {
		next := s.Lo
		for it := range pu.intake.history.Ascend(origin, s.Lo, s.Hi) {
			if now.Sub(it.Born) >= pu.intake.age {
				continue
			}
			if pu.brings(it, to, now) { // neither given nor lacking
				if it.ID.Seq > next {
					lacks = append(lacks, seqset.Span{Lo: next, Hi: it.ID.Seq - 1})
				}
				next, *sending = it.ID.Seq+1, true
				continue
			}
			if (*size > 0 || limit < serveByStream) && *size+len(it.Frame) > limit {
				return found, lacks, true
			}
			if it.ID.Seq > next {
				lacks = append(lacks, seqset.Span{Lo: next, Hi: it.ID.Seq - 1})
			}
			next = it.ID.Seq + 1
			found = append(found, it)
			*size += len(it.Frame) + 4
		}
		if next <= s.Hi && next != 0 {
			lacks = append(lacks, seqset.Span{Lo: next, Hi: s.Hi})
		}
		if len(lacks) >= wire.PullSpans {
			return found, lacks[:wire.PullSpans], true
		}
	}
	return found, lacks, false
}

// brings reports whether a piece of a large message is on its way to a member: from us, whoever has broadcast it.
func (pu *pulls) brings(it *store.Item, to uint64, now time.Time) bool {
	if it.Chunk.Whole() {
		return false
	}
	if m, ours := it.Message.(*Message); ours {
		return pu.relays.Carries(to, now) || m.brings(it, to, now)
	}
	return pu.relays.Carries(to, now) || pu.relays.Brings(it.ID, to, now)
}

// answer sends the parts, in packets if they are few, and ends with what end says.
func (pu *pulls) answer(to wire.Peer, end *starlingpb.Batch, items []*store.Item, stream bool, size int, now time.Time) {
	packet := pu.out.packet - controlRoom
	large := func(it *store.Item) bool { return len(it.Frame)+4 > packet }
	stream = stream || size > serveByPacket || slices.ContainsFunc(items, large) || proto.Size(end) > packet
	var frames [][]byte
	room := packet
	for _, it := range items {
		if !stream && room < len(it.Frame)+4 {
			pu.post(to, frames)
			frames, room = nil, packet
		}
		room -= len(it.Frame) + 4
		frames = append(frames, it.Restamped(now))
		pu.repaired++
	}
	if !stream && proto.Size(end) > room {
		pu.post(to, frames)
		frames = nil
	}
	end.Parts = frames
	pu.out.tell(to, wire.BodyBatch, end, stream)
}

func (pu *pulls) post(to wire.Peer, frames [][]byte) {
	pu.out.post(wire.Packet{To: to, Head: wire.EncodeBatch(pu.roster.self, starlingpb.Batch_REPAIR, frames...)})
}

// expect notes that what was pulled is on its way by itself, since the member that was asked is sending it, or other pieces of large messages. Where
// the answer took long, that will too.
func (pu *pulls) expect(p *pull, now time.Time) {
	until := now.Add(min(max(comingSoon, now.Sub(p.began)), comingMost))
	for id, spans := range sortedMap(p.want) {
		for _, s := range spans {
			if origin := pu.roster.get(id); origin != nil {
				origin.coming.expect(s.Lo, s.Hi, until, now)
			}
		}
	}
}

// ended notes the end of the answer to a pull: what the member lacks, somebody else may have.
func (pu *pulls) ended(from *peer, end wire.PullEnd, now time.Time) {
	p := from.pull
	switch {
	case p != nil && p.id == end.Pull:
		pu.end(from)
	case from.late != nil && from.late.id == end.Pull:
		p = from.late // what it sends, and what it lacks, is true all the same
	default:
		return
	}
	from.late = nil
	from.proofOf = end.Proof
	if !p.stream || pu.roster.rng.IntN(packetAgain) == 0 {
		from.failures = 0
	}
	if end.Sending {
		pu.expect(p, now)
	}
	noted := true
	for _, ranges := range end.Lacks {
		spans, ok := wire.ReadSpans(ranges.GetSpans(), 0)
		if origin := pu.roster.get(ranges.GetOrigin()); ok && origin != nil && origin.log != nil {
			noted = pu.gaps.deny(origin, from.ID, spans, now) && noted
		}
	}
	if noted { // or it would be asked the same again at once, without end
		pu.tick(now)
	}
}
