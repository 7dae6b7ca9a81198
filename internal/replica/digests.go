package replica

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// digests is anti-entropy: members that had traffic lately tell each other what they have had, and a member that lacks something
// pulls it. This alone makes everyone get everything; whatever else spreads a message only makes it fast.
type digests struct {
	out       *output
	roster    *roster
	types     *types
	observer  *Observer
	intake    *intake
	baselines *baselines
	pulls     *pulls

	at    time.Time // when the next digest is due; zero: none
	pause time.Duration
	burst int    // digests that the pause does not grow for
	turn  uint64 // the origin that the next digest begins after, when they do not all fit
}

const (
	digestEvery   = 200 * time.Millisecond // between digests while there is news
	digestLongest = 3 * time.Second        // between digests when nothing is new
	digestBurst   = 8                      // digests after the last news before their pause grows
	digestSpans   = 64                     // ranges told of one origin
	lookBack      = 4096                   // how far back a part of an origin that is gone is looked for

	// controlRoom is what a control frame needs beside its content: the sender, whose name may be long, and framing.
	controlRoom = wire.MaxNameSize + 64
)

// news makes the next digest come soon: something is here that others may lack.
func (d *digests) news(now time.Time) {
	d.out.stir()
	d.pause, d.burst = digestEvery, digestBurst
	if at := now.Add(digestEvery); d.at.IsZero() || d.at.After(at) {
		d.at = at
	}
}

// tick tells a random member what we have had, less and less often while nothing is new.
func (d *digests) tick(now time.Time) {
	if d.at.IsZero() || now.Before(d.at) {
		return
	}
	if d.intake.history.Len() == 0 {
		d.at = time.Time{}
		return
	}
	jitter := time.Duration(d.roster.rng.Int64N(int64(d.pause)/2 + 1))
	d.at = now.Add(d.pause*3/4 + jitter)
	if d.burst--; d.burst < 0 {
		d.pause = min(d.pause*3/2, digestLongest)
	}
	to := d.roster.random(nil)
	if to == nil {
		return
	}
	m := d.describe(false)
	m.Stream = to.deaf
	to.deaf = true // until it answers
	d.out.tell(to.Peer, wire.BodyDigest, m, m.Stream)
}

// describe describes ourselves and the origins of which something is kept, as many as fit a packet, taking turns.
func (d *digests) describe(answer bool) *starlingpb.Digest {
	origins := slices.Collect(d.intake.history.Origins())
	if i, kept := slices.BinarySearch(origins, d.roster.self.ID); !kept && d.intake.own > 0 {
		// What was evicted for want of room has to be known of all the same: it is a gap to who lacks it.
		origins = slices.Insert(origins, i, d.roster.self.ID)
	}
	at, _ := slices.BinarySearch(origins, d.turn+1)
	m := &starlingpb.Digest{Answer: answer, Types: d.types.own.sum}
	room := d.out.packet - wire.ControlSize(d.out.self, m) - 8 // for the flags that are set later
	for i := range origins {
		origin := origins[(at+i)%len(origins)]
		o := d.fit(origin, room, len(m.Origins) == 0)
		if o == nil && len(m.Origins) > 0 {
			return m
		}
		if d.turn = origin; o != nil {
			room -= proto.Size(o) + 3
			m.Origins = append(m.Origins, o)
		}
	}
	m.Complete = true
	return m
}

// fit describes one origin in the room that there is; in fewer ranges, if it is to be cut. It returns nil if even that does not fit.
func (d *digests) fit(origin uint64, room int, cut bool) *starlingpb.OriginDigest {
	for spans := digestSpans; spans > 0; spans /= 2 {
		o := receipt.EncodeDigest(origin, d.intake.digestOf(origin, spans))
		if proto.Size(o)+3 <= room {
			return o
		}
		if !cut {
			break
		}
	}
	return nil
}

// receive compares a member's digest with what we have, pulls what it offers, and answers with what it lacks: with nothing if it
// lacks nothing, so that it knows that packets get through.
func (d *digests) receive(from *peer, m *starlingpb.Digest, now time.Time) {
	if m.GetTypes() != 0 {
		d.types.heard(from, m.GetTypes(), now)
	}
	lacking := false
	want := map[uint64][]seqset.Span{}
	told := map[uint64]bool{}
	for _, o := range m.GetOrigins() {
		theirs, ok := receipt.DecodeDigest(o)
		if !ok {
			d.out.drop(DropMalformed)
			return
		}
		told[o.GetOrigin()] = true
		if o.GetOrigin() == d.roster.self.ID {
			d.observer.told(from.ID, &theirs)
		} else {
			if spans := d.wanted(from, o.GetOrigin(), theirs, m.GetStream(), now); len(spans) > 0 {
				want[o.GetOrigin()] = spans
			}
		}
		lacking = lacking || theirs.Misses(d.intake.digestOf(o.GetOrigin(), digestSpans))
	}
	if len(want) > 0 {
		d.pulls.pull(from, want, m.GetStream(), now)
	}
	if m.GetAnswer() {
		if !m.GetStream() {
			from.deaf = false
		}
		return
	}
	if m.GetComplete() {
		for origin := range d.intake.history.Origins() {
			lacking = lacking || !told[origin]
		}
	}
	answer := &starlingpb.Digest{Answer: true}
	if lacking {
		answer = d.describe(true)
		answer.Stream = m.GetStream()
	}
	d.out.tell(from.Peer, wire.BodyDigest, answer, answer.Stream)
}

// wanted returns what of an origin we miss and the member of that digest may give.
func (d *digests) wanted(from *peer, origin uint64, theirs receipt.Digest, stream bool, now time.Time) []seqset.Span {
	p := d.roster.get(origin)
	if _, forgotten := d.roster.forgotten[origin]; p == nil && !forgotten {
		d.baselines.rumour(from, origin, stream, now) // the word of a third one alone is worth no record
		return nil
	}
	if p != nil && !p.live() && p.goodbye != nil {
		theirs.Top = min(theirs.Top, p.goodbye.top) // it has said itself what it has sent
	}
	log := d.intake.log(origin, now)
	before := log.Top()
	if !d.intake.plausible(origin, theirs.Top) {
		d.baselines.ask(d.roster.get(origin), stream, now)
		return nil
	}
	log.Announce(theirs.Top, now)
	if log.Top() > before {
		d.news(now)
	}
	if p = d.roster.get(origin); !log.Based() {
		d.baselines.ask(p, stream, now)
		return theirs.Offers(d.pulls.unbased(p, theirs.Top))
	}
	return theirs.Offers(d.pulls.openHoles(p, 0, now))
}
