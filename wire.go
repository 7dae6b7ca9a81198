package starling

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of the wire, checked before anything is allocated.
const (
	maxKeySize = 255
	// maxStreamSize is what memberlist's receiver takes from one stream (20 MiB), less room for its headers, encryption and
	// the fields around a message: beyond it a sender is told nil and the receiver discards.
	maxStreamSize = 20<<20 - 4<<10
)

// Field numbers of starlingpb.Part.
const (
	fieldKey     protowire.Number = 1
	fieldData    protowire.Number = 2
	fieldOrigin  protowire.Number = 3
	fieldSeq     protowire.Number = 4
	fieldPrev    protowire.Number = 5
	fieldAge     protowire.Number = 6
	fieldControl protowire.Number = 15
)

// errMalformed is the cause of every frame that was refused by its form.
var errMalformed = errors.New("malformed frame")

// part is a decoded frame. Its byte slices point into the frame it was decoded from.
type part struct {
	key     []byte
	data    []byte
	id      partID // zero: the part has no identity
	prev    uint64
	age     time.Duration
	control []byte // only with an empty key
	dataAt  int    // where data begins in the frame
	agedEnd bool   // the frame ends with its age, so that appendRestamped may write there
}

// ageFieldSize is the length of the age field, which is the last of every frame we keep.
const ageFieldSize = 5

// identityRoom is the most that appendIdentity adds.
const identityRoom = 1 + 8 + 1 + binary.MaxVarintLen64 + 1 + binary.MaxVarintLen64 + ageFieldSize

// appendBody appends the fields that Alertmanager knows.
func appendBody(b []byte, key string, data []byte) []byte {
	b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
	b = protowire.AppendString(b, key)
	b = protowire.AppendTag(b, fieldData, protowire.BytesType)
	return protowire.AppendBytes(b, data)
}

// appendIdentity appends the fields that are ours, the age last.
func appendIdentity(b []byte, id partID, prev uint64, age time.Duration) []byte {
	b = protowire.AppendTag(b, fieldOrigin, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, id.origin)
	b = protowire.AppendTag(b, fieldSeq, protowire.VarintType)
	b = protowire.AppendVarint(b, id.seq)
	if prev != 0 {
		b = protowire.AppendTag(b, fieldPrev, protowire.VarintType)
		b = protowire.AppendVarint(b, prev)
	}
	return appendAge(b, age)
}

// identitySize is the length of what appendIdentity appends.
func identitySize(seq, prev uint64) int {
	n := 1 + 8 + 1 + protowire.SizeVarint(seq) + ageFieldSize
	if prev != 0 {
		n += 1 + protowire.SizeVarint(prev)
	}
	return n
}

func appendAge(b []byte, age time.Duration) []byte {
	b = protowire.AppendTag(b, fieldAge, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, ageMillis(age))
}

func ageMillis(age time.Duration) uint32 {
	return uint32(min(max(age.Milliseconds(), 0), math.MaxUint32))
}

// bodySize is the length of what appendBody appends.
func bodySize(key string, data int) int {
	return 2 + protowire.SizeBytes(len(key)) + protowire.SizeBytes(data)
}

// appendRestamped appends frame, which must end with its age, with the age it has now.
func appendRestamped(b, frame []byte, age time.Duration) []byte {
	b = append(b, frame...)
	binary.LittleEndian.PutUint32(b[len(b)-4:], ageMillis(age))
	return b
}

// parsePart decodes a frame without copying or allocating. The parts of a frame that it does not know are ignored.
func parsePart(frame []byte) (part, error) {
	var p part
	for b := frame; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return part{}, fmt.Errorf("%w: %v", errMalformed, protowire.ParseError(n))
		}
		m, err := p.field(num, typ, b[n:])
		if err != nil {
			return part{}, err
		}
		b = b[n+m:]
		if num == fieldData && typ == protowire.BytesType {
			p.dataAt = len(frame) - len(b) - len(p.data)
		}
		p.agedEnd = num == fieldAge && typ == protowire.Fixed32Type
	}
	return p, p.check()
}

