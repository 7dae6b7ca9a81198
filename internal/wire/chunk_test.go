package wire

import (
	"errors"
	"math"
	"testing"

	"github.com/starling-go/starling/starlingpb"
)

// TestChunkBothWays: the pieces of a message tell where they belong, and what does not fit is malformed.
func TestChunkBothWays(t *testing.T) {
	frame := func(c Chunk, data int, seq uint64) []byte {
		return AppendIdentity(AppendChunk(AppendBody(nil, "ch", make([]byte, data)), c), PartID{Origin: 7, Seq: seq}, 0, 0)
	}
	for _, c := range []Chunk{{}, {Total: 2500, Size: 1024, Index: 0}, {Total: 2500, Size: 1024, Index: 2}, {Total: 2048, Size: 1024, Index: 1},
		{Total: math.MaxUint32, Size: MinChunk, Index: 1 << 20}} {
		data := 5
		if !c.Whole() {
			data = c.Len()
		}
		p, err := ParsePart(frame(c, data, 1<<21))
		if err != nil || p.Chunk != c {
			t.Errorf("%+v came as %+v, %v", c, p.Chunk, err)
		}
	}
	c := Chunk{Total: 2500, Size: 1024, Index: 2}
	if first, last := c.Span(12); c.Count() != 3 || c.Len() != 452 || first != 10 || last != 12 {
		t.Errorf("%+v: %d pieces, the last of %d bytes, from %d to %d", c, c.Count(), c.Len(), first, last)
	}
	for name, frame := range map[string][]byte{
		"smaller than allowed":  frame(Chunk{Total: 2000, Size: 1000}, 1000, 5),
		"one piece":             frame(Chunk{Total: 2000, Size: 2000}, 2000, 5),
		"beyond the end":        frame(Chunk{Total: 2500, Size: 1024, Index: 3}, 0, 5),
		"too short":             frame(Chunk{Total: 2500, Size: 1024, Index: 1}, 1023, 5),
		"too long":              frame(Chunk{Total: 2500, Size: 1024, Index: 2}, 453, 5),
		"before the first part": frame(Chunk{Total: 2500, Size: 1024, Index: 2}, 452, 2),
		"beyond the last seq":   frame(Chunk{Total: 2500, Size: 1024, Index: 0}, 1024, math.MaxUint64-1),
		"no size":               AppendIdentity(appendVarint(AppendBody(nil, "ch", []byte("x")), partTotal, 9), PartID{Origin: 7, Seq: 1}, 0, 0),
		"of 2^40 bytes":         AppendIdentity(appendVarint(appendVarint(AppendBody(nil, "ch", make([]byte, 1024)), partTotal, 1<<40), partSize, 1024), PartID{Origin: 7, Seq: 1}, 0, 0),
		"without identity":      AppendChunk(AppendBody(nil, "ch", make([]byte, 1024)), Chunk{Total: 2500, Size: 1024}),
	} {
		if p, err := ParsePart(frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, p.Chunk, err)
		}
	}
}

// TestDirectChunk: a Direct is a whole message, a piece, or a question about one; what cannot be is malformed.
func TestDirectChunk(t *testing.T) {
	const least = MinDirectChunk
	for name, test := range map[string]struct {
		total, size, index uint32
		data               int
		fits               bool
	}{
		"whole":                 {data: 5, fits: true},
		"empty":                 {fits: true},
		"piece":                 {total: 2*least + 1, size: least, index: 1, data: least, fits: true},
		"last piece":            {total: 2*least + 1, size: least, index: 2, data: 1, fits: true},
		"question":              {total: 2*least + 1, size: least, index: 2, fits: true},
		"of 4 GiB":              {total: math.MaxUint32, size: least, index: 7, data: least, fits: true},
		"too small":             {total: 2 * least, size: least - 1, data: least - 1},
		"too small, asked":      {total: 2 * least, size: least - 1},
		"size zero":             {total: 2 * least, data: least},
		"size zero, asked":      {total: 2 * least},
		"one piece":             {total: least, size: least, data: least},
		"smaller than its size": {total: 1, size: least, data: 1},
		"no total":              {size: least, data: least},
		"an index alone":        {index: 1, data: 5},
		"beyond the end":        {total: 2 * least, size: least, index: 2, data: least},
		"asked beyond the end":  {total: 2 * least, size: least, index: math.MaxUint32},
		"too short":             {total: 2 * least, size: least, data: least - 1},
		"too long":              {total: 2 * least, size: least, data: least + 1},
	} {
		c, err := DirectChunk(&starlingpb.Direct{Total: test.total, Size: test.size, Index: test.index, Data: make([]byte, test.data)})
		if (err == nil) != test.fits || err != nil && !errors.Is(err, ErrMalformed) || c != (Chunk{test.total, test.size, test.index}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
