package starling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// A Channel carries messages of one type between the members that have it open. Its methods may be called concurrently,
// and from any callback except where they say otherwise.
//
// The type parameter ends here: a Channel encodes and decodes, all else is done by the untyped core below it.
type Channel[T any] struct {
	core      *channel
	codec     Codec[T]
	supersede func(T) string
	trace     tracer
}

// A Message is one message as a handler gets it.
type Message[T any] struct {
	Value T
	// From is who broadcast or sent it: as it was known last if it is gone, and with nothing but an ID if it was never
	// seen. The zero Member: a foreign member, which does not say who it is.
	From Member
	// Seq numbers the messages of From over all its channels, from 1, with steps: a large message travels in several parts, each of
	// which has a number, and has that of the last one. 0 if the message has no identity.
	Seq uint64
	// Age is how long ago it was broadcast, up to the call of the handler.
	Age time.Duration
	// Via is the way it came.
	Via Via
	// TraceContext is what the sender's ChannelOptions.TraceContext has told of the trace that the message belongs to, at most MaxTraceContext
	// bytes. It may be kept, and must not be written to. nil: nothing, as for whatever came in a snapshot or from a foreign member.
	TraceContext []byte
}

// MaxTraceContext is the most that travels with a message as the context of its trace, in bytes: 64.
const MaxTraceContext = wire.MaxTraceSize

// tracer is a channel's option TraceContext.
type tracer func(ctx context.Context, b []byte) []byte

// append appends the context of a trace to what b has already, if there is one and it is not too long.
func (t tracer) append(ctx context.Context, b []byte) []byte {
	if t == nil {
		return b
	}
	with := t(ctx, b)
	if n := len(with) - len(b); n <= 0 || n > MaxTraceContext {
		return b
	}
	return append(b, with[len(b):]...) // with may be another slice than b; where it is not, this writes the same bytes again
}

// Via is the way by which a message reached this member.
type Via int

const (
	ViaGossip Via = iota // in a packet
	ViaStream            // in a stream
	ViaRepair            // asked for, because it was missing
	ViaSync              // in a snapshot of state
	ViaDirect            // sent to this member alone
	ViaEcho              // broadcast by this member itself
)

var vias = []string{"gossip", "stream", "repair", "sync", "direct", "echo"}

func (v Via) String() string { return nameOf(v, vias) }

// ChannelOptions says how a channel behaves on this member. A nil pointer means the zero value.
type ChannelOptions[T any] struct {
	// Echo delivers this member's own messages to its own handler too.
	Echo bool
	// Supersede, if set, returns the name of a message. Where a message of the same name still waits to leave this member, the new message
	// takes its place, and the old one is never sent. Messages named "" are all sent. Broadcast calls it, on the caller's goroutine.
	Supersede func(T) string
	// FIFO hands on the messages of one member in the order in which it broadcast them. A message that is missing holds
	// back those after it, for at most FIFOHold (default Retention.Age; without FIFO it must be 0); if it comes later than that, it is
	// reported lost.
	FIFO     bool
	FIFOHold time.Duration
	// Snapshot, if set, yields messages that bring a newcomer to this member's state. They arrive through the same handler,
	// by Sync, before anything newer; so handling a message twice, or after a later one, must do no harm. It is called on the
	// channel's goroutine, never while the handler runs. It must yield all that the handler has been given so far, and what this member has
	// broadcast itself: change your own state before Broadcast, or let Echo do it. Members that lack something ask each other until
	// their states are equal; so it is also called for members that are no newcomers.
	Snapshot func() iter.Seq[T]
	// TraceContext, if set, appends to b what is to travel with a message as the context of its trace, and returns it; nothing where there is no
	// trace. Broadcast, Confirm and Send call it, with their context, on the caller's goroutine, perhaps several at once. The handlers are given
	// it as Message.TraceContext. More than MaxTraceContext bytes do not travel. It must not keep b, nor change what is in it. Package
	// starlingotel sets it for OpenTelemetry.
	TraceContext func(ctx context.Context, b []byte) []byte
	// AlwaysStream sends messages of every size by streams.
	AlwaysStream bool
	// Inbox bounds what waits for the handler and is not kept elsewhere.
	Inbox Inbox
}

// Inbox bounds what waits for a channel's handler without being kept in history: messages sent to this member alone, and
// those of foreign members. Beyond it a message sent to this member alone is refused, and its sender tries again; one of a foreign
// member is lost. Both are counted here as DropInboxFull. Everything else waits in history, and is bounded by Retention alone.
// One message that is larger than Bytes is taken when nothing else waits.
type Inbox struct {
	Messages int // default 1024
	Bytes    int // default 16 MiB
}

// Defaults of an Inbox.
const (
	DefaultInboxMessages = 1024
	DefaultInboxBytes    = 16 << 20
)

// NewChannel opens a channel of protobuf messages, such as NewChannel(c, "prices", func(ctx context.Context, m
// starling.Message[*pb.Price]) { … }, nil). Open channels before Join: one opened later is told nothing older.
//
// handle is called for one message at a time, on a goroutine of the channel. Its context ends with Close or Leave of the
// cluster and with Close of the channel. It may take its time: it holds up nothing but this channel on this member.
//
// A key that is empty, longer than 255 bytes, no UTF-8 or open already gives a *ConfigError that matches ErrChannelKey; a closed
// cluster gives ErrClosed. A nil c or handle, a T that is an interface, or an
// option that makes no sense, gives a *ConfigError.
func NewChannel[T proto.Message](c *Cluster, key string, handle func(context.Context, Message[T]), o *ChannelOptions[T]) (*Channel[T], error) {
	return NewChannelOf(c, key, handle, Proto[T](), o)
}

