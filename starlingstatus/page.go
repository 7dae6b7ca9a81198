package starlingstatus

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page/page.html
var pageText string

// pageParts are the parts of the page. They are never changed.
var pageParts = template.Must(template.New("page").Funcs(template.FuncMap{
	"short": func(s string) string { return shorten(s, 40) },
	"clip":  func(s string) string { return shorten(s, 300) },
	"count": count, "bytes": size, "clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"silent": func(s *Status) int {
		n := 0
		for _, m := range s.Members {
			if m.State == StateSilent {
				n++
			}
		}
		return n
	},
	"dropped": func(s *Status) (sum uint64) {
		for _, d := range s.Drops {
			sum += d.Count
		}
		return sum
	},
	"hangs": func(c Channel) bool { return time.Duration(c.Running) >= hanging },
	"names": func(names []string) string { return shorten(strings.Join(names[:min(len(names), 10)], ", "), 300) },
}).Parse(pageText))

// Invariant: these, the ring and what has a size of its own make less than 150 KB, however many members there are, and whatever they
// call themselves. What has no room is in the JSON.
const (
	roomMembers  = 104 << 10
	roomChannels = 10 << 10
	roomMaps     = 6 << 10
	roomLately   = 2 << 10 // each of drops, gaps and events
)

// hanging is how long a handler may run before it looks bad.
const hanging = 10 * time.Second

// fragment is an element of the page that is replaced when it changes, by its id.
type fragment struct{ id, html string }

// picture is the page's changing elements as they are at one time. It is never changed.
type picture struct {
	sections []fragment // in their order on the page; that of the members has all rows
	rows     []fragment // of members
	order    string     // of whom the rows are
}

// draw makes the elements of the page.
func draw(s *Status) picture {
	var p picture
	add := func(id string, write func(b *bytes.Buffer)) {
		var b bytes.Buffer
		write(&b)
		p.sections = append(p.sections, fragment{id, b.String()})
	}
	part := func(id string, v any) { add(id, func(b *bytes.Buffer) { execute(b, id, v) }) }
	part("head", s)
	part("ring", ringOf(s.Members))
	add("members", func(b *bytes.Buffer) { p.drawMembers(b, s.Members) })
	add("channels", func(b *bytes.Buffer) {
		table(b, "channels", nil, roomChannels, s.Channels, func(b io.Writer, c Channel) { execute(b, "channel", c) })
	})
	add("maps", func(b *bytes.Buffer) { table(b, "maps", s.Maps, roomMaps, s.Maps, drawMap) })
	part("keys", s.Keys)
	add("drops", func(b *bytes.Buffer) {
		table(b, "drops", nil, roomLately, s.Drops, func(b io.Writer, d Drop) { execute(b, "drop", d) })
	})
	add("gaps", func(b *bytes.Buffer) {
		table(b, "gaps", nil, roomLately, s.Gaps, func(b io.Writer, g Gap) { execute(b, "gap", g) })
	})
	add("happened", func(b *bytes.Buffer) {
		table(b, "happened", nil, roomLately, s.Happened, func(b io.Writer, e Event) { execute(b, "event", e) })
	})
	return p
}

// whole returns the page.
func whole(s *Status) []byte {
	var b bytes.Buffer
	execute(&b, "top", s)
	b.WriteString("<main>\n")
	for i, f := range draw(s).sections {
		b.WriteString(f.html)
		if i == 1 { // beside the ring
			execute(&b, "probe", s.Probe)
		}
	}
	b.WriteString("</main>\n")
	execute(&b, "foot", s)
	return b.Bytes()
}

// resultPage returns the page of a probe's result. The page's script takes the result out of it.
func resultPage(s *Status, probe *Probe) []byte {
	var b bytes.Buffer
	execute(&b, "top", s)
	execute(&b, "alone", nil)
	execute(&b, "result-top", probe)
	slowest := Duration(1)
	for _, a := range probe.Answers {
		slowest = max(slowest, a.RTT)
	}
	tableRows(&b, roomMembers, probe.Answers, func(b io.Writer, a Answer) {
		width := 100 * float64(a.RTT) / float64(slowest)
		execute(b, "answer", struct {
			Answer
			Width string
		}{a, strconv.FormatFloat(max(width, 1), 'f', 1, 64)})
	})
	execute(&b, "result-bottom", nil)
	execute(&b, "back", nil)
	return b.Bytes()
}

// columns are what members have a column for, since one of them has it.
type columns struct{ Zone, Meta, Key bool }

