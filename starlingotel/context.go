package starlingotel

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// W3C's binary form of a trace's context: a version, then fields, each of which begins with its number.
const (
	version    = 0
	fieldTrace = 0
	fieldSpan  = 1
	fieldFlags = 2

	atSpan  = 1 + 1 + 16
	atFlags = atSpan + 1 + 8
	size    = atFlags + 1 + 1
)

// appendContext appends the context of the span in ctx, sampled or not; nothing if there is none.
func appendContext(ctx context.Context, b []byte) []byte {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return b
	}
	traceID, spanID := sc.TraceID(), sc.SpanID()
	b = append(append(b, version, fieldTrace), traceID[:]...)
	b = append(append(b, fieldSpan), spanID[:]...)
	return append(b, fieldFlags, byte(sc.TraceFlags()))
}

// parseContext reads what appendContext has written. Without flags nothing is sampled; what comes after them is of a later version, and ignored.
func parseContext(b []byte) (sc trace.SpanContext, ok bool) {
	if len(b) < atFlags || b[0] != version || b[1] != fieldTrace || b[atSpan] != fieldSpan {
		return sc, false
	}
	c := trace.SpanContextConfig{TraceID: trace.TraceID(b[2:atSpan]), SpanID: trace.SpanID(b[atSpan+1 : atFlags]), Remote: true}
	if len(b) >= size && b[atFlags] == fieldFlags {
		c.TraceFlags = trace.TraceFlags(b[atFlags+1])
	}
	sc = trace.NewSpanContext(c)
	return sc, sc.IsValid()
}
