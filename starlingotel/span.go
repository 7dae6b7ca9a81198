package starlingotel

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/starling-go/starling"
)

// The attributes of spans: those of OpenTelemetry's conventions, and our own.
const (
	keySystem        = attribute.Key("messaging.system")
	keyDestination   = attribute.Key("messaging.destination.name")
	keyOperation     = attribute.Key("messaging.operation.name")
	keyOperationType = attribute.Key("messaging.operation.type")

	keyMember  = attribute.Key("starling.member")          // whom Send sends to
	keyMissing = attribute.Key("starling.missing_members") // how many have not confirmed
	keyOrigin  = attribute.Key("starling.origin")          // who has broadcast or sent the message; none: a foreign member
	keySeq     = attribute.Key("starling.seq")             // its number there; none: it has no identity
	keyVia     = attribute.Key("starling.via")
	keyAge     = attribute.Key("starling.age_ms") // up to the call of the handler
)

// operation is one kind of span of one channel, with all that its spans have in common.
type operation struct {
	tracer  trace.Tracer
	name    string
	options []trace.SpanStartOption
}

func producer(tracer trace.Tracer, name, key string) operation {
	return newOperation(tracer, name, "send", key, trace.WithSpanKind(trace.SpanKindProducer))
}

func consumer(tracer trace.Tracer, name, key string) operation {
	return newOperation(tracer, name, "process", key, trace.WithSpanKind(trace.SpanKindConsumer)) // a channel's context has no span: it is a root
}

func newOperation(tracer trace.Tracer, name, typ, key string, options ...trace.SpanStartOption) operation {
	common := trace.WithAttributes(
		keySystem.String("starling"), keyDestination.String(key), keyOperation.String(name), keyOperationType.String(typ),
	)
	return operation{tracer, name + " " + key, append(options, common)}
}

func (op *operation) start(ctx context.Context) (context.Context, trace.Span) {
	return op.tracer.Start(ctx, op.name, op.options...)
}

// end ends a span with the error of what it is about, which it returns.
func end(span trace.Span, err error) error {
	if err != nil && span.IsRecording() {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
		var unconfirmed *starling.UnconfirmedError
		if errors.As(err, &unconfirmed) {
			span.SetAttributes(keyMissing.Int(len(unconfirmed.Missing)))
		}
	}
	span.End()
	return err
}

// traced wraps a handler: each of its calls is a span, linked to that of the message's producer. A panic of the handler passes.
func traced[T any](op operation, handle func(context.Context, starling.Message[T])) func(context.Context, starling.Message[T]) {
	plain := op.options[:len(op.options):len(op.options)]
	return func(ctx context.Context, m starling.Message[T]) {
		options := plain
		if from, ok := parseContext(m.TraceContext); ok {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
		}
		ctx, span := op.tracer.Start(ctx, op.name, options...)
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(about(m.From, m.Seq, m.Via, m.Age.Milliseconds())...)
		}
		handle(ctx, m)
	}
}

func about(from starling.Member, seq uint64, via starling.Via, age int64) []attribute.KeyValue {
	as := make([]attribute.KeyValue, 0, 4)
	as = append(as, keyVia.String(via.String()), keyAge.Int64(age))
	if from.Name != "" {
		as = append(as, keyOrigin.String(strings.ToValidUTF8(from.Name, "\uFFFD"))) // or an exporter may refuse it, and all spans beside it
	}
	if seq != 0 {
		as = append(as, keySeq.Int64(int64(seq)))
	}
	return as
}
