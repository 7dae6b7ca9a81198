package replica

import "github.com/starling-go/starling/internal/wire"

// refused remembers which parts a channel's codec could not decode, the latest of them: a member that asks whether they were
// handled is told so. The zero value remembers none.
type refused struct {
	set   map[wire.PartID]bool
	order []wire.PartID // oldest first; Invariant: the keys of set, at most maxRefused
}

const maxRefused = 1024

func (r *refused) add(id wire.PartID) {
	if r.set == nil {
		r.set = map[wire.PartID]bool{}
	}
	if len(r.order) == maxRefused {
		delete(r.set, r.order[0])
		r.order = append(r.order[:0], r.order[1:]...)
	}
	r.set[id] = true
	r.order = append(r.order, id)
}

func (r *refused) has(id wire.PartID) bool { return r.set[id] }
