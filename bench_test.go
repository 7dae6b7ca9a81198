package starling_test

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/starling-go/starling"
)

// BenchmarkBroadcast broadcasts a 200-byte protobuf message in a cluster of three, with at most 64 messages queued: how the
// libraries of the field were measured.
func BenchmarkBroadcast(b *testing.B) {
	members := flock(b, 3, func(_ int, c *starling.Config) { c.Tune = still })
	var ch *starling.Channel[*wrapperspb.BytesValue]
	for _, c := range members {
		// A handler that keeps what it gets would charge the growth of its list to Broadcast.
		opened, err := starling.NewChannel(c, "bench", func(context.Context, starling.Message[*wrapperspb.BytesValue]) {}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if ch == nil {
			ch = opened
		}
	}
	ctx := b.Context()
	for _, c := range members[1:] {
		if err := members[0].Join(ctx, addr(c)); err != nil {
			b.Fatal(err)
		}
	}
	eventually(b, "all are seen", func() bool { return len(members[0].Members()) == 3 })
	v := wrapperspb.Bytes(bytes.Repeat([]byte("x"), 200-3))
	b.ReportAllocs()
	queued := 0
	for b.Loop() {
		if err := ch.Broadcast(ctx, v); err != nil {
			b.Fatal(err)
		}
		if queued++; queued == 64 {
			b.StopTimer()
			if err := ch.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			queued = 0
			b.StartTimer()
		}
	}
}
