package starling

import (
	"cmp"
	"slices"
)

// digest is what one member says of one origin's parts, short enough to send.
// It is silent on some seqs: at or below the floor the member wants nothing, and
// may have what it once had; above known the digest was cut short. So holds and
// lacks are both false there.
type digest struct {
	floor uint64
	known uint64 // Invariant: floor <= known <= top; known == top unless cut short
	top   uint64

	// held are the maximal ranges in (floor, known] that the member has had.
	// Invariant: floor < held[0].lo, held[i].hi < held[i+1].lo, and the last
	// ends at or below known.
	held []span
}

// holds reports whether the member says that it has had the part.
func (d *digest) holds(seq uint64) bool {
	i, _ := slices.BinarySearchFunc(d.held, seq, func(sp span, x uint64) int {
		return cmp.Compare(sp.hi, x)
	})
	return i < len(d.held) && d.held[i].lo <= seq
}

// lacks reports whether the member says that it does not have the part.
func (d *digest) lacks(seq uint64) bool {
	return d.floor < seq && seq <= d.known && !d.holds(seq)
}

// digest returns what this member has had, in at most limit ranges: what is
// lost it does not claim.
func (w *window) digest(limit int) digest { return w.describe(limit, false) }

// handledDigest is the digest of what a snapshot taken now contains: what waits
// for its handler is not in it.
func (w *window) handledDigest(limit int) digest { return w.describe(limit, true) }

func (w *window) describe(limit int, handled bool) digest {
	waiting := &intervals{}
	if handled {
		waiting = &w.pending
	}
	d := digest{floor: w.floor, known: w.top, top: w.top}
	for from, to := range w.held.ranges() {
		for lo, hi := range waiting.holes(from, to) {
			if len(d.held) >= limit {
				d.known = lo - 1
				return d
			}
			d.held = append(d.held, span{lo, hi})
		}
	}
	return d
}
