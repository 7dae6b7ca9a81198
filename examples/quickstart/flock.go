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

// flock is all members of this process.
type flock []bird

// bird is one member and the channel that it has open.
type bird struct {
	cluster *starling.Cluster
	notes   *starling.Channel[*quickstartpb.Note]
}

func (b bird) name() string { return b.cluster.Self().Name }

// start makes n members whose handlers write to l. Each hears its own messages too. What it returns is to be left, even
// with an error.
func start(n int, log *slog.Logger, l *ledger) (flock, error) {
	var f flock
	for i := range n {
		name := fmt.Sprintf("starling-%d", i+1)
		c, err := starling.New(starling.Config{Name: name, BindAddr: "127.0.0.1:0", Logger: log.With("member", name)})
		if err != nil {
			return f, err
		}
		f = append(f, bird{cluster: c})
		f[i].notes, err = starling.NewChannel(c, "notes", func(_ context.Context, m starling.Message[*quickstartpb.Note]) {
			l.receive(name, m.From.Name, int(m.Value.GetNumber()), m.Value.GetContent(), m.Via)
		}, &starling.ChannelOptions[*quickstartpb.Note]{Echo: true})
		if err != nil {
			return f, err
		}
		l.expect(name)
	}
	return f, nil
}

// join makes the members one cluster, and returns when each sees all: what is broadcast before a member is seen need not
// reach it.
func (f flock) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	seed := f[0].cluster.Self().Addr.String()
	for _, b := range f[1:] {
		if err := b.cluster.Join(ctx, seed); err != nil {
			return err
		}
	}
	for _, b := range f {
		if err := b.sees(ctx, len(f)); err != nil {
			return err
		}
	}
	return nil
}

// sees waits until a member sees n members, itself included.
func (b bird) sees(ctx context.Context, n int) error {
	for range b.cluster.Events(ctx) {
		if len(b.cluster.Members()) == n {
			return nil
		}
	}
	return fmt.Errorf("%s sees %d of %d members: %w", b.name(), len(b.cluster.Members()), n, ctx.Err())
}

// broadcast lets the members take turns.
func (f flock) broadcast(ctx context.Context, notes []note, l *ledger) error {
	for i, n := range notes {
		b := f[i%len(f)]
		l.send(i, b.name())
		if err := b.notes.Broadcast(ctx, &quickstartpb.Note{Number: uint32(i), Content: n.content}); err != nil {
			return err
		}
	}
	return nil
}

// leave lets all members leave at once.
func (f flock) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	var wg sync.WaitGroup
	for _, b := range f {
		wg.Go(func() { b.cluster.Leave(ctx) })
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
