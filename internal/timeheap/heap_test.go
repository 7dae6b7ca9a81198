package timeheap

import (
	"cmp"
	"fmt"
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
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) { testHeap(t, ordered) })
	}
}

func testHeap(t *testing.T, ordered bool) {
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
	// Of ten steps, how many push, and how many remove; the others pop.
	phases := [...]struct{ push, remove int }{{8, 1}, {0, 10}, {6, 2}, {5, 0}, {1, 1}}
	for i := range 10_000 {
		phase := phases[i/400%len(phases)]
		switch n := rng.IntN(10); {
		case n < phase.push || len(in) == 0:
			v := &value{at: time.Duration(rng.IntN(50)), order: i}
			if ordered { // but for one in eight
				v.at = time.Duration(i - rng.IntN(8)/7*100)
			}
			h.Push(v.at, v)
			in = append(in, v)
		case n >= phase.push+phase.remove:
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
		check(t, &h)
	}
}

// check checks the invariants of a heap.
func check(t *testing.T, h *Heap[*value]) {
	t.Helper()
	for i, e := range h.list {
		if e.v.place != i+1 || i > 0 && h.less(e, h.list[(i-1)/fan]) {
			t.Fatalf("%+v at %d of the heap", e.v, i)
		}
	}
	r := &h.run
	gaps, before := 0, entry[*value]{at: gone + 1}
	for i, e := range r.list[r.head:] {
		switch end := i == 0 || r.head+i == len(r.list)-1; {
		case e.at == gone && !end:
			gaps++
		case e.at == gone || e.v.place != r.place(r.head+i) || h.Before != nil && before.v != nil && h.less(e, before):
			t.Fatalf("%+v at %d of the run", e.v, r.head+i)
		default:
			before = e
		}
	}
	if gaps != r.gaps || gaps > max(r.len(), minGaps) {
		t.Fatalf("%d gaps among %d values, and %d are noted", gaps, r.len(), r.gaps)
	}
	for i, e := range r.list[:cap(r.list)] {
		if (i < r.head || i >= len(r.list)) && e.v != nil {
			t.Fatalf("%+v is kept at %d, and was taken out", e.v, i)
		}
	}
}

// What was needed once for many values is given back.
func TestHeapGivesMemoryBack(t *testing.T) {
	var h Heap[int]
	for i := range 100_000 {
		h.Push(time.Duration(i), i)       // in order
		h.Push(time.Duration(-1-i), -1-i) // out of order
	}
	for i := range 199_990 {
		if _, v := h.Pop(); v != i-100_000 {
			t.Fatalf("%d comes in the place of %d", v, i-100_000)
		}
	}
	if c := cap(h.list) + cap(h.run.list); c > 2*spare {
		t.Errorf("room for %d values is kept for %d", c, h.Len())
	}
}
