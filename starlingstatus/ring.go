package starlingstatus

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	ringLabels = 24   // up to so many members have a label
	ringDots   = 60   // and up to so many an element of their own
	ringMost   = 1000 // of more than so many some are not drawn
)

// ring is the members in a circle, as it is drawn.
type ring struct {
	Total string
	Self  *point // where this member is
	Dots  []dot
	Paths []dots // of many members: those of each state together, which is a tenth of the bytes
	Width string // of a dot in Paths
}

type point struct{ X, Y string }

type dot struct {
	point
	State, Name, Label   string
	TextX, TextY, Anchor string
}

type dots struct {
	State, D string
}

// ringOf places the members clockwise from the top, in the order they come in.
func ringOf(members []Member) ring {
	r := ring{Total: count(len(members)), Width: "7"}
	if len(members) > ringMost {
		members = byTrouble(members)[:ringMost]
		slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	}
	n := len(members)
	lanes := 1 + n/200 // many stand in several circles, side by side
	if lanes > 1 {
		r.Width = "4"
	}
	paths := map[string]*strings.Builder{}
	for i, m := range members {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(n))
		radius := 128 - 8*float64(i%lanes)
		if n <= ringLabels {
			radius = 110
		}
		at := point{coordinate(160 + radius*sin), coordinate(160 - radius*cos)}
		state := m.State
		if m.Self {
			state, r.Self = "self", &at
		}
		if n > ringDots {
			if paths[state] == nil {
				paths[state] = new(strings.Builder)
			}
			paths[state].WriteString("M" + at.X + " " + at.Y + "h0")
			continue
		}
		d := dot{point: at, State: state, Name: shorten(m.Name, 24)}
		if n <= ringLabels {
			d.label(m.Name, sin, cos, radius+12)
		}
		r.Dots = append(r.Dots, d)
	}
	for _, state := range []string{StateAlive, StateForeign, StateSilent, "self"} { // what matters lies on top
		if d := paths[state]; d != nil {
			r.Paths = append(r.Paths, dots{state, d.String()})
		}
	}
	return r
}

// label writes a member's name beside its dot.
func (d *dot) label(name string, sin, cos, radius float64) {
	d.Label = shorten(name, 12)
	d.TextX, d.TextY = coordinate(160+radius*sin), coordinate(164-radius*cos)
	switch {
	case sin > 0.2:
		d.Anchor = "start"
	case sin < -0.2:
		d.Anchor = "end"
	default:
		d.Anchor = "middle"
	}
}

func coordinate(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}
