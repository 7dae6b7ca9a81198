package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/starling-go/starling/starlingstatus"
)

// probe has every member confirm an empty message.
func probe(ctx context.Context, o *options, s screen) (int, error) {
	from, end, err := o.open(ctx, observerNeeds{probe: true})
	if err != nil {
		return exitFailed, err
	}
	defer end()
	p, err := from.probe(ctx, o.timeout)
	if err != nil {
		return exitFailed, err
	}
	if o.json {
		err = writeJSON(s.out, p)
	} else {
		err = showProbe(s, p)
	}
	switch {
	case p.Error != "":
		return exitFailed, err
	case !p.Confirmed:
		return exitNot, err
	}
	return exitFine, err
}

const barWidth = 30

func showProbe(s screen, p *starlingstatus.Probe) error {
	switch {
	case p.Error != "":
		_, err := fmt.Fprintf(s.out, "nothing was sent: %s\n", oneLine(p.Error))
		return err
	case p.Confirmed:
		fmt.Fprintf(s.out, "confirmed by %s after %v\n", plural(len(p.Answers), "other member"), p.Took)
	default:
		lack := 0
		for _, a := range p.Answers {
			if a.Lacks != "" {
				lack++
			}
		}
		fmt.Fprintf(s.out, "not confirmed after %v; lacked by %d of %s\n", p.Took, lack, plural(len(p.Answers), "other member"))
	}
	slowest := starlingstatus.Duration(1)
	for _, a := range p.Answers {
		slowest = max(slowest, a.RTT)
	}
	rows := [][]string{{"MEMBER", "ROUND TRIP", "", "LACKS IT"}}
	for _, a := range p.Answers {
		rtt, bar := a.Error, ""
		if a.RTT > 0 {
			rtt = a.RTT.String()
			bar = strings.Repeat("█", max(1, int(barWidth*a.RTT/slowest)))
		}
		rows = append(rows, []string{a.Member, rtt, bar, a.Lacks})
	}
	if len(rows) == 1 {
		return nil
	}
	return table(s.out, rows)
}
