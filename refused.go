package starling

// refused remembers which parts a channel's codec could not decode, the latest of them: who asks whether they were handled is
// told so. The zero value remembers none.
type refused struct {
	set   map[partID]bool
	order []partID // oldest first; Invariant: the keys of set, at most maxRefused
}

const maxRefused = 1024

func (r *refused) add(id partID) {
	if r.set == nil {
		r.set = map[partID]bool{}
	}
	if len(r.order) == maxRefused {
		delete(r.set, r.order[0])
		r.order = append(r.order[:0], r.order[1:]...)
	}
	r.set[id] = true
	r.order = append(r.order, id)
}

func (r *refused) has(id partID) bool { return r.set[id] }
