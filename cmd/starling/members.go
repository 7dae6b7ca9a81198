package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/starling-go/starling/starlingstatus"
)

// members shows who is in the cluster, as one member sees it.
func members(ctx context.Context, o *options, s screen) (int, error) {
	from, end, err := o.open(ctx, observerNeeds{})
	if err != nil {
		return exitFailed, err
	}
	defer end()
	status, err := from.status(ctx, o.timeout)
	switch {
	case err != nil:
		return exitFailed, err
	case o.json:
		return exitFine, writeJSON(s.out, status.Members)
	}
	fmt.Fprintln(s.out, summary(status))
	return exitFine, table(s.out, memberRows(status.Members))
}

// summary says in one line how a member is doing.
func summary(s *starlingstatus.Status) string {
	text := fmt.Sprintf("%s sees %s", oneLine(s.Self), plural(len(s.Members), "member"))
	for _, state := range []string{starlingstatus.StateSilent, starlingstatus.StateForeign} {
		n := 0
		for _, m := range s.Members {
			if m.State == state {
				n++
			}
		}
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, state)
		}
	}
	if s.NotReady != nil {
		return text + ", not ready: " + oneLine(s.NotReady.Text)
	}
	return text + ", ready"
}

func memberRows(members []starlingstatus.Member) [][]string {
	rows := [][]string{{"NAME", "STATE", "ADDRESS", "RTT", "VERSION", "ZONE", "META", "KEY"}}
	for _, m := range members {
		state, rtt, version := m.State, "", ""
		if m.Self {
			state += ", asked"
		}
		if m.Lagging {
			state += ", lags (keys)"
		}
		if m.RTT > 0 {
			rtt = m.RTT.String()
		}
		if m.Version > 0 {
			version = strconv.Itoa(m.Version)
		}
		rows = append(rows, []string{m.Name, state, m.Addr, rtt, version, m.Zone, m.Meta, m.Key})
	}
	return rows
}
