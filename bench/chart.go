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
	"strings"
)

// figures are what the chart shows, each as it was measured. Those of the field's other libraries were measured before, on a
// machine of the same size.
//
//go:embed figures.json
var figures []byte

type panel struct {
	Title string  `json:"title"`
	Scale string  `json:"scale"` // log or linear
	Unit  string  `json:"unit"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Bars  []bar   `json:"bars"`
}

type bar struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Text  string  `json:"text"` // instead of the value; "never" is drawn as long as the scale
	Ours  bool    `json:"ours"`
}

// Measures of the chart, in pixels.
const (
	chartWidth, labelWidth, barRoom = 760, 170, 440
	titleHeight, barHeight, barStep = 34, 16, 24
)

// runChart draws the figures.
func runChart(_ context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("chart", flag.ContinueOnError)
	out := f.String("o", "../docs/why.svg", "file to write")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var panels []panel
	if err := json.Unmarshal(figures, &panels); err != nil {
		return nil, err
	}
	svg, err := draw(panels)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(w, *out)
	return len(panels), os.WriteFile(*out, []byte(svg), 0o644)
}

func draw(panels []panel) (string, error) {
	var b strings.Builder
	y := 0
	for _, p := range panels {
		y += titleHeight
		fmt.Fprintf(&b, "<text x='10' y='%d' class='title'>%s</text>\n", y-10, html.EscapeString(p.Title))
		for _, v := range p.Bars {
			width, err := p.width(v.Value)
			if err != nil {
				return "", fmt.Errorf("%s: %s: %w", p.Title, v.Name, err)
			}
			class := "theirs"
			if v.Ours {
				class = "ours"
			}
			text := v.Text
			if text == "" {
				text = fmt.Sprintf("%g %s", v.Value, p.Unit)
			}
			middle := y + barHeight - 4
			fmt.Fprintf(&b, "<text x='%d' y='%d' class='name'>%s</text>", labelWidth-8, middle, html.EscapeString(v.Name))
			fmt.Fprintf(&b, "<rect x='%d' y='%d' width='%.0f' height='%d' class='%s'/>", labelWidth, y, width, barHeight, class)
			fmt.Fprintf(&b, "<text x='%.0f' y='%d'>%s</text>\n", labelWidth+width+6, middle, html.EscapeString(text))
			y += barStep
		}
	}
	return fmt.Sprintf(`<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='13'>
<style>text{fill:#333}.title{font-weight:bold}.name{text-anchor:end}.ours{fill:#2a7f62}.theirs{fill:#b8b8b8}</style>
<rect width='100%%' height='100%%' fill='white'/>
%s</svg>
`, chartWidth, y+10, b.String()), nil
}

// width is how long the bar of a value is; at least one pixel, so that it is seen.
func (p panel) width(v float64) (float64, error) {
	if v < p.From || v > p.To {
		return 0, errors.New("beyond the scale")
	}
	share := (v - p.From) / (p.To - p.From)
	if p.Scale == "log" {
		share = math.Log(v/p.From) / math.Log(p.To/p.From)
	}
	return max(1, share*barRoom), nil
}
