package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/starling-go/starling"
)

const (
	confirmWithin = 2 * time.Second // how long a write waits for the other members
	keptFor       = time.Minute     // how long a row is old at most, where nobody can tell the member that it has changed
)

// A database holds the rows. What put has written get must read: a copy that lags behind would bring old rows back.
type database interface {
	get(ctx context.Context, key string) (string, error)
	put(ctx context.Context, key, row string) error
}

type cache = otter.Cache[string, string]

func newCache() *cache {
	return otter.Must(&otter.Options[string, string]{MaximumSize: 10_000, ExpiryCalculator: otter.ExpiryWriting[string, string](keptFor)})
}

// rows are those of a database, with the cache of this member before them.
type rows struct {
	cluster *starling.Cluster
	db      database
	cache   atomic.Pointer[cache]
	changed *starling.Channel[string]
}

// openRows opens the channel on which members tell each other which rows have changed: call it before Join, and then follow.
func openRows(c *starling.Cluster, db database) (*rows, error) {
	r := &rows{cluster: c, db: db}
	r.cache.Store(newCache())
	forget := func(_ context.Context, m starling.Message[string]) { r.cache.Load().Invalidate(m.Value) }
	var err error
	r.changed, err = starling.NewChannelOf(c, "changed", forget, starling.JSON[string](), &starling.ChannelOptions[string]{
		Echo:      true, // this member forgets in the same way
		Supersede: func(key string) string { return key },
	})
	return r, err
}

// read returns a row. Loading by way of the cache matters: otter does not keep what it was loading when the key was invalidated. Get, load
// and Set would bring the old row back.
func (r *rows) read(ctx context.Context, key string) (string, error) {
	if r.cluster.Health().NotReady != nil { // it may not be told of changes
		return r.db.get(ctx, key)
	}
	return r.cache.Load().Get(ctx, key, otter.LoaderFunc[string, string](r.db.get))
}

// write writes a row, and returns nil when every live member has forgotten the old one: a read that begins then, on whatever member, does
// not return it. After a *starling.UnconfirmedError the row is written too, and the members that it names may return the old one until
// they hear of it, or for as long as rows are kept: the caller may wait for that, or write again. After a *starling.NotReadyError nothing
// was written.
func (r *rows) write(ctx context.Context, key, row string) error {
	if e := r.cluster.Health().NotReady; e != nil { // cut off, it would tell nobody
		return e
	}
	err := r.db.put(ctx, key, row) // an error leaves open whether it is written, so the others are told all the same
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmWithin)
	defer cancel()
	return errors.Join(err, r.changed.Confirm(ctx, key, &starling.ConfirmOptions{Handled: true}))
}

// follow forgets everything when this member cannot know what it should have forgotten. It returns when ctx ends, or the cluster is closed.
func (r *rows) follow(ctx context.Context) {
	for e := range r.cluster.Events(ctx) {
		if e.Kind == starling.EventGap || r.cluster.Health().NotReady != nil {
			r.cache.Swap(newCache()).StopAllGoroutines() // what is being loaded goes into the old one
		}
	}
	r.cache.Load().StopAllGoroutines()
}
