package starlingotel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// world is a cluster in a bubble. Each member has a channel "prices", and a provider of its own, as if it were another process.
type world struct {
	*starlingtest.Lab
	t       *testing.T
	options starling.ChannelOptions[[]byte]
	sampler sdk.Sampler // of the members that start from now on

	mu       sync.Mutex
	spans    map[string]*tracetest.SpanRecorder
	channels map[string]*Channel[[]byte]
	inside   map[string]trace.SpanContext // of the context that the handler was given, by member and message
}

func inWorld(t *testing.T, n int, test func(t *testing.T, w *world)) {
	w := &world{
		t: t, options: starling.ChannelOptions[[]byte]{Echo: true}, sampler: sdk.AlwaysSample(),
		spans: map[string]*tracetest.SpanRecorder{}, channels: map[string]*Channel[[]byte]{}, inside: map[string]trace.SpanContext{},
	}
	starlingtest.Run(t, n, starlingtest.Options{Open: w.open}, func(t *testing.T, l *starlingtest.Lab) {
		w.Lab, w.t = l, t
		test(t, w)
	})
}

func (w *world) open(m *starlingtest.Member) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := tracetest.NewSpanRecorder()
	w.spans[m.Name] = spans
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(w.sampler))
	handle := func(ctx context.Context, msg starling.Message[[]byte]) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.inside[m.Name+":"+string(msg.Value[:1])] = trace.SpanContextFromContext(ctx)
	}
	w.channels[m.Name], err = NewChannelOf(m.Cluster, "prices", handle, starling.Bytes(), &w.options, &Options{TracerProvider: provider})
	return err
}

// parent is a context with a span of the caller's, as a service has it when it broadcasts.
func (w *world) parent(flags trace.TraceFlags) (context.Context, trace.SpanContext) {
	sc := testContext(flags)
	return trace.ContextWithSpanContext(context.Background(), sc), sc
}

// take waits until the spans of a member that have ended are of these names, and returns and forgets them.
func (w *world) take(member string, names ...string) map[string]sdk.ReadOnlySpan {
	w.t.Helper()
	spans := map[string]sdk.ReadOnlySpan{}
	w.Within(50*time.Second, func() error {
		var got []string
		for _, s := range w.spans[member].Ended() {
			got = append(got, s.Name())
			spans[s.Name()] = s
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			return fmt.Errorf("%s has spans %q, want %q", member, got, names)
		}
		return nil
	})
	w.spans[member].Reset()
	return spans
}

// is checks what a span says of itself.
func (w *world) is(s sdk.ReadOnlySpan, kind trace.SpanKind, want ...attribute.KeyValue) {
	w.t.Helper()
	if s.SpanKind() != kind || s.InstrumentationScope().Name != Name {
		w.t.Errorf("%s is a %v of %s", s.Name(), s.SpanKind(), s.InstrumentationScope().Name)
	}
	for _, a := range append(want, keySystem.String("starling"), keyDestination.String("prices")) {
		if !slices.Contains(s.Attributes(), a) {
			w.t.Errorf("%s has %v, lacks %v", s.Name(), s.Attributes(), a)
		}
	}
}

