// Package replmap is what one member holds of a map, for many goroutines at a time: a kv.Store under a lock, with a table beside it that is
// read without one, and the readers of its changes. It runs no code of the user's under its lock.
package replmap

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/lookup"
	"github.com/starling-go/starling/internal/wire"
)

// Options say how values are merged and encoded. The functions are called without a lock, by many goroutines.
type Options[V any] struct {
	Self   uint64 // this member's run
	Limits kv.Limits
	Merge  func(a, b V) V // nil: the later one wins. Invariant: it is set if Limits.Merge is
	Append func(b []byte, v V) ([]byte, error)
	Decode func(b []byte) (V, error)
}

// A Copy is one member's part of a map. Its methods may be called concurrently.
type Copy[V any] struct {
	o     Options[V]
	table *lookup.Table[kv.Entry[V]] // what has a value; written under mu
	live  atomic.Int64               // how many they are
	armed chan struct{}              // holds a token when Tick is due earlier than it has said

	mu       sync.Mutex
	store    *kv.Store[V]
	alarm    time.Time // when Tick will be called; zero: not at all
	watchers map[*Watcher[V]]struct{}
	synced   bool
	skew     time.Duration
}

// New makes an empty Copy.
func New[V any](o Options[V], now time.Time) *Copy[V] {
	return &Copy[V]{
		o: o, table: lookup.New(func(e *kv.Entry[V]) string { return e.Key }), armed: make(chan struct{}, 1),
		store: kv.New[V](o.Self, o.Limits, now), watchers: map[*Watcher[V]]struct{}{},
	}
}

// Get returns the entry of a key that has a value; nil: it has none. It takes no lock.
func (cp *Copy[V]) Get(key string) *kv.Entry[V] {
	e := cp.table.Get(key)
	if e == nil || e.Mortal() && e.Over(cp.store.Since(time.Now())) {
		return nil
	}
	return e
}

// Len returns how many keys have a value. It takes no lock.
func (cp *Copy[V]) Len() int { return int(cp.live.Load()) }

// View returns what there is now; with all with what this member has covered.
func (cp *Copy[V]) View(all bool) *kv.View[V] {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return cp.store.View(all, time.Now())
}

// Held returns what there is, how many keys have a value that is read, and how far another member's clock was ahead lately.
func (cp *Copy[V]) Held() (held kv.Counts, read int, skew time.Duration) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return cp.store.Counts(), cp.table.Len(), cp.skew
}

// A Refusal tells which of the limits a write would exceed.
type Refusal struct {
	Field        string
	Value, Limit int
}

// A Turn is a write of this member's own between Begin and Commit. There is one at a time.
type Turn[V any] struct {
	Prev hlc.Stamp // of the write before it
	is   *kv.Entry[V]
}

// Own reports whether a key has a value that this member has set, be it read or not.
func (cp *Copy[V]) Own(key string) bool {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	e := cp.store.Get(key, cp.o.Self)
	return e != nil && e.Origin == cp.o.Self && e.State() == kv.Live
}

// Begin gives a write of this member's own its version. With check it does so only if old, or nothing if that is nil, is what the key
// has; changed says that it is not.
func (cp *Copy[V]) Begin(w *kv.Write[V], old *kv.Entry[V], check bool) (t Turn[V], changed bool, refused *Refusal) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	t.is = cp.store.Get(w.Key, cp.o.Self)
	read := t.is
	if cp.o.Limits.Owned {
		read = cp.table.Get(w.Key)
	}
	there := read != nil && read.State() == kv.Live && !(read.Mortal() && read.Over(cp.store.Since(time.Now()))) // as Get sees it
	if check && read != old && (old != nil || there) {
		return t, true, nil
	}
	if w.State == kv.Live {
		if field, value, limit := cp.store.Room(w.Key, w.Size, t.is); field != "" {
			return t, false, &Refusal{field, value, limit}
		}
	}
	t.Prev = cp.store.Next(w, t.is, time.Now())
	return t, false, nil
}

// Commit applies a write that Begin has given its version. again says that another member's value came between, and that the write has
// to be given to Apply.
func (cp *Copy[V]) Commit(w *kv.Write[V], t Turn[V]) (again bool) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	verdict, c := cp.store.Put(w, t.is, nil, time.Now())
	cp.store.Seen(cp.o.Self, t.Prev, w.Stamp)
	if verdict == kv.Taken {
		cp.publish(c)
	}
	return verdict == kv.Again
}

// Read decodes an entry that came from another member, which has sent it so long ago.
func (cp *Copy[V]) Read(e *wire.MapEntry, ago time.Duration) (w kv.Write[V], err error) {
	w = kv.Write[V]{
		Key: string(e.Key), State: kv.State(e.State), Size: len(e.Value),
		Version: kv.Version{Stamp: hlc.Stamp(e.Stamp), Origin: e.Origin}, Base: hlc.Stamp(e.Base),
		Age: e.Age + ago, TTL: e.TTL && cp.o.Merge == nil, Left: e.Left - ago,
	}
	switch {
	case w.State == kv.Live:
		if cp.o.Merge != nil {
			w.Sum = kv.Hash(e.Value)
		}
		w.Value, err = cp.o.Decode(bytes.Clone(e.Value)) // which it may keep: not the whole frame
	case w.State == kv.Expired && !w.TTL:
		w.State = kv.Deleted
	}
	return w, err
}

