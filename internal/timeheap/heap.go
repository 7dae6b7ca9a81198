// Package timeheap orders values by a time, the earliest first. It is what the core keeps its time-outs and its history in.
//
// A sorted list would be cheaper while times only grow, but one value with an early time would then cost a walk along all
// others. In the heap a value that is later than all others, as nearly every one is, is placed without a move, and no value
// costs more than logarithmic time.
//
// The package is pure: times are durations since an epoch that the owner chooses, and there are no locks.
package timeheap

import "time"

// Heap is a queue of values by their times. The zero value is empty and ready. It takes no lock.
//
// Each node has four children: a time and a pointer are 16 bytes, so four siblings fit a cache line, and the heap of 200,000
// values is nine levels deep.
type Heap[T any] struct {
	// Before reports whether a comes before b if both have the same time. nil: they come in any order.
	Before func(a, b T) bool

	// Moved is told the place of a value, from 1, whenever it changes, so that the value can be removed; 0: it was taken out.
	// nil: nobody removes values but by Pop.
	Moved func(v T, place int)

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
func (h *Heap[T]) Len() int { return len(h.list) }

// Push adds v.
func (h *Heap[T]) Push(at time.Duration, v T) {
	h.list = append(h.list, entry[T]{at, v})
	h.up(len(h.list)-1, entry[T]{at, v})
}

// First returns the earliest value. There must be one.
func (h *Heap[T]) First() (at time.Duration, v T) { return h.list[0].at, h.list[0].v }

// Pop removes the earliest value. There must be one.
func (h *Heap[T]) Pop() (at time.Duration, v T) { return h.Remove(1) }

// Remove removes the value at a place that Moved was told.
func (h *Heap[T]) Remove(place int) (at time.Duration, v T) {
	i, end := place-1, len(h.list)-1
	e, last := h.list[i], h.list[end]
	h.list[end] = entry[T]{}
	h.list = h.list[:end]
	if h.Moved != nil {
		h.Moved(e.v, 0)
	}
	switch {
	case i == end:
	case h.less(last, e):
		h.up(i, last)
	default:
		h.down(i, last)
	}
	if c := cap(h.list); c > spare && end < c/4 {
		h.list = append(make([]entry[T], 0, c/2), h.list...)
	}
	return e.at, e.v
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
	if h.Moved != nil {
		h.Moved(e.v, i+1)
	}
}
