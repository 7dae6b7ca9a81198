package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/starling-go/starling"
)

// runBroadcast measures the call itself as the peers were: three members, a protobuf message of 200 bytes, at most so many
// queued. The clock stands still while they are flushed.
func runBroadcast(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("broadcast", flag.ContinueOnError)
	rounds := f.Int("rounds", 5, "rounds")
	queued := f.Int("queued", 64, "messages between two flushes")
	var prof profiles
	prof.flags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *rounds < 1 || *rounds > 100 || *queued < 1 || *queued > starling.DefaultQueueMessages {
		return nil, errors.New("want 1 to 100 rounds and 1 to 4096 messages")
	}
	stop, err := prof.start()
	if err != nil {
		return nil, err
	}
	var nanos, allocs []float64
	for range *rounds {
		r, err := timeCalls(ctx, *queued)
		if err != nil {
			return nil, err
		}
		nanos, allocs = append(nanos, float64(r.NsPerOp())), append(allocs, float64(r.MemAllocs)/float64(r.N))
		fmt.Fprintf(w, "%v %v\n", r, r.MemString())
	}
	if err := stop(); err != nil {
		return nil, err
	}
	verdicts := []verdict{
		judge("ns per Broadcast", nanos, 900, false),
		judge("allocations per Broadcast, those of all members while it runs included", allocs, 6, false),
	}
	return map[string]any{"verdicts": verdicts}, printVerdicts(w, verdicts)
}

func timeCalls(ctx context.Context, queued int) (r testing.BenchmarkResult, err error) {
	var clusters []*starling.Cluster
	defer func() {
		for _, c := range clusters {
			err = errors.Join(err, c.Close())
		}
	}()
	var ch *starling.Channel[*wrapperspb.BytesValue]
	for i := range 3 {
		c, err := starling.New(starling.Config{
			Name: fmt.Sprintf("starling-%d", i), BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return r, err
		}
		clusters = append(clusters, c)
		own, err := starling.NewChannel(c, channelKey, func(context.Context, starling.Message[*wrapperspb.BytesValue]) {}, nil)
		if err != nil {
			return r, err
		}
		if i == 0 {
			ch = own
		}
	}
	all := cluster{members: clusters}
	if err := all.join(ctx, nil); err != nil {
		return r, err
	}
	var failed error
	msg := wrapperspb.Bytes(make([]byte, 197)) // 200 encoded
	r = testing.Benchmark(func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if failed = errors.Join(failed, ch.Broadcast(ctx, msg)); failed != nil {
				b.FailNow()
			}
			if i%queued == queued-1 {
				b.StopTimer()
				flushing, cancel := context.WithTimeout(ctx, time.Minute)
				failed = errors.Join(failed, ch.Flush(flushing))
				cancel()
				b.StartTimer()
			}
		}
	})
	return r, failed
}
