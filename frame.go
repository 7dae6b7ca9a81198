package starling

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"unicode/utf8"

	"github.com/starling-go/starling/starlingpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Control frames: what members of ours tell each other, in a Part without a key.

// Field numbers of starlingpb.Control.
const (
	bodySender     protowire.Number = 1
	bodyGoodbye    protowire.Number = 2
	bodyGoodbyeAck protowire.Number = 3
	bodyDirect     protowire.Number = 4
	bodyDirectAck  protowire.Number = 5
	bodyBatch      protowire.Number = 6
	bodyDigest     protowire.Number = 7
	bodyPull       protowire.Number = 8
	bodyAsk        protowire.Number = 9
	bodyBaseline   protowire.Number = 10
	bodySyncAsk    protowire.Number = 11
	bodySync       protowire.Number = 12
	bodySpread     protowire.Number = 13
	bodyReports    protowire.Number = 14
	bodyHeldAsk    protowire.Number = 15
	bodyHeldAnswer protowire.Number = 16
	bodyBundle     protowire.Number = 17
	bodyLast                        = bodyBundle
)

// sender is who wrote a control frame, and where an answer goes. The frames of the spread, which only members heed, say no
// more than the id.
type sender struct {
	id   uint64
	name string
	addr netip.AddrPort
}

// append appends the sender field of a control frame.
func (s sender) append(b []byte) []byte {
	b = protowire.AppendTag(b, bodySender, protowire.BytesType)
	if s.name == "" {
		b = protowire.AppendVarint(b, 1+8)
		b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
		return protowire.AppendFixed64(b, s.id)
	}
	addr := encodeAddr(s.addr)
	size := 1 + 8 + 1 + protowire.SizeBytes(len(s.name)) + 1 + protowire.SizeBytes(len(addr))
	b = protowire.AppendVarint(b, uint64(size))
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, s.id)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendString(b, s.name)
	b = protowire.AppendTag(b, 3, protowire.BytesType)
	return protowire.AppendBytes(b, addr)
}

// encodeControl returns the frame of a control message: a Part with nothing but the control field.
func encodeControl(from sender, body protowire.Number, m proto.Message) []byte {
	content, _ := proto.Marshal(m) // ours are always valid
	return frameControl(from, body, content)
}

func frameControl(from sender, body protowire.Number, content []byte) []byte {
	head := from.append(nil)
	return append(controlHead(head, body, len(content), len(content)), content...)
}

// controlFraming is more than controlHead puts around sender and content.
const controlFraming = 12

