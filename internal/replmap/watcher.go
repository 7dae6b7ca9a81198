package replmap

import (
	"time"

	"github.com/starling-go/starling/internal/kv"
)

// A Watcher is one reader of a Replica's changes. It blocks nobody, however slow it is.
type Watcher[V any] struct {
	r       *Replica[V]
	pending *kv.Watcher[V] // the Replica's mu guards it
	wake    chan struct{}
}

// Watch makes a Watcher of the keys that begin with prefix. What there is already it is not told: that is in the view.
func (r *Replica[V]) Watch(prefix string) (*Watcher[V], *kv.View[V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &Watcher[V]{r, kv.NewWatcher[V](prefix), make(chan struct{}, 1)}
	r.watchers[w] = struct{}{}
	if r.synced {
		w.pending.Synced()
	}
	return w, r.store.View(false, time.Now())
}

// Synced tells all Watchers, those to come too, that the first values are here. Call it once.
func (r *Replica[V]) Synced() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.synced = true
	for w := range r.watchers {
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
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.pending.Next()
}

// Wake yields when there may be something to tell.
func (w *Watcher[V]) Wake() <-chan struct{} { return w.wake }

// Close ends the Watcher.
func (w *Watcher[V]) Close() {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	delete(w.r.watchers, w)
}
