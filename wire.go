package starling

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
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
	agedEnd bool   // the frame ends with its age, so that restamp may write there
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

// sender is who wrote a control frame, and where an answer goes.
type sender struct {
	id   uint64
	name string
	addr netip.AddrPort
}

// append appends the sender field of a control frame.
func (s sender) append(b []byte) []byte {
	addr := encodeAddr(s.addr)
	size := 1 + 8 + 1 + protowire.SizeBytes(len(s.name)) + 1 + protowire.SizeBytes(len(addr))
	b = protowire.AppendTag(b, bodySender, protowire.BytesType)
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
	return append(controlHead(head, body, len(content)), content...)
}

// controlHead returns a frame up to its content of n bytes, with room for it. from is the encoded sender.
func controlHead(from []byte, body protowire.Number, n int) []byte {
	size := len(from) + protowire.SizeTag(body) + protowire.SizeBytes(n)
	b := make([]byte, 0, 1+protowire.SizeBytes(size))
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
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return control{}, fmt.Errorf("%w: control: %v", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return control{}, fmt.Errorf("%w: control: %v", errMalformed, protowire.ParseError(n))
		}
		if typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(b)
			switch {
			case num == bodySender:
				var err error
				if c.from, err = parseSender(content); err != nil {
					return control{}, err
				}
			case num <= bodyLast:
				c.body, c.content = num, content
			}
		}
		b = b[n:]
	}
	if c.from.id == 0 {
		return control{}, fmt.Errorf("%w: control frame without a sender", errMalformed)
	}
	return c, nil
}

func parseSender(b []byte) (sender, error) {
	var m starlingpb.Sender
	if err := proto.Unmarshal(b, &m); err != nil {
		return sender{}, fmt.Errorf("%w: sender: %v", errMalformed, err)
	}
	addr, ok := decodeAddr(m.GetAddr())
	if !ok || m.GetName() == "" || len(m.GetName()) > maxNameSize {
		return sender{}, fmt.Errorf("%w: sender %q with an address of %d bytes", errMalformed, m.GetName(), len(m.GetAddr()))
	}
	return sender{id: m.GetOrigin(), name: m.GetName(), addr: addr}, nil
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

// bundled yields the frames of a bundle.
func bundled(content []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for b := content; len(b) > 0; {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return
			}
			if num == 1 && typ == protowire.BytesType {
				frame, _ := protowire.ConsumeBytes(b)
				if !yield(frame) {
					return
				}
			}
			b = b[n:]
		}
	}
}

// batchParts yields the encoded parts of a batch, and the way by which they came.
func batchParts(content []byte) iter.Seq2[[]byte, Via] {
	return func(yield func([]byte, Via) bool) {
		via := Gossip
		for b := content; len(b) > 0; {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return
			}
			switch {
			case num == 1 && typ == protowire.VarintType:
				v, _ := protowire.ConsumeVarint(b)
				via = viaOf(starlingpb.Batch_Via(v))
			case num == 2 && typ == protowire.BytesType:
				frame, _ := protowire.ConsumeBytes(b)
				if !yield(frame, via) {
					return
				}
			}
			b = b[n:]
		}
	}
}

// batchEnd returns which pull a batch ends the answer to, if any, and what the member lacks of it.
func batchEnd(content []byte) (id uint64, lacks []*starlingpb.Ranges) {
	for b := content; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, nil
		}
		switch {
		case num == 3 && typ == protowire.VarintType:
			id, _ = protowire.ConsumeVarint(b)
		case num == 4 && typ == protowire.BytesType && len(lacks) < pullSpans:
			content, _ := protowire.ConsumeBytes(b)
			m := new(starlingpb.Ranges)
			if len(content) > 16*maxSpans || proto.Unmarshal(content, m) != nil {
				return 0, nil
			}
			lacks = append(lacks, m)
		}
		b = b[n:]
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

// appendFullState appends one part to an encoded FullState.
func appendFullState(b []byte, key string, data []byte) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodySize(key, len(data))))
	return appendBody(b, key, data)
}

// fullState yields the parts of an encoded FullState. A malformed part ends it with its error.
func fullState(b []byte) func(yield func(part, error) bool) {
	return func(yield func(part, error) bool) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				yield(part{}, fmt.Errorf("%w: full state: %v", errMalformed, protowire.ParseError(n)))
				return
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				yield(part{}, fmt.Errorf("%w: full state: %v", errMalformed, protowire.ParseError(n)))
				return
			}
			if num == 1 && typ == protowire.BytesType {
				frame, _ := protowire.ConsumeBytes(b)
				if !yield(parsePart(frame)) {
					return
				}
			}
			b = b[n:]
		}
	}
}
