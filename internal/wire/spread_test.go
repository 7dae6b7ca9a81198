package wire

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// partsOf returns the parts of a Spread.
func partsOf(s SpreadFrame) (parts [][]byte) {
	for part, ok := s.Next(); ok; part, ok = s.Next() {
		parts = append(parts, part)
	}
	return parts
}

// TestSpreadBothWays: the generated code reads our Spread, and we its.
func TestSpreadBothWays(t *testing.T) {
	for i, want := range []*starlingpb.Spread{
		{Root: 1, Batch: 1},
		{Root: math.MaxUint64, Batch: math.MaxUint64, End: math.MaxUint64, Flags: MaxTry<<TryShift | FlagList | FlagStream},
		{Root: 1, Batch: 300, End: 7, Flags: 1 << TryShift, Parts: [][]byte{testPart(), {}, bytes.Repeat([]byte("x"), 300)}},
	} {
		ours := spreadContent(BatchID{Root: want.Root, N: want.Batch}, want.End, want.Flags, want.Parts...)
		size := SpreadHead
		for _, part := range want.Parts {
			size += PartSize(len(part))
		}
		if len(ours) > size {
			t.Errorf("%d: %d bytes, said %d", i, len(ours), size)
		}
		var got starlingpb.Spread
		if err := proto.Unmarshal(ours, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%d: generated code reads %v (%v), want %v", i, &got, err, want)
		}
		for name, content := range map[string][]byte{"ours": ours, "generated": mustMarshal(t, want)} {
			s, err := ParseSpread(content)
			if err != nil || s.ID != (BatchID{Root: want.Root, N: want.Batch}) || s.End != want.End || s.Flags != want.Flags {
				t.Errorf("%d, %s: %+v, %v", i, name, s, err)
			}
			if parts := partsOf(s); !slices.EqualFunc(parts, want.Parts, bytes.Equal) {
				t.Errorf("%d, %s: parts %q, want %q", i, name, parts, want.Parts)
			}
		}
		parts := ours[len(AppendSpread(nil, BatchID{Root: want.Root, N: want.Batch}, want.End, want.Flags)):]
		frame := EncodeSpread(testBrief().Append(nil), BatchID{Root: want.Root, N: want.Batch}, want.End, want.Flags, parts)
		if c := control(t, frame); c.Body != BodySpread || c.From != testBrief() || !bytes.Equal(c.Content, ours) {
			t.Errorf("%d: framed %+v", i, c)
		}
		if framing := len(frame) - len(testBrief().Append(nil)) - len(ours); framing > ControlFraming {
			t.Errorf("%d: framing of %d bytes, said %d", i, framing, ControlFraming)
		}
	}
}

// TestSpreadMalformed: a Spread says which batch it is, or is malformed; a malformed part ends its parts.
func TestSpreadMalformed(t *testing.T) {
	id := BatchID{Root: 1, N: 1}
	for name, content := range map[string][]byte{
		"nothing": nil,
		"no root": spreadContent(BatchID{N: 1}, 7, 0), "no count": spreadContent(BatchID{Root: 1}, 7, 0),
		"cut": spreadContent(id, 7, 0)[:12], "no tag": {0xff}, "number 0": {0x01},
	} {
		if s, err := ParseSpread(content); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	whole := spreadContent(id, 7, 0, []byte("one"), []byte("two"))
	for cut, want := range map[int]int{1: 1, 4: 1, 5: 1, 6: 0} {
		s, err := ParseSpread(whole[:len(whole)-cut])
		if parts := partsOf(s); err != nil || s.ID != id || len(parts) != want {
			t.Errorf("without the last %d bytes: %+v, %v, parts %q", cut, s, err, parts)
		}
	}
}

// FuzzSpreadFrame: what is accepted is the same when it is encoded again.
func FuzzSpreadFrame(f *testing.F) {
	f.Add(spreadContent(BatchID{Root: 101, N: 1}, 7, FlagList, testPart()))
	f.Add(spreadContent(BatchID{Root: 101, N: 1}, 0, 0, testPart(), nil, testPart()))
	f.Add(spreadContent(BatchID{Root: 1, N: 1}, 7, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSpread(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		parts := partsOf(s)
		again, err := ParseSpread(spreadContent(s.ID, s.End, s.Flags, parts...))
		same := again.ID == s.ID && again.End == s.End && again.Flags == s.Flags && slices.EqualFunc(partsOf(again), parts, bytes.Equal)
		if err != nil || !same {
			t.Fatalf("encoded again: %+v (%v), was %+v", again, err, s)
		}
	})
}

func BenchmarkParseSpread(b *testing.B) {
	content := spreadContent(BatchID{Root: 1 << 62, N: 4711}, 1<<61, 1<<TryShift, slices.Repeat([][]byte{testPart()}, 3)...)
	b.ReportAllocs()
	for b.Loop() {
		s, err := ParseSpread(content)
		n := 0
		for _, ok := s.Next(); ok; _, ok = s.Next() {
			n++
		}
		if err != nil || n != 3 {
			b.Fatal(n, err)
		}
	}
}
