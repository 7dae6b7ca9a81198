package main

import (
	"context"
	"crypto/tls"
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

// cluster is a system of Starling members.
type cluster struct {
	members  []*starling.Cluster
	channels []*starling.Channel[[]byte]
}

// startCluster starts n members and returns when each sees all of them, and the others that are already there.
func startCluster(ctx context.Context, n int, linger time.Duration, l *ledger, seeds ...string) (*cluster, error) {
	return startSecure(ctx, n, linger, nil, l, seeds...)
}

// startSecure is startCluster with TLS, unless that is nil.
func startSecure(ctx context.Context, n int, linger time.Duration, conf *tls.Config, l *ledger, seeds ...string) (_ *cluster, err error) {
	s := &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for i := range n {
		c, err := starling.New(starling.Config{
			Name: fmt.Sprintf("starling-%d", len(seeds)+i), BindAddr: "127.0.0.1:0", Linger: linger,
			Logger: slog.New(slog.DiscardHandler), TLS: conf,
		})
		if err != nil {
			return s, err
		}
		s.members = append(s.members, c)
		handle := func(_ context.Context, m starling.Message[[]byte]) { l.deliver(i, m.Value) }
		ch, err := starling.NewChannelOf(c, channelKey, handle, starling.Bytes(), nil)
		if err != nil {
			return s, err
		}
		s.channels = append(s.channels, ch)
	}
	return s, s.join(ctx, seeds)
}

func (s *cluster) join(ctx context.Context, seeds []string) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	seeds = append(seeds, s.members[0].Self().Addr.String())
	for _, c := range s.members {
		if err := c.Join(ctx, seeds...); err != nil {
			return err
		}
	}
	return s.whole(ctx, len(s.members)+len(seeds)-1)
}

// whole waits until each member sees n members.
func (s *cluster) whole(ctx context.Context, n int) error {
	for i, c := range s.members {
		if err := await(ctx, func() bool { return len(c.Members()) == n }); err != nil {
			return fmt.Errorf("member %d sees %d of %d members: %w", i, len(c.Members()), n, err)
		}
	}
	return nil
}

func (s *cluster) broadcast(ctx context.Context, from int, payload []byte) error {
	return s.channels[from].Broadcast(ctx, payload)
}

func (s *cluster) close() error {
	var errs []error
	for _, c := range s.members {
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
