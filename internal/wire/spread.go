package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of starlingpb.Spread. A part is always behind all others.
const (
	spreadRoot  = 1<<3 | fixed64Field
	spreadN     = 2<<3 | varintField
	spreadEnd   = 3<<3 | fixed64Field
	spreadFlags = 4<<3 | varintField
	spreadPart  = 5<<3 | bytesField
)

// Flags of a Spread.
const (
	FlagList   = 1        // the report shall list the holders
	FlagStream = 2        // the Spread came by stream, and so shall the report
	TryShift   = 2        // the number of the try stands above the flags
	MaxTry     = 1<<5 - 1 // the highest try that is told, so that flags and try take one byte
)

// SpreadFrame is a decoded Spread. Its parts point into the frame.
type SpreadFrame struct {
	ID    BatchID
	End   uint64 // the position where the receiver's slice of the ring ends
	Flags uint64 // and the try
	parts []byte // the fields from the first part on
}

// EncodeSpread returns the frame of a Spread. sender is what Peer.Append has appended, parts are encoded as fields of Spread.
func EncodeSpread(sender []byte, id BatchID, end, flags uint64, parts []byte) []byte {
	return append(SpreadHeader(sender, id, end, flags, len(parts)), parts...)
}

// SpreadHeader returns the frame of a Spread up to its parts, which take n bytes.
func SpreadHeader(sender []byte, id BatchID, end, flags uint64, n int) []byte {
	size := 1 + 8 + 1 + protowire.SizeVarint(id.N) + 1 + 8
	if flags != 0 {
		size += 1 + protowire.SizeVarint(flags)
	}
	return AppendSpread(ControlHead(sender, BodySpread, size+n, size), id, end, flags)
}

// SpreadHead is at most what AppendSpread appends.
const SpreadHead = 1 + 8 + 1 + 10 + 1 + 8 + 1 + 1

// PartSize is what a part of n bytes takes as a field of a Spread.
func PartSize(n int) int { return 1 + protowire.SizeBytes(n) }

// AppendSpread appends the content of a Spread up to its parts.
func AppendSpread(b []byte, id BatchID, end, flags uint64) []byte {
	b = appendFixed64(b, spreadRoot, id.Root)
	b = appendVarint(b, spreadN, id.N)
	b = appendFixed64(b, spreadEnd, end)
	if flags != 0 {
		b = appendVarint(b, spreadFlags, flags)
	}
	return b
}

// AppendPart appends a kept part, which is that old by now, as a field of a Spread.
func AppendPart(b, frame []byte, age time.Duration) []byte {
	return AppendRestamped(appendVarint(b, spreadPart, uint64(len(frame))), frame, age)
}

// ParseSpread decodes all but the parts of a Spread, which Next decodes.
func ParseSpread(b []byte) (s SpreadFrame, err error) {
	f, end := fields{message: b}, 0
	for f.next() && f.tag != spreadPart {
		switch f.tag {
		case spreadRoot:
			s.ID.Root = f.value
		case spreadN:
			s.ID.N = f.value
		case spreadEnd:
			s.End = f.value
		case spreadFlags:
			s.Flags = f.value
		}
		end = f.end
	}
	if f.tag == spreadPart { // the first part, whether it is malformed or not
		s.parts = b[end:]
	} else if err = f.err("spread"); err != nil {
		return s, err
	}
	if s.ID.Root == 0 || s.ID.N == 0 {
		return s, fmt.Errorf("%w: spread without a batch", ErrMalformed)
	}
	return s, nil
}

// Next decodes the next part. It reports false behind the last part, and at a malformed field.
func (s *SpreadFrame) Next() (part []byte, ok bool) {
	f := fields{message: s.parts}
	for f.next() {
		if f.tag == spreadPart {
			s.parts = s.parts[f.end:]
			return f.bytes(), true
		}
	}
	s.parts = nil
	return nil, false
}
