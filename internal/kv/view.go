package kv

import (
	"strings"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// A View is a Store as it was at one moment. It may be read by many goroutines at a time, while the Store goes on.
type View[V any] struct {
	table[V]
	now     int64
	limits  Limits
	root    uint64
	count   int
	cover   []Version
	since   []wire.MapRun // see coverage.since
	covered uint64
	horizon Horizon
}

// View returns the Store as it is. The coverage is only in it if all is true.
func (s *Store[V]) View(all bool, now time.Time) *View[V] {
	v := &View[V]{
		table: table[V]{s.visibility, s.tree.Clone()}, now: s.Since(now), limits: s.limits,
		root: s.root, count: s.live + s.dead, covered: s.cover.sum, horizon: s.horizon,
	}
	if all {
		v.cover, v.since = s.cover.vector(), s.cover.since()
	}
	return v
}

// Ascend calls yield for the entries with a value whose key begins with prefix, in the order of their keys, until it returns false.
func (v *View[V]) Ascend(prefix string, yield func(*Entry[V]) bool) {
	var latest *Entry[V] // of the key that the walk is at
	goOn := true
	v.tree.AscendGreaterOrEqual(&Entry[V]{Key: prefix}, func(e *Entry[V]) bool {
		if !strings.HasPrefix(e.Key, prefix) {
			return false
		}
		if e.state != Live || e.Mortal() && e.Over(v.now) || !v.visibility.of(e.Origin) {
			return true
		}
		if latest != nil && latest.Key != e.Key {
			goOn = yield(latest)
			latest = nil
		}
		if latest == nil || latest.Version.Less(e.Version) {
			latest = e
		}
		return goOn
	})
	if goOn && latest != nil {
		yield(latest)
	}
}

// Write returns an entry as a write, without the size and the value's sum: as it is told to others.
func (v *View[V]) Write(e *Entry[V]) Write[V] {
	w := Write[V]{Key: e.Key, Value: e.Value, State: e.state, Version: e.Version, Base: e.base(), Age: v.age(e)}
	if at := e.expires(); at != 0 {
		w.TTL, w.Left = true, time.Duration(at-v.now)
	}
	return w
}

// A node is a range of the keys' hashes: those whose first level·4 bits are prefix.
type node struct {
	level  uint8
	prefix uint32
}

const (
	// fan is how many children a node has.
	fan = 16
	// maxLevel is where a node has no children.
	maxLevel = 8
)

func nodeOf(level uint8, key uint64) node {
	if level == 0 {
		return node{}
	}
	return node{level, uint32(key >> (64 - 4*level))}
}

func (n node) child(i uint32) node { return node{n.level + 1, n.prefix<<4 | i} }

// tally is what a node has.
type tally struct {
	sum   uint64
	count int
}

// hash is a node's sum as it is compared. The salt makes two sums that happen to have the same hash in one comparison have others in the
// next.
func (t *tally) hash(salt uint64) uint32 { return uint32(mix(t.sum ^ mix(salt))) }

// levels is a set of levels.
type levels uint16

func (l *levels) add(level uint8) { *l |= 1 << level }

// each calls f for every entry that counts, with its key's hash, and with each of the wanted levels' nodes that it is in.
func (v *View[V]) each(wanted levels, f func(e *Entry[V], key uint64, n node)) {
	v.tree.Ascend(func(e *Entry[V]) bool {
		if !v.counts(e) {
			return true
		}
		key := v.hash(e)
		for level := range uint8(maxLevel + 1) {
			if wanted&(1<<level) != 0 {
				f(e, key, nodeOf(level, key))
			}
		}
		return true
	})
}

// age is how long ago an entry was written.
func (v *View[V]) age(e *Entry[V]) time.Duration { return time.Duration(v.now - e.written) }
