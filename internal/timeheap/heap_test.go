package timeheap

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

type value struct {
	at    time.Duration
	order int
	place int
}

// TestHeap: whatever is pushed, popped and removed, the earliest value is on top, equal times come in the order of Before,
// and each value knows its place.
func TestHeap(t *testing.T) {
	rng := seedtest.Rand(t)
	h := Heap[*value]{
		Before: func(a, b *value) bool { return a.order < b.order },
		Moved:  func(v *value, place int) { v.place = place },
	}
	var in []*value
	out := func(v *value) {
		if v.place != 0 {
			t.Fatalf("a value that is out has place %d", v.place)
		}
		in = slices.DeleteFunc(in, func(o *value) bool { return o == v })
	}
	for i := range 20_000 {
		switch n := rng.IntN(4); {
		case n < 2 || len(in) == 0:
			v := &value{at: time.Duration(rng.IntN(50)), order: i}
			h.Push(v.at, v)
			in = append(in, v)
		case n == 2:
			first := slices.MinFunc(in, func(a, b *value) int {
				return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
			})
			if at, v := h.First(); v != first || at != first.at {
				t.Fatalf("first is %+v, want %+v", v, first)
			}
			_, v := h.Pop()
			out(v)
		default:
			want := in[rng.IntN(len(in))]
			at, v := h.Remove(want.place)
			if v != want || at != want.at {
				t.Fatalf("removed %+v, want %+v", v, want)
			}
			out(v)
		}
		if h.Len() != len(in) {
			t.Fatalf("%d values, want %d", h.Len(), len(in))
		}
		for i, e := range h.list {
			if e.v.place != i+1 || i > 0 && h.less(e, h.list[(i-1)/fan]) {
				t.Fatalf("%+v at %d", e.v, i)
			}
		}
		if len(in) > 100 {
			for h.Len() > 0 {
				h.Pop()
			}
			in = nil
		}
	}
}

// What was needed once for many values is given back.
func TestHeapGivesMemoryBack(t *testing.T) {
	var h Heap[int]
	for i := range 100_000 {
		h.Push(time.Duration(i), i)
	}
	for i := range 99_990 {
		if _, v := h.Pop(); v != i {
			t.Fatalf("%d comes in the place of %d", v, i)
		}
	}
	if c := cap(h.list); c > spare {
		t.Errorf("room for %d values is kept for %d", c, h.Len())
	}
}
