package starling

import (
	"slices"
	"time"

	"github.com/starling-go/starling/starlingpb"
	"google.golang.org/protobuf/proto"
)

type pull struct {
	id     uint64
	until  time.Time
	want   map[uint64][]span
	stream bool
}

// bucket limits how much one member is served.
type bucket struct {
	left float64
	at   time.Time
}

// take takes n bytes if they are there.
func (b *bucket) take(n int, now time.Time) bool {
	b.left = min(serveBurst, b.left+serveBurst*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}

// pull asks a member for parts. One pull to a member at a time, and a few in all.
func (r *replica) pull(from Member, want map[uint64][]span, stream bool, now time.Time) {
	if r.rep.pulls[from.ID] != nil || len(r.rep.pulls) >= pullsAtOnce {
		return
	}
	room := r.lim.packet - controlRoom
	m := &starlingpb.Pull{}
	p := &pull{want: map[uint64][]span{}}
	for origin, spans := range sorted(want) {
		spans = spans[:min(len(spans), pullSpans, max(room/8, 0))]
		if len(spans) == 0 {
			continue
		}
		ranges := &starlingpb.Ranges{Origin: origin, Spans: appendSpans(nil, 0, spans)}
		room -= proto.Size(ranges) + 3
		m.Want = append(m.Want, ranges)
		p.want[origin] = spans
	}
	if len(m.Want) == 0 {
		return
	}
	r.rep.lastPull++
	p.id = r.rep.lastPull
	tries := r.rep.failures[from.ID]
	p.until = now.Add(min(max(r.spread.peer(from.ID).rtt.rto(), pullFirst)<<min(tries, 8), pullTimeout))
	p.stream = stream || tries >= 2
	m.Id, m.Stream = p.id, p.stream
	r.rep.pulls[from.ID] = p
	r.active = true // to see to its end
	r.tell(from, bodyPull, m, p.stream)
}

// pullHoles pulls what has been missing for a moment: from its origin, or from anybody.
func (r *replica) pullHoles(now time.Time) {
	for id, p := range r.rep.pulls {
		if now.After(p.until) {
			delete(r.rep.pulls, id)
			r.rep.failures[id]++
		}
	}
	if len(r.rep.pulls) >= pullsAtOnce {
		return
	}
	lacking := map[uint64][]span{} // by origin
	for origin, w := range r.windows {
		if len(w.holes.list) == 0 {
			continue
		}
		if spans := r.openHoles(origin, w, pullAfter, now); len(spans) > 0 {
			lacking[origin] = spans
		}
	}
	want := map[uint64]map[uint64][]span{} // by member, by origin
	to := map[uint64]Member{}
	for origin, spans := range sorted(lacking) {
		donor, ok := r.donor(origin, spans[0].lo)
		if !ok {
			continue
		}
		if want[donor.ID] == nil {
			want[donor.ID], to[donor.ID] = map[uint64][]span{}, donor
		}
		want[donor.ID][origin] = spans
	}
	for id, w := range sorted(want) {
		r.pull(to[id], w, false, now)
	}
}

// donor chooses whom to ask for a part: its origin first, then anybody who has not said that it lacks it, those last who
// have not answered lately.
func (r *replica) donor(origin, seq uint64) (Member, bool) {
	can := func(m Member) bool {
		denied := r.rep.denied[origin][m.ID]
		return r.rep.pulls[m.ID] == nil && !denied.contains(seq)
	}
	answers := func(m Member) bool { return can(m) && r.rep.failures[m.ID] < 2 }
	if m, live := r.peerByID(origin); live && answers(m) {
		return m, true
	}
	if m, ok := r.randomPeer(answers); ok {
		return m, true
	}
	return r.randomPeer(can)
}

// serve answers a pull, within what the member may still ask for.
func (r *replica) serve(from Member, m *starlingpb.Pull, now time.Time) {
	b := r.rep.buckets[from.ID]
	if b == nil {
		b = &bucket{left: serveBurst, at: now}
		r.rep.buckets[from.ID] = b
	}
	var items []*item
	var lacks []*starlingpb.Ranges
	size := 0
	for _, ranges := range m.GetWant() {
		spans, ok := readSpans(ranges.GetSpans(), 0)
		if !ok {
			r.drops.add(DropMalformed)
			return
		}
		if origin := ranges.GetOrigin(); origin == r.id && len(spans) > 0 && spans[len(spans)-1].hi > r.seq {
			// We cannot lack what we have not sent yet.
			r.tellBaseline(from, m.GetStream())
			spans = upTo(spans, r.seq)
		}
		found, missing, full := r.gather(ranges.GetOrigin(), spans, &size, now)
		items = append(items, found...)
		if len(missing) > 0 {
			lacks = append(lacks, &starlingpb.Ranges{Origin: ranges.GetOrigin(), Spans: appendSpans(nil, 0, missing)})
		}
		if full {
			break
		}
	}
	if !b.take(min(size+256, serveBurst), now) { // one part may be larger
		r.drops.add(DropRateLimited)
		return
	}
	r.answerPull(from, m, items, lacks, size, now)
}

// upTo cuts off what is above top.
func upTo(spans []span, top uint64) (out []span) {
	for _, s := range spans {
		if s.lo <= top {
			out = append(out, span{s.lo, min(s.hi, top)})
		}
	}
	return out
}

// gather collects kept parts of an origin in the given ranges until the answer is full, and what is not kept of them.
func (r *replica) gather(origin uint64, spans []span, size *int, now time.Time) (found []*item, lacks []span, full bool) {
	for _, s := range spans {
		next := s.lo
		for it := range r.history.ascend(origin, s.lo, s.hi) {
			if now.Sub(it.born) >= r.lim.retention.Age {
				continue
			}
			if *size > 0 && *size+len(it.frame) > serveByStream {
				return found, lacks, true
			}
			if it.id.seq > next {
				lacks = append(lacks, span{next, it.id.seq - 1})
			}
			next = it.id.seq + 1
			found = append(found, it)
			*size += len(it.frame) + 4
		}
		if next <= s.hi && next != 0 {
			lacks = append(lacks, span{next, s.hi})
		}
		if len(lacks) >= pullSpans {
			return found, lacks[:pullSpans], true
		}
	}
	return found, lacks, false
}

// answerPull sends the parts, in packets if they are few, and ends with what is lacking.
func (r *replica) answerPull(to Member, m *starlingpb.Pull, items []*item, lacks []*starlingpb.Ranges, size int, now time.Time) {
	end := &starlingpb.Batch{Via: starlingpb.Batch_REPAIR, Pull: m.GetId(), Lacks: lacks}
	large := func(it *item) bool { return len(it.frame)+4 > r.lim.packet-controlRoom }
	stream := m.GetStream() || size > serveByPacket || slices.ContainsFunc(items, large) || proto.Size(end) > r.lim.packet-controlRoom
	var frames [][]byte
	room := r.lim.packet - controlRoom
	for _, it := range items {
		if !stream && room < len(it.frame)+4 {
			r.post(packet{to: to, head: encodeBatch(r.self, starlingpb.Batch_REPAIR, frames...)})
			frames, room = nil, r.lim.packet-controlRoom
		}
		room -= len(it.frame) + 4
		frames = append(frames, appendRestamped(make([]byte, 0, len(it.frame)), it.frame, now.Sub(it.born)))
		r.repaired++
	}
	if !stream && proto.Size(end) > room {
		r.post(packet{to: to, head: encodeBatch(r.self, starlingpb.Batch_REPAIR, frames...)})
		frames = nil
	}
	end.Parts = frames
	r.tell(to, bodyBatch, end, stream)
}

// pulled notes the end of the answer to a pull: what the member lacks, somebody else may have.
func (r *replica) pulled(from Member, id uint64, lacks []*starlingpb.Ranges, now time.Time) {
	p := r.rep.pulls[from.ID]
	if p == nil || p.id != id {
		return
	}
	delete(r.rep.pulls, from.ID)
	if !p.stream || r.rep.rng.IntN(packetAgain) == 0 {
		delete(r.rep.failures, from.ID)
	}
	for _, ranges := range lacks {
		spans, ok := readSpans(ranges.GetSpans(), 0)
		if w := r.windows[ranges.GetOrigin()]; ok && w != nil {
			r.deny(ranges.GetOrigin(), w, from.ID, spans, now)
		}
	}
	r.pullHoles(now)
}
