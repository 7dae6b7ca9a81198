// Package wiretest makes frames as members of a later version of Starling might send them. Only tests import it.
package wiretest

import (
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/starling-go/starling/starlingpb"
)

// Later returns a valid frame with fields that nobody knows: of every type, at random places, in every message of it and in those that it
// carries encoded. What is known says the same.
func Later(rng *rand.Rand, frame []byte) []byte {
	return grow(rng, frame, ofMessage((*starlingpb.Part)(nil).ProtoReflect().Descriptor()))
}

// LaterState is Later for what push/pull carries, an encoded FullState.
func LaterState(rng *rand.Rand, state []byte) []byte {
	return grow(rng, state, ofMessage((*starlingpb.FullState)(nil).ProtoReflect().Descriptor()))
}

// LaterMap is Later for the messages of a Map's channel.
func LaterMap(rng *rand.Rand, frame []byte) []byte { return grow(rng, frame, mapFrame) }

// Unknown returns a field of every type, under numbers that nobody knows.
func Unknown(rng *rand.Rand) (b []byte) {
	for range 5 {
		b = append(b, unknown(rng, 1<<12+protowire.Number(rng.IntN(1<<12)))...)
	}
	return b
}

// shape tells of each number of a message whether it is known, and what it holds if that is a message; nil: it is not.
type shape func(protowire.Number) (inner shape, known bool)

// encoded are fields of bytes that hold encoded Parts.
var encoded = map[protoreflect.FullName]bool{
	"starling.Batch.parts": true, "starling.Spread.parts": true, "starling.Bundle.frames": true,
}

func ofMessage(d protoreflect.MessageDescriptor) shape {
	return func(n protowire.Number) (shape, bool) {
		switch f := d.Fields().ByNumber(n); {
		case f == nil:
			return nil, false
		case f.Message() != nil:
			return ofMessage(f.Message()), true
		case encoded[f.FullName()]:
			return ofMessage((*starlingpb.Part)(nil).ProtoReflect().Descriptor()), true
		default:
			return nil, true
		}
	}
}

// upTo is a message whose numbers are known up to the last, and which holds no others.
func upTo(last protowire.Number) shape {
	return func(n protowire.Number) (shape, bool) { return nil, n <= last }
}

func mapFrame(n protowire.Number) (shape, bool) {
	switch n {
	case 1:
		return upTo(9), true
	case 2:
		return upTo(11), true
	case 3:
		return upTo(13), true
	}
	return nil, false
}

// grow returns a message with unknown fields between its own, and in those that are messages.
func grow(rng *rand.Rand, b []byte, s shape) []byte {
	var out []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return append(out, b...)
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return append(out, b...)
		}
		out = maybeUnknown(rng, out, s)
		if inner, known := s(num); known && inner != nil && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[n:])
			out = protowire.AppendBytes(protowire.AppendTag(out, num, typ), grow(rng, v, inner))
		} else {
			out = append(out, b[:n+m]...)
		}
		b = b[n+m:]
	}
	return maybeUnknown(rng, out, s)
}

func maybeUnknown(rng *rand.Rand, b []byte, s shape) []byte {
	if rng.IntN(3) > 0 {
		return b
	}
	num := protowire.Number(1 + rng.IntN(30))
	if rng.IntN(4) == 0 {
		num = 1000 + protowire.Number(rng.IntN(10_000))
	}
	if _, known := s(num); known {
		return b
	}
	return append(b, unknown(rng, num)...)
}

// unknown returns a field of that number and a random type.
func unknown(rng *rand.Rand, num protowire.Number) []byte {
	switch rng.IntN(5) {
	case 0:
		return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), rng.Uint64())
	case 1:
		return protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), rng.Uint32())
	case 2:
		return protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), rng.Uint64())
	case 3:
		group := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
		return protowire.AppendGroup(protowire.AppendTag(nil, num, protowire.StartGroupType), num, group)
	}
	junk := make([]byte, rng.IntN(20))
	for i := range junk {
		junk[i] = byte(rng.Uint32())
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), junk)
}