// NewChannelOf opens a channel of any type, encoded by codec: Proto, JSON, Bytes or one of your own. Otherwise it is like
// NewChannel.
func NewChannelOf[T any](c *Cluster, key string, handle func(context.Context, Message[T]), codec Codec[T], o *ChannelOptions[T]) (*Channel[T], error) {
	if o == nil {
		o = new(ChannelOptions[T])
	}
	if c == nil {
		return nil, noCluster()
	}
	if handle == nil {
		return nil, &ConfigError{Field: "handle", Value: nil, Err: errors.New("a channel needs a handler")}
	}
	if err := checkCodec("channel", codec); err != nil {
		return nil, err
	}
	core := &channel{core: replica.Channel{
		Key: key, Type: contentType("", codec), Echo: o.Echo, Stream: o.AlwaysStream, FIFO: o.FIFO, FIFOHold: o.FIFOHold,
		Inbox: replica.InboxLimits{Messages: o.Inbox.Messages, Bytes: o.Inbox.Bytes},
	}}
	core.handle = decodeFor(codec, handle)
	if o.Snapshot != nil {
		core.snapshot = func(yield func([]byte) bool) error { return encodeAll(codec, o.Snapshot(), yield) }
	}
	if err := c.open(core); err != nil {
		return nil, err
	}
	return &Channel[T]{core: core, codec: codec, supersede: o.Supersede, trace: o.TraceContext}, nil
}

// checkCodec refuses a codec that can never decode anything.
func checkCodec[T any](of string, codec Codec[T]) error {
	if codec == nil {
		return &ConfigError{Field: "codec", Value: nil, Err: fmt.Errorf("a %s needs a codec", of)}
	}
	if n, ok := codec.(namedCodec[T]); ok {
		return checkCodec(of, n.Codec)
	}
	if p, ok := codec.(interface{ check() error }); ok {
		if err := p.check(); err != nil {
			return &ConfigError{Field: "codec", Value: "Proto", Err: err}
		}
	}
	return nil
}

// noCluster is what comes of a New whose error nobody has looked at.
func noCluster() error {
	return &ConfigError{Field: "c", Value: nil, Err: errors.New("no Cluster: has New returned an error?")}
}

// encodeAll yields each value, encoded.
func encodeAll[T any](codec Codec[T], values iter.Seq[T], yield func([]byte) bool) error {
	for v := range values {
		data, err := codec.Append(nil, v)
		if err != nil {
			return err
		}
		if !yield(data) {
			return nil
		}
	}
	return nil
}

// Key returns the key that the channel was opened with.
func (ch *Channel[T]) Key() string { return ch.core.core.Key }

// Close closes the channel on this member and waits for its handler to return; what waited for the handler is dropped.
// The handler must not call it. Closing twice, or after the cluster, does nothing.
func (ch *Channel[T]) Close() { ch.core.close() }

func (ch *channel) wrapCodec(err error) error {
	var large *TooLargeError
	if errors.As(err, &large) || errors.Is(err, ErrNilMessage) {
		return err
	}
	return fmt.Errorf("starling: %s: encode: %w", named(ch.ofMap, ch.core.Key), err)
}

// A Codec turns the values of a channel into bytes and back. Every member must use a codec of the same format for a
// channel. Its methods are called concurrently, and never under a lock.
//
// A codec of your own may have a method ContentType() string, which says what it makes: the kind of encoding and then names, with colons
// between, such as "avro:shop.Price", 255 bytes at most. Members tell each other the types of their channels. Those that differ in a place
// that both have are given none of each other's messages, see OtherTypeError. Without it nothing is told, and nothing is checked.
type Codec[T any] interface {
	// Append appends the encoding of v to b and returns it. It must not keep b, nor return memory that anybody writes to later: what is returned may
	// leave after Broadcast or Send has returned.
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

// ContentType tells the full name of the message type.
func (protoCodec[T]) ContentType() string {
	var zero T
	return "protobuf:" + string(zero.ProtoReflect().Descriptor().FullName())
}

// Named is codec with a name for what it carries, in place of the one it has by itself: that of the message for Proto, none for JSON and
// Bytes. Use it to have members refuse each other's messages where they differ in more than that, such as
// Named(JSON[Price](), "prices.v2"): with another name, not without one.
func Named[T any](codec Codec[T], name string) Codec[T] { return namedCodec[T]{codec, name} }

type namedCodec[T any] struct {
	Codec[T]
	name string
}

func (c namedCodec[T]) ContentType() string {
	kind, _, _ := strings.Cut(contentType("codec", c.Codec), ":")
	return kind + ":" + c.name
}

// contentType is what a codec or a State says that it makes; after its kind, if that is given.
func contentType(kind string, of any) string {
	typed, ok := of.(interface{ ContentType() string })
	switch {
	case !ok:
		return kind
	case kind == "state":
		return kind + ":" + typed.ContentType()
	}
	return typed.ContentType()
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

func (jsonCodec[T]) ContentType() string { return "json" }

// Bytes is the codec of plain bytes. What the handler gets must not be written to.
func Bytes() Codec[[]byte] { return bytesCodec{} }

type bytesCodec struct{}

func (bytesCodec) Append(b []byte, v []byte) ([]byte, error) { return append(b, v...), nil }
func (bytesCodec) Decode(b []byte) ([]byte, error)           { return b, nil }
func (bytesCodec) ContentType() string                       { return "bytes" }
