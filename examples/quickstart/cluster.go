package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/examples/quickstart/quickstartpb"
)

// Bounds of what comes before and after the broadcasts.
const (
	joinWithin  = 10 * time.Second
	leaveWithin = time.Second // the last to leave has nobody to tell
)

// cluster is all members, which run in this process.
type cluster []member

// member is one member and the channel that it has open.
type member struct {
	cluster *starling.Cluster
	notes   *starling.Channel[*quickstartpb.Note]
}

func (m member) name() string { return m.cluster.Self().Name }

// start makes n members whose handlers write to l. Each hears its own messages too. The caller lets the cluster that start
// returns leave, even if there is an error.
func start(n int, log *slog.Logger, l *ledger) (cluster, error) {
	var c cluster
	for i := range n {
		name := fmt.Sprintf("starling-%d", i+1)
		sc, err := starling.New(starling.Config{Name: name, BindAddr: "127.0.0.1:0", Logger: log.With("member", name)})
		if err != nil {
			return c, err
		}
		c = append(c, member{cluster: sc})
		c[i].notes, err = starling.NewChannel(sc, "notes", func(_ context.Context, m starling.Message[*quickstartpb.Note]) {
			l.receive(name, m.From.Name, int(m.Value.GetNumber()), m.Value.GetContent(), m.Via)
		}, &starling.ChannelOptions[*quickstartpb.Note]{Echo: true})
		if err != nil {
			return c, err
		}
		l.expect(name)
	}
	return c, nil
}

// join makes the members one cluster, and returns when each sees all: what is broadcast before a member is seen need not
// reach it.
func (c cluster) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	seed := c[0].cluster.Self().Addr.String()
	for _, m := range c[1:] {
		if err := m.cluster.Join(ctx, seed); err != nil {
			return err
		}
	}
	for _, m := range c {
		if err := m.sees(ctx, len(c)); err != nil {
			return err
		}
	}
	return nil
}

// sees waits until a member sees n members, itself included.
func (m member) sees(ctx context.Context, n int) error {
	for range m.cluster.Events(ctx) {
		if len(m.cluster.Members()) == n {
			return nil
		}
	}
	return fmt.Errorf("%s sees %d of %d members: %w", m.name(), len(m.cluster.Members()), n, ctx.Err())
}

// broadcast lets the members take turns.
func (c cluster) broadcast(ctx context.Context, notes []note, l *ledger) error {
	for i, n := range notes {
		m := c[i%len(c)]
		l.send(i, m.name())
		if err := m.notes.Broadcast(ctx, &quickstartpb.Note{Number: uint32(i), Content: n.content}); err != nil {
			return err
		}
	}
	return nil
}

// leave lets all members leave at once.
func (c cluster) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range c {
		wg.Go(func() { m.cluster.Leave(ctx) })
	}
	wg.Wait()
}

// newLogger returns a log that is silent unless asked for.
func newLogger(w io.Writer, verbose bool) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
