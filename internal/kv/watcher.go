package kv

import "strings"

// A Watcher has what one reader of a map's changes was not told yet: one change for each key at most, however long nobody reads. It takes
// no lock.
type Watcher[V any] struct {
	prefix  string
	pending map[string]*pending[V]
	queue   []told // oldest first
}

// told is what a reader is to be told next: what became of a key, or that all initial values have been told.
type told struct {
	key    string
	synced bool
}

// pending is what became of a key since the reader was told of it last.
type pending[V any] struct{ was, is *Entry[V] }

// NewWatcher returns a Watcher of the keys that begin with prefix. What there is already the reader is told from a View.
func NewWatcher[V any](prefix string) *Watcher[V] {
	return &Watcher[V]{prefix: prefix, pending: map[string]*pending[V]{}}
}

// Note notes a change, and reports whether there may be something to tell.
func (w *Watcher[V]) Note(c Change[V]) bool {
	e := c.New
	if e == nil {
		e = c.Old
	}
	if !strings.HasPrefix(e.Key, w.prefix) {
		return false
	}
	if p := w.pending[e.Key]; p != nil {
		p.is = c.New
		return true
	}
	if !c.Old.live() && !c.New.live() {
		return false
	}
	w.pending[e.Key] = &pending[V]{c.Old, c.New}
	w.queue = append(w.queue, told{key: e.Key})
	return true
}

// Synced notes that from here on the values are not the initial ones any more.
func (w *Watcher[V]) Synced() { w.queue = append(w.queue, told{synced: true}) }

// News is what a reader is told. Of Was and Is at least one has a value, unless Synced.
type News[V any] struct {
	Key    string
	Was    *Entry[V] // what the reader knows; nil: that there is no value
	Is     *Entry[V] // what there is; without a value: why. nil: it was dropped
	Synced bool
}

// Next takes what is to be told next; ok is false if there is nothing.
func (w *Watcher[V]) Next() (n News[V], ok bool) {
	for len(w.queue) > 0 {
		t := w.queue[0]
		w.queue[0] = told{}
		w.queue = w.queue[1:]
		if t.synced {
			return News[V]{Synced: true}, true
		}
		p := w.pending[t.key]
		delete(w.pending, t.key)
		switch was, is := p.was, p.is; {
		case !was.live() && !is.live(): // it came and went unseen
		case was.live() && is.live() && was.Version == is.Version && was.sum() == is.sum():
		case was.live():
			return News[V]{Key: t.key, Was: was, Is: is}, true
		default:
			return News[V]{Key: t.key, Is: is}, true
		}
	}
	w.queue = nil
	return News[V]{}, false
}
