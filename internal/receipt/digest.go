package receipt

import (
	"cmp"
	"slices"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Digest is what one member says of its log of one origin, short enough to send. Of some parts it says nothing: at or below
// Floor the member wants none, and may still keep some; above Known the digest was cut short. Holds and lacks are both false
// there.
type Digest struct {
	Floor uint64
	Known uint64 // Invariant: Floor <= Known <= Top, and Known == Top unless the digest was cut short
	Top   uint64

	// Held are the maximal ranges in (Floor, Known] that the member holds or has handled.
	// Invariant: Floor < Held[0].Lo, Held[i].Hi < Held[i+1].Lo, and the last range ends at or below Known.
	Held []seqset.Span
}

// Digest describes the log in at most limit ranges. Parts that were given up are not among them.
func (r *record) Digest(limit int) Digest { return r.describe(limit, &seqset.Set{}) }

// HandledDigest describes what a snapshot contains that is taken now: Held is without the parts that are pending.
func (r *record) HandledDigest(limit int) Digest { return r.describe(limit, &r.pending) }

// describe returns the digest of what is held, without the parts in except.
func (r *record) describe(limit int, except *seqset.Set) Digest {
	d := Digest{Floor: r.floor, Known: r.top, Top: r.top}
	for _, s := range r.held.All() {
		for lo, hi := range except.Absent(s.Lo, s.Hi) {
			if len(d.Held) >= limit {
				d.Known = lo - 1
				return d
			}
			d.Held = append(d.Held, seqset.Span{Lo: lo, Hi: hi})
		}
	}
	return d
}

// EncodeDigest returns the message of a digest.
func EncodeDigest(origin uint64, d Digest) *starlingpb.OriginDigest {
	m := &starlingpb.OriginDigest{Origin: origin, Floor: d.Floor, Top: d.Top, Held: wire.AppendSpans(nil, d.Floor, d.Held)}
	if d.Known != d.Top {
		m.Known = d.Known
	}
	return m
}

// DecodeDigest is the inverse of EncodeDigest. It reports false for a message that breaks an invariant of Digest, or names no
// origin.
func DecodeDigest(m *starlingpb.OriginDigest) (Digest, bool) {
	d := Digest{Floor: m.GetFloor(), Known: m.GetKnown(), Top: m.GetTop()}
	if d.Known == 0 {
		d.Known = d.Top
	}
	held, ok := wire.ReadSpans(m.GetHeld(), d.Floor)
	d.Held = held
	ok = ok && m.GetOrigin() != 0 && d.Floor <= d.Known && d.Known <= d.Top
	return d, ok && (len(held) == 0 || held[len(held)-1].Hi <= d.Known)
}

// Holds reports whether the member says that it has the part.
func (d *Digest) Holds(seq uint64) bool {
	i, _ := slices.BinarySearchFunc(d.Held, seq, func(sp seqset.Span, x uint64) int {
		return cmp.Compare(sp.Hi, x)
	})
	return i < len(d.Held) && d.Held[i].Lo <= seq
}

// lacks reports whether the member says that it does not have the part.
func (d *Digest) lacks(seq uint64) bool {
	return d.Floor < seq && seq <= d.Known && !d.Holds(seq)
}

// Offers returns what of want the member may be asked for: what it says it has, and what is at or below its floor, since it
// may still keep some of that.
func (d *Digest) Offers(want []seqset.Span) []seqset.Span {
	var out []seqset.Span
	for _, s := range want {
		if s.Lo <= d.Floor {
			out = append(out, seqset.Span{Lo: s.Lo, Hi: min(s.Hi, d.Floor)})
		}
		for _, h := range d.Held {
			if lo, hi := max(s.Lo, h.Lo), min(s.Hi, h.Hi); lo <= hi {
				out = append(out, seqset.Span{Lo: lo, Hi: hi})
			}
		}
	}
	return out
}

// Misses reports whether the member lacks anything that a member with the digest mine has.
func (d *Digest) Misses(mine Digest) bool {
	if mine.Top > d.Top && (mine.Floor == mine.Top || len(mine.Held) > 0) {
		return true
	}
	for _, h := range mine.Held {
		if h.Hi > d.Floor && d.lacks(max(h.Lo, d.Floor+1)) {
			return true
		}
	}
	return mine.Floor > d.Floor && d.lacks(d.Floor+1)
}
