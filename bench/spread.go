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
	"github.com/starling-go/starling/internal/certtest"
)

// spreading is how single messages reached a cluster at rest.
type spreading struct {
	Members   int     `json:"members"`
	Messages  int     `json:"messages"`
	Whole     int     `json:"whole"`      // messages that reached all within patience
	ToHalf    float64 `json:"to_half_ms"` // medians over the messages that came so far
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
	secure := f.Bool("tls", false, "over TLS")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *messages < 1 || *messages > 1000 {
		return nil, errors.New("want 1 to 1,000 messages")
	}
	var all []spreading
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "members\tto half ms\tto all ms\tslowest ms\tdelivered\t")
	start := startStarling
	if *secure {
		start = func(ctx context.Context, o load, l *ledger) (system, error) {
			return startSecure(ctx, o.members, starling.DefaultLinger, certtest.New("bench").Config(), l)
		}
	}
	for _, n := range sizes {
		s, err := spreadIn(ctx, start, n, *messages)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		fmt.Fprintf(tw, "%d\t%.2f\t%.2f\t%.2f\t%.1f %%\t\n", s.Members, s.ToHalf, s.ToAll, s.ToAllMax, 100*s.Delivered)
	}
	return all, tw.Flush()
}

// watch is the arrivals of one message after the other.
type watch struct {
	system
	others int
	ledger *ledger

	mu     sync.Mutex
	number int
	delays []time.Duration // of the message of that number, by order of arrival
	all    chan struct{}   // closed when all others have it
}

func (w *watch) heard(number int, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if number != w.number {
		return // it comes too late to count
	}
	if w.delays = append(w.delays, delay); len(w.delays) == w.others {
		close(w.all)
	}
}

// one sends a message and returns the delays with which it arrived.
func (w *watch) one(ctx context.Context, number int, payload []byte) ([]time.Duration, error) {
	w.mu.Lock()
	w.number, w.delays, w.all = number, nil, make(chan struct{})
	all := w.all
	w.mu.Unlock()
	w.ledger.stamp(payload, 0, number)
	if err := w.broadcast(ctx, 0, payload); err != nil {
		return nil, err
	}
	select {
	case <-all:
	case <-time.After(patience):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.delays), nil
}

func spreadIn(ctx context.Context, start starter, n, messages int) (s spreading, err error) {
	if n < 2 || n > 200 {
		return s, fmt.Errorf("%d members: want 2 to 200", n)
	}
	w := &watch{others: n - 1, ledger: newLedger(n, 1), number: -1}
	w.ledger.heard = w.heard
	if w.system, err = start(ctx, load{members: n, origins: 1}, w.ledger); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	var half, whole []float64
	delivered := 0
	payload := make([]byte, 200)
	for i := range messages {
		time.Sleep(200 * time.Millisecond) // so that each finds the cluster at rest
		delays, err := w.one(ctx, i, payload)
		if err != nil {
			return s, err
		}
		delivered += len(delays)
		if len(delays) > (n-2)/2 {
			half = append(half, ms(delays[(n-2)/2]))
		}
		if len(delays) == w.others {
			whole = append(whole, ms(delays[n-2]))
		}
	}
	s = spreading{
		Members: n, Messages: messages, Whole: len(whole), ToHalf: median(half), ToAll: median(whole),
		Delivered: float64(delivered) / float64(messages*w.others),
	}
	if len(whole) > 0 {
		s.ToAllMax = slices.Max(whole)
	}
	return s, nil
}
