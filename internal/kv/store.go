package kv

import (
	"math"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/timeheap"
)

// Limits bound a Store.
type Limits struct {
	Entries    int           // with a value, that this member may make; of others twice as many are taken
	Bytes      int           // likewise, as Cost charges them
	Tombstones time.Duration // how long a deletion is remembered
	Merge      bool          // values of a key are merged, else the later one wins
	Owned      bool          // every run has entries of its own, which count while it is a member. Not with Merge
}

// A Store is what one member holds of a map. It takes no lock; View may be read beside it.
type Store[V any] struct {
	Clock hlc.Clock

	Owners Owners[V]

	limits Limits
	epoch  time.Time
	table[V]

	live    int    // entries with a value
	bytes   int    // what they cost
	dead    int    // tombstones
	root    uint64 // the sum of the hashes of all entries that count (table.counts)
	cover   coverage
	horizon Horizon

	probe    *Entry[V]                // what Get looks for
	expiries timeheap.Heap[*Entry[V]] // entries that expire
	tombs    timeheap.Heap[*Entry[V]] // tombstones, by when they are let go
}

// treeDegree makes nodes of up to 127 pointers: 1 KiB.
const treeDegree = 64

// New makes an empty Store of a run.
func New[V any](self uint64, l Limits, now time.Time) *Store[V] {
	s := &Store[V]{
		limits: l, epoch: now.Add(-time.Nanosecond), // so that no time of an entry is 0
		table: newTable[V](visibility{owned: l.Owned, self: self}),
		cover: newCoverage(),
		probe: new(Entry[V]),
	}
	s.Owners = Owners[V]{s: s, since: map[uint64]int64{}}
	s.expiries.Moved = func(e *Entry[V], place int) { e.extra.timer = place }
	s.tombs.Moved = s.expiries.Moved
	return s
}

// Since is a time as entries keep it. It may be called at any time.
func (s *Store[V]) Since(now time.Time) int64 { return int64(now.Sub(s.epoch)) }

// Get returns the entry of a key, in an owned map that of a run; nil: there is none.
func (s *Store[V]) Get(key string, run uint64) *Entry[V] {
	s.probe.Key, s.probe.Origin = key, run
	e, _ := s.tree.Get(s.probe)
	return e
}

// Counts is what a Store holds.
type Counts struct {
	Entries    int // with a value
	Bytes      int // what they cost
	Tombstones int
}

// Counts returns what the Store holds.
func (s *Store[V]) Counts() Counts { return Counts{s.live, s.bytes, s.dead} }

// Next gives a write of this member's own its version, at a time when the key has old. Nothing is changed yet. It returns the stamp of
// the last write before it.
func (s *Store[V]) Next(w *Write[V], old *Entry[V], now time.Time) (prev hlc.Stamp) {
	w.Version = Version{s.Clock.Next(now), s.self}
	switch {
	case !s.limits.Merge:
	case w.State == Deleted:
		w.Base = w.Stamp
	default:
		w.Base = old.base()
	}
	return s.cover.upTo(s.self)
}

// Room holds a value of this member's own against the limits. It returns the name of the one that it would exceed, and by what; or "".
func (s *Store[V]) Room(key string, size int, old *Entry[V]) (field string, value, limit int) {
	entries, bytes := s.live+1, s.bytes+Cost(key, size)
	if old.live() {
		entries, bytes = entries-1, bytes-int(old.size)
	}
	switch {
	case entries > s.limits.Entries:
		return "MaxEntries", entries, s.limits.Entries
	case bytes > s.limits.Bytes:
		return "MaxBytes", bytes, s.limits.Bytes
	}
	return "", 0, 0
}

// hardFactor is how much more of others' entries is taken than this member may make: many may write at the same time, each below
// its limits, and what one alone does not take makes it unequal.
const hardFactor = 2

// Put applies a write, of this member's own or of another. was is what the value was merged with, if it was. f is not nil if the write was
// given in a comparison.
func (s *Store[V]) Put(w *Write[V], was *Entry[V], f *Filter, now time.Time) (Verdict, Change[V]) {
	old := s.Get(w.Key, w.Origin)
	own := f == nil && w.Origin == s.self // else it came from another member, be it of our own making
	switch v := s.judge(w, old, was); {
	case v != Taken && !s.givesWay(w, old, f, now):
		return v, Change[V]{}
	case own || w.State != Live:
	case s.doubtful(w, old, f):
		return Suspect, Change[V]{}
	case s.over(w, old):
		return Full, Change[V]{}
	}
	e := s.entry(w, now)
	if old == nil && e.state != Live && s.letGoAt(e) <= s.Since(now) {
		return Stale, Change[V]{} // a tombstone that would go at once, of a key that is not here
	}
	seen := s.read(e.Key, old)
	s.replace(old, e, now)
	return Taken, s.became(e.Key, seen, e)
}

