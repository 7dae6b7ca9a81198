package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// childIdle starts members of one kind, lets them settle, and tells the percentage of a core that they use while nothing is
// sent.
func childIdle(ctx context.Context, args []string, w io.Writer) (err error) {
	f := flag.NewFlagSet("idle", flag.ContinueOnError)
	kind := f.String("kind", "", "plain, or one of the field's")
	n := f.Int("n", 50, "members")
	settle := f.Duration("settle", 5*time.Second, "time to come to rest")
	window := f.Duration("for", 30*time.Second, "how long to measure")
	if err := f.Parse(args); err != nil {
		return err
	}
	start := contenders[*kind]
	if *kind == "plain" {
		start = startIdlePlain
	}
	if start == nil {
		return fmt.Errorf("no members of kind %q", *kind)
	}
	s, err := start(ctx, load{members: *n, origins: 1}, newLedger(*n, 1))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	time.Sleep(*settle)
	before := readOf(s)
	time.Sleep(*window)
	u := readOf(s).since(before)
	return tell(w, 100*u.cpu.Seconds()/u.wall.Seconds())
}

// startIdlePlain starts members of memberlist, over a transport with a read buffer that is reused, as Starling's is.
func startIdlePlain(ctx context.Context, o load, _ *ledger) (system, error) {
	members, err := startPlain(ctx, o.members, nil)
	return &inTurn{members}, err
}

func runIdle(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("idle", flag.ContinueOnError)
	n := f.Int("n", 50, "members")
	rounds := f.Int("rounds", 5, "rounds, each of both kinds")
	settle := f.Duration("settle", 10*time.Second, "time to come to rest")
	window := f.Duration("for", 30*time.Second, "how long to measure each")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *n < 2 || *n > 200 || *rounds < 1 || *rounds > 20 || *settle+*window > 5*time.Minute {
		return nil, errors.New("want 2 to 200 members, 1 to 20 rounds, at most 5 minutes each")
	}
	shares := map[string][]float64{}
	var ratios []float64
	for round := range *rounds {
		kinds := []string{"plain", "starling"}
		if round%2 == 1 {
			kinds = []string{"starling", "plain"}
		}
		for _, kind := range kinds {
			var percent float64
			args := []string{"idle", "-kind", kind, "-n", fmt.Sprint(*n), "-settle", settle.String(), "-for", window.String()}
			if err := ask(ctx, &percent, args...); err != nil {
				return nil, err
			}
			shares[kind] = append(shares[kind], percent)
			fmt.Fprintf(w, "round %d: %d idle members, %s: %.2f %% of a core\n", round+1, *n, kind, percent)
		}
		ratios = append(ratios, shares["starling"][round]/shares["plain"][round])
	}
	verdicts := []verdict{judge("idle CPU to plain memberlist's", ratios, 1.2, false)}
	return map[string]any{"verdicts": verdicts, "percent": shares}, printVerdicts(w, verdicts)
}
