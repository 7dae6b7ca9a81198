package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxKeySize bounds a channel's key, in bytes.
const MaxKeySize = 255

// MaxTraceSize bounds the context of a trace, in bytes.
const MaxTraceSize = 64

// MaxStreamSize is what memberlist's receiver takes from one stream (20 MiB), less room for its headers, encryption and the
// fields around a message: of anything larger the sender is told that it was sent, and the receiver discards it.
const MaxStreamSize = 20<<20 - 4<<10

// Fields of starlingpb.Part.
const (
	partKey     = 1<<3 | bytesField
	partData    = 2<<3 | bytesField
	partOrigin  = 3<<3 | fixed64Field
	partSeq     = 4<<3 | varintField
	partPrev    = 5<<3 | varintField
	partAge     = 6<<3 | fixed32Field
	partTotal   = 7<<3 | varintField
	partSize    = 8<<3 | varintField
	partIndex   = 9<<3 | varintField
	partTrace   = 10<<3 | bytesField
	partControl = 15<<3 | bytesField
)

// Part is a decoded frame. Its byte slices point into the frame that it was decoded from.
type Part struct {
	Key       []byte
	Data      []byte
	ID        PartID        // zero: the part has no identity
	Prev      uint64        // the origin's previous part with the same key; 0: none. Invariant: Prev < ID.Seq, if not 0
	Age       time.Duration // since it was broadcast, when this copy of it left
	Chunk     Chunk         // the piece of a message that Data is; zero: all of it
	Trace     []byte        // the context of a trace; nil: none
	Control   []byte        // nil unless Key is empty
	DataAt    int           // where Data begins in the frame
	AgedEnd   bool          // the frame ends with its age: AppendRestamped may be called with it
	LongTrace bool          // it came with a context of a trace that breaks the limit, and that is left out
}

// AgeFieldSize is the length of the age field, which is the last of every frame that is kept.
const AgeFieldSize = 5

// IdentityRoom is the most that AppendIdentity appends.
const IdentityRoom = 1 + 8 + 1 + binary.MaxVarintLen64 + 1 + binary.MaxVarintLen64 + AgeFieldSize

// AppendBody appends the two fields that Alertmanager knows too.
func AppendBody(b []byte, key string, data []byte) []byte {
	return appendBytes(appendBytes(b, partKey, key), partData, data)
}

// BodySize is the length of what AppendBody appends, for data of so many bytes.
func BodySize(key string, data int) int {
	return 2 + protowire.SizeBytes(len(key)) + protowire.SizeBytes(data)
}

// AppendTrace appends the context of a trace, nothing if it is empty. It stands after a body.
func AppendTrace(b, trace []byte) []byte {
	if len(trace) == 0 {
		return b
	}
	return appendBytes(b, partTrace, trace)
}

// TraceSize is the length of what AppendTrace appends.
func TraceSize(trace []byte) int {
	if len(trace) == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(len(trace))
}

// AppendIdentity appends the fields that are ours, the age last.
func AppendIdentity(b []byte, id PartID, prev uint64, age time.Duration) []byte {
	b = appendFixed64(b, partOrigin, id.Origin)
	b = appendVarint(b, partSeq, id.Seq)
	if prev != 0 {
		b = appendVarint(b, partPrev, prev)
	}
	return AppendAge(b, age)
}

// IdentitySize is the length of what AppendIdentity appends.
func IdentitySize(seq, prev uint64) int {
	n := 1 + 8 + 1 + protowire.SizeVarint(seq) + AgeFieldSize
	if prev != 0 {
		n += 1 + protowire.SizeVarint(prev)
	}
	return n
}

// AppendAge appends the age of a part. Its width is fixed, so that AppendRestamped can replace it without moving a byte.
func AppendAge(b []byte, age time.Duration) []byte { return appendFixed32(b, partAge, ageMillis(age)) }

// ageMillis returns an age as it travels: what does not fit is as young or as old as can be told.
func ageMillis(age time.Duration) uint32 {
	return uint32(min(max(age.Milliseconds(), 0), math.MaxUint32))
}

// AppendRestamped appends a frame that ends with its age, with this age instead.
func AppendRestamped(b, frame []byte, age time.Duration) []byte {
	b = append(b, frame...)
	binary.LittleEndian.PutUint32(b[len(b)-4:], ageMillis(age))
	return b
}

// ParsePart decodes a frame without copying or allocating, and holds it against the limits.
func ParsePart(frame []byte) (p Part, err error) {
	f := fields{message: frame}
	var c chunkFields
	for f.next() {
		switch f.tag {
		case partKey:
			p.Key = f.bytes()
		case partData:
			p.Data = f.bytes()
			p.DataAt = f.end - len(p.Data)
		case partOrigin:
			p.ID.Origin = f.value
		case partSeq:
			p.ID.Seq = f.value
		case partPrev:
			p.Prev = f.value
		case partAge:
			p.Age = time.Duration(f.value) * time.Millisecond
		case partTotal:
			c.total = f.value
		case partSize:
			c.size = f.value
		case partIndex:
			c.index = f.value
		case partTrace:
			p.Trace = f.bytes()
		case partControl:
			p.Control = f.bytes()
		}
	}
	if err = f.err("part"); err != nil {
		return Part{}, err
	}
	if c != (chunkFields{}) {
		if p.Chunk, err = c.chunk(&p); err != nil {
			return Part{}, err
		}
	}
	p.AgedEnd = f.tag == partAge
	p.boundTrace()
	return p, p.check()
}

// boundTrace leaves out the context of a trace that breaks the limit. The message is worth more than it.
func (p *Part) boundTrace() {
	if len(p.Trace) > MaxTraceSize {
		p.Trace, p.LongTrace = nil, true
	} else if len(p.Trace) == 0 {
		p.Trace = nil
	}
}

// check holds the decoded fields against the limits and against each other.
func (p *Part) check() error {
	switch {
	case len(p.Key) > MaxKeySize:
		return fmt.Errorf("%w: key of %d bytes, limit %d", ErrMalformed, len(p.Key), MaxKeySize)
	case len(p.Key) > 0 && p.Control != nil:
		return fmt.Errorf("%w: control frame with a key", ErrMalformed)
	case len(p.Key) == 0 && p.Control == nil:
		return fmt.Errorf("%w: neither key nor control", ErrMalformed)
	case (p.ID.Origin == 0) != (p.ID.Seq == 0):
		return fmt.Errorf("%w: half an identity", ErrMalformed)
	case p.Prev >= p.ID.Seq && p.Prev != 0:
		return fmt.Errorf("%w: prev %d is not before seq %d", ErrMalformed, p.Prev, p.ID.Seq)
	}
	return nil
}
