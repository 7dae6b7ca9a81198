package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/starling-go/starling"
)

// system is some members in this process, one cluster, that note in a ledger what they are delivered.
type system interface {
	// broadcast hands a payload of one member to all the others. It waits for room, and keeps nothing of payload.
	broadcast(ctx context.Context, from int, payload []byte) error
	close() error
}

const (
	joinWithin = 60 * time.Second
	channelKey = "bench"
)

// flock is a system of Starling members.
type flock struct {
	clusters []*starling.Cluster
	channels []*starling.Channel[[]byte]
}

// startFlock starts n members and returns when each sees all of them, and the others that are already there.
func startFlock(ctx context.Context, n int, linger time.Duration, l *ledger, seeds ...string) (_ *flock, err error) {
	f := &flock{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	for i := range n {
		c, err := starling.New(starling.Config{
			Name: fmt.Sprintf("starling-%d", len(seeds)+i), BindAddr: "127.0.0.1:0", Linger: linger, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return f, err
		}
		f.clusters = append(f.clusters, c)
		handle := func(_ context.Context, m starling.Message[[]byte]) { l.deliver(i, m.Value) }
		ch, err := starling.NewChannelOf(c, channelKey, handle, starling.Bytes(), nil)
		if err != nil {
			return f, err
		}
		f.channels = append(f.channels, ch)
	}
	return f, f.join(ctx, seeds)
}

func (f *flock) join(ctx context.Context, seeds []string) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	seeds = append(seeds, f.clusters[0].Self().Addr.String())
	for _, c := range f.clusters {
		if err := c.Join(ctx, seeds...); err != nil {
			return err
		}
	}
	return f.whole(ctx, len(f.clusters)+len(seeds)-1)
}

// whole waits until each member sees n members.
func (f *flock) whole(ctx context.Context, n int) error {
	for i, c := range f.clusters {
		if err := await(ctx, func() bool { return len(c.Members()) == n }); err != nil {
			return fmt.Errorf("member %d sees %d of %d members: %w", i, len(c.Members()), n, err)
		}
	}
	return nil
}

func (f *flock) broadcast(ctx context.Context, from int, payload []byte) error {
	return f.channels[from].Broadcast(ctx, payload)
}

func (f *flock) close() error {
	var errs []error
	for _, c := range f.clusters {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// await polls until done, or until ctx ends.
func await(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
