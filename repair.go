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
	digestBurst   = 8                      // digests after the last news before their pause grows
	digestSpans   = 64                     // ranges told of one origin

	pullAfter   = 30 * time.Millisecond // a hole this young may still be filled by what is on its way
	pullFirst   = 20 * time.Millisecond // for the answer to a pull, at least; doubled while there is none
	pullTimeout = time.Second
	pullsAtOnce = 4
	packetAgain = 8 // a member whom packets did not reach is tried by packet once in so many times
	pullSpans   = 256
	maxSpans    = 1024 // ranges of one origin that are read from a frame

	serveByPacket = 4 * MaxGossipPacketSize // an answer up to here goes in packets
	serveByStream = 1 << 20                 // one answer is at most this, or one part
	serveBurst    = 8 << 20                 // a member is served this much at once, and as much again each second

	// controlRoom is what a control frame needs beside its content: the sender, whose name may be long, and framing.
	controlRoom = maxNameSize + 64

	sweepEvery    = 250 * time.Millisecond // between looks at every origin's record
	denialsForGap = 4                      // who must lack a part before it is given up early: its origin, and three others
	askEvery      = 60 * time.Millisecond  // doubling
	unbasedSpan   = 4096                   // how far back a part of an origin that is gone is looked for
)

// repairs is what a replica remembers for mending.
type repairs struct {
	rng      *rand.Rand
	digestAt time.Time // when the next digest is due; zero: none
	pause    time.Duration
	burst    int             // digests that the pause does not grow for
	silent   map[uint64]bool // who has not answered our last digest by packet: packets may not get through to it at all
	turn     uint64          // the origin that the next digest begins after, when they do not all fit

	pulls    map[uint64]*pull // by the id of the member asked
	failures map[uint64]int   // pulls in a row that a member has not answered
	lastPull uint64
	buckets  map[uint64]*bucket              // what members may still ask for
	denied   map[uint64]map[uint64]intervals // by origin, by member: what it said it lacks, of our holes

	sweepAt   time.Time            // when the records are looked at again
	bases     map[uint64]uint64    // our next seq when a member entered our membership
	met       map[uint64]time.Time // when a member entered it first
	aloneFrom uint64               // our next seq when we were left alone
	aloneTo   uint64               // our last one when somebody came; meaningless while alone
	asks      map[uint64]*ask      // origins that have not told our baseline yet
}

func newRepairs(seed uint64) repairs {
	return repairs{
		rng:   rand.New(rand.NewPCG(seed, seed>>1)),
		pulls: map[uint64]*pull{}, failures: map[uint64]int{}, buckets: map[uint64]*bucket{},
		denied: map[uint64]map[uint64]intervals{},
		bases:  map[uint64]uint64{}, met: map[uint64]time.Time{}, asks: map[uint64]*ask{},
		silent: map[uint64]bool{}, aloneFrom: 1,
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

// news makes the next digest come soon: something is here that others may lack.
func (r *replica) news(now time.Time) {
	r.active = true
	r.rep.pause, r.rep.burst = digestEvery, digestBurst
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
	if r.rep.burst--; r.rep.burst < 0 {
		r.rep.pause = min(r.rep.pause*3/2, digestLongest)
	}
	to, ok := r.randomPeer(nil)
	if !ok {
		return
	}
	stream := r.rep.silent[to.ID]
	r.rep.silent[to.ID] = true
	d := r.digests(false)
	d.Stream = stream
	r.tell(to, bodyDigest, d, stream)
}

// digests describes ourselves and the origins of which something is kept, as many as fit a packet, taking turns.
func (r *replica) digests(answer bool) *starlingpb.Digest {
	origins := slices.Collect(r.history.origins())
	if i, kept := slices.BinarySearch(origins, r.id); !kept && r.seq > 0 {
		// What was evicted for want of room has to be known of all the same: it is a gap to who lacks it.
		origins = slices.Insert(origins, i, r.id)
	}
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

// receiveDigest compares a member's digest with what we have, pulls what it offers, and answers with what it lacks: with
// nothing if it lacks nothing, so that it knows that packets get through.
func (r *replica) receiveDigest(from Member, m *starlingpb.Digest, now time.Time) {
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
			if spans := r.wanted(o.GetOrigin(), d, m.GetStream(), now); len(spans) > 0 {
				want[o.GetOrigin()] = spans
			}
		}
		lacking = lacking || d.misses(r.digestOf(o.GetOrigin()))
	}
	if len(want) > 0 {
		r.pull(from, want, m.GetStream(), now)
	}
	if m.GetAnswer() {
		if !m.GetStream() {
			delete(r.rep.silent, from.ID)
		}
		return
	}
	if m.GetComplete() {
		for origin := range r.history.origins() {
			lacking = lacking || !told[origin]
		}
	}
	answer := &starlingpb.Digest{Answer: true}
	if lacking {
		answer = r.digests(true)
		answer.Stream = m.GetStream()
	}
	r.tell(from, bodyDigest, answer, answer.Stream)
}

// wanted returns what of an origin we miss and the member of that digest may give.
func (r *replica) wanted(origin uint64, d digest, stream bool, now time.Time) []span {
	if !r.owes(origin) {
		return nil // no word of a third one is worth a record
	}
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
		r.askBaseline(origin, stream, now)
		return d.offers(r.unbased(origin, w, d))
	}
	return d.offers(r.openHoles(origin, w, 0, now))
}

// unbased returns what to look for of an origin that cannot tell our baseline any more. Parts from before we met it are spared.
func (r *replica) unbased(origin uint64, w *window, d digest) []span {
	if !r.gone(origin) {
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
