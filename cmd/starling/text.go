package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/starling-go/starling/starlingstatus"
)

// clean returns text of others as a terminal may have it: what would move its cursor is shown as �.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r != '\n' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// oneLine is clean without line breaks.
func oneLine(s string) string { return clean(strings.ReplaceAll(s, "\n", " ")) }

// table writes rows of cells, the first as a heading, without the columns that are empty below it.
func table(w io.Writer, rows [][]string) error {
	keep := map[int]bool{}
	for _, row := range rows[1:] {
		for i, cell := range row {
			keep[i] = keep[i] || cell != ""
		}
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		var line []string
		for i, cell := range row {
			if keep[i] || len(rows) == 1 {
				line = append(line, oneLine(cell))
			}
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON writes v for programs, for people to read too.
func writeJSON(w io.Writer, v any) error {
	return writeEscaped(w, v, "  ")
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error { return writeEscaped(w, v, "") }

// writeEscaped writes JSON, with escapes for all that clean would replace: encoding/json leaves some of what moves a cursor as it is.
func writeEscaped(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	var b []byte
	for _, r := range text.String() {
		if r == '\n' || unicode.IsPrint(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	_, err := w.Write(b)
	return err
}

func sortMembers(members []starlingstatus.Member) {
	slices.SortFunc(members, func(a, b starlingstatus.Member) int { return cmp.Compare(a.Name, b.Name) })
}

// plural is a number with a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size writes a number of bytes.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.3g GiB", n)
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }
