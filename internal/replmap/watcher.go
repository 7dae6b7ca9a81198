package replmap

import (
	"time"

	"github.com/starling-go/starling/internal/kv"
)

// A Watcher is one reader of a Copy's changes. It blocks nobody, however slow it is.
type Watcher[V any] struct {
	copy    *Copy[V]
	pending *kv.Watcher[V] // the Copy's mu guards it
	wake    chan struct{}
}

// Watch makes a Watcher of the keys that begin with prefix. What there is already it is not told: that is in the view.
func (cp *Copy[V]) Watch(prefix string) (*Watcher[V], *kv.View[V]) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	w := &Watcher[V]{cp, kv.NewWatcher[V](prefix), make(chan struct{}, 1)}
	cp.watchers[w] = struct{}{}
	if cp.synced {
		w.pending.Synced()
	}
	return w, cp.store.View(false, time.Now())
}

// Synced tells all Watchers, those to come too, that the first values are here. Call it once.
func (cp *Copy[V]) Synced() {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	cp.synced = true
	for w := range cp.watchers {
		w.pending.Synced()
		w.signal()
	}
}

func (w *Watcher[V]) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next takes what the reader is to be told next; ok is false if there is nothing: then Wake yields when there may be.
func (w *Watcher[V]) Next() (n kv.News[V], ok bool) {
	w.copy.mu.Lock()
	defer w.copy.mu.Unlock()
	return w.pending.Next()
}

// Wake yields when there may be something to tell.
func (w *Watcher[V]) Wake() <-chan struct{} { return w.wake }

// Close ends the Watcher.
func (w *Watcher[V]) Close() {
	w.copy.mu.Lock()
	defer w.copy.mu.Unlock()
	delete(w.copy.watchers, w)
}