// doubtful reports whether a value may have been deleted, and the deletion let go of. Where the later value wins, what the key has decides.
func (s *Store[V]) doubtful(w *Write[V], old *Entry[V], f *Filter) bool {
	if f == nil {
		return old == nil && w.Stamp <= s.horizon.Forced
	}
	return (old == nil || s.limits.Merge) && f.Theirs.suspect(w.Version, w.Age)
}

// givesWay reports whether the value of a key may have been deleted, and another one is here to take its place. Where the later value wins,
// that decides.
func (s *Store[V]) givesWay(w *Write[V], old *Entry[V], f *Filter, now time.Time) bool {
	return s.limits.Merge && f != nil && old.live() && f.Ours.suspect(old.Version, time.Duration(s.Since(now)-old.written)) &&
		(w.Version != old.Version || w.Sum != old.sum() || w.Base != old.base())
}

// sameBase reports whether two values are to be merged, as far as their bases say.
func (s *Store[V]) sameBase(w *Write[V], old *Entry[V]) bool {
	return s.limits.Merge && w.State == Live && old.live() && old.base() == w.Base
}

// judge says whether a write is newer than what the key has.
func (s *Store[V]) judge(w *Write[V], old, was *Entry[V]) Verdict {
	if old == nil {
		return Taken
	}
	if !s.limits.Merge {
		if old.Version.Less(w.Version) {
			return Taken
		}
		return Stale
	}
	switch base := old.base(); {
	case w.Base != base && (w.Base > base || old.aged()):
		return Taken
	case w.Base < base || w.State == Deleted:
		return Stale
	case old.state == Deleted:
		return Taken
	case old != was:
		return Again
	case old.sum() == w.Sum && !old.Version.Less(w.Version):
		return Stale
	}
	return Taken
}

// Merges reports whether the value of a write has to be merged with that of an entry, which may be nil. What may have been deleted is
// not merged, on neither side.
func (s *Store[V]) Merges(w *Write[V], old *Entry[V], f *Filter, now time.Time) bool {
	if !s.sameBase(w, old) {
		return false
	}
	return f == nil || !f.Theirs.suspect(w.Version, w.Age) && !s.givesWay(w, old, f, now)
}

// Merged makes of a write what it is together with an entry. The value, its size and its sum are those of both.
func (s *Store[V]) Merged(w *Write[V], old *Entry[V], value V, size int, sum uint64, now time.Time) {
	w.Value, w.Size, w.Sum = value, size, sum
	if w.Version.Less(old.Version) {
		w.Version, w.Age = old.Version, time.Duration(s.Since(now)-old.written)
	}
}

// over reports whether a value of another member's is beyond what is taken.
func (s *Store[V]) over(w *Write[V], old *Entry[V]) bool {
	more, bytes := 1, Cost(w.Key, w.Size)
	if old != nil && old.state == Live {
		more, bytes = 0, bytes-int(old.size)
	}
	return s.live+more > hardFactor*s.limits.Entries || bytes > 0 && s.bytes+bytes > hardFactor*s.limits.Bytes
}

// entry makes the entry of a write.
func (s *Store[V]) entry(w *Write[V], now time.Time) *Entry[V] {
	at := s.Since(now)
	e := &Entry[V]{Key: w.Key, Value: w.Value, Version: w.Version, state: w.State, size: uint32(min(Cost(w.Key, w.Size), math.MaxUint32))}
	e.written = at - int64(w.Age)
	x := extra{base: w.Base, sum: w.Sum}
	if w.TTL && w.State != Deleted {
		if x.expires = at + int64(w.Left); x.expires == 0 {
			x.expires = -1 // 0 is never
		}
		if w.Left <= 0 {
			e.state = Expired
		}
	}
	if e.state != Live {
		var none V
		e.Value = none
	}
	if x != (extra{}) || e.state != Live {
		e.extra = &x
	}
	return e
}

// diedAt is when a tombstone began.
func (e *Entry[V]) diedAt() int64 {
	if e.state == Expired {
		return e.extra.expires
	}
	return e.written
}

// replace puts an entry in the place of another one.
func (s *Store[V]) replace(old, e *Entry[V], now time.Time) {
	s.leave(old)
	if e.state != Live && s.letGoAt(e) <= s.Since(now) {
		e.extra.aged = true
		s.horizon.Aged = max(s.horizon.Aged, e.Stamp)
	}
	s.tree.ReplaceOrInsert(e)
	if s.counts(e) {
		s.root += s.inRoot(e)
	}
	if !s.visibility.of(e.Origin) {
		s.Owners.absent(e.Origin, now)
	}
	if e.state == Live {
		s.live++
		s.bytes += int(e.size)
		if at := e.expires(); at != 0 {
			s.expiries.Push(time.Duration(at), e)
		}
		return
	}
	s.dead++
	s.tombs.Push(time.Duration(s.letGoAt(e)), e)
	for s.dead > max(s.limits.Entries, minTombstones) {
		_, first := s.tombs.First()
		s.horizon.Forced = max(s.horizon.Forced, first.Stamp)
		s.remove(first)
	}
}

