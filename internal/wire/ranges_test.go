package wire

import (
	"math"
	"slices"
	"testing"

	"github.com/starling-go/starling/internal/seqset"
)

// TestSpans: ranges come back as they went in, up to the last number there is.
func TestSpans(t *testing.T) {
	for _, want := range [][]seqset.Span{
		nil,
		{{Lo: 8, Hi: 8}},
		{{Lo: 9, Hi: 20}, {Lo: 22, Hi: 22}, {Lo: math.MaxUint64, Hi: math.MaxUint64}},
		{{Lo: 8, Hi: math.MaxUint64}},
	} {
		got, ok := ReadSpans(AppendSpans(nil, 7, want), 7)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("%v, %t, want %v", got, ok, want)
		}
	}
}

// TestSpansRefused: ranges that overlap, leave the numbers or are too many are refused.
func TestSpansRefused(t *testing.T) {
	for name, src := range map[string][]uint64{
		"half a range":     {1},
		"no distance":      {0, 1},
		"begins too high":  {math.MaxUint64 - 6, 0},
		"ends too high":    {1, math.MaxUint64 - 7},
		"second too high":  {1, 0, math.MaxUint64 - 7, 0},
		"too many to read": slices.Repeat([]uint64{1, 0}, maxSpans+1),
	} {
		if got, ok := ReadSpans(src, 7); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, ok := ReadSpans(slices.Repeat([]uint64{1, 0}, maxSpans), 7); !ok || len(got) != maxSpans {
		t.Errorf("%d ranges, %t", len(got), ok)
	}
}
