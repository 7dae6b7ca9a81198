package starlingprom

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

// DefaultBuckets returns the bounds of the classic buckets of the delay, in seconds.
func DefaultBuckets() []float64 {
	return []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60}
}

func newDelay(n naming, buckets []float64) *prometheus.HistogramVec {
	if buckets == nil {
		buckets = DefaultBuckets()
	}
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: n.namespace, Name: "delivery_delay_seconds", ConstLabels: n.labels,
		Help: "How long ago messages had been broadcast when they came to the handler, " +
			"without the time that they spent on the wire itself.",
		Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, []string{"channel"})
}

// Handler wraps the handler of a channel, so that the delay of its messages is noted: delivery_delay_seconds. It costs some 100 ns a message
// and allocates nothing.
//
// The delay is Message.Age: the time that the message waited at its sender, at the members that passed it on, at those that it was
// repaired from, and here for the handler. It needs no synchronised clocks, and it lacks what only they could tell: the time on the wire,
// half a round trip for each hop (as a rule two). Of what was lost on the wire, the wait until it was sent again counts. It is exact to
// a millisecond for each hop.
//
// Noted is what was broadcast and came by itself or by repair. Not noted are the messages of foreign members, of Send, of Echo, and those of
// a snapshot, none of which say how old they are.
func Handler[T any](c *Collector, key string, handle func(context.Context, starling.Message[T])) func(context.Context, starling.Message[T]) {
	delay := c.delay.WithLabelValues(key)
	return func(ctx context.Context, m starling.Message[T]) {
		if aged(m.Via, m.Seq) {
			delay.Observe(m.Age.Seconds())
		}
		handle(ctx, m)
	}
}

// aged reports whether the age of a message is that since its broadcast.
func aged(via starling.Via, seq uint64) bool {
	return seq != 0 && (via == starling.ViaGossip || via == starling.ViaStream || via == starling.ViaRepair)
}
