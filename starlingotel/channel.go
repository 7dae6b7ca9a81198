package starlingotel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
)

// Name is that of the tracer that makes the spans, the name of their instrumentation scope.
const Name = "github.com/starling-go/starling/starlingotel"

// Options says how a channel is traced. A nil pointer means the zero value.
type Options struct {
	// TracerProvider makes the spans. nil: the global one, otel.GetTracerProvider.
	TracerProvider trace.TracerProvider
}

// Channel is a starling.Channel whose messages are traced. Its methods may be called concurrently. Those that are not named here are those of
// the channel within it, and leave no span: what TryBroadcast says travels without a context.
type Channel[T any] struct {
	*starling.Channel[T]
	broadcast, confirm, send operation
}

// NewChannel is starling.NewChannel with spans around Broadcast, Confirm, Send and each call of handle, whose context has that span. o may be
// nil, as there; a TraceContext in it is replaced. Its errors are those of starling.NewChannel.
func NewChannel[T proto.Message](c *starling.Cluster, key string, handle func(context.Context, starling.Message[T]),
	o *starling.ChannelOptions[T], t *Options,
) (*Channel[T], error) {
	return NewChannelOf(c, key, handle, starling.Proto[T](), o, t)
}

// NewChannelOf is NewChannel for messages of any type, encoded by codec.
func NewChannelOf[T any](c *starling.Cluster, key string, handle func(context.Context, starling.Message[T]), codec starling.Codec[T],
	o *starling.ChannelOptions[T], t *Options,
) (*Channel[T], error) {
	tracer := t.tracer()
	ch := &Channel[T]{
		broadcast: producer(tracer, "broadcast", key),
		confirm:   producer(tracer, "confirm", key),
		send:      producer(tracer, "send", key),
	}
	if handle != nil { // else it is refused below
		handle = traced(consumer(tracer, "process", key), handle)
	}
	var with starling.ChannelOptions[T]
	if o != nil {
		with = *o
	}
	with.TraceContext = appendContext
	var err error
	ch.Channel, err = starling.NewChannelOf(c, key, handle, codec, &with)
	if err != nil {
		return nil, err
	}
	return ch, nil
}

func (t *Options) tracer() trace.Tracer {
	if t != nil && t.TracerProvider != nil {
		return t.TracerProvider.Tracer(Name)
	}
	return otel.GetTracerProvider().Tracer(Name)
}

// Broadcast is that of starling.Channel, in a span that ends when the message is accepted.
func (ch *Channel[T]) Broadcast(ctx context.Context, v T) error {
	ctx, span := ch.broadcast.start(ctx)
	return end(span, ch.Channel.Broadcast(ctx, v))
}

// Confirm is that of starling.Channel, in a span that ends when it returns.
func (ch *Channel[T]) Confirm(ctx context.Context, v T, o *starling.ConfirmOptions) error {
	ctx, span := ch.confirm.start(ctx)
	return end(span, ch.Channel.Confirm(ctx, v, o))
}

// Send is that of starling.Channel, in a span that ends when it returns.
func (ch *Channel[T]) Send(ctx context.Context, member string, v T) error {
	ctx, span := ch.sendTo(ctx, member)
	return end(span, ch.Channel.Send(ctx, member, v))
}

// SendMember is that of starling.Channel, in a span that ends when it returns.
func (ch *Channel[T]) SendMember(ctx context.Context, m starling.Member, v T) error {
	ctx, span := ch.sendTo(ctx, m.Name)
	return end(span, ch.Channel.SendMember(ctx, m, v))
}

func (ch *Channel[T]) sendTo(ctx context.Context, member string) (context.Context, trace.Span) {
	ctx, span := ch.send.start(ctx)
	if span.IsRecording() {
		span.SetAttributes(keyMember.String(member))
	}
	return ctx, span
}
