package starling

import "time"

// ages is a heap of items, the oldest on top. A sorted list would be cheaper
// while parts arrive in the order they were born, but repair after a partition
// brings thousands of old parts among the new, and ages are claimed by others:
// one walk along the list per part is quadratic. Here a part younger than all
// others (nearly every part) is placed without a move, and the worst case is
// logarithmic whatever the ages say.
//
// Four children per node: an entry is 16 bytes, so that siblings share a cache
// line, and the heap of 200,000 parts is nine levels deep.
//
// Invariant: !older(a[i], a[(i-1)/4]) for i > 0, and a[i].it.place == i+1.
type ages []aged

// aged repeats an item's birth beside it: comparing must not load the item.
type aged struct {
	born time.Duration // since the epoch of the history
	it   *item
}

const ageFan = 4

// older reports whether a goes before b; equal births are told apart by id, so
// that eviction does not depend on the order of arrival.
func older(a, b aged) bool {
	if a.born != b.born {
		return a.born < b.born
	}
	return a.it.id.less(b.it.id)
}

// push puts e in.
func (a *ages) push(e aged) {
	*a = append(*a, e)
	a.up(len(*a)-1, e)
}

// remove takes it out. It must be in this heap.
func (a *ages) remove(it *item) aged {
	h := *a
	i := it.place - 1
	e, last := h[i], h[len(h)-1]
	h[len(h)-1] = aged{}
	*a = h[:len(h)-1]
	it.place = 0
	if last.it == it {
		return e
	}
	if older(last, e) {
		a.up(i, last)
	} else {
		a.down(i, last)
	}
	return e
}

// up places e at i or above, moving younger ancestors down.
func (a ages) up(i int, e aged) {
	for i > 0 {
		parent := (i - 1) / ageFan
		if !older(e, a[parent]) {
			break
		}
		a.set(i, a[parent])
		i = parent
	}
	a.set(i, e)
}

// down places e at i or below, moving the oldest children up.
func (a ages) down(i int, e aged) {
	for {
		first := i*ageFan + 1
		if first >= len(a) {
			break
		}
		child := first
		for c := first + 1; c < min(first+ageFan, len(a)); c++ {
			if older(a[c], a[child]) {
				child = c
			}
		}
		if !older(a[child], e) {
			break
		}
		a.set(i, a[child])
		i = child
	}
	a.set(i, e)
}

func (a ages) set(i int, e aged) {
	a[i] = e
	e.it.place = i + 1
}
