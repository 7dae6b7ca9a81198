package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"time"

	"github.com/starling-go/starling"
)

// mapOut is what a Map costs, and how fast a newcomer has it.
type mapOut struct {
	Entries  int       `json:"entries"`
	Payload  int       `json:"payload_bytes"` // keys and values
	Resident float64   `json:"resident_to_payload"`
	Newcomer []float64 `json:"newcomer_ms"` // from its Join until it is ready, with all of it
}

// runMap fills the Map of one member, and lets others join it, one after the other.
func runMap(ctx context.Context, args []string, w io.Writer) (any, error) {
	f := flag.NewFlagSet("map", flag.ContinueOnError)
	entries := f.Int("entries", 100_000, "entries")
	size := f.Int("size", 100, "bytes of a value")
	settle := f.Duration("settle", 75*time.Second, "how long to wait before memory is measured: what was sent is kept for a minute")
	newcomers := f.Int("newcomers", 5, "members that join, one after the other left")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *entries < 1 || *entries > 1_000_000 || *size < 1 || *size > 10_000 || *newcomers < 1 || *newcomers > 20 {
		return nil, errors.New("want at most 1,000,000 entries of 10,000 bytes, and 1 to 20 newcomers")
	}
	first, m, err := startMap("first")
	if err != nil {
		return nil, err
	}
	defer first.Close()
	out := mapOut{Entries: *entries}
	before := inUse()
	for i := range *entries {
		key := fmt.Sprintf("key/%07d", i)
		if err := m.Set(ctx, key, make([]byte, *size)); err != nil {
			return nil, err
		}
		out.Payload += len(key) + *size
	}
	time.Sleep(min(*settle, 5*time.Minute))
	out.Resident = (inUse() - before) / float64(out.Payload)
	for range *newcomers {
		took, err := joinMap(ctx, first, *entries)
		if err != nil {
			return nil, err
		}
		out.Newcomer = append(out.Newcomer, ms(took))
	}
	_, err = fmt.Fprintf(w, "%d entries, %d bytes of keys and values: %.2f times that in memory; a newcomer has them after %.0f ms (median of %.0f)\n",
		out.Entries, out.Payload, out.Resident, median(out.Newcomer), out.Newcomer)
	return out, err
}

func startMap(name string) (*starling.Cluster, *starling.Map[[]byte], error) {
	c, err := starling.New(starling.Config{Name: name, BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	m, err := starling.NewMap(c, "map", starling.Bytes(), nil)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, m, nil
}

// joinMap lets a member join, and returns how long it takes until its Map has its first values. They must be all.
func joinMap(ctx context.Context, first *starling.Cluster, entries int) (took time.Duration, err error) {
	c, m, err := startMap("newcomer")
	if err != nil {
		return 0, err
	}
	runtime.GC()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer func() { err = errors.Join(err, c.Leave(ctx)) }()
	began := time.Now()
	if err := c.Join(ctx, first.Self().Addr.String()); err != nil {
		return 0, err
	}
	select {
	case <-m.Synced():
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	took = time.Since(began)
	if m.Len() != entries {
		return 0, fmt.Errorf("the newcomer has its first values, %d of %d", m.Len(), entries)
	}
	return took, nil
}

// inUse is how many bytes of the heap are in use.
func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return float64(mem.HeapAlloc)
}
