package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// contender is a system as compare runs it.
type contender struct {
	name   string
	start  starter
	linger time.Duration
}

// verdict is a figure that has a target.
type verdict struct {
	Figure string    `json:"figure"`
	Value  float64   `json:"value"` // the median of rounds
	Rounds []float64 `json:"rounds"`
	Target float64   `json:"target"`
	Least  bool      `json:"least"` // the target is the least, not the most
	Met    bool      `json:"met"`
}

func judge(figure string, rounds []float64, target float64, least bool) verdict {
	v := verdict{Figure: figure, Value: median(rounds), Rounds: rounds, Target: target, Least: least}
	v.Met = v.Value <= target
	if least {
		v.Met = v.Value >= target
	}
	return v
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func printVerdicts(w io.Writer, vs []verdict) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "figure\tmedian\ttarget\t\trounds")
	for _, v := range vs {
		bound, met := "at most", "met"
		if v.Least {
			bound = "at least"
		}
		if !v.Met {
			met = "MISSED"
		}
		fmt.Fprintf(tw, "%s\t%.3g\t%s %g\t%s\t%.3g\n", v.Figure, v.Value, bound, v.Target, met, v.Rounds)
	}
	return tw.Flush()
}

// runCompare lets the bare sender and Starling take turns, so that what else the machine does hits both, and compares
// within each round.
func runCompare(ctx context.Context, args []string, w io.Writer) (any, error) {
	o := load{origins: 1}
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	loadFlags(f, &o)
	rounds := f.Int("rounds", 3, "rounds")
	full := f.Bool("full", true, "also as fast as Broadcast accepts")
	linger := f.Duration("linger", time.Millisecond, "Starling's linger")
	rates := intList{1000, 5000}
	f.Var(&rates, "rates", "messages per second, separated by commas")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *rounds < 1 || *rounds > 100 {
		return nil, fmt.Errorf("%d rounds: want 1 to 100", *rounds)
	}
	if *full {
		rates = append(rates, 0)
	}
	c := comparison{outs: map[int]map[string][]outcome{}}
	for round := range *rounds {
		for _, o.rate = range rates {
			if err := o.check(); err != nil {
				return nil, err
			}
			if err := c.round(ctx, round, o, *linger, w); err != nil {
				return nil, err
			}
		}
	}
	verdicts := c.judge(rates)
	return map[string]any{"verdicts": verdicts, "outcomes": c.all}, printVerdicts(w, verdicts)
}

// comparison is what rounds brought so far: by rate and contender, one outcome for each round.
type comparison struct {
	outs map[int]map[string][]outcome
	all  []outcome
}

const (
	bareAtOnce  = "bare"
	bareLingers = "bare-linger"
)

func (c *comparison) round(ctx context.Context, round int, o load, linger time.Duration, w io.Writer) error {
	turns := []contender{{bareAtOnce, bares, 0}, {bareLingers, bares, time.Millisecond}, {starlingName, starlings, linger}}
	if o.rate == 0 {
		turns = slices.Delete(turns, 1, 2) // full packets do not linger
	}
	if round%2 == 1 {
		slices.Reverse(turns)
	}
	if c.outs[o.rate] == nil {
		c.outs[o.rate] = map[string][]outcome{}
	}
	var row []outcome
	for _, who := range turns {
		o.linger = who.linger
		out, err := try(ctx, who.name, who.start, o)
		if err != nil {
			return err
		}
		c.outs[o.rate][who.name] = append(c.outs[o.rate][who.name], out)
		row = append(row, out)
	}
	c.all = append(c.all, row...)
	return table(w, row)
}

// latencyTarget is the 99th percentile of latency that Starling may have at a rate, in ms.
func latencyTarget(rate int) float64 {
	if rate <= 1000 {
		return 3
	}
	return 5
}

func (c *comparison) judge(rates []int) (vs []verdict) {
	all := func(rate int, who string, figure func(outcome) float64) (values []float64) {
		for _, o := range c.outs[rate][who] {
			values = append(values, figure(o))
		}
		return values
	}
	ratio := func(rate int, to string, figure func(outcome) float64) []float64 {
		ours, theirs := all(rate, starlingName, figure), all(rate, to, figure)
		for i := range ours {
			ours[i] /= theirs[i]
		}
		return ours
	}
	cpu := func(o outcome) float64 { return o.CPU }
	throughput := func(o outcome) float64 { return o.PerSecond }
	p99 := func(o outcome) float64 { return o.P99 }
	delivered := func(o outcome) float64 { return o.Delivered }
	for _, rate := range rates {
		if rate == 0 {
			vs = append(vs,
				judge("full speed: throughput to the bare one's", ratio(0, bareAtOnce, throughput), 0.6, true),
				judge("full speed: CPU per delivery to the bare one's", ratio(0, bareAtOnce, cpu), 1/0.6, false))
		} else {
			at := fmt.Sprintf("%d/s: ", rate)
			vs = append(vs,
				judge(at+"CPU per delivery to the bare one's", ratio(rate, bareAtOnce, cpu), 1.5, false),
				judge(at+"CPU per delivery to the bare one's with linger", ratio(rate, bareLingers, cpu), 1.5, false),
				judge(at+"p99 ms", all(rate, starlingName, p99), latencyTarget(rate), false),
				judge(at+"p99 ms of the bare one, for orientation", all(rate, bareAtOnce, p99), latencyTarget(rate), false))
		}
		name := "full speed"
		if rate > 0 {
			name = fmt.Sprintf("%d/s", rate)
		}
		vs = append(vs, judge(name+": share delivered", all(rate, starlingName, delivered), 1, true))
	}
	return vs
}