// linked checks that a consumer's span is the root of a trace of its own, linked to the producer's span, and that its handler was in it.
func (w *world) linked(member, message string, consumer sdk.ReadOnlySpan, producer trace.SpanContext) {
	w.t.Helper()
	links := consumer.Links()
	if len(links) != 1 || links[0].SpanContext.SpanID() != producer.SpanID() || links[0].SpanContext.TraceID() != producer.TraceID() ||
		links[0].SpanContext.TraceFlags() != producer.TraceFlags() || !links[0].SpanContext.IsRemote() {
		w.t.Errorf("%s: the consumer has links %+v, want one to %+v", member, links, producer)
	}
	if consumer.Parent().IsValid() || consumer.SpanContext().TraceID() == producer.TraceID() {
		w.t.Errorf("%s: the consumer has the parent %+v", member, consumer.Parent())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.inside[member+":"+message]; !got.Equal(consumer.SpanContext()) {
		w.t.Errorf("%s: the handler was in %+v", member, got)
	}
}

// TestSpans: a broadcast, a confirmed message and one by Send each leave a producer's span at the caller's, and at every handler one that is linked to it,
// whatever way the message goes, while packets are lost, to a newcomer too.
func TestSpans(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.Must(w.Net.SetDefault(starlingtest.Link{Latency: time.Millisecond, Loss: 0.3}))
		w.Start("m3") // before the first message: of those before it a newcomer may be given some or none
		ctx, parent := w.parent(trace.FlagsSampled)
		ch := w.channels["m0"]
		for _, size := range []int{1, 3000, 300 << 10} {
			w.Must(ch.Broadcast(ctx, append([]byte("b"), make([]byte, size)...)))
			own := w.take("m0", "broadcast prices", "process prices")
			produced := own["broadcast prices"]
			w.is(produced, trace.SpanKindProducer, keyOperation.String("broadcast"), keyOperationType.String("send"))
			if produced.Parent().SpanID() != parent.SpanID() || produced.SpanContext().TraceID() != parent.TraceID() {
				t.Errorf("the producer's parent is %+v", produced.Parent())
			}
			w.linked("m0", "b", own["process prices"], produced.SpanContext())
			w.is(own["process prices"], trace.SpanKindConsumer, keyVia.String("echo"))
			for _, name := range w.Names()[1:] {
				s := w.take(name, "process prices")["process prices"]
				w.is(s, trace.SpanKindConsumer, keyOperation.String("process"), keyOperationType.String("process"), keyOrigin.String("m0"))
				w.linked(name, "b", s, produced.SpanContext())
			}
		}
		w.Must(ch.Confirm(ctx, []byte("c"), nil))
		w.is(w.take("m0", "confirm prices", "process prices")["confirm prices"], trace.SpanKindProducer)
		w.take("m1", "process prices")
		w.take("m2", "process prices")
		w.take("m3", "process prices")
		w.Must(ch.Send(ctx, "m2", []byte("s")))
		w.Must(ch.SendMember(ctx, w.Member("m3").Cluster.Self(), []byte("s")))
		for _, name := range []string{"m2", "m3"} {
			s := w.take(name, "process prices")["process prices"]
			w.is(s, trace.SpanKindConsumer, keyVia.String("direct"))
			named := 0
			for _, sent := range w.spans["m0"].Ended() {
				if slices.Contains(sent.Attributes(), keyMember.String(name)) {
					named++
					w.is(sent, trace.SpanKindProducer, keyOperation.String("send"))
					w.linked(name, "s", s, sent.SpanContext())
				}
			}
			if named != 1 {
				t.Errorf("%d spans say that they send to %s", named, name)
			}
		}
		w.take("m0", "send prices", "send prices")
		w.Must(ch.TryBroadcast([]byte("t")))
		if s := w.take("m1", "process prices")["process prices"]; len(s.Links()) != 0 {
			t.Errorf("TryBroadcast has links %+v", s.Links())
		}
	})
}

// TestSpanErrors: what fails is told by its span, with how many have not confirmed.
func TestSpanErrors(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		ch := w.channels["m0"]
		w.Must(w.Net.Partition([]string{"m0"}, []string{"m1", "m2"}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var unconfirmed *starling.UnconfirmedError
		if err := ch.Confirm(ctx, []byte("c"), nil); !errors.As(err, &unconfirmed) {
			t.Fatal(err)
		}
		s := w.take("m0", "confirm prices", "process prices")["confirm prices"]
		w.is(s, trace.SpanKindProducer, keyMissing.Int(2))
		if s.Status().Code != codes.Error || len(s.Events()) != 1 {
			t.Errorf("%+v %+v", s.Status(), s.Events())
		}
		var refused *starling.SendError
		if err := ch.Send(t.Context(), "nobody", []byte("s")); !errors.As(err, &refused) {
			t.Fatal(err)
		}
		if s := w.take("m0", "send prices")["send prices"]; s.Status().Code != codes.Error {
			t.Errorf("%+v", s.Status())
		}
	})
}

// TestUnsampled: a producer that is not sampled leaves nothing at its own member, and its context, which says so, is linked to all the same.
func TestUnsampled(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		w.sampler = sdk.NeverSample()
		w.Start("m0")
		w.sampler = sdk.AlwaysSample()
		w.Start("m1")
		ctx, parent := w.parent(0)
		w.Must(w.channels["m0"].Broadcast(ctx, []byte("b")))
		links := w.take("m1", "process prices")["process prices"].Links()
		if len(links) != 1 || links[0].SpanContext.IsSampled() || links[0].SpanContext.TraceID() != parent.TraceID() {
			t.Errorf("links %+v", links)
		}
		w.take("m0")
	})
}

// TestGlobalProvider: without options the global provider makes the spans. With one that makes none nothing travels of a caller without a span.
func TestGlobalProvider(t *testing.T) {
	defer otel.SetTracerProvider(otel.GetTracerProvider())
	otel.SetTracerProvider(sdk.NewTracerProvider())
	c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, o := range map[string]*Options{"global": nil, "none": {TracerProvider: noop.NewTracerProvider()}} {
		contexts := make(chan int, 1)
		ch, err := NewChannelOf(c, key, func(_ context.Context, m starling.Message[[]byte]) { contexts <- len(m.TraceContext) },
			starling.Bytes(), &starling.ChannelOptions[[]byte]{Echo: true}, o)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"global": size}[key]
		if err := ch.Broadcast(t.Context(), []byte("m")); err != nil {
			t.Fatal(err)
		}
		if got := <-contexts; got != want {
			t.Errorf("%s: %d bytes travel, want %d", key, got, want)
		}
	}
}

// TestNewChannelErrors: they are those of starling.NewChannel, and come with no channel.
func TestNewChannelErrors(t *testing.T) {
	ch, err := NewChannelOf[[]byte](nil, "ch", nil, starling.Bytes(), nil, nil)
	var fault *starling.ConfigError
	if ch != nil || !errors.As(err, &fault) {
		t.Errorf("%v, %v", ch, err)
	}
}