// controlHead returns a frame up to its content of n bytes, with so much room behind it. from is the encoded sender.
func controlHead(from []byte, body protowire.Number, n, room int) []byte {
	head := len(from) + protowire.SizeTag(body) + protowire.SizeVarint(uint64(n))
	size := head + n
	b := make([]byte, 0, 1+protowire.SizeVarint(uint64(size))+head+room)
	b = protowire.AppendTag(b, fieldControl, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = append(b, from...)
	b = protowire.AppendTag(b, body, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

// control is a decoded control frame. Its content points into the frame.
type control struct {
	from    sender
	body    protowire.Number // 0: a body of a later version, to be ignored
	content []byte
}

// parseControl decodes the control field of a Part, but not its body.
func parseControl(b []byte) (control, error) {
	var c control
	for f, err := range fieldsIn(b) {
		if err != nil {
			return control{}, fmt.Errorf("control: %w", err)
		}
		content, ok := f.bytes(f.num)
		switch {
		case !ok:
		case f.num == bodySender:
			if c.from, err = parseSender(content); err != nil {
				return control{}, err
			}
		case f.num <= bodyLast:
			c.body, c.content = f.num, content
		}
	}
	switch {
	case c.from.id == 0:
		return control{}, fmt.Errorf("%w: control frame without a sender", errMalformed)
	case c.from.name == "" && c.body != bodySpread && c.body != bodyReports && c.body != 0:
		return control{}, fmt.Errorf("%w: control frame %d from a sender without a name", errMalformed, c.body)
	}
	return c, nil
}

// parseSender decodes a sender by hand, since every frame has one.
func parseSender(b []byte) (s sender, err error) {
	var name, addr []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return sender{}, fmt.Errorf("%w: sender: %v", errMalformed, protowire.ParseError(n))
		}
		m := 0
		switch v := b[n:]; {
		case num == 1 && typ == protowire.Fixed64Type:
			s.id, m = protowire.ConsumeFixed64(v)
		case num == 2 && typ == protowire.BytesType:
			name, m = protowire.ConsumeBytes(v)
		case num == 3 && typ == protowire.BytesType:
			addr, m = protowire.ConsumeBytes(v)
		default:
			m = protowire.ConsumeFieldValue(num, typ, v)
		}
		if m < 0 {
			return sender{}, fmt.Errorf("%w: sender field %d: %v", errMalformed, num, protowire.ParseError(m))
		}
		b = b[n+m:]
	}
	if name == nil && addr == nil {
		return s, nil
	}
	var ok bool
	if s.addr, ok = decodeAddr(addr); !ok || len(name) == 0 || len(name) > maxNameSize || !utf8.Valid(name) {
		return sender{}, fmt.Errorf("%w: sender %q with an address of %d bytes", errMalformed, name, len(addr))
	}
	s.name = string(name)
	return s, nil
}

// encodeBatch returns the frame of a batch of encoded parts.
func encodeBatch(from sender, via starlingpb.Batch_Via, frames ...[]byte) []byte {
	size := 2
	for _, f := range frames {
		size += 1 + protowire.SizeBytes(len(f))
	}
	content := make([]byte, 0, size)
	content = protowire.AppendTag(content, 1, protowire.VarintType)
	content = protowire.AppendVarint(content, uint64(via))
	for _, f := range frames {
		content = protowire.AppendTag(content, 2, protowire.BytesType)
		content = protowire.AppendBytes(content, f)
	}
	return frameControl(from, bodyBatch, content)
}

// encodeBundle returns one frame of several.
func encodeBundle(from sender, frames [][]byte) []byte {
	var content []byte
	for _, f := range frames {
		content = protowire.AppendTag(content, 1, protowire.BytesType)
		content = protowire.AppendBytes(content, f)
	}
	return frameControl(from, bodyBundle, content)
}

// bundled yields the frames of a bundle, up to the first that is malformed.
func bundled(content []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for f, err := range fieldsIn(content) {
			if frame, ok := f.bytes(1); err == nil && ok && !yield(frame) {
				return
			}
		}
	}
}

// batchParts yields the encoded parts of a batch, up to the first that is malformed, and the way by which they came.
func batchParts(content []byte) iter.Seq2[[]byte, Via] {
	return func(yield func([]byte, Via) bool) {
		via := Gossip
		for f, err := range fieldsIn(content) {
			if err != nil {
				return
			}
			if v, ok := f.varint(1); ok {
				via = viaOf(starlingpb.Batch_Via(v))
			}
			if frame, ok := f.bytes(2); ok && !yield(frame, via) {
				return
			}
		}
	}
}

// batchEnd returns which pull a batch ends the answer to, if any, and what the member lacks of it.
func batchEnd(content []byte) (id uint64, lacks []*starlingpb.Ranges) {
	for f, err := range fieldsIn(content) {
		if err != nil {
			return 0, nil
		}
		if v, ok := f.varint(3); ok {
			id = v
		}
		if ranges, ok := f.bytes(4); ok && len(lacks) < pullSpans {
			m := new(starlingpb.Ranges)
			if len(ranges) > 16*maxSpans || proto.Unmarshal(ranges, m) != nil {
				return 0, nil
			}
			lacks = append(lacks, m)
		}
	}
	return id, lacks
}

func viaOf(v starlingpb.Batch_Via) Via {
	switch v {
	case starlingpb.Batch_STREAM:
		return Stream
	case starlingpb.Batch_REPAIR:
		return Repair
	}
	return Gossip
}

func encodeAddr(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

func decodeAddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	ip, ok := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:])), ok
}
