package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// printTable writes one line per delivery. The checksum is that of the bytes that arrived.
func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "message\tfrom\tto\tvia\t%9s\t%10s\tsha256\tcheck\n", "bytes", "after")
	for _, r := range rows {
		check := cmp.Or(r.fault(), "ok")
		if r.receipt == nil {
			fmt.Fprintf(t, "%s\t%s\t%s\t-\t%9s\t%10s\t-\t%s\n", r.note.title, r.from, r.member, "-", "-", check)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%v\t%9d\t%10s\t%.4x\t%s\n",
			r.note.title, r.from, r.member, r.via, r.size, millis(r.after), r.sum[:], check)
	}
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
