package wire

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is the cause of every error that this package returns for bytes from outside.
var ErrMalformed = errors.New("malformed frame")

// tag is the number and the type of a field, as protobuf encodes them before its value.
type tag uint64

// The types of fields, to be combined with a number: 4<<3 | varintField.
const (
	varintField  = tag(protowire.VarintType)
	fixed64Field = tag(protowire.Fixed64Type)
	bytesField   = tag(protowire.BytesType)
	fixed32Field = tag(protowire.Fixed32Type)
)

func (t tag) number() protowire.Number { return protowire.Number(t >> 3) }

// typ returns the type of the field, as one of the constants above.
func (t tag) typ() tag { return t & 7 }

// fields is a cursor over the fields of an encoded message, in the order in which they were encoded. Every decoder here
// reads with it:
//
//	for f := (fields{message: b}); f.next(); {
//		switch f.tag { … }
//	}
//
// It neither copies nor allocates.
type fields struct {
	message []byte

	// The current field.
	end   int    // where it ends in the message
	tag   tag    // 0: not even the tag could be read
	value uint64 // what a varint or a field of fixed width holds; of a field of bytes, how many

	cause error // why the current field is malformed
}

// next reads the next field. It returns false at the end of the message and at a malformed field: err tells which.
func (f *fields) next() bool {
	if f.end >= len(f.message) {
		return false
	}
	b := f.message[f.end:]
	t, size := tag(b[0]), 1
	if t < 1<<3 || t >= 1<<7 { // nearly all tags are one byte
		num, typ, m := protowire.ConsumeTag(b)
		if m < 0 {
			f.tag = 0
			return f.fail(m)
		}
		t, size = tag(protowire.EncodeTag(num, typ)), m
	}
	f.tag = t
	b = b[size:]
	n := 0
	switch t.typ() {
	case varintField:
		f.value, n = consumeVarint(b)
	case fixed32Field:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.value = uint64(v)
	case fixed64Field:
		f.value, n = protowire.ConsumeFixed64(b)
	case bytesField:
		if f.value, n = consumeVarint(b); n > 0 {
			if f.value > uint64(len(b)-n) {
				f.cause = io.ErrUnexpectedEOF
				return false
			}
			n += int(f.value)
		}
	default: // a group, which we never send, or no type at all
		n = protowire.ConsumeFieldValue(t.number(), protowire.Type(t.typ()), b)
	}
	if n < 0 {
		return f.fail(n)
	}
	f.end += size + n
	return true
}

// fail notes why the current field is malformed, by protowire's number for it.
func (f *fields) fail(code int) bool {
	f.cause = protowire.ParseError(code)
	return false
}

// consumeVarint is protowire's, but small enough for the compiler to inline it where the varint is one byte.
func consumeVarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 1<<7 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// bytes returns what a field of bytes holds. It is never nil.
func (f *fields) bytes() []byte { return f.message[f.end-int(f.value) : f.end] }

// err returns an error if the message, which is named by what, is malformed at the current field.
func (f *fields) err(what string) error {
	if f.cause == nil {
		return nil
	}
	return f.malformed(what)
}

func (f *fields) malformed(what string) error {
	return fmt.Errorf("%w: %s: field %d: %v", ErrMalformed, what, f.tag.number(), f.cause)
}

// appendVarint appends a field. Like those below it takes only numbers up to 15, whose tags are one byte.
func appendVarint(b []byte, t tag, v uint64) []byte {
	return protowire.AppendVarint(append(b, byte(t)), v)
}

func appendFixed32(b []byte, t tag, v uint32) []byte {
	return protowire.AppendFixed32(append(b, byte(t)), v)
}

func appendFixed64(b []byte, t tag, v uint64) []byte {
	return protowire.AppendFixed64(append(b, byte(t)), v)
}

func appendBytes[T []byte | string](b []byte, t tag, v T) []byte {
	return append(appendVarint(b, t, uint64(len(v))), v...)
}

// appendBool appends a field that is true; one that is not is left out.
func appendBool(b []byte, t tag, v bool) []byte {
	if !v {
		return b
	}
	return appendVarint(b, t, 1)
}
