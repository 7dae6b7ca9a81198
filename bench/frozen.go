package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/starling-go/starling"
)

// childMember is a member in a process of its own, until its input ends.
func childMember(ctx context.Context, args []string, w io.Writer) error {
	f := flag.NewFlagSet("member", flag.ContinueOnError)
	seed := seedFlag(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	c, err := starling.New(starling.Config{Name: "frozen", BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	handle := func(context.Context, starling.Message[[]byte]) {}
	if _, err = starling.NewChannelOf(c, channelKey, handle, starling.Bytes(), nil); err == nil {
		err = c.Join(ctx, *seed)
	}
	if err == nil {
		err = tell(w, c.Self().Name)
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, c.Close())
}

// freeze is what a frozen member did to the others.
type freeze struct {
	Before    float64   `json:"accepted_per_second_before"`
	Longest   float64   `json:"longest_broadcast_ms"`
	Recovered float64   `json:"seconds_until_rate_is_back"` // negative: never
	Windows   []float64 `json:"accepted_per_second_in_windows"`
	WindowMs  float64   `json:"window_ms"`
	Frozen    int       `json:"frozen_at_window"`
	Delivered float64   `json:"delivered_to_the_others"`
}

const (
	freezeWindow = 250 * time.Millisecond
	steady       = 4 // windows that the rate must hold, or a single one would do
)

func runFrozen(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("frozen", flag.ContinueOnError)
	n := f.Int("n", 10, "members, the frozen one included")
	before := f.Duration("before", 5*time.Second, "full load before the freeze")
	after := f.Duration("after", 12*time.Second, "and after it")
	rate := f.Int("rate", 0, "messages per second; 0: as fast as Broadcast accepts")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *n < 3 || *n > 50 || *before < 2*time.Second || *after < 2*time.Second || *before+*after > 10*time.Minute {
		return nil, errors.New("want 3 to 50 members, and 2 s to 10 minutes")
	}
	z, err := freezeOne(ctx, *n, *rate, *before, *after)
	if err != nil {
		return nil, err
	}
	verdicts := []verdict{
		judge("longest Broadcast, ms", []float64{z.Longest}, 2000, false),
		judge("share delivered to the others", []float64{z.Delivered}, 1, true),
	}
	back := judge("seconds until 0.8 of the rate is back", []float64{z.Recovered}, 5, false)
	back.Met = back.Met && z.Recovered >= 0
	verdicts = append(verdicts, back)
	fmt.Fprintf(w, "accepted per second before %.0f; in windows of %v, frozen at the %d. window: %.0f\n",
		z.Before, freezeWindow, z.Frozen, z.Windows)
	return map[string]any{"freeze": z, "verdicts": verdicts}, printVerdicts(w, verdicts)
}

func freezeOne(ctx context.Context, n, rate int, before, after time.Duration) (z freeze, err error) {
	l := newLedger(n-1, 1)
	s, err := startCluster(ctx, n-1, time.Millisecond, l)
	if err != nil {
		return z, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c, err := startChild(ctx, "member", "-join", s.members[0].Self().Addr.String())
	if err != nil {
		return z, err
	}
	defer func() { err = errors.Join(err, c.kill()) }()
	var name string
	if err := c.read(&name); err != nil {
		return z, err
	}
	if err := s.whole(ctx, n); err != nil {
		return z, err
	}

	tally := newTally(freezeWindow)
	var frozenAt time.Time
	var wg sync.WaitGroup
	var frozen error
	wg.Go(func() {
		time.Sleep(before)
		frozenAt = time.Now()
		frozen = c.cmd.Process.Signal(syscall.SIGSTOP)
	})
	var p pacing
	payload := make([]byte, 200)
	p, err = pace(ctx, rate, before+after, func(number int) error {
		l.stamp(payload, 0, number)
		defer tally.add()
		return s.broadcast(ctx, 0, payload)
	})
	wg.Wait()
	if err = errors.Join(err, frozen); err != nil {
		return z, err
	}
	want := p.sent * (n - 2)
	if err = drain(ctx, l, want, 0); err != nil {
		return z, err
	}
	fresh, _, _, _ := l.sum()
	z = freeze{Longest: ms(p.longest), WindowMs: ms(freezeWindow), Delivered: float64(fresh) / float64(want)}
	z.judge(tally.perSecond(p.took), int(frozenAt.Sub(tally.start)/freezeWindow))
	return z, nil
}

// judge finds when the rate came back. The first second is not counted: everything is still warming up.
func (z *freeze) judge(windows []float64, at int) {
	z.Windows, z.Frozen = windows, at
	z.Before = median(windows[min(4, at):at])
	z.Recovered = -1
	for i := at + 1; i+steady <= len(windows); i++ {
		if slices.Min(windows[i:i+steady]) >= 0.8*z.Before {
			z.Recovered = float64(i-at) * freezeWindow.Seconds()
			return
		}
	}
}

// tally counts events by window of time. One goroutine uses it.
type tally struct {
	start  time.Time
	window time.Duration
	counts []int
}

func newTally(window time.Duration) *tally { return &tally{start: time.Now(), window: window} }

func (t *tally) add() {
	at := int(time.Since(t.start) / t.window)
	for at >= len(t.counts) {
		t.counts = append(t.counts, 0)
	}
	t.counts[at]++
}

// perSecond returns the rates of the windows that were over before took.
func (t *tally) perSecond(took time.Duration) (rates []float64) {
	for i := range int(took / t.window) {
		n := 0
		if i < len(t.counts) {
			n = t.counts[i]
		}
		rates = append(rates, float64(n)/t.window.Seconds())
	}
	return rates
}
