package starling

import (
	"cmp"
	"hash/fnv"
	"iter"
	"slices"
	"strings"
)

// place is a member's place on the ring.
type place struct {
	pos    uint64 // position(name); ties are broken by the name
	member Member
}

func (p place) compare(q place) int {
	if c := cmp.Compare(p.pos, q.pos); c != 0 {
		return c
	}
	return strings.Compare(p.member.Name, q.member.Name)
}

// position is where a name stands on the ring: FNV-1a, mixed so that names which differ in their last digit alone stand
// far apart. Every member must compute the same.
func position(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// ring is the members of ours in the order of their positions. It is immutable: a slice of it stays what it was when the
// membership changes.
type ring struct {
	places []place
	self   int // index of this member
}

// newRing orders the members, self among them.
func newRing(self Member, others []Member) *ring {
	places := make([]place, 0, len(others)+1)
	places = append(places, place{position(self.Name), self})
	for _, m := range others {
		places = append(places, place{position(m.Name), m})
	}
	slices.SortFunc(places, place.compare)
	at := slices.IndexFunc(places, func(p place) bool { return p.member.ID == self.ID })
	return &ring{places, at}
}

// at returns the place that is n steps after this member.
func (r *ring) at(n int) place { return r.places[(r.self+n)%len(r.places)] }

// until returns how many steps after this member the first place at or beyond position end is; the whole circle if end
// is this member's own position. So [1, until(end)) are the members between this one and end.
func (r *ring) until(end uint64) int {
	own := r.places[r.self].pos
	dist := end - own // clockwise, modulo 2^64
	if dist == 0 {
		return len(r.places)
	}
	// Positions grow with the steps, seen from our own: a binary search over the steps.
	lo, hi := 1, len(r.places)
	for lo < hi {
		mid := (lo + hi) / 2
		if r.at(mid).pos-own < dist {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// arc is a run of places on a ring: steps [from, to) after this member.
type arc struct {
	ring     *ring
	from, to int
}

func (a arc) len() int { return a.to - a.from }

func (a arc) all() iter.Seq[place] {
	return func(yield func(place) bool) {
		for n := a.from; n < a.to; n++ {
			if !yield(a.ring.at(n)) {
				return
			}
		}
	}
}

// sum returns the XOR of the positions in the arc.
func (a arc) sum() (xor uint64) {
	for p := range a.all() {
		xor ^= p.pos
	}
	return xor
}

// cut cuts the arc into at most n slices of nearly the same length.
func (a arc) cut(n int) []arc {
	n = min(n, a.len())
	cuts := make([]arc, n)
	for i := range cuts {
		cuts[i] = arc{a.ring, a.from + i*a.len()/n, a.from + (i+1)*a.len()/n}
	}
	return cuts
}
