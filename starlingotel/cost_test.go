package starlingotel

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/starling-go/starling"
)

// exporter takes spans and forgets them.
type exporter struct{}

func (exporter) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return nil }
func (exporter) Shutdown(context.Context) error                        { return nil }

// broadcaster is what a channel, traced or not, has for benchmarks.
type broadcaster interface {
	Broadcast(context.Context, []byte) error
	Flush(context.Context) error
}

func ignore(context.Context, starling.Message[[]byte]) {}

func plain(c *starling.Cluster) (broadcaster, error) {
	return starling.NewChannelOf(c, "bench", ignore, starling.Bytes(), nil)
}

// trio opens a channel on three members on loopback that see each other, and returns the first one's. Those of the others are not traced: what
// they do would be done by other processes, and is not what Broadcast takes.
func trio(b *testing.B, open func(*starling.Cluster) (broadcaster, error)) broadcaster {
	var first *starling.Cluster
	var ch broadcaster
	for range 3 {
		c, err := starling.New(starling.Config{
			BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
			Tune: func(c *memberlist.Config) { c.GossipInterval, c.PushPullInterval, c.ProbeInterval = 0, 0, time.Hour },
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		opened, err := open(c)
		if err != nil {
			b.Fatal(err)
		}
		if first == nil {
			first, ch, open = c, opened, plain
		} else if err := c.Join(b.Context(), first.Self().Addr.String()); err != nil {
			b.Fatal(err)
		}
	}
	return ch
}

// BenchmarkBroadcast measures Broadcast of 200 bytes in a cluster of three, with at most 64 messages queued, as the library's own does: on a channel
// that is not traced, on one without a provider, with a span that is not sampled, and with one that is, in a trace, exported in batches.
func BenchmarkBroadcast(b *testing.B) {
	by := func(p trace.TracerProvider) func(c *starling.Cluster) (broadcaster, error) {
		return func(c *starling.Cluster) (broadcaster, error) {
			return NewChannelOf(c, "bench", ignore, starling.Bytes(), nil, &Options{TracerProvider: p})
		}
	}
	never := sdk.NewTracerProvider(sdk.WithBatcher(exporter{}), sdk.WithSampler(sdk.NeverSample()))
	always := sdk.NewTracerProvider(sdk.WithBatcher(exporter{}), sdk.WithSampler(sdk.AlwaysSample()))
	b.Cleanup(func() { never.Shutdown(context.Background()); always.Shutdown(context.Background()) })
	for _, way := range []struct {
		name string
		open func(c *starling.Cluster) (broadcaster, error)
	}{{"plain", plain}, {"noop", by(noop.NewTracerProvider())}, {"unsampled", by(never)}, {"sampled", by(always)}} {
		b.Run(way.name, func(b *testing.B) {
			ch, data := trio(b, way.open), make([]byte, 200)
			b.ReportAllocs()
			queued := 0
			for b.Loop() {
				if err := ch.Broadcast(b.Context(), data); err != nil {
					b.Fatal(err)
				}
				if queued++; queued == 64 {
					b.StopTimer()
					if err := ch.Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
					queued = 0
					b.StartTimer()
				}
			}
		})
	}
}
