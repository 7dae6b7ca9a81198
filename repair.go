package starling

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// Anti-entropy: members that had traffic lately tell each other in digests what they have had, and who lacks something
// pulls it. This alone makes everyone get everything; whatever else spreads a message only makes it fast.

const (
	digestEvery   = 200 * time.Millisecond // between digests while there is news
	digestLongest = 3 * time.Second        // between digests when nothing is new
	streamDigest  = 5                      // every so many digests one goes by stream: packets may not get through at all
	digestSpans   = 64                     // ranges told of one origin

	pullAfter   = 30 * time.Millisecond // a hole this young may still be filled by what is on its way
	pullFirst   = 20 * time.Millisecond // for the answer to a pull, at least; doubled while there is none
	pullTimeout = time.Second
	pullsAtOnce = 4
	pullSpans   = 256
	maxSpans    = 1024 // ranges of one origin that are read from a frame

	serveByPacket = 4 * MaxGossipPacketSize // an answer up to here goes in packets
	serveByStream = 1 << 20                 // one answer is at most this, or one part
	serveBurst    = 8 << 20                 // a member is served this much at once, and as much again each second

	// controlRoom is what a control frame needs beside its content: the sender, whose name may be long, and framing.
	controlRoom = maxNameSize + 64

	denialsForGap = 4 // who must lack a part before it is given up early: its origin, and three others
	askEvery      = 250 * time.Millisecond
	unbasedSpan   = 4096 // how far back a part of an origin that is gone is looked for
)

// repairs is what a replica remembers for mending.
type repairs struct {
	rng      *rand.Rand
	digestAt time.Time // when the next digest is due; zero: none
	pause    time.Duration
	sent     int    // digests
	turn     uint64 // the origin that the next digest begins after, when they do not all fit

	pulls    map[uint64]*pull // by the id of the member asked
	failures map[uint64]int   // pulls in a row that a member has not answered
	lastPull uint64
	buckets  map[uint64]*bucket              // what members may still ask for
	denied   map[uint64]map[uint64]intervals // by origin, by member: what it said it lacks, of our holes

	bases     map[uint64]uint64    // our next seq when a member entered our membership
	met       map[uint64]time.Time // when a member entered it first
	aloneFrom uint64               // our next seq when we were left alone
	asks      map[uint64]*ask      // origins that have not told our baseline yet
}

type pull struct {
	id    uint64
	until time.Time
	want  map[uint64][]span
}

