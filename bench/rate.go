package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// loadFlags adds the flags of a load, with defaults.
func loadFlags(f *flag.FlagSet, o *load) {
	f.IntVar(&o.members, "n", 10, "members")
	f.IntVar(&o.size, "size", 200, "bytes of a message, at least 16")
	f.DurationVar(&o.idle, "idle", 2*time.Second, "idle window measured before, and taken off")
	o.lasts = 10 * time.Second
	f.Func("seconds", "how long to send (default 10)", func(s string) error {
		_, err := fmt.Sscanf(s, "%f", (*seconds)(&o.lasts))
		return err
	})
}

// seconds scans a number of seconds into a duration.
type seconds time.Duration

func (s *seconds) Scan(state fmt.ScanState, verb rune) error {
	var v float64
	_, err := fmt.Fscan(state, &v)
	*s = seconds(v * float64(time.Second))
	return err
}

func (o load) check() error {
	switch {
	case o.members < 2 || o.members > 200:
		return fmt.Errorf("%d members: want 2 to 200", o.members)
	case o.origins < 1 || o.origins > o.members:
		return fmt.Errorf("%d origins: want 1 to %d", o.origins, o.members)
	case o.size < stampSize || o.size > 1<<20:
		return fmt.Errorf("messages of %d bytes: want %d to 1 MiB", o.size, stampSize)
	case o.rate < 0 || o.lasts <= 0 || o.lasts > time.Hour:
		return fmt.Errorf("%d per second for %v: want a rate that is not negative and at most an hour", o.rate, o.lasts)
	}
	return nil
}

func runRate(ctx context.Context, args []string, w io.Writer) (any, error) {
	return runOne(ctx, "rate", "starling", starlings, time.Millisecond, args, w)
}

func runBare(ctx context.Context, args []string, w io.Writer) (any, error) {
	return runOne(ctx, "bare", "bare", bares, 0, args, w)
}

// runOne measures one system under one load.
func runOne(ctx context.Context, name, sys string, start starter, linger time.Duration, args []string, w io.Writer) (any, error) {
	var o load
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	loadFlags(f, &o)
	f.IntVar(&o.rate, "rate", 1000, "messages per second of each origin; 0: as fast as Broadcast accepts")
	f.IntVar(&o.origins, "origins", 1, "members that broadcast at once")
	f.DurationVar(&o.linger, "linger", linger, "how long a message may wait for others to fill its packet")
	if name == "rate" {
		f.BoolVar(&o.tls, "tls", false, "over TLS")
	}
	var prof profiles
	prof.flags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	stop, err := prof.start()
	if err != nil {
		return nil, err
	}
	out, err := try(ctx, sys, start, o)
	if err != nil {
		return nil, err
	}
	if err := stop(); err != nil {
		return nil, err
	}
	return out, table(w, []outcome{out})
}

// table prints outcomes, one to a row.
func table(w io.Writer, outs []outcome) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "system\tmembers\torigins\toffered/s\tlinger\taccepted/s\tdelivered\trepeated\tp50 ms\tp99 ms\tmax ms\t"+
		"cpu µs\tallocs\tbytes\tlongest ms\tlate ms\tidle %\t")
	for _, o := range outs {
		offered := "full"
		if o.Rate > 0 {
			offered = fmt.Sprint(o.Rate)
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%g ms\t%.0f\t%.4f %%\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.1f\t%.1f\t%.1f\t\n",
			o.System, o.Members, o.Origins, offered, o.LingerMs, o.PerSecond, 100*o.Delivered, o.Repeated,
			o.P50, o.P99, o.Max, o.CPU, o.Allocs, o.Bytes, o.Longest, o.Late, o.IdleCPU)
	}
	return tw.Flush()
}
