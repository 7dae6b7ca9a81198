package spread

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/starling-go/starling/internal/wire"
)

// Place is a member's place on the ring.
type Place struct {
	Pos    uint64 // Position(name); the name breaks ties
	Member wire.Peer
}

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Pos, q.Pos), strings.Compare(p.Member.Name, q.Member.Name))
}

// Position is where a name stands on the ring: FNV-1a, mixed so that names which differ in their last digit alone stand
// far apart. Every member must compute the same.
func Position(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// Ring is the members in the order of their positions. It is immutable: a batch keeps the ring that it came with, whatever
// becomes of the membership.
type Ring struct {
	Places []Place
	self   int // index of this member
}

// NewRing orders the members, self among them.
func NewRing(self wire.Peer, others []wire.Peer) *Ring {
	places := make([]Place, 0, len(others)+1)
	places = append(places, Place{Position(self.Name), self})
	for _, m := range others {
		places = append(places, Place{Position(m.Name), m})
	}
	slices.SortFunc(places, Place.compare)
	at := slices.IndexFunc(places, func(p Place) bool { return p.Member.ID == self.ID })
	return &Ring{places, at}
}

// at returns the place that is n steps after this member, for n from 0 to len(Places).
func (r *Ring) at(n int) Place { return r.Places[(r.self+n)%len(r.Places)] }

// ownPos returns this member's position.
func (r *Ring) ownPos() uint64 { return r.Places[r.self].Pos }

// Until returns how many steps after this member the first place at or beyond position end is; the whole circle if end
// is this member's own position. So [1, Until(end)) are the members between this one and end.
func (r *Ring) Until(end uint64) int {
	dist := end - r.ownPos() // clockwise, modulo 2^64
	if dist == 0 {
		return len(r.Places)
	}
	// Positions grow with the steps, seen from our own: a binary search over the steps.
	lo, hi := 1, len(r.Places)
	for lo < hi {
		mid := (lo + hi) / 2
		if r.at(mid).Pos-r.ownPos() < dist {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Arc is a run of places on a ring: steps [from, to) after this member.
type Arc struct {
	ring     *Ring
	from, to int
}

// Len returns the number of places.
func (a Arc) Len() int { return a.to - a.from }

// first returns the first place, the head of the slice. There must be one.
func (a Arc) first() Place { return a.ring.at(a.from) }

// has reports whether a member is in the arc.
func (a Arc) has(id uint64) bool {
	for n := a.from; n < a.to; n++ {
		if a.ring.at(n).Member.ID == id {
			return true
		}
	}
	return false
}

// leaf returns the arc of the first place alone.
func (a Arc) leaf() Arc { return Arc{a.ring, a.from, a.from + 1} }

// rest returns the arc without its first place.
func (a Arc) rest() Arc { return Arc{a.ring, a.from + 1, a.to} }

// Sum returns the XOR of the positions in the arc.
func (a Arc) Sum() (xor uint64) {
	for n := a.from; n < a.to; n++ {
		xor ^= a.ring.at(n).Pos
	}
	return xor
}

// cut cuts the arc into at most n slices of nearly the same length.
func (a Arc) cut(n int) []Arc { return a.cutAround(n, a.to) }

// cutAround is cut where the place at a step gets nothing: it counts for no slice, and heads none. Otherwise the member behind it would
// head a slice twice as often as others.
func (a Arc) cutAround(n, step int) []Arc {
	count := a.Len()
	if a.from <= step && step < a.to {
		count--
	}
	n = min(n, count)
	cuts := make([]Arc, n)
	at := func(i int) int { // the step of the ith place that counts
		if at := a.from + i; at < step {
			return at
		}
		return a.from + i + a.Len() - count
	}
	for i := range cuts {
		cuts[i] = Arc{a.ring, at(i * count / n), at((i + 1) * count / n)}
	}
	return cuts
}

// step returns the step at which a member stands in the arc, a.to if it does not.
func (a Arc) step(id uint64) int {
	for n := a.from; n < a.to; n++ {
		if a.ring.at(n).Member.ID == id {
			return n
		}
	}
	return a.to
}
