package kv

import (
	"maps"
	"slices"
	"time"

	"github.com/google/btree"
)

// visibility says whose entries count (Limits.Owned): those of this member, and of the runs that are members. The others' are kept, and are neither
// read nor compared; so members agree as soon as they agree about who is one.
type visibility struct {
	owned bool // else all count
	self  uint64
	here  map[uint64]bool // is never written once it is set: Views have it
	sum   uint64          // of their ids, hashed
}

func (s *visibility) of(run uint64) bool { return !s.owned || run == s.self || s.here[run] }

// table has the entries by their keys. In an owned map every run has an entry of its own for a key, which that run alone writes.
type table[V any] struct {
	visibility
	tree *btree.BTreeG[*Entry[V]]
}

func newTable[V any](s visibility) table[V] {
	less := func(a, b *Entry[V]) bool { return a.Key < b.Key }
	if s.owned {
		less = func(a, b *Entry[V]) bool { return a.Key < b.Key || a.Key == b.Key && a.Origin < b.Origin }
	}
	return table[V]{s, btree.NewG(treeDegree, less)}
}

// counts reports whether an entry takes part in comparisons.
func (t *table[V]) counts(e *Entry[V]) bool { return !e.aged() && t.visibility.of(e.Origin) }

// hash is an entry's position in comparisons: that of its key, in an owned map that of its key and owner.
func (t *table[V]) hash(e *Entry[V]) uint64 {
	if t.owned {
		return mix(Hash(e.Key) ^ e.Origin)
	}
	return Hash(e.Key)
}

// read returns the entry that readers see for a key: in an owned map the latest live one whose owner counts, else e, the key's only entry.
func (t *table[V]) read(key string, e *Entry[V]) (latest *Entry[V]) {
	if !t.owned {
		return e
	}
	t.tree.AscendGreaterOrEqual(&Entry[V]{Key: key}, func(e *Entry[V]) bool {
		if e.Key == key && e.live() && t.visibility.of(e.Origin) && (latest == nil || latest.Version.Less(e.Version)) {
			latest = e
		}
		return e.Key == key
	})
	return latest
}

// became returns what a change is to readers, who have seen was of the key. is tells why there is no value, if there is none.
func (t *table[V]) became(key string, was, is *Entry[V]) Change[V] {
	if t.owned {
		now := t.read(key, nil)
		if now == was {
			return Change[V]{}
		}
		if now != nil {
			is = now
		}
	}
	return Change[V]{was, is}
}

// Owners follows who is a member, for a Store of an owned map, and forgets the entries of those that are gone for long. Its owner's lock
// guards it.
type Owners[V any] struct {
	s     *Store[V]
	since map[uint64]int64 // since when a run is no member. Invariant: it has every run that is no member and has an entry here
	queue []absence        // in the order of their times. One that since does not have with the same time is over
}

type absence struct {
	run uint64
	at  int64
}

// SetMembers notes which runs are members beside this one, and returns what has changed for readers, in the order of the keys.
func (o *Owners[V]) SetMembers(runs []uint64, now time.Time) (changes []Change[V]) {
	s, here := o.s, make(map[uint64]bool, len(runs))
	for _, id := range runs {
		here[id] = true
	}
	if !s.owned || maps.Equal(here, s.here) {
		return nil
	}
	next := visibility{owned: true, self: s.self, here: here}
	for id := range here {
		next.sum += mix(id)
	}
	var was []*Entry[V] // what readers have seen of each key that may change
	var keys []string
	s.tree.Ascend(func(e *Entry[V]) bool {
		counted, counts := s.visibility.of(e.Origin), next.of(e.Origin)
		switch {
		case counted == counts:
			return true
		case e.aged():
		case counts:
			s.root += s.inRoot(e)
		default:
			s.root -= s.inRoot(e)
		}
		if e.live() && (len(keys) == 0 || keys[len(keys)-1] != e.Key) {
			keys, was = append(keys, e.Key), append(was, s.read(e.Key, nil))
		}
		return true
	})
	for id := range s.here {
		if !here[id] {
			o.absent(id, now)
		}
	}
	for id := range here {
		delete(o.since, id)
	}
	s.visibility = next
	for i, key := range keys {
		if c := s.became(key, was[i], was[i].vanished()); c != (Change[V]{}) {
			changes = append(changes, c)
		}
	}
	return changes
}

// vanished is what is told of an entry that does not count any more.
func (e *Entry[V]) vanished() *Entry[V] {
	if e == nil {
		return nil
	}
	return &Entry[V]{Key: e.Key, Version: e.Version, state: Vanished}
}

// absent notes that a run is no member.
func (o *Owners[V]) absent(run uint64, now time.Time) {
	if _, ok := o.since[run]; ok {
		return
	}
	at := o.s.Since(now)
	o.since[run] = at
	o.queue = append(o.queue, absence{run, at})
}

// due returns when forget has something to do.
func (o *Owners[V]) due() (at time.Duration, ok bool) {
	for len(o.queue) > 0 {
		a := o.queue[0]
		if since, ok := o.since[a.run]; ok && since == a.at {
			return time.Duration(a.at) + o.s.limits.Tombstones, true
		}
		o.queue = o.queue[1:]
	}
	return 0, false
}

// forget forgets what runs have written that are gone for as long as tombstones are kept, and that this was seen. That raises no
// horizon: should one come back, it has it all, and gives it to everybody anew.
func (o *Owners[V]) forget(now time.Duration) {
	gone := map[uint64]bool{}
	for at, ok := o.due(); ok && at <= now; at, ok = o.due() {
		gone[o.queue[0].run] = true
		delete(o.since, o.queue[0].run)
	}
	if len(gone) == 0 {
		return
	}
	var of []*Entry[V]
	o.s.tree.Ascend(func(e *Entry[V]) bool {
		if gone[e.Origin] {
			of = append(of, e)
		}
		return true
	})
	for _, e := range of {
		o.s.remove(e)
	}
	for _, run := range slices.Sorted(maps.Keys(gone)) {
		o.s.cover.forget(run)
	}
}
