package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// figures are what the charts show: what the scenario field has written last.
//
//go:embed figures.json
var figures []byte

// panel is one measurement of all systems.
type panel struct {
	title string
	unit  string
	log   bool // the scale
	bars  []bar
}

type bar struct {
	name  string
	value float64
	text  string // instead of the value
	never bool   // it is drawn as long as the scale
	ours  bool
}

// Measures of a chart, in pixels.
const (
	chartWidth, labelWidth, barRoom = 760, 210, 400
	titleHeight, barHeight, barStep = 34, 16, 24
)

// theme is the colours of a chart.
type theme struct{ text, ours, theirs, ground string }

var themes = map[string]theme{
	"why.svg":      {"#333", "#2a7f62", "#b8b8b8", "white"},
	"why-dark.svg": {"#d0d7de", "#3fb98c", "#5a6470", "#0d1117"},
}

// runChart draws the figures, once for a light page and once for a dark one.
func runChart(_ context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("chart", flag.ContinueOnError)
	dir := f.String("o", "../docs", "directory to write to")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var r field
	if err := json.Unmarshal(figures, &r); err != nil {
		return nil, err
	}
	panels := r.panels()
	for name, t := range themes {
		svg, err := draw(panels, t, fmt.Sprintf("measured in one run, %s, %s", r.When, r.Machine))
		if err != nil {
			return nil, err
		}
		path := filepath.Join(*dir, name)
		fmt.Fprintln(w, path)
		if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
			return nil, err
		}
	}
	return len(panels), nil
}

// fullNames are the systems' names in charts.
var fullNames = map[string]string{
	starlingName: "Starling", alertmanagers: "Alertmanager's cluster", serfName: "Serf's user events", tutorialName: "memberlist, by tutorials",
	redisName: "Redis pub/sub (a broker)",
}

// panels are what the charts show of a run.
func (r *field) panels() []panel {
	of := func(title, unit string, log bool, bar func(system string) (bar, bool)) panel {
		p := panel{title: title, unit: unit, log: log}
		for _, s := range r.Systems {
			if b, ok := bar(s); ok {
				b.name, b.ours = fullNames[s], s == starlingName
				p.bars = append(p.bars, b)
			}
		}
		return p
	}
	at := func(figure func(outcome) float64) func(string) (bar, bool) {
		return func(s string) (bar, bool) {
			for _, o := range r.Rate[s] {
				if o.Rate == 1000 {
					return bar{value: figure(o)}, true
				}
			}
			return bar{}, false
		}
	}
	return []panel{
		of("One message of 200 bytes, 50 members at rest: until all have it, median (log scale)", "ms", true, func(s string) (bar, bool) {
			for _, row := range r.Spread[s] {
				if row.Members == 50 {
					b := bar{value: row.ToAll}
					if 2*row.Whole < row.Messages {
						b = bar{never: true, text: fmt.Sprintf("never: %.1f %% have it", 100*row.Delivered)}
					}
					return b, true
				}
			}
			return bar{}, false
		}),
		of("1,000 messages a second in a cluster of 10: share delivered", "%", false, at(func(o outcome) float64 { return 100 * o.Delivered })),
		of("1,000 a second: the slowest hundredth of what was delivered at all (log scale)", "ms", true, at(func(o outcome) float64 { return o.P99 })),
		of("1,000 a second: CPU for each delivery", "µs", false, at(func(o outcome) float64 { return o.CPU })),
		of("8 MiB to a cluster of 10: until all have it, median (log scale)", "ms", true, func(s string) (bar, bool) {
			for _, row := range r.Large[s] {
				if row.Bytes == 8<<20 {
					b := bar{value: row.ToAllMid}
					if row.Have < row.Members-1 {
						b = bar{never: true, text: "never"}
					}
					if row.Error != "" {
						b.text = "an error"
					}
					return b, true
				}
			}
			return bar{}, false
		}),
	}
}

// scale returns from where to where the bars of a panel go. Those of a log panel begin at a power of ten that is at most a third of the least,
// so that no bar vanishes.
func (p panel) scale() (from, to float64) {
	least, most := math.Inf(1), 0.0
	for _, b := range p.bars {
		if !b.never {
			least, most = min(least, b.value), max(most, b.value)
		}
	}
	if !p.log {
		return 0, max(most, 1e-9)
	}
	return math.Pow(10, math.Floor(math.Log10(max(least, 3e-3)/3))), math.Pow(10, math.Ceil(math.Log10(max(most, 1e-2))))
}

func draw(panels []panel, t theme, foot string) (string, error) {
	var b strings.Builder
	y := 0
	for _, p := range panels {
		from, to := p.scale()
		y += titleHeight
		fmt.Fprintf(&b, "<text x='10' y='%d' class='title'>%s</text>\n", y-10, html.EscapeString(p.title))
		for _, v := range p.bars {
			if !v.never && v.value <= 0 {
				return "", errors.New(p.title + ": " + v.name + " has no value")
			}
			width, text := v.width(from, to, p.log), v.text
			if text == "" {
				text = number(v.value) + " " + p.unit
			}
			class := "theirs"
			if v.ours {
				class = "ours"
			}
			middle := y + barHeight - 4
			fmt.Fprintf(&b, "<text x='%d' y='%d' class='name'>%s</text>", labelWidth-8, middle, html.EscapeString(v.name))
			fmt.Fprintf(&b, "<rect x='%d' y='%d' width='%.0f' height='%d' class='%s'/>", labelWidth, y, width, barHeight, class)
			fmt.Fprintf(&b, "<text x='%.0f' y='%d'>%s</text>\n", labelWidth+width+6, middle, html.EscapeString(text))
			y += barStep
		}
	}
	y += titleHeight
	fmt.Fprintf(&b, "<text x='10' y='%d'>%s</text>\n", y-10, html.EscapeString(foot))
	return fmt.Sprintf(`<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='13'>
<style>text{fill:%s}.title{font-weight:bold}.name{text-anchor:end}.ours{fill:%s}.theirs{fill:%s}</style>
<rect width='100%%' height='100%%' fill='%s'/>
%s</svg>
`, chartWidth, y+4, t.text, t.ours, t.theirs, t.ground, b.String()), nil
}

// width is how long a bar is; at least one pixel, so that it is seen.
func (v bar) width(from, to float64, log bool) float64 {
	share := (v.value - from) / (to - from)
	switch {
	case v.never:
		share = 1
	case log:
		share = math.Log(v.value/from) / math.Log(to/from)
	}
	return max(1, share*barRoom)
}

// number prints three digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
