package wire

import (
	"errors"
	"math"
	"testing"
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