// row is a member in the table. It is ready to be written: a template takes long to ask for more, a thousand times.
type row struct {
	Index       int
	Class, Name string
	Cells       []string
}

func rowOf(index int, m Member, has columns) row {
	r := row{Index: index, Name: shorten(m.Name, 40)}
	word, rtt, version := m.State, "–", "–"
	switch {
	case m.Self:
		r.Class, word, rtt = "self", "this member", ""
	case m.State != StateAlive:
		r.Class = m.State
	case m.Lagging:
		r.Class = "lagging"
	}
	if m.Lagging {
		word += ", lags (keys)"
	}
	if m.RTT > 0 {
		rtt = m.RTT.String()
	}
	if m.Version > 0 {
		version = strconv.Itoa(m.Version)
	}
	r.Cells = []string{m.Addr, word, rtt, version}
	if has.Zone {
		r.Cells = append(r.Cells, shorten(m.Zone, 40))
	}
	if has.Meta {
		r.Cells = append(r.Cells, shorten(m.Meta, 40))
	}
	if has.Key {
		r.Cells = append(r.Cells, m.Key)
	}
	return r
}

// drawMembers writes the table of members, and notes its rows.
func (p *picture) drawMembers(b *bytes.Buffer, members []Member) {
	var has columns
	for _, m := range members {
		has = columns{has.Zone || m.Zone != "", has.Meta || m.Meta != "", has.Key || m.Key != ""}
	}
	var order strings.Builder
	table(b, "members", has, roomMembers, byTrouble(members), func(b io.Writer, m Member) {
		var html bytes.Buffer
		execute(&html, "member", rowOf(len(p.rows), m, has))
		p.rows = append(p.rows, fragment{"m" + strconv.Itoa(len(p.rows)), html.String()})
		b.Write(html.Bytes())
		order.WriteString(m.Name + "\x00" + m.ID + "\x00")
	})
	p.order = order.String() + strconv.Itoa(len(members))
}

// byTrouble puts this member first, then those with trouble: they must not be among those that there is no room for.
func byTrouble(members []Member) []Member {
	rank := func(m Member) int {
		switch {
		case m.Self:
			return 0
		case m.State == StateSilent:
			return 1
		case m.Lagging:
			return 2
		case m.State == StateForeign:
			return 3
		}
		return 4
	}
	members = slices.Clone(members)
	slices.SortStableFunc(members, func(a, b Member) int { return rank(a) - rank(b) })
	return members
}

func drawMap(b io.Writer, m MapState) {
	execute(b, "map", m)
	for _, v := range m.Values {
		execute(b, "value", Value{shorten(v.Key, 40), shorten(v.Text, 80)})
	}
}

// table writes a section that is a table, with as many rows as there is room for.
func table[T any](b *bytes.Buffer, name string, top any, room int, rows []T, draw func(io.Writer, T)) {
	execute(b, name+"-top", top)
	tableRows(b, room, rows, draw)
	execute(b, "bottom", nil)
}

func tableRows[T any](b *bytes.Buffer, room int, rows []T, draw func(io.Writer, T)) {
	end := b.Len() + room
	var next bytes.Buffer
	for i, r := range rows {
		next.Reset()
		draw(&next, r)
		if b.Len()+next.Len() > end {
			execute(b, "more", len(rows)-i)
			return
		}
		b.Write(next.Bytes())
	}
	if len(rows) == 0 {
		execute(b, "none", "none")
	}
}

// execute writes a part of the page. Writing to memory does not fail, and what the parts are given is of their types: the tests see to that.
func execute(b io.Writer, name string, v any) {
	if err := pageParts.ExecuteTemplate(b, name, v); err != nil {
		io.WriteString(b, template.HTMLEscapeString(err.Error()))
	}
}

// shorten returns at most n characters of s.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// count writes a number in groups of three digits.
func count(n any) string {
	var digits string
	switch n := n.(type) {
	case int:
		digits = strconv.Itoa(n)
	case uint64:
		digits = strconv.FormatUint(n, 10)
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// size writes a number of bytes.
func size(n any) string {
	var v float64
	switch n := n.(type) {
	case int:
		v = float64(n)
	case uint64:
		v = float64(n)
	}
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1000 || unit == "GiB" {
			digits := 1
			if unit == "B" || v >= 100 {
				digits = 0
			}
			return strconv.FormatFloat(v, 'f', digits, 64) + " " + unit
		}
		v /= 1024
	}
	return ""
}
