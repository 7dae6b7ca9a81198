package kv

import (
	"time"

	"github.com/starling-go/starling/internal/hlc"
)

// A Version names one write: the greater one is the later one.
type Version struct {
	Stamp  hlc.Stamp
	Origin uint64 // the run that wrote it
}

// Less reports whether v is before o.
func (v Version) Less(o Version) bool {
	return v.Stamp < o.Stamp || v.Stamp == o.Stamp && v.Origin < o.Origin
}

// State is what a key has.
type State uint8

const (
	Live     State = iota // a value
	Deleted               // none: it was deleted
	Expired               // none: its time was over
	Vanished              // none: who owned it is no member. Only News have it, no Store
)

// An Entry is what a Store holds of one key. Nobody changes one but its Store, which changes only timer.
type Entry[V any] struct {
	Key   string
	Value V // of a Live entry
	Version
	written int64 // when it was written, as far as is known here, in nanoseconds since the Store's epoch
	size    uint32
	state   State
	extra   *extra // nil: the entry has none of it
}

// extra is what few entries have.
type extra struct {
	expires int64     // likewise when its time is over; 0: never
	base    hlc.Stamp // where values are merged: the deletion that it came after
	sum     uint64    // likewise a hash of the encoded value
	timer   int       // its place in one of the Store's heaps; 0: none
	aged    bool      // a tombstone that counts no more, and is still here to tell the base
}

// State returns what the key has.
func (e *Entry[V]) State() State { return e.state }

func (e *Entry[V]) base() hlc.Stamp {
	if e == nil || e.extra == nil {
		return 0
	}
	return e.extra.base
}

func (e *Entry[V]) sum() uint64 {
	if e.extra == nil {
		return 0
	}
	return e.extra.sum
}

func (e *Entry[V]) expires() int64 {
	if e.extra == nil {
		return 0
	}
	return e.extra.expires
}

// live reports whether the key has a value; nil: it has none.
func (e *Entry[V]) live() bool { return e != nil && e.state == Live }

// Mortal reports whether the entry expires.
func (e *Entry[V]) Mortal() bool { return e.expires() != 0 }

// Over reports whether it has done so at a time of Store.Since. Both may be called at any time.
func (e *Entry[V]) Over(since int64) bool { return e.expires() <= since }

func (e *Entry[V]) aged() bool { return e.extra != nil && e.extra.aged }

// A Write is a write of one key, as it comes from the user or from another member.
type Write[V any] struct {
	Key   string
	Value V
	Size  int    // bytes of the encoded value
	Sum   uint64 // where values are merged: Hash of the encoded value
	State State  // Expired only with TTL
	Version
	Base hlc.Stamp     // where values are merged: the deletion that it came after
	Age  time.Duration // since it was written
	TTL  bool          // it expires
	Left time.Duration // after so long, if it does; not positive: it has expired
}

// Verdict is what became of a write.
type Verdict int

const (
	Taken   Verdict = iota // the key has it now
	Stale                  // the key has what is newer, or the same
	Full                   // beyond the limits
	Suspect                // what may have been deleted since
	Again                  // the entry that the value was merged with is not the key's any more: merge once more
)

// A Change is what became of a key, to readers. The zero value: nothing did.
type Change[V any] struct {
	Old, New *Entry[V] // nil: there was none, or is none any more
}

// entryOverhead is what an entry costs beside its key and value, as charged against Limits.Bytes.
const entryOverhead = 64

// Cost is what an entry of these sizes is charged against Limits.Bytes.
func Cost(key string, value int) int { return len(key) + value + entryOverhead }

// Hash hashes bytes in the same way on every member.
func Hash[T []byte | string](b T) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * prime
	}
	return mix(h)
}

// mix makes every bit of a number depend on every bit of h.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// mark is what tells two entries of a key apart: equal marks are equal entries. That an entry has expired changes nothing in it, since
// it follows from the write; and of two deletions with one base none is the later one.
func (e *Entry[V]) mark() uint64 {
	x := e.extra
	switch {
	case x == nil || x.base == 0 && x.sum == 0:
		return mix(mix(uint64(e.Stamp)) ^ e.Origin)
	case e.state == Deleted:
		return mix(uint64(x.base))
	}
	return mix(mix(mix(uint64(e.Stamp))^e.Origin^uint64(x.base)) ^ x.sum)
}
