package starlingotel

import (
	"bytes"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func testContext(flags trace.TraceFlags) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3, 15: 16}, SpanID: trace.SpanID{17, 7: 24}, TraceFlags: flags, Remote: true,
	})
}

func encoded(tb testing.TB, sc trace.SpanContext) []byte {
	return appendContext(trace.ContextWithSpanContext(tb.Context(), sc), nil)
}

// TestContext: what is written is W3C's binary form, and is read again.
func TestContext(t *testing.T) {
	for _, flags := range []trace.TraceFlags{0, trace.FlagsSampled, 0xff} {
		sc := testContext(flags)
		b := encoded(t, sc)
		want := append([]byte{0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 1, 17, 0, 0, 0, 0, 0, 0, 24, 2}, byte(flags))
		if !bytes.Equal(b, want) || len(b) != 29 {
			t.Errorf("%x, want %x", b, want)
		}
		if got, ok := parseContext(b); !ok || !got.Equal(sc) {
			t.Errorf("%x is read as %+v (%v), want %+v", b, got, ok, sc)
		}
		if got, ok := parseContext(append(b, 3, 4, 5)); !ok || !got.Equal(sc) {
			t.Errorf("with a later field: %+v (%v)", got, ok)
		}
		if got, ok := parseContext(b[:27]); !ok || got.IsSampled() || got.TraceID() != sc.TraceID() || got.SpanID() != sc.SpanID() {
			t.Errorf("without flags: %+v (%v)", got, ok)
		}
	}
	if b := appendContext(t.Context(), []byte("x")); string(b) != "x" {
		t.Errorf("of no span: %x", b)
	}
}

// FuzzContext: nothing of the network's panics; what is read is valid, and is written as it was, but for what is unknown.
func FuzzContext(f *testing.F) {
	b := encoded(f, testContext(trace.FlagsSampled))
	for n := range len(b) + 1 {
		f.Add(b[:n])
	}
	f.Add(append([]byte{1}, b[1:]...))
	f.Add(make([]byte, 29))
	f.Fuzz(func(t *testing.T, b []byte) {
		sc, ok := parseContext(b)
		if !ok {
			return
		}
		again := encoded(t, sc)
		if !sc.IsValid() || !sc.IsRemote() || len(b) < atFlags || !bytes.Equal(again[:atFlags], b[:atFlags]) {
			t.Fatalf("%x is read as %+v", b, sc)
		}
	})
}
