package timeheap

import "time"

// run is the values that came in their order, the earliest first. One that is taken out elsewhere than at an end leaves a gap.
type run[T any] struct {
	// Invariant: what lies from head on is in order, but for the gaps; neither the first nor the last of it is one.
	list []entry[T]
	head int
	gaps int // Invariant: at most as many as values, or minGaps
	base int // by how much the values have moved to the front since they came
}

const (
	gone    time.Duration = -1 << 63 // the time of a gap
	minGaps               = 64
)

func (r *run[T]) len() int { return len(r.list) - r.head - r.gaps }

// place returns that of the value at an index. It is negative, and stays as it is until close.
func (r *run[T]) place(i int) int { return -(r.base + i + 1) }

// first returns the earliest value. There must be one.
func (r *run[T]) first() entry[T] { return r.list[r.head] }

func (r *run[T]) last() (e entry[T], ok bool) {
	if len(r.list) == r.head {
		return e, false
	}
	return r.list[len(r.list)-1], true
}

// push adds a value that is not before the last one, and returns its place.
func (r *run[T]) push(e entry[T]) (place int) {
	if len(r.list) == cap(r.list) && r.head > len(r.list)/2 {
		r.slide()
	}
	r.list = append(r.list, e)
	return r.place(len(r.list) - 1)
}

// remove takes a value out.
func (r *run[T]) remove(place int) entry[T] {
	i := -place - 1 - r.base
	e := r.list[i]
	r.list[i] = entry[T]{at: gone}
	r.gaps++
	for r.head < len(r.list) && r.list[r.head].at == gone {
		r.head++
		r.gaps--
	}
	for len(r.list) > r.head && r.list[len(r.list)-1].at == gone {
		r.list = r.list[:len(r.list)-1]
		r.gaps--
	}
	if n, c := len(r.list)-r.head, cap(r.list); n == 0 || c > spare && n < c/4 {
		r.slide()
		r.list = shrunk(r.list)
	}
	return e
}

// slide moves the values to the front of the list.
func (r *run[T]) slide() {
	n := copy(r.list, r.list[r.head:])
	clear(r.list[n:])
	r.list, r.base, r.head = r.list[:n], r.base+r.head, 0
}

// gappy reports whether close is due: then it costs no more than the gaps have saved.
func (r *run[T]) gappy() bool { return r.gaps > max(r.len(), minGaps) }

// close closes the gaps, and tells of each value's new place.
func (r *run[T]) close(moved func(v T, place int)) {
	kept := r.list[:r.head]
	for _, e := range r.list[r.head:] {
		if e.at != gone {
			kept = append(kept, e)
			moved(e.v, r.place(len(kept)-1))
		}
	}
	clear(r.list[len(kept):])
	r.list, r.gaps = kept, 0
}
