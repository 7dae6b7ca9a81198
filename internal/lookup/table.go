// Package lookup finds values by their key without a lock, while one goroutine at a time changes what there is.
package lookup

import (
	"hash/maphash"
	"sync/atomic"
)

// A Table holds pointers to values that have a key. Get may be called at any time and waits for nobody; all else by one goroutine at
// a time. A value's key must never change. Make one with New.
//
// It is a hash table with linear probing. A reader sees the state of each slot before or after a change, and a table as a whole that
// was replaced as it was then.
type Table[T any] struct {
	key   func(*T) string
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Pointer[T]]

	live    int // values
	used    int // slots that are not nil: values, and those removed. Invariant: live ≤ used ≤ len(slots)·3/4
	removed T   // what a slot points to whose value was removed: a probe goes on behind it
}

const (
	minSlots = 16
	// maxLoad is how many of four slots may be used: with more, probes grow long.
	maxLoad = 3
)

// New returns a table of values whose key is what key returns.
func New[T any](key func(*T) string) *Table[T] {
	t := &Table[T]{key: key, seed: maphash.MakeSeed()}
	slots := make([]atomic.Pointer[T], minSlots)
	t.slots.Store(&slots)
	return t
}

// Get returns the value of that key, or nil.
func (t *Table[T]) Get(key string) *T {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	for i := maphash.String(t.seed, key) & mask; ; i = (i + 1) & mask {
		switch v := slots[i].Load(); {
		case v == nil:
			return nil
		case v != &t.removed && t.key(v) == key:
			return v
		}
	}
}

// Len returns the number of values.
func (t *Table[T]) Len() int { return t.live }

// Put adds v, in the place of the value that has its key.
func (t *Table[T]) Put(v *T) {
	slot, old := t.find(t.key(v))
	if old == nil {
		if (t.used+1)*4 > len(*t.slots.Load())*maxLoad {
			t.rebuild(t.live + 1)
			slot, _ = t.find(t.key(v))
		}
		t.live++
		t.used++
	}
	slot.Store(v)
}

// Remove takes the value of that key out, if there is one.
func (t *Table[T]) Remove(key string) {
	slot, old := t.find(key)
	if old == nil {
		return
	}
	slot.Store(&t.removed)
	t.live--
	if size := len(*t.slots.Load()); size > minSlots && t.live*16 < size {
		t.rebuild(t.live)
	}
}

// find returns the slot of the value of that key, and the value; or, with nil, the slot where it would go. A slot whose value was
// removed is not used again: a reader that passes it would miss what moves there.
func (t *Table[T]) find(key string) (*atomic.Pointer[T], *T) {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	for i := maphash.String(t.seed, key) & mask; ; i = (i + 1) & mask {
		switch v := slots[i].Load(); {
		case v == nil:
			return &slots[i], nil
		case v != &t.removed && t.key(v) == key:
			return &slots[i], v
		}
	}
}

// rebuild makes the slots anew, for n values and a quarter more at least.
func (t *Table[T]) rebuild(n int) {
	size := minSlots
	for size*maxLoad < n*5 {
		size *= 2
	}
	slots := make([]atomic.Pointer[T], size)
	mask := uint64(size - 1)
	for i := range *t.slots.Load() {
		v := (*t.slots.Load())[i].Load()
		if v == nil || v == &t.removed {
			continue
		}
		at := maphash.String(t.seed, t.key(v)) & mask
		for slots[at].Load() != nil {
			at = (at + 1) & mask
		}
		slots[at].Store(v)
	}
	t.used = t.live
	t.slots.Store(&slots)
}
