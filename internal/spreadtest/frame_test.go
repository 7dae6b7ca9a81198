package spreadtest

import (
	"encoding/binary"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// What memberlist puts around a user message, as far as it is needed without label, encryption and compression.
const (
	typeCompound = 7
	typeUser     = 8
	typeCRC      = 12
)

// userMessages yields the user messages in a packet.
func userMessages(packet []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) { walkPacket(packet, yield) }
}

// walkPacket reports false when yield wants no more.
func walkPacket(b []byte, yield func([]byte) bool) bool {
	if len(b) == 0 {
		return true
	}
	switch b[0] {
	case typeCRC:
		return len(b) < 5 || walkPacket(b[5:], yield)
	case typeUser:
		return yield(b[1:])
	case typeCompound:
		return walkCompound(b[1:], yield)
	}
	return true
}

// walkCompound takes a count, so many lengths of two bytes, and so many messages.
func walkCompound(b []byte, yield func([]byte) bool) bool {
	if len(b) == 0 || len(b) < 1+2*int(b[0]) {
		return true
	}
	count := int(b[0])
	lengths, b := b[1:], b[1+2*count:]
	for i := range count {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(b) || !walkPacket(b[:n], yield) {
			return false
		}
		b = b[n:]
	}
	return true
}

// stream finds the user message in what passes one way of a stream, piece by piece.
type stream struct {
	buffer []byte
	other  bool // the stream carries something else: a state, a ping
	done   bool
}

// add takes the next piece and returns the message when it is complete. total is how many bytes of the stream it took.
func (s *stream) add(b []byte) (message []byte, total int, ok bool) {
	if s.other || s.done {
		return nil, 0, false
	}
	s.buffer = append(s.buffer, b...)
	if s.buffer[0] != typeUser {
		s.other, s.buffer = true, nil
		return nil, 0, false
	}
	size, header, ok := userHeader(s.buffer[1:])
	if !ok || len(s.buffer) < 1+header+size {
		return nil, 0, false
	}
	message, total = s.buffer[1+header:1+header+size], 1+header+size
	s.done, s.buffer = true, nil
	return message, total, true
}

// userHeader decodes {"UserMsgLen": size} in msgpack, and returns its own length too.
func userHeader(b []byte) (size, length int, ok bool) {
	const prefix = "\x81\xaaUserMsgLen"
	if len(b) <= len(prefix) || string(b[:len(prefix)]) != prefix {
		return 0, 0, false
	}
	kind, b := b[len(prefix)], b[len(prefix)+1:]
	width := 0
	switch kind {
	case 0xcc, 0xd0:
		width = 1
	case 0xcd, 0xd1:
		width = 2
	case 0xce, 0xd2:
		width = 4
	case 0xcf, 0xd3:
		width = 8
	default:
		return int(kind), len(prefix) + 1, kind < 0x80
	}
	if len(b) < width {
		return 0, 0, false
	}
	for _, digit := range b[:width] {
		size = size<<8 | int(digit)
	}
	return size, len(prefix) + 1 + width, true
}

// Fields of starlingpb.Part and starlingpb.Control. Reading the wire itself, and not by generated code, keeps the measure
// true whatever control frames a later version of Starling puts parts into.
const (
	partKey     protowire.Number = 1
	partOrigin  protowire.Number = 3
	partSeq     protowire.Number = 4
	partControl protowire.Number = 15
	nesting                      = 4 // of messages that parts may lie in, below the control field
)

// parts counts the parts in a user message: itself if it has a key, else those in its control frame.
func parts(message []byte) int {
	var control []byte
	for number, value := range fields(message) {
		switch {
		case number == partKey && len(value) > 0:
			return 1
		case number == partControl:
			control = value
		}
	}
	return nested(control, nesting)
}

// nested counts the parts anywhere in a protobuf message: fields of bytes that are, in all, a part with an identity. What is
// within a part, such as its data, is not looked into.
func nested(message []byte, depth int) int {
	if depth == 0 || !wellFormed(message) {
		return 0
	}
	n := 0
	for _, value := range fields(message) {
		if isPart(value) {
			n++
		} else {
			n += nested(value, depth-1)
		}
	}
	return n
}

func isPart(b []byte) bool {
	if !wellFormed(b) {
		return false
	}
	var key, origin, seq bool
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		key = key || number == partKey && kind == protowire.BytesType && m > 1
		origin = origin || number == partOrigin && kind == protowire.Fixed64Type
		seq = seq || number == partSeq && kind == protowire.VarintType
		b = b[n+m:]
	}
	return key && origin && seq
}

func wellFormed(b []byte) bool {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// fields yields the fields of bytes of a message, up to the first that is malformed.
func fields(b []byte) iter.Seq2[protowire.Number, []byte] {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(b) > 0 {
			number, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			m := protowire.ConsumeFieldValue(number, kind, b[n:])
			if m < 0 {
				return
			}
			if kind == protowire.BytesType {
				value, _ := protowire.ConsumeBytes(b[n:])
				if !yield(number, value) {
					return
				}
			}
			b = b[n+m:]
		}
	}
}
