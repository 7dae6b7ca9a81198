package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// field is Starling beside what people use, as one run measured it. figures.json has one.
type field struct {
	When    string                 `json:"when"`
	Machine string                 `json:"machine"`
	Load    string                 `json:"load_average_at_the_end"`
	Systems []string               `json:"systems"`
	Spread  map[string][]spreading `json:"spread"` // by system
	Rate    map[string][]outcome   `json:"rate"`
	Large   map[string][]spreadOut `json:"large"`
	Call    map[string]callCost    `json:"call"`
	Idle    map[string]float64     `json:"idle_percent_of_a_core"`
	Missing map[string]string      `json:"missing,omitempty"` // systems that could not be measured here, and why
	Again   []string               `json:"again,omitempty"`   // rows that failed and were measured anew, and why
}

// fieldTries is how often a row is tried: one cluster that does not form must not cost all that was measured before.
const fieldTries = 3

// fieldPlan is how much of everything is measured.
type fieldPlan struct {
	spreads intList // members
	singles int     // messages of each spread
	rates   intList
	lasts   time.Duration
	sizes   intList
	idle    time.Duration
}

// runField measures one thing after the other, each of all systems in turn, each in a process of its own.
func runField(ctx context.Context, args []string, w io.Writer) (any, error) {
	p := fieldPlan{spreads: intList{3, 10, 30, 50}, rates: intList{100, 1000, 5000}, sizes: intList{64 << 10, 1 << 20, 8 << 20}}
	f := flag.NewFlagSet("field", flag.ContinueOnError)
	systems := f.String("systems", strings.Join([]string{starlingName, alertmanagers, serfName, tutorialName, redisName}, ","), "separated by commas")
	f.Var(&p.spreads, "n", "members of the spread, separated by commas")
	f.IntVar(&p.singles, "messages", 10, "messages of the spread, one after the other")
	f.Var(&p.rates, "rates", "messages per second in a cluster of 10, separated by commas")
	f.DurationVar(&p.lasts, "for", 5*time.Second, "how long to send at each rate")
	f.Var(&p.sizes, "sizes", "bytes of large payloads, separated by commas")
	f.DurationVar(&p.idle, "idle", 15*time.Second, "how long to measure idle members")
	out := f.String("o", "", "file to write the figures to, which the scenario chart draws")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if p.singles < 1 || p.singles > 1000 || p.lasts <= 0 || p.lasts > time.Hour || p.idle <= 0 || p.idle > time.Hour {
		return nil, errors.New("want 1 to 1,000 messages, and at most an hour each")
	}
	r := &field{
		When: time.Now().UTC().Format(time.DateOnly), Machine: fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
		Systems: strings.Split(*systems, ","), Spread: map[string][]spreading{}, Rate: map[string][]outcome{}, Large: map[string][]spreadOut{},
		Call: map[string]callCost{}, Idle: map[string]float64{}, Missing: map[string]string{},
	}
	for _, s := range r.Systems {
		if contenders[s] == nil {
			return nil, fmt.Errorf("no system %q", s)
		}
	}
	if err := r.measure(ctx, p, w); err != nil {
		return nil, err
	}
	r.Load = loadAverage()
	if err := r.print(w); err != nil {
		return nil, err
	}
	if *out != "" {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(*out, append(b, '\n'), 0o644); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// measure runs all rows. A system that cannot be measured is left out of what follows, and why is noted.
func (r *field) measure(ctx context.Context, p fieldPlan, w io.Writer) error {
	for _, n := range p.spreads {
		for s := range r.here() {
			var got spreading
			if err := r.ask(ctx, s, &got, w, "spread", "-n", fmt.Sprint(n), "-messages", fmt.Sprint(p.singles)); err != nil {
				return err
			}
			r.Spread[s] = append(r.Spread[s], got)
		}
	}
	for _, rate := range p.rates {
		for s := range r.here() {
			var got outcome
			if err := r.ask(ctx, s, &got, w, "trial", "-rate", fmt.Sprint(rate), "-seconds", fmt.Sprint(p.lasts.Seconds())); err != nil {
				return err
			}
			r.Rate[s] = append(r.Rate[s], got)
		}
	}
	for _, size := range p.sizes {
		for s := range r.here() {
			var got spreadOut
			if err := r.ask(ctx, s, &got, w, "large", "-size", fmt.Sprint(size), "-within", "10s"); err != nil {
				return err
			}
			r.Large[s] = append(r.Large[s], got)
		}
	}
	for s := range r.here() {
		var got callCost
		if err := r.ask(ctx, s, &got, w, "call"); err != nil {
			return err
		}
		r.Call[s] = got
	}
	for s := range r.here() {
		var got float64
		if err := r.ask(ctx, s, &got, w, "idle", "-for", p.idle.String()); err != nil {
			return err
		}
		r.Idle[s] = got
	}
	return ctx.Err()
}

// here yields the systems that can be measured.
func (r *field) here() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, s := range r.Systems {
			if r.Missing[s] == "" && !yield(s) {
				return
			}
		}
	}
}

// ask measures one row of one system, and prints how long that took.
func (r *field) ask(ctx context.Context, system string, v any, w io.Writer, task string, args ...string) error {
	row := strings.Join(slices.Concat([]string{task, system}, args), " ")
	for try := 1; ; try++ {
		began := time.Now()
		fmt.Fprintf(w, "%s … ", row)
		err := ask(ctx, v, slices.Concat([]string{task, "-kind", system}, args)...)
		switch {
		case err == nil:
			fmt.Fprintf(w, "%.0f s\n", time.Since(began).Seconds())
			return nil
		case strings.Contains(err.Error(), errNoRedis.Error()):
			r.Missing[system] = errNoRedis.Error()
			fmt.Fprintln(w, errNoRedis)
			return nil
		case try == fieldTries || ctx.Err() != nil:
			fmt.Fprintln(w, "failed")
			return err
		}
		fmt.Fprintln(w, "failed:", err)
		r.Again = append(r.Again, fmt.Sprintf("%s: %v", row, err))
	}
}

// childSpread is spreadIn in a process of its own.
func childSpread(ctx context.Context, args []string, w io.Writer) error {
	f := flag.NewFlagSet("spread", flag.ContinueOnError)
	kind := f.String("kind", starlingName, "of members")
	n := f.Int("n", 10, "members")
	messages := f.Int("messages", 10, "one after the other")
	if err := f.Parse(args); err != nil {
		return err
	}
	s, err := spreadIn(ctx, contenders[*kind], *n, *messages)
	if err != nil {
		return err
	}
	return tell(w, s)
}

// childTrial is one trial in a process of its own.
func childTrial(ctx context.Context, args []string, w io.Writer) error {
	o := load{origins: 1}
	f := flag.NewFlagSet("trial", flag.ContinueOnError)
	kind := f.String("kind", starlingName, "of members")
	loadFlags(f, &o)
	f.IntVar(&o.rate, "rate", 1000, "messages per second")
	f.DurationVar(&o.waits, "wait", 10*time.Second, "how long to wait for what was sent")
	if err := f.Parse(args); err != nil {
		return err
	}
	out, err := try(ctx, *kind, contenders[*kind], o)
	if err != nil {
		return err
	}
	return tell(w, out)
}
