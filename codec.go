package starling

import (
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// A Codec turns the values of a channel into bytes and back. Every member must use a codec of the same format for a
// channel. Its methods are called concurrently, and never under a lock.
type Codec[T any] interface {
	// Append appends the encoding of v to b and returns it. It must not keep b.
	Append(b []byte, v T) ([]byte, error)
	// Decode decodes b, which it may keep but must not write to.
	Decode(b []byte) (T, error)
}

// Proto is the codec of a protobuf message type. NewChannel uses it. T must be one generated type, such as *pb.Price: Decode
// knows nothing else of what it is to make.
func Proto[T proto.Message]() Codec[T] { return protoCodec[T]{} }

type protoCodec[T proto.Message] struct{}

func (protoCodec[T]) Append(b []byte, v T) ([]byte, error) {
	if any(v) == nil || !v.ProtoReflect().IsValid() {
		return nil, ErrNilMessage
	}
	return proto.MarshalOptions{}.MarshalAppend(b, v)
}

func (protoCodec[T]) Decode(b []byte) (T, error) {
	var zero T
	// A nil message of a generated type knows its type, which is all that is asked of it here.
	m := zero.ProtoReflect().Type().New().Interface().(T)
	return m, proto.Unmarshal(b, m)
}

// check reports whether messages can be made of the type alone, which panics for an interface or a dynamic message.
func (c protoCodec[T]) check() (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%v is not one generated message type, so nothing can be decoded", reflect.TypeFor[T]())
		}
	}()
	_, _ = c.Decode(nil) // which may lack required fields
	return nil
}

// JSON is the codec of any type that encoding/json can encode.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Append(b []byte, v T) ([]byte, error) {
	enc, err := json.Marshal(v)
	return append(b, enc...), err
}

func (jsonCodec[T]) Decode(b []byte) (T, error) {
	var v T
	return v, json.Unmarshal(b, &v)
}

// Bytes is the codec of plain bytes. What the handler gets must not be written to.
func Bytes() Codec[[]byte] { return bytesCodec{} }

type bytesCodec struct{}

func (bytesCodec) Append(b []byte, v []byte) ([]byte, error) { return append(b, v...), nil }
func (bytesCodec) Decode(b []byte) ([]byte, error)           { return b, nil }