// minTombstones is how many tombstones are kept in any case, even where few entries may be.
const minTombstones = 1024

// leave undoes what replace has done for an entry, but for the tree.
func (s *Store[V]) leave(e *Entry[V]) {
	if e == nil {
		return
	}
	if s.counts(e) {
		s.root -= s.inRoot(e)
	}
	heap := &s.expiries
	if e.state == Live {
		s.live--
		s.bytes -= int(e.size)
	} else {
		s.dead--
		heap = &s.tombs
	}
	if e.extra != nil && e.extra.timer != 0 {
		heap.Remove(e.extra.timer)
	}
}

// remove takes an entry out.
func (s *Store[V]) remove(e *Entry[V]) {
	s.leave(e)
	s.tree.Delete(e)
}

// inRoot is what an entry that counts adds to the root.
func (t *table[V]) inRoot(e *Entry[V]) uint64 { return entrySum(t.hash(e), e.mark()) }

func entrySum(key, mark uint64) uint64 { return mix(key ^ mark) }

// letGoAt is when a tombstone counts no more. Where values are merged it is still remembered for a while: whoever writes the key anew must
// tell the base to those whose clocks are a little late.
func (s *Store[V]) letGoAt(e *Entry[V]) int64 {
	at := e.diedAt() + int64(s.limits.Tombstones)
	if e.aged() {
		at += int64(s.limits.Tombstones / 4)
	}
	return at
}

// Tick expires what has lived its time, and lets go of old tombstones. It returns what has changed for readers.
func (s *Store[V]) Tick(now time.Time) (changes []Change[V]) {
	at := time.Duration(s.Since(now))
	for s.expiries.Len() > 0 {
		when, e := s.expiries.First()
		if when > at {
			break
		}
		var none V
		dead, x := *e, *e.extra
		x.timer = 0
		dead.extra, dead.state, dead.Value = &x, Expired, none
		was := s.read(e.Key, e)
		s.replace(e, &dead, now)
		if c := s.became(e.Key, was, &dead); c != (Change[V]{}) {
			changes = append(changes, c)
		}
	}
	for s.tombs.Len() > 0 {
		when, e := s.tombs.First()
		if when > at {
			break
		}
		s.age(e)
	}
	s.Owners.forget(at)
	return changes
}

// age lets a tombstone count no more, or go.
func (s *Store[V]) age(e *Entry[V]) {
	if e.aged() {
		s.remove(e)
		return
	}
	s.horizon.Aged = max(s.horizon.Aged, e.Stamp)
	if s.counts(e) {
		s.root -= s.inRoot(e)
	}
	s.tombs.Remove(e.extra.timer)
	e.extra.aged = true
	s.tombs.Push(time.Duration(s.letGoAt(e)), e)
}

// NextTick returns when Tick has something to do.
func (s *Store[V]) NextTick() (at time.Time, ok bool) {
	next := time.Duration(math.MaxInt64)
	if s.expiries.Len() > 0 {
		next, _ = s.expiries.First()
	}
	if s.tombs.Len() > 0 {
		when, _ := s.tombs.First()
		next = min(next, when)
	}
	if when, ok := s.Owners.due(); ok {
		next = min(next, when)
	}
	return s.epoch.Add(next), next != math.MaxInt64
}

// Drop removes an entry that was found to have been deleted, unless the key has another one by now.
func (s *Store[V]) Drop(e *Entry[V]) (Change[V], bool) {
	if s.Get(e.Key, e.Origin) != e {
		return Change[V]{}, false
	}
	was := s.read(e.Key, e)
	s.remove(e)
	return s.became(e.Key, was, nil), true
}

// Seen notes that a write of a run was seen, and the stamp of the one before it of the same run.
func (s *Store[V]) Seen(run uint64, prev, stamp hlc.Stamp) { s.cover.note(run, prev, stamp) }

// Covered notes what was seen together with another member's entries, all of which are here.
func (s *Store[V]) Covered(p *Pull[V]) {
	if p.here != s.visibility.sum {
		return // whose entries count has changed since: what counts now is not what was compared
	}
	for _, r := range p.Cover {
		if s.visibility.of(r.ID) { // else what is here of it was not compared
			s.cover.raise(r.ID, hlc.Stamp(r.Stamp))
		}
	}
	s.horizon = s.horizon.max(p.Horizon)
}