type ask struct {
	at    time.Time
	tries int
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

func newRepairs(seed uint64) repairs {
	return repairs{
		rng:   rand.New(rand.NewPCG(seed, seed>>1)),
		pulls: map[uint64]*pull{}, failures: map[uint64]int{}, buckets: map[uint64]*bucket{},
		denied: map[uint64]map[uint64]intervals{},
		bases:  map[uint64]uint64{}, met: map[uint64]time.Time{}, asks: map[uint64]*ask{},
		aloneFrom: 1,
	}
}

// appendSpans encodes ranges relative to what came before: distance, length less one.
func appendSpans(dst []uint64, base uint64, spans []span) []uint64 {
	for _, s := range spans {
		dst = append(dst, s.lo-base, s.hi-s.lo)
		base = s.hi
	}
	return dst
}

// readSpans decodes ranges above base, and reports false for what appendSpans cannot have written.
func readSpans(src []uint64, base uint64) ([]span, bool) {
	if len(src)%2 != 0 || len(src) > 2*maxSpans {
		return nil, false
	}
	var spans []span
	for i := 0; i < len(src); i += 2 {
		if src[i] == 0 || src[i] > math.MaxUint64-base {
			return nil, false
		}
		lo := base + src[i]
		if src[i+1] > math.MaxUint64-lo {
			return nil, false
		}
		base = lo + src[i+1]
		spans = append(spans, span{lo, base})
	}
	return spans, true
}

// encodeDigest turns a window's digest into its message.
func encodeDigest(origin uint64, d digest) *starlingpb.OriginDigest {
	m := &starlingpb.OriginDigest{Origin: origin, Floor: d.floor, Top: d.top, Held: appendSpans(nil, d.floor, d.held)}
	if d.known != d.top {
		m.Known = d.known
	}
	return m
}

// decodeDigest is the inverse of encodeDigest. It reports false for what no window says.
func decodeDigest(m *starlingpb.OriginDigest) (digest, bool) {
	d := digest{floor: m.GetFloor(), known: m.GetKnown(), top: m.GetTop()}
	if d.known == 0 {
		d.known = d.top
	}
	held, ok := readSpans(m.GetHeld(), d.floor)
	d.held = held
	ok = ok && m.GetOrigin() != 0 && d.floor <= d.known && d.known <= d.top
	return d, ok && (len(held) == 0 || held[len(held)-1].hi <= d.known)
}

// offers returns what of want the member of that digest may give: what it says it holds, and what is at or below its
// floor, of which it may still keep some.
func (d *digest) offers(want []span) []span {
	var out []span
	for _, w := range want {
		if w.lo <= d.floor {
			out = append(out, span{w.lo, min(w.hi, d.floor)})
		}
		for _, h := range d.held {
			if lo, hi := max(w.lo, h.lo), min(w.hi, h.hi); lo <= hi {
				out = append(out, span{lo, hi})
			}
		}
	}
	return out
}

// misses reports whether a member of that digest lacks anything that the one of digest mine has.
func (d *digest) misses(mine digest) bool {
	if mine.top > d.top && (mine.floor == mine.top || len(mine.held) > 0) {
		return true
	}
	for _, h := range mine.held {
		if h.hi > d.floor && d.lacks(max(h.lo, d.floor+1)) {
			return true
		}
	}
	return mine.floor > d.floor && d.lacks(d.floor+1)
}

// busy reports whether there is anything to mend or to tell.
func (r *replica) busy() bool {
	return len(r.gaps) > 0 || r.history.len() > 0 || len(r.rep.pulls) > 0 || len(r.rep.asks) > 0 || r.holes() || r.syncing()
}

func (r *replica) holes() bool {
	for _, w := range r.windows {
		if len(w.holes.list) > 0 {
			return true
		}
	}
	return false
}

// news makes the next digest come soon: something is here that others may lack.
func (r *replica) news(now time.Time) {
	r.active = true
	r.rep.pause = digestEvery
	if at := now.Add(digestEvery); r.rep.digestAt.IsZero() || r.rep.digestAt.After(at) {
		r.rep.digestAt = at
	}
}

// sendDigest tells a random member what we have had, less and less often while nothing is new.
func (r *replica) sendDigest(now time.Time) {
	if r.rep.digestAt.IsZero() || now.Before(r.rep.digestAt) {
		return
	}
	if r.history.len() == 0 {
		r.rep.digestAt = time.Time{}
		return
	}
	jitter := time.Duration(r.rep.rng.Int64N(int64(r.rep.pause)/2 + 1))
	r.rep.digestAt = now.Add(r.rep.pause*3/4 + jitter)
	r.rep.pause = min(r.rep.pause*3/2, digestLongest)
	to, ok := r.randomPeer(nil)
	if !ok {
		return
	}
	r.rep.sent++
	r.tell(to, bodyDigest, r.digests(false), r.rep.sent%streamDigest == 0)
}

// digests describes the origins of which something is kept, as many as fit a packet, taking turns.
func (r *replica) digests(answer bool) *starlingpb.Digest {
	origins := slices.Collect(r.history.origins())
	at, _ := slices.BinarySearch(origins, r.rep.turn+1)
	room := r.lim.packet - controlRoom
	d := &starlingpb.Digest{Answer: answer}
	for i := range origins {
		origin := origins[(at+i)%len(origins)]
		m := encodeDigest(origin, r.digestOf(origin))
		if room -= proto.Size(m) + 3; room < 0 {
			return d
		}
		d.Origins = append(d.Origins, m)
		r.rep.turn = origin
	}
	d.Complete = true
	return d
}

// digestOf describes one origin, ourselves included.
func (r *replica) digestOf(origin uint64) digest {
	if origin == r.id {
		return digest{floor: r.seq, known: r.seq, top: r.seq}
	}
	if w := r.windows[origin]; w != nil {
		return w.digest(digestSpans)
	}
	return digest{}
}

// receiveDigest compares a member's digest with what we have, pulls what it offers, and answers if it lacks something.
func (r *replica) receiveDigest(from Member, m *starlingpb.Digest, via Via, now time.Time) {
	lacking := false
	want := map[uint64][]span{}
	told := map[uint64]bool{}
	for _, o := range m.GetOrigins() {
		d, ok := decodeDigest(o)
		if !ok {
			r.drops.add(DropMalformed)
			return
		}
		told[o.GetOrigin()] = true
		if o.GetOrigin() != r.id {
			if spans := r.wanted(o.GetOrigin(), d, now); len(spans) > 0 {
				want[o.GetOrigin()] = spans
			}
		}
		lacking = lacking || d.misses(r.digestOf(o.GetOrigin()))
	}
	if len(want) > 0 {
		r.pull(from, want, via == Stream, now)
	}
	if m.GetAnswer() {
		return
	}
	if m.GetComplete() {
		for origin := range r.history.origins() {
			lacking = lacking || !told[origin]
		}
	}
	if lacking {
		r.tell(from, bodyDigest, r.digests(true), via == Stream)
	}
}

// wanted returns what of an origin we miss and the member of that digest may give.
func (r *replica) wanted(origin uint64, d digest, now time.Time) []span {
	w := r.window(origin, now)
	if w == nil {
		return nil
	}
	before := w.top
	w.announce(d.top, now)
	if w.top > before {
		r.news(now)
	}
	if !w.based {
		r.askBaseline(origin, now)
		return d.offers(r.unbased(origin, w, d))
	}
	return d.offers(r.openHoles(origin, w, 0, now))
}

// unbased returns what to look for of an origin that cannot tell our baseline any more. Only parts born after we met it
// will be delivered.
func (r *replica) unbased(origin uint64, w *window, d digest) []span {
	if _, live := r.peerByID(origin); live {
		return nil
	}
	if _, met := r.rep.met[origin]; !met {
		return nil
	}
	var out []span
	lo := max(d.top-min(d.top, unbasedSpan)+1, w.floor+1)
	for from, to := range w.held.holes(lo, d.top) {
		out = append(out, span{from, to})
	}
	return r.notAsked(origin, out)
}

// openHoles returns the holes of an origin known for at least age, but for what is being pulled already.
func (r *replica) openHoles(origin uint64, w *window, age time.Duration, now time.Time) []span {
	var out []span
	for _, h := range w.missing(pullSpans) {
		if now.Sub(h.since) >= age {
			out = append(out, span{h.lo, h.hi})
		}
	}
	return r.notAsked(origin, out)
}

// notAsked takes out what some member has been asked for and may still send.
func (r *replica) notAsked(origin uint64, spans []span) []span {
	if len(spans) == 0 || len(r.rep.pulls) == 0 {
		return spans
	}
	var set intervals
	for _, s := range spans {
		set.addRange(s.lo, s.hi)
	}
	for _, p := range r.rep.pulls {
		for _, s := range p.want[origin] {
			set.removeRange(s.lo, s.hi)
		}
	}
	return set.spans
}

// pull asks a member for parts. One pull to a member at a time, and a few in all.
func (r *replica) pull(from Member, want map[uint64][]span, stream bool, now time.Time) {
	if r.rep.pulls[from.ID] != nil || len(r.rep.pulls) >= pullsAtOnce {
		return
	}
	room := r.lim.packet - controlRoom
	m := &starlingpb.Pull{}
	p := &pull{want: map[uint64][]span{}}
	for origin, spans := range want {
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
	stream = stream || tries >= 2
	m.Id, m.Stream = p.id, stream
	r.rep.pulls[from.ID] = p
	r.tell(from, bodyPull, m, stream)
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
	want := map[uint64]map[uint64][]span{} // by member, by origin
	to := map[uint64]Member{}
	for origin, w := range r.windows {
		if len(w.holes.list) == 0 {
			continue
		}
		spans := r.openHoles(origin, w, pullAfter, now)
		if len(spans) == 0 {
			continue
		}
		donor, ok := r.donor(origin, spans[0].lo)
		if !ok {
			continue
		}
		if want[donor.ID] == nil {
			want[donor.ID], to[donor.ID] = map[uint64][]span{}, donor
		}
		want[donor.ID][origin] = spans
	}
	for id, w := range want {
		r.pull(to[id], w, false, now)
	}
}

// donor chooses whom to ask for a part: its origin first, then anybody who has not said that it lacks it.
func (r *replica) donor(origin, seq uint64) (Member, bool) {
	can := func(m Member) bool {
		denied := r.rep.denied[origin][m.ID]
		return r.rep.pulls[m.ID] == nil && !denied.contains(seq)
	}
	if m, live := r.peerByID(origin); live && can(m) && r.rep.failures[m.ID] < 4 {
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
		found, missing, full := r.gather(ranges.GetOrigin(), spans, &size, now)
		items = append(items, found...)
		if len(missing) > 0 {
			lacks = append(lacks, &starlingpb.Ranges{Origin: ranges.GetOrigin(), Spans: appendSpans(nil, 0, missing)})
		}
		if full {
			break
		}
	}
	if !b.take(size+256, now) {
		r.drops.add(DropRateLimited)
		return
	}
	r.answerPull(from, m, items, lacks, size, now)
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
	stream := m.GetStream() || size > serveByPacket || proto.Size(end) > r.lim.packet-controlRoom
	var frames [][]byte
	room := r.lim.packet - controlRoom
	for _, it := range items {
		if !stream && room < len(it.frame)+4 {
			r.post(packet{to, encodeBatch(r.self, starlingpb.Batch_REPAIR, frames...)})
			frames, room = nil, r.lim.packet-controlRoom
		}
		room -= len(it.frame) + 4
		frames = append(frames, appendRestamped(make([]byte, 0, len(it.frame)), it.frame, now.Sub(it.born)))
		r.repaired++
	}
	if !stream && proto.Size(end) > room {
		r.post(packet{to, encodeBatch(r.self, starlingpb.Batch_REPAIR, frames...)})
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
	delete(r.rep.failures, from.ID)
	for _, ranges := range lacks {
		spans, ok := readSpans(ranges.GetSpans(), 0)
		if w := r.windows[ranges.GetOrigin()]; ok && w != nil {
			r.deny(ranges.GetOrigin(), w, from.ID, spans, now)
		}
	}
	r.pullHoles(now)
}

// deny notes that a member lacks parts. When the origin and three others do, or everybody, nobody has them.
func (r *replica) deny(origin uint64, w *window, by uint64, spans []span, now time.Time) {
	all := r.rep.denied[origin]
	if all == nil {
		all = map[uint64]intervals{}
		r.rep.denied[origin] = all
	}
	set, known := all[by]
	if !known && len(all) >= 2*denialsForGap && by != origin {
		return
	}
	for _, s := range spans {
		if set.count() < maxRanges {
			set.addRange(s.lo, s.hi)
		}
	}
	all[by] = set
	if _, live := r.peerByID(origin); !live || !w.based {
		return // nobody can say for certain; a hole becomes a gap when its time is up
	}
	need := min(denialsForGap, len(r.peers)-r.foreign)
	for _, h := range w.missing(maxRanges) {
		for lo, hi := range common(all, origin, span{h.lo, h.hi}, need) {
			r.gap(origin, w, lo, hi, now)
		}
	}
}

// common yields the ranges within s that the origin and at least need members in all have denied.
func common(all map[uint64]intervals, origin uint64, s span, need int) func(func(uint64, uint64) bool) {
	return func(yield func(uint64, uint64) bool) {
		for lo := s.lo; ; {
			hi, n, byOrigin := s.hi, 0, false
			for by, set := range all {
				if set.contains(lo) {
					n++
					byOrigin = byOrigin || by == origin
				}
				hi = min(hi, lastAlike(&set, lo, hi))
			}
			if byOrigin && n >= need && !yield(lo, hi) {
				return
			}
			if hi >= s.hi {
				return
			}
			lo = hi + 1
		}
	}
}

// lastAlike returns the end of the longest run from lo, up to hi, that is all in the set or all not in it.
func lastAlike(set *intervals, lo, hi uint64) uint64 {
	if set.contains(lo) {
		for from := range set.holes(lo, hi) {
			return from - 1
		}
		return hi
	}
	if next, ok := set.next(lo); ok && next <= hi {
		return next - 1
	}
	return hi
}

// askBaseline asks an origin, again and again while it lives, from where on it owes us its parts.
func (r *replica) askBaseline(origin uint64, now time.Time) {
	if r.rep.asks[origin] != nil {
		return
	}
	if _, live := r.peerByID(origin); live {
		r.rep.asks[origin] = &ask{}
		r.ask(origin, now)
	}
}

func (r *replica) ask(origin uint64, now time.Time) {
	a := r.rep.asks[origin]
	m, live := r.peerByID(origin)
	if !live {
		delete(r.rep.asks, origin)
		return
	}
	a.at = now.Add(askEvery << min(a.tries, 3))
	a.tries++
	r.tell(m, bodyAsk, &starlingpb.BaselineAsk{}, a.tries > 2)
}

// baseline returns from which seq on we owe a member our parts.
func (r *replica) baseline(to Member) uint64 {
	if base, ok := r.rep.bases[to.ID]; ok {
		return base
	}
	return r.seq + 1
}

// told takes an origin's answer to our question.
func (r *replica) told(origin, next uint64, now time.Time) {
	if r.rep.asks[origin] == nil {
		return
	}
	delete(r.rep.asks, origin)
	w := r.window(origin, now)
	if w == nil || next == 0 {
		return
	}
	w.setBaseline(next, now)
	r.releaseOrdered(origin, now)
	r.pullHoles(now)
}

// gap gives up what is missing of [lo, hi] of an origin.
func (r *replica) gap(origin uint64, w *window, lo, hi uint64, now time.Time) {
	if n := w.lose(lo, hi); n > 0 {
		r.report(origin, lo, hi)
		r.releaseOrdered(origin, now)
	}
}

// report counts a gap, and leaves it to be told.
func (r *replica) report(origin, lo, hi uint64) {
	r.gaps = append(r.gaps, lostRange{origin, lo, hi})
	r.lost += hi - lo + 1
	r.active = true
}

// lostRange is a gap: parts of an origin that nobody has any more.
type lostRange struct{ origin, lo, hi uint64 }

// tick does what is due. Call it every few tens of milliseconds while busy reports true.
func (r *replica) tick(now time.Time) {
	r.evicted(r.history.expire(now), now)
	for origin := range r.rep.asks {
		if a := r.rep.asks[origin]; now.After(a.at) {
			r.ask(origin, now)
		}
	}
	for origin, w := range r.windows {
		for _, h := range w.overdue(now, r.lim.retention.Age) {
			r.gap(origin, w, h.lo, h.hi, now)
		}
		if len(w.holes.list) == 0 {
			delete(r.rep.denied, origin)
		}
	}
	r.sendDigest(now)
	r.pullHoles(now)
	r.overrule(now)
	r.syncTick(now)
	r.forget(now)
}

// forget drops the records of origins that are gone for twice the retention. What remains of one is the last seq seen, so
// that an origin that comes back still owes what is newer.
func (r *replica) forget(now time.Time) {
	for origin, w := range r.windows {
		if _, live := r.peerByID(origin); live || w.idle(now) < 2*r.lim.retention.Age {
			continue
		}
		delete(r.windows, origin)
		delete(r.rep.denied, origin)
		delete(r.rep.met, origin)
		delete(r.rep.bases, origin)
		for _, ch := range r.channels {
			ch.order.forget(origin)
		}
		if w.based && len(r.tops) < maxTops {
			r.tops[origin] = w.top
		}
	}
}

// maxTops bounds how many forgotten origins keep their last seq: 16 bytes each.
const maxTops = 1 << 16
