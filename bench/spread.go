package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/starling-go/starling"
)

// spreading is how single messages reached a cluster at rest.
type spreading struct {
	Members   int     `json:"members"`
	Messages  int     `json:"messages"`
	ToHalf    float64 `json:"to_half_ms"` // medians over the messages
	ToAll     float64 `json:"to_all_ms"`
	ToAllMax  float64 `json:"to_all_max_ms"`
	Delivered float64 `json:"delivered"` // within patience
}

// patience is how long a message may take to reach everybody.
const patience = 5 * time.Second

// runSpread sends one message after the other into a cluster at rest, as the peers of the field were measured.
func runSpread(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("spread", flag.ContinueOnError)
	messages := f.Int("messages", 30, "messages, one after the other")
	sizes := intList{3, 10, 30, 50}
	f.Var(&sizes, "n", "members, separated by commas")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *messages < 1 || *messages > 1000 {
		return nil, errors.New("want 1 to 1,000 messages")
	}
	var all []spreading
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "members\tto half ms\tto all ms\tslowest ms\tdelivered\t")
	for _, n := range sizes {
		s, err := spreadIn(ctx, n, *messages)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		fmt.Fprintf(tw, "%d\t%.2f\t%.2f\t%.2f\t%.1f %%\t\n", s.Members, s.ToHalf, s.ToAll, s.ToAllMax, 100*s.Delivered)
	}
	return all, tw.Flush()
}

// arrivals are the delays of one message, by order of arrival.
type arrivals struct {
	mu     sync.Mutex
	delays []time.Duration
	all    chan struct{} // closed when everybody has it
}

func spreadIn(ctx context.Context, n, messages int) (s spreading, err error) {
	if n < 2 || n > 200 {
		return s, fmt.Errorf("%d members: want 2 to 200", n)
	}
	l := newLedger(n, 1)
	var now arrivals
	l.heard = func(delay time.Duration) {
		now.mu.Lock()
		defer now.mu.Unlock()
		if now.delays = append(now.delays, delay); len(now.delays) == n-1 {
			close(now.all)
		}
	}
	flock, err := startFlock(ctx, n, starling.DefaultLinger, l)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, flock.close()) }()
	var half, whole []float64
	delivered := 0
	payload := make([]byte, 200)
	for i := range messages {
		time.Sleep(200 * time.Millisecond) // so that each finds the cluster at rest
		now.mu.Lock()
		now.delays, now.all = nil, make(chan struct{})
		all := now.all
		now.mu.Unlock()
		l.stamp(payload, 0, i)
		if err := flock.broadcast(ctx, 0, payload); err != nil {
			return s, err
		}
		select {
		case <-all:
		case <-time.After(patience):
		case <-ctx.Done():
			return s, ctx.Err()
		}
		now.mu.Lock()
		delays := slices.Clone(now.delays)
		now.mu.Unlock()
		if delivered += len(delays); len(delays) == n-1 {
			half, whole = append(half, ms(delays[(n-2)/2])), append(whole, ms(delays[n-2]))
		}
	}
	if len(whole) == 0 {
		return s, errors.New("no message reached everybody")
	}
	return spreading{
		Members: n, Messages: messages, ToHalf: median(half), ToAll: median(whole), ToAllMax: slices.Max(whole),
		Delivered: float64(delivered) / float64(messages*(n-1)),
	}, nil
}
