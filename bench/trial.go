package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/certtest"
)

// load is what a system is given to do.
type load struct {
	members, origins int
	rate             int // messages per second of each origin; 0: as fast as it accepts
	size             int
	lasts            time.Duration
	linger           time.Duration
	idle             time.Duration // the window in which nothing is sent, measured first
	waits            time.Duration // for what was sent to arrive, at most; 0: for as long as anything comes
	tls              bool
}

// outcome is what came of it.
type outcome struct {
	System    string  `json:"system"`
	Members   int     `json:"members"`
	Origins   int     `json:"origins"`
	Rate      int     `json:"rate"`
	LingerMs  float64 `json:"linger_ms"`
	Accepted  int     `json:"accepted"`
	PerSecond float64 `json:"accepted_per_second"`
	Delivered float64 `json:"delivered"`
	Repeated  int     `json:"repeated"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	CPU       float64 `json:"cpu_us_per_delivery"`
	Allocs    float64 `json:"allocs_per_delivery"`
	Bytes     float64 `json:"bytes_per_delivery"`
	Longest   float64 `json:"longest_broadcast_ms"`
	Late      float64 `json:"late_ms"`
	IdleCPU   float64 `json:"idle_percent"`
}

// giveUp is how long a trial waits without any delivery before what is missing counts as lost.
const giveUp = 10 * time.Second

type starter func(context.Context, load, *ledger) (system, error)

func starlings(ctx context.Context, o load, l *ledger) (system, error) {
	if !o.tls {
		return startCluster(ctx, o.members, lingerOption(o.linger), l)
	}
	return startSecure(ctx, o.members, lingerOption(o.linger), certtest.New("bench").Config(), l)
}

func bares(ctx context.Context, o load, l *ledger) (system, error) {
	if o.origins > 1 {
		return nil, errors.New("the bare sender has one origin")
	}
	return startBare(ctx, o.members, o.linger, l)
}

// lingerOption says "none" the way starling.Config wants it.
func lingerOption(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// try starts a system, gives it the load, waits for the last delivery and ends it.
func try(ctx context.Context, name string, start starter, o load) (out outcome, err error) {
	l := newLedger(o.members, o.origins)
	s, err := start(ctx, o, l)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	idle := idleWindow(s, o.idle)

	before := readOf(s)
	p, err := sendAll(ctx, s, o, l)
	if err != nil {
		return out, err
	}
	want := p.sent * (o.members - 1)
	if err := drain(ctx, l, want, o.waits); err != nil {
		return out, err
	}
	u := readOf(s).since(before).less(idle)

	fresh, repeated, foul, delays := l.sum()
	if foul > 0 {
		return out, fmt.Errorf("%d deliveries of %s were not what was sent", foul, name)
	}
	per := max(float64(fresh), 1)
	return outcome{
		System: name, Members: o.members, Origins: o.origins, Rate: o.rate, LingerMs: ms(o.linger),
		Accepted: p.sent, PerSecond: float64(p.sent) / p.took.Seconds(),
		Delivered: float64(fresh) / max(float64(want), 1), Repeated: repeated,
		P50: ms(delays.quantile(0.5)), P99: ms(delays.quantile(0.99)), Max: ms(delays.most),
		CPU: float64(u.cpu.Microseconds()) / per, Allocs: u.allocs / per, Bytes: u.bytes / per,
		Longest: ms(p.longest), Late: ms(p.late),
		IdleCPU: 100 * idle.cpu.Seconds() / max(idle.wall.Seconds(), 1e-9),
	}, nil
}

// idleWindow measures a system that has just come together, after its start has settled.
func idleWindow(s system, d time.Duration) used {
	if d <= 0 {
		return used{}
	}
	time.Sleep(d / 4)
	runtime.GC()
	before := readOf(s)
	time.Sleep(d)
	return readOf(s).since(before)
}

// sendAll lets every origin send at once.
func sendAll(ctx context.Context, s system, o load, l *ledger) (pacing, error) {
	// Who is held up for this long is not served at all.
	ctx, cancel := context.WithTimeout(ctx, o.lasts+giveUp)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total pacing
		errs  []error
	)
	for from := range o.origins {
		wg.Go(func() {
			payload := make([]byte, o.size)
			p, err := pace(ctx, o.rate, o.lasts, func(number int) error {
				l.stamp(payload, from, number)
				return s.broadcast(ctx, from, payload)
			})
			mu.Lock()
			defer mu.Unlock()
			total = total.plus(p)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return total, errors.Join(errs...)
}

// drain waits until all was delivered, or nothing more comes, or most is over; most 0 sets no limit.
func drain(ctx context.Context, l *ledger, want int, most time.Duration) error {
	began := time.Now()
	last, since := -1, began
	err := await(ctx, func() bool {
		n := 0
		for member := range l.pages {
			n += l.of(member)
		}
		if n > last {
			last, since = n, time.Now()
		}
		return n >= want || time.Since(since) > giveUp || most > 0 && time.Since(began) > most
	})
	return err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
