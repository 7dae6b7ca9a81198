package transport

import (
	"context"
	"sync"
	"time"
)

const (
	// youngStreams is how many streams of one kind, small or bulk, may be young at once, over all members together. Without it a
	// message for 1,000 members would open 1,000 connections in one moment, and hold as many encoded copies.
	youngStreams = 32

	// youth is how long a stream is young, unless it ends before. A full one takes a millisecond or two in a LAN; 32 of them share
	// 1 Gbit/s for 64 ms. It is also all that members which hang take from the others: 32 of them let the next stream wait for
	// 50 ms, once in each time-out of a stream. With a place that was held to the end it was the whole time-out, 10 s.
	youth = 50 * time.Millisecond
)

// gate lets streams begin: it holds a token for each that is young.
type gate chan struct{}

func newGate() gate { return make(gate, youngStreams) }

// enter waits until one more stream may begin, and returns what to call when that has ended; or the error of ctx if that ends before.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := sync.OnceFunc(func() { <-g }) // never waits: our token is in there
	grown := time.AfterFunc(youth, free)
	return func() {
		grown.Stop()
		free()
	}, nil
}
