// Package timeheap orders values by a time, the earliest first. It is what the core keeps its time-outs and its history in.
//
// Nearly every value is later than all that came before it, and is taken out when it is the earliest. Such values wait in a list, where each
// costs one comparison. Those that come out of order wait in a heap beside it, so that no value costs more than logarithmic time.
//
// The package is pure: times are durations since an epoch that the owner chooses, and there are no locks.
package timeheap

import "time"

// Heap is a queue of values by their times. The zero value is empty and ready. It takes no lock.
type Heap[T any] struct {
	// Before reports whether a comes before b if both have the same time. nil: they come in any order.
	Before func(a, b T) bool

	// Moved is told the place of a value whenever it changes, so that the value can be removed; 0: it was taken out.
	// nil: nobody removes values but by Pop.
	Moved func(v T, place int)

	run run[T]

	// Each node of the heap has four children: a time and a pointer are 16 bytes, so four siblings fit a cache line, and the heap of
	// 200,000 values is nine levels deep. A value's place is its index + 1.
	// Invariant: !less(list[i], list[(i-1)/fan]) for i > 0.
	list []entry[T]
}

type entry[T any] struct {
	at time.Duration // beside the value, so that comparing does not have to load it
	v  T
}

// fan is the number of children of a node.
const fan = 4

// spare is how many unused places a heap may keep for ever: enough that one that fills and empties all the time does not allocate.
const spare = 1024

// Len returns the number of values.
func (h *Heap[T]) Len() int { return h.run.len() + len(h.list) }

// Push adds v.
func (h *Heap[T]) Push(at time.Duration, v T) {
	e := entry[T]{max(at, gone+1), v}
	if last, ok := h.run.last(); !ok || !h.less(e, last) {
		h.moved(v, h.run.push(e))
		return
	}
	h.list = append(h.list, e)
	h.up(len(h.list)-1, e)
}

// First returns the earliest value. There must be one.
func (h *Heap[T]) First() (at time.Duration, v T) {
	if h.runFirst() {
		e := h.run.first()
		return e.at, e.v
	}
	return h.list[0].at, h.list[0].v
}

// Pop removes the earliest value. There must be one.
func (h *Heap[T]) Pop() (at time.Duration, v T) {
	if h.runFirst() {
		return h.Remove(h.run.place(h.run.head))
	}
	return h.Remove(1)
}

// runFirst reports whether the earliest value is the first of the run.
func (h *Heap[T]) runFirst() bool {
	return h.run.len() > 0 && (len(h.list) == 0 || !h.less(h.list[0], h.run.first()))
}

// Remove removes the value at a place that Moved was told.
func (h *Heap[T]) Remove(place int) (at time.Duration, v T) {
	var e entry[T]
	if place < 0 {
		e = h.run.remove(place)
		if h.run.gappy() {
			h.run.close(h.moved)
		}
	} else {
		e = h.removeListed(place - 1)
	}
	h.moved(e.v, 0)
	return e.at, e.v
}

// removeListed removes the value at an index of list.
func (h *Heap[T]) removeListed(i int) entry[T] {
	end := len(h.list) - 1
	e, last := h.list[i], h.list[end]
	h.list[end] = entry[T]{}
	h.list = h.list[:end]
	switch {
	case i == end:
	case h.less(last, e):
		h.up(i, last)
	default:
		h.down(i, last)
	}
	h.list = shrunk(h.list)
	return e
}

// shrunk returns the list in less memory, if it needs much less.
func shrunk[T any](list []entry[T]) []entry[T] {
	if c := cap(list); c > spare && len(list) < c/4 {
		return append(make([]entry[T], 0, c/2), list...)
	}
	return list
}

func (h *Heap[T]) moved(v T, place int) {
	if h.Moved != nil {
		h.Moved(v, place)
	}
}

func (h *Heap[T]) less(a, b entry[T]) bool {
	return a.at < b.at || a.at == b.at && h.Before != nil && h.Before(a.v, b.v)
}

// up places e at index i or at an ancestor of it. Ancestors that are later move down.
func (h *Heap[T]) up(i int, e entry[T]) {
	for i > 0 {
		parent := (i - 1) / fan
		if !h.less(e, h.list[parent]) {
			break
		}
		h.set(i, h.list[parent])
		i = parent
	}
	h.set(i, e)
}

// down places e at index i or below it. Children that are earlier move up, the earliest of their siblings each.
func (h *Heap[T]) down(i int, e entry[T]) {
	for {
		first := i*fan + 1
		if first >= len(h.list) {
			break
		}
		child := first
		for c := first + 1; c < min(first+fan, len(h.list)); c++ {
			if h.less(h.list[c], h.list[child]) {
				child = c
			}
		}
		if !h.less(h.list[child], e) {
			break
		}
		h.set(i, h.list[child])
		i = child
	}
	h.set(i, e)
}

// set places e at index i.
func (h *Heap[T]) set(i int, e entry[T]) {
	h.list[i] = e
	h.moved(e.v, i+1)
}
