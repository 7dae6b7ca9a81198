package starlingprom

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/starling-go/starling"
)

// withChannels returns the Collector of a member with that many channels.
func withChannels(tb testing.TB, n int) *Collector {
	c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	for i := range n {
		_, err := starling.NewChannelOf(c, fmt.Sprintf("channel-%d", i), func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
		if err != nil {
			tb.Fatal(err)
		}
	}
	return New(c, nil)
}

// BenchmarkScrape measures the parts of a scrape of 100 channels: what is read of the member and made samples of, that with Prometheus'
// registry, and the whole answer.
func BenchmarkScrape(b *testing.B) {
	c := withChannels(b, 100)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	answer := promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
	b.Run("stats", cpu(func(*testing.B) { c.cluster.Stats() }))
	b.Run("samples", cpu(func(b *testing.B) { b.ReportMetric(float64(len(c.samples(c.take()))), "series") }))
	metrics := make(chan prometheus.Metric, 5000)
	b.Run("collect", cpu(func(b *testing.B) {
		c.Collect(metrics)
		for len(metrics) > 0 {
			<-metrics
		}
	}))
	b.Run("gather", cpu(func(b *testing.B) {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}))
	b.Run("answer", cpu(func(*testing.B) {
		w := httptest.NewRecorder()
		answer.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}))
}

// cpu measures, beside the time, what the process computes: on a busy machine the time says little.
func cpu(f func(*testing.B)) func(*testing.B) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return func(b *testing.B) {
		b.ReportAllocs()
		before := used()
		for b.Loop() {
			f(b)
		}
		b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
	}
}

// TestHandlerAllocatesNothing: a message that is noted costs no memory.
func TestHandlerAllocatesNothing(t *testing.T) {
	handle := Handler(New(nil, nil), "k", func(context.Context, starling.Message[int]) {})
	m := starling.Message[int]{Via: starling.ViaGossip, Seq: 1, Age: 3 * time.Millisecond}
	handle(t.Context(), m) // the first of its bucket makes it
	if n := testing.AllocsPerRun(1000, func() { handle(context.Background(), m) }); n != 0 {
		t.Errorf("%v allocations for each message", n)
	}
}

func BenchmarkHandler(b *testing.B) {
	handle := Handler(New(nil, nil), "k", func(context.Context, starling.Message[int]) {})
	m := starling.Message[int]{Via: starling.ViaGossip, Seq: 1, Age: 3 * time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		handle(context.Background(), m)
	}
}
