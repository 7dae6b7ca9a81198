package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"
)

// runTLS lets Starling over TLS and without take turns, and compares within each round.
func runTLS(ctx context.Context, args []string, w io.Writer) (any, error) {
	var o load
	f := flag.NewFlagSet("tls", flag.ContinueOnError)
	loadFlags(f, &o)
	rounds := f.Int("rounds", 3, "rounds")
	f.IntVar(&o.origins, "origins", 1, "members that broadcast at once")
	f.DurationVar(&o.linger, "linger", time.Millisecond, "how long a message may wait for others to fill its packet")
	rates := intList{1000, 5000, 10000}
	f.Var(&rates, "rates", "messages per second of each origin, separated by commas; 0: as fast as Broadcast accepts")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *rounds < 1 || *rounds > 100 {
		return nil, fmt.Errorf("%d rounds: want 1 to 100", *rounds)
	}
	var all []outcome
	cpu, reached := map[int][]float64{}, map[int][]float64{}
	for round := range *rounds {
		for _, o.rate = range rates {
			if err := o.check(); err != nil {
				return nil, err
			}
			var outs [2]outcome // without, with
			for turn := range outs {
				o.tls = (turn+round)%2 == 1
				name, i := "udp", 0
				if o.tls {
					name, i = "tls", 1
				}
				var err error
				if outs[i], err = try(ctx, name, starlings, o); err != nil {
					return nil, err
				}
			}
			cpu[o.rate] = append(cpu[o.rate], outs[1].CPU/outs[0].CPU)
			reached[o.rate] = append(reached[o.rate], outs[1].PerSecond)
			all = append(all, outs[:]...)
			if err := table(w, outs[:]); err != nil {
				return nil, err
			}
		}
	}
	var verdicts []verdict
	for _, rate := range rates {
		verdicts = append(verdicts, judge(fmt.Sprintf("CPU with TLS / without, %d/s", rate), cpu[rate], 2.5, false))
		if rate > 0 {
			verdicts = append(verdicts, judge(fmt.Sprintf("accepted/s with TLS, %d/s", rate), reached[rate], 0.99*float64(rate*o.origins), true))
		}
	}
	return map[string]any{"verdicts": verdicts, "outcomes": all}, printVerdicts(w, verdicts)
}