// Entry returns a write as it travels. data is its encoded value.
func Entry[V any](w *kv.Write[V], data []byte, prev hlc.Stamp) *wire.MapEntry {
	return &wire.MapEntry{
		Key: []byte(w.Key), Value: data, Stamp: uint64(w.Stamp), Origin: w.Origin, Prev: uint64(prev), Base: uint64(w.Base),
		State: uint8(w.State), Age: w.Age, TTL: w.TTL, Left: w.Left,
	}
}

// Apply applies a write that came from another member, or one of this member's own that has its version. It merges as often as it has to.
// f is nil for what was broadcast; then prev is the stamp of the write before it. An error is that of the encoding of what was merged.
func (cp *Copy[V]) Apply(given kv.Write[V], f *kv.Filter, prev hlc.Stamp) (verdict kv.Verdict, skew time.Duration, err error) {
	for {
		w, now := given, time.Now()
		cp.mu.Lock()
		was := cp.store.Get(w.Key, w.Origin)
		merges := cp.store.Merges(&w, was, f, now)
		if !merges {
			verdict, skew = cp.put(&w, &given, was, f, prev, now)
		}
		cp.mu.Unlock()
		if !merges {
			return verdict, skew, nil
		}
		v := cp.o.Merge(was.Value, w.Value)
		data, err := cp.o.Append(nil, v)
		if err != nil {
			return kv.Full, 0, err
		}
		cp.mu.Lock()
		cp.store.Merged(&w, was, v, len(data), kv.Hash(data), now)
		verdict, skew = cp.put(&w, &given, was, f, prev, now)
		cp.mu.Unlock()
		if verdict != kv.Again {
			return verdict, skew, nil
		}
	}
}

// put applies a write, merged or not. Call it under mu.
func (cp *Copy[V]) put(w, given *kv.Write[V], was *kv.Entry[V], f *kv.Filter, prev hlc.Stamp, now time.Time) (kv.Verdict, time.Duration) {
	skew := cp.store.Clock.See(given.Stamp, now)
	if skew > 0 {
		cp.skew = skew
	}
	verdict, c := cp.store.Put(w, was, f, now)
	if verdict == kv.Taken {
		cp.publish(c)
	}
	if f == nil && (verdict == kv.Taken || verdict == kv.Stale) {
		cp.store.Seen(given.Origin, prev, given.Stamp)
	}
	return verdict, skew
}

// SetMembers notes which runs are members beside this one: if each owns what it has set, it is read while its owner is one of them.
func (cp *Copy[V]) SetMembers(runs []uint64) {
	if !cp.o.Limits.Owned {
		return
	}
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, c := range cp.store.Owners.SetMembers(runs, time.Now()) {
		cp.publish(c)
	}
	cp.arm()
}

// publish makes a change visible to readers. Call it under mu.
func (cp *Copy[V]) publish(c kv.Change[V]) {
	if c != (kv.Change[V]{}) {
		cp.show(c)
	}
	cp.arm()
}

func (cp *Copy[V]) show(c kv.Change[V]) {
	switch {
	case c.New != nil && c.New.State() == kv.Live:
		cp.table.Put(c.New)
	case c.Old != nil && c.Old.State() == kv.Live:
		cp.table.Remove(c.Old.Key)
	}
	cp.live.Store(int64(cp.table.Len()))
	for w := range cp.watchers {
		if w.pending.Note(c) {
			w.signal()
		}
	}
}

// arm lets Tick be called when it is due. Call it under mu.
func (cp *Copy[V]) arm() {
	if next, ok := cp.store.NextTick(); ok && (cp.alarm.IsZero() || next.Before(cp.alarm)) {
		cp.alarm = next
		select {
		case cp.armed <- struct{}{}:
		default:
		}
	}
}

// Tick lets time pass: it expires what has lived its time. It returns when it is to be called again, unless Armed yields first; zero: not
// before that.
func (cp *Copy[V]) Tick() time.Time {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, c := range cp.store.Tick(time.Now()) {
		cp.publish(c)
	}
	next, ok := cp.store.NextTick()
	if !ok {
		next = time.Time{}
	}
	cp.alarm = next
	return next
}

// Armed yields when Tick is to be called before the time that it has said.
func (cp *Copy[V]) Armed() <-chan struct{} { return cp.armed }

// Finish brings a comparison to its end: what the other member does not have any more is dropped, and if all came that it has, what it has
// covered is covered here. It returns how many entries were dropped.
func (cp *Copy[V]) Finish(p *kv.Pull[V], complete bool) (dropped int) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, e := range p.Drops {
		if c, ok := cp.store.Drop(e); ok {
			cp.publish(c)
			dropped++
		}
	}
	if complete {
		cp.store.Covered(p)
	}
	return dropped
}
