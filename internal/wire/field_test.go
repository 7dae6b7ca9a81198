package wire

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzFields: the cursor finds the same fields as protowire, and stops where protowire does.
func FuzzFields(f *testing.F) {
	seedFrames(f)
	f.Add(protowire.AppendFixed32(protowire.AppendTag(nil, 3, protowire.Fixed32Type), 7))
	f.Add(protowire.AppendTag(protowire.AppendTag(nil, 300, protowire.StartGroupType), 300, protowire.EndGroupType))
	f.Add([]byte{0x8a, 0x00, 0x81, 0x00, 'x'}) // a tag and a length that are longer than need be
	f.Add([]byte{0x00, 0x01})                  // there is no field 0
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := fields{message: b}
		for rest := b; ; {
			num, typ, n := protowire.ConsumeField(rest)
			if !c.next() {
				if malformed := c.err("it") != nil; malformed != (len(rest) > 0) || n >= 0 {
					t.Fatalf("stops before %x: %v", rest, c.err("it"))
				}
				return
			}
			if n < 0 || c.tag.number() != num || c.tag.typ() != tag(typ) || c.end != len(b)-len(rest)+n {
				t.Fatalf("field %d of type %d up to %d, want %d, %d, %d bytes", c.tag.number(), c.tag.typ(), c.end, num, typ, n)
			}
			_, _, size := protowire.ConsumeTag(rest)
			value, same := rest[size:], true
			switch typ {
			case protowire.VarintType:
				v, _ := protowire.ConsumeVarint(value)
				same = v == c.value
			case protowire.Fixed32Type:
				v, _ := protowire.ConsumeFixed32(value)
				same = uint64(v) == c.value
			case protowire.Fixed64Type:
				v, _ := protowire.ConsumeFixed64(value)
				same = v == c.value
			case protowire.BytesType:
				v, _ := protowire.ConsumeBytes(value)
				same = bytes.Equal(v, c.bytes()) && c.bytes() != nil
			}
			if !same {
				t.Fatalf("field %d is %d", num, c.value)
			}
			rest = rest[n:]
		}
	})
}
