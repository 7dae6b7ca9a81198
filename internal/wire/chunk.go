package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/starling-go/starling/starlingpb"
)

// Chunk says which piece of a message a part carries. A message is cut into pieces of Size bytes each, the last of which is as long as
// what is left. They are parts one after the other: the first has the seq of any of them less its Index.
//
// The zero Chunk is that of a part that is a whole message.
type Chunk struct {
	Total uint32 // bytes of the message
	Size  uint32 // bytes of each piece but the last
	Index uint32 // which piece this is, from 0
}

// MinChunk is the smallest Size. It bounds how many parts a message may claim to have.
const MinChunk = 1 << 10

// MinDirectChunk is the smallest Size of a message for one member alone. Its receiver keeps a place for each piece as soon as the first has come:
// 24 bytes for 64 KiB.
const MinDirectChunk = 64 << 10

// ChunkRoom is the most that AppendChunk appends.
const ChunkRoom = 3 * (1 + binary.MaxVarintLen32)

// Whole reports whether the part is a whole message.
func (c Chunk) Whole() bool { return c.Total == 0 }

// Count returns how many parts the message has.
func (c Chunk) Count() int {
	if c.Whole() {
		return 1
	}
	return int((uint64(c.Total) + uint64(c.Size) - 1) / uint64(c.Size))
}

// Len returns how many bytes of the message the piece has.
func (c Chunk) Len() int {
	return int(min(uint64(c.Size), uint64(c.Total)-uint64(c.Index)*uint64(c.Size)))
}

// Bytes returns how many bytes of the message so many of its pieces have, the last one among them or not.
func (c Chunk) Bytes(pieces int, last bool) int {
	bytes := pieces * int(c.Size)
	if last {
		bytes -= c.Count()*int(c.Size) - int(c.Total)
	}
	return bytes
}

// Span returns the seqs of the first and the last part of the message to which a part of that seq belongs.
func (c Chunk) Span(seq uint64) (first, last uint64) {
	first = seq - uint64(c.Index)
	return first, first + uint64(c.Count()) - 1
}

// AppendChunk appends the fields of a chunk, nothing for a whole message. They stand between the body, or the context of a trace, and the identity.
func AppendChunk(b []byte, c Chunk) []byte {
	if c.Whole() {
		return b
	}
	b = appendVarint(b, partTotal, uint64(c.Total))
	b = appendVarint(b, partSize, uint64(c.Size))
	return appendVarint(b, partIndex, uint64(c.Index))
}

// chunkFields is a chunk as it was decoded.
type chunkFields struct{ total, size, index uint64 }

// chunk holds the fields against the limits, and against the part that they came with.
func (f chunkFields) chunk(p *Part) (Chunk, error) {
	c := Chunk{uint32(f.total), uint32(f.size), uint32(f.index)}
	if f.total > math.MaxUint32 || f.size > math.MaxUint32 {
		return c, fmt.Errorf("%w: chunks of %d bytes of a message of %d", ErrMalformed, f.size, f.total)
	}
	if err := c.check(MinChunk, len(p.Data)); err != nil {
		return c, err
	}
	if p.ID.Seq <= f.index || p.ID.Seq-f.index > math.MaxUint64-uint64(c.Count()) {
		return c, fmt.Errorf("%w: chunk %d has seq %d", ErrMalformed, f.index, p.ID.Seq)
	}
	return c, nil
}

// check holds a chunk against the limits: the smallest Size, and how many bytes of data it came with.
func (c Chunk) check(least uint32, data int) error {
	switch {
	case c.Size < least || c.Size >= c.Total:
		return fmt.Errorf("%w: chunks of %d bytes of a message of %d", ErrMalformed, c.Size, c.Total)
	case int(c.Index) >= c.Count() || data != c.Len():
		return fmt.Errorf("%w: chunk %d of %d has %d bytes", ErrMalformed, c.Index, c.Count(), data)
	}
	return nil
}

// DirectChunk returns which piece of a message for one member alone a Direct carries. One without data asks for that piece.
func DirectChunk(m *starlingpb.Direct) (Chunk, error) {
	c := Chunk{m.GetTotal(), m.GetSize(), m.GetIndex()}
	if c == (Chunk{}) {
		return c, nil
	}
	data := len(m.GetData())
	if data == 0 && c.Size >= MinDirectChunk { // or Len may divide by nothing
		data = c.Len()
	}
	return c, c.check(MinDirectChunk, data)
}