// field decodes the value of one field and returns its length.
func (p *part) field(num protowire.Number, typ protowire.Type, b []byte) (n int, err error) {
	switch {
	case num == fieldKey && typ == protowire.BytesType:
		p.key, n = protowire.ConsumeBytes(b)
	case num == fieldData && typ == protowire.BytesType:
		p.data, n = protowire.ConsumeBytes(b)
	case num == fieldControl && typ == protowire.BytesType:
		p.control, n = protowire.ConsumeBytes(b)
	case num == fieldOrigin && typ == protowire.Fixed64Type:
		p.id.origin, n = protowire.ConsumeFixed64(b)
	case num == fieldSeq && typ == protowire.VarintType:
		p.id.seq, n = protowire.ConsumeVarint(b)
	case num == fieldPrev && typ == protowire.VarintType:
		p.prev, n = protowire.ConsumeVarint(b)
	case num == fieldAge && typ == protowire.Fixed32Type:
		var ms uint32
		ms, n = protowire.ConsumeFixed32(b)
		p.age = time.Duration(ms) * time.Millisecond
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return 0, fmt.Errorf("%w: field %d: %v", errMalformed, num, protowire.ParseError(n))
	}
	return n, nil
}

// check holds the decoded fields against the limits and against each other.
func (p *part) check() error {
	switch {
	case len(p.key) > maxKeySize:
		return fmt.Errorf("%w: key of %d bytes, limit %d", errMalformed, len(p.key), maxKeySize)
	case len(p.key) > 0 && p.control != nil:
		return fmt.Errorf("%w: control frame with a key", errMalformed)
	case len(p.key) == 0 && p.control == nil:
		return fmt.Errorf("%w: neither key nor control", errMalformed)
	case (p.id.origin == 0) != (p.id.seq == 0):
		return fmt.Errorf("%w: half an identity", errMalformed)
	case p.prev >= p.id.seq && p.prev != 0:
		return fmt.Errorf("%w: prev %d is not before seq %d", errMalformed, p.prev, p.id.seq)
	}
	return nil
}

// appendFullState appends one part to an encoded FullState.
func appendFullState(b []byte, key string, data []byte) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodySize(key, len(data))))
	return appendBody(b, key, data)
}

// fullState yields the parts of an encoded FullState. What is malformed ends it with its error.
func fullState(b []byte) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		for f, err := range fieldsIn(b) {
			if err != nil {
				yield(part{}, fmt.Errorf("full state: %w", err))
				return
			}
			if frame, ok := f.bytes(1); ok && !yield(parsePart(frame)) {
				return
			}
		}
	}
}

// field is one field of an encoded message.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value []byte // as it is encoded
}

// fieldsIn yields the fields of an encoded message. What is malformed ends it with its error.
func fieldsIn(b []byte) iter.Seq2[field, error] {
	return func(yield func(field, error) bool) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			m := n
			if n >= 0 {
				m = protowire.ConsumeFieldValue(num, typ, b[n:])
			}
			if m < 0 {
				yield(field{}, fmt.Errorf("%w: %v", errMalformed, protowire.ParseError(m)))
				return
			}
			if !yield(field{num, typ, b[n : n+m]}, nil) {
				return
			}
			b = b[n+m:]
		}
	}
}

// bytes returns what the field holds, if it is that one.
func (f field) bytes(num protowire.Number) ([]byte, bool) {
	if f.num != num || f.typ != protowire.BytesType {
		return nil, false
	}
	b, n := protowire.ConsumeBytes(f.value)
	return b, n >= 0
}

// varint returns what the field holds, if it is that one.
func (f field) varint(num protowire.Number) (uint64, bool) {
	if f.num != num || f.typ != protowire.VarintType {
		return 0, false
	}
	v, n := protowire.ConsumeVarint(f.value)
	return v, n >= 0
}
