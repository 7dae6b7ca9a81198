package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"time"
)

// callCost is what one call takes, on average over a batch of 64 that begins with an empty queue.
type callCost struct {
	Nanos  float64 `json:"ns"` // median of the batches
	Allocs float64 `json:"allocs"`
}

// callsInBatch is how many messages a batch queues at most, the same for every system.
const callsInBatch = 64

// childCall measures the call in a cluster of three: in batches, with time to send one before the next begins. Allocations are those of all
// members while a batch runs.
func childCall(ctx context.Context, args []string, w io.Writer) (err error) {
	f := flag.NewFlagSet("call", flag.ContinueOnError)
	kind := f.String("kind", starlingName, "of members")
	batches := f.Int("batches", 20, "of 64 calls")
	rest := f.Duration("rest", time.Second, "between two batches")
	if err := f.Parse(args); err != nil {
		return err
	}
	const members = 3
	l := newLedger(members, 1)
	s, err := contenders[*kind](ctx, load{members: members, origins: 1}, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var nanos, allocs []float64
	payload := make([]byte, 200)
	for batch := range *batches {
		time.Sleep(*rest)
		before := read()
		for i := range callsInBatch {
			l.stamp(payload, 0, batch*callsInBatch+i)
			if err := s.broadcast(ctx, 0, payload); err != nil {
				return err
			}
		}
		u := read().since(before)
		nanos = append(nanos, float64(u.wall.Nanoseconds())/callsInBatch)
		allocs = append(allocs, u.allocs/callsInBatch)
	}
	return tell(w, callCost{median(nanos), median(allocs)})
}
