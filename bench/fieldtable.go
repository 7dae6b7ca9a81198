package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print prints what was measured, a table for each thing and a column for each system.
func (r *field) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := func(what string) {
		fmt.Fprintf(tw, "\n%s\n\t%s\n", what, strings.Join(r.Systems, "\t")) // a line without tabs begins new columns
	}
	line := func(what string, cell func(system string) string) {
		fmt.Fprint(tw, what)
		for _, s := range r.Systems {
			text := "not measured"
			if r.Missing[s] == "" {
				text = cell(s)
			}
			fmt.Fprint(tw, "\t", text)
		}
		fmt.Fprintln(tw)
	}
	first := r.Systems[0]
	head("one message of 200 bytes, members: ms to half / to all, share that has it after 5 s")
	for i, row := range r.Spread[first] {
		line(fmt.Sprint(row.Members), func(s string) string { return r.Spread[s][i].cell() })
	}
	head("messages per second, 10 members: share delivered, p99 ms, CPU µs per delivery")
	for i, row := range r.Rate[first] {
		line(fmt.Sprint(row.Rate), func(s string) string {
			o := r.Rate[s][i]
			return fmt.Sprintf("%.1f %%, %.1f, %.0f", 100*o.Delivered, o.P99, o.CPU)
		})
	}
	head("bytes, 10 members: ms until all have it, CPU s, peak MB")
	for i, row := range r.Large[first] {
		line(fmt.Sprint(row.Bytes), func(s string) string { return r.Large[s][i].cell() })
	}
	head("one call of 200 bytes, 3 members, at most 64 queued")
	line("ns, allocations", func(s string) string { return fmt.Sprintf("%.0f, %.1f", r.Call[s].Nanos, r.Call[s].Allocs) })
	head("50 idle members")
	line("% of a core", func(s string) string { return fmt.Sprintf("%.1f", r.Idle[s]) })
	return tw.Flush()
}

func (s spreading) cell() string {
	half, all := "never", "never"
	if s.ToHalf > 0 {
		half = fmt.Sprintf("%.1f", s.ToHalf)
	}
	if 2*s.Whole >= s.Messages {
		all = fmt.Sprintf("%.1f", s.ToAll)
	}
	return fmt.Sprintf("%s / %s, %.1f %%", half, all, 100*s.Delivered)
}

func (o spreadOut) cell() string {
	switch {
	case o.Error != "":
		return "error"
	case o.Have < o.Members-1:
		return fmt.Sprintf("never: %d of %d", o.Have, o.Members-1)
	}
	return fmt.Sprintf("%.0f, %.2f, %.0f", o.ToAllMid, o.CPU, o.PeakMB)
}
