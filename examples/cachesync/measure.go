package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/starling-go/starling"
)

const (
	holders = 3    // members with a cache each
	writes  = 1000 // of each way, one after the other
	rounds  = 10   // the ways take turns, so that what else the machine does meets all of them
)

// A holder is a member's cache, and tells of each key that it has forgotten.
type holder struct {
	cache     *cache
	forgotten chan string
}

func (h *holder) forget(key string) {
	h.cache.Invalidate(key)
	h.forgotten <- key
}

// A way tells all holders to forget a key.
type way struct {
	name  string
	knows bool // tell returns when all have forgotten; else the measurement looks into the holders, as no writer can
	tell  func(ctx context.Context, key string) error
	took  []time.Duration
}

// measure prints how long it takes until all of three members have forgotten a key, with Starling and with Redis.
func measure(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hs := make([]*holder, holders)
	for i := range hs {
		hs[i] = &holder{newCache(), make(chan string, 1)}
	}
	ways, end, err := byStarling(ctx, hs)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	if _, e := exec.LookPath("redis-server"); e != nil {
		fmt.Fprintf(out, "Without Redis: %v\n\n", e)
	} else {
		more, endRedis, err := byRedis(ctx, hs)
		defer endRedis()
		if err != nil {
			return err
		}
		ways = append(ways, more...)
	}
	for n := range rounds {
		for i := range ways {
			for j := range writes / rounds {
				if err := ways[i].write(ctx, hs, fmt.Sprint(i, "-", n*writes/rounds+j)); err != nil {
					return fmt.Errorf("%s: %w", ways[i].name, err)
				}
			}
		}
	}
	report(out, ways)
	return nil
}

// write measures one write, and checks that all have forgotten the key then.
func (w *way) write(ctx context.Context, hs []*holder, key string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, h := range hs {
		h.cache.Set(key, "old")
	}
	start := time.Now()
	err := w.tell(ctx, key)
	took := time.Since(start)
	for _, h := range hs {
		if _, there := h.cache.GetIfPresent(key); there && w.knows && err == nil {
			err = errors.New("confirmed, and a member has the old row")
		}
	}
	for _, h := range hs {
		select {
		case <-h.forgotten:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	if !w.knows {
		took = time.Since(start)
	}
	w.took = append(w.took, took)
	return err
}

// byStarling makes a cluster on loopback. end may be called after an error too.
func byStarling(ctx context.Context, hs []*holder) (ways []way, end func() error, err error) {
	var clusters []*starling.Cluster
	var changed *starling.Channel[string]
	end = func() (err error) {
		for _, c := range clusters {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	for i, h := range hs {
		c, err := starling.New(starling.Config{Name: fmt.Sprint("m", i), BindAddr: "127.0.0.1:0", MinMembers: len(hs)})
		if err != nil {
			return nil, end, err
		}
		clusters = append(clusters, c)
		handle := func(_ context.Context, m starling.Message[string]) { h.forget(m.Value) }
		changed, err = starling.NewChannelOf(c, "changed", handle, starling.JSON[string](), &starling.ChannelOptions[string]{Echo: true})
		if err == nil {
			err = c.Join(ctx, clusters[0].Self().Addr.String())
		}
		if err != nil {
			return nil, end, err
		}
	}
	for _, c := range clusters {
		if err := c.Ready(ctx); err != nil {
			return nil, end, err
		}
	}
	confirm := func(ctx context.Context, key string) error {
		return changed.Confirm(ctx, key, &starling.ConfirmOptions{Handled: true})
	}
	return []way{{name: "Starling, `Confirm`", knows: true, tell: confirm}, {name: "Starling, `Broadcast`", tell: changed.Broadcast}}, end, nil
}

// byRedis starts a server, and a client of it for each holder. The holders answer what comes by the channel "confirm"; whoever has
// published it counts the answers, and PUBLISH says how many there will be. end may be called after an error too.
func byRedis(ctx context.Context, hs []*holder) (ways []way, end func(), err error) {
	addr, stop, err := startRedis(ctx)
	ends := []func(){stop}
	end = func() {
		for _, f := range slices.Backward(ends) {
			f()
		}
	}
	if err != nil {
		return nil, end, err
	}
	var client *redis.Client // the last one writes
	for _, h := range hs {
		client = redis.NewClient(&redis.Options{Addr: addr})
		told := client.Subscribe(ctx, "tell", "confirm")
		done := make(chan struct{})
		ends = append(ends, func() { told.Close(); <-done; client.Close() })
		go func() {
			defer close(done)
			for m := range told.Channel() {
				if h.forget(m.Payload); m.Channel == "confirm" {
					client.Publish(ctx, "forgotten", m.Payload)
				}
			}
		}()
	}
	answers := client.Subscribe(ctx, "forgotten")
	ends = append(ends, func() { answers.Close() })
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n, err := client.PubSubNumSub(ctx, "tell", "confirm", "forgotten").Result()
		if err != nil || time.Now().After(until) {
			return nil, end, errors.Join(err, errors.New("not all have subscribed"))
		}
		if n["tell"] == int64(len(hs)) && n["confirm"] == int64(len(hs)) && n["forgotten"] == 1 {
			break
		}
	}
	confirm := func(ctx context.Context, key string) error {
		n, err := client.Publish(ctx, "confirm", key).Result()
		for ; n > 0 && err == nil; n-- {
			select {
			case <-answers.Channel():
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return err
	}
	tell := func(ctx context.Context, key string) error { return client.Publish(ctx, "tell", key).Err() }
	return []way{{name: "Redis, `PUBLISH`, answers counted", knows: true, tell: confirm}, {name: "Redis, `PUBLISH`", tell: tell}}, end, nil
}

// startRedis starts a server that keeps nothing, on a port that is free.
func startRedis(ctx context.Context) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", func() {}, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	addr = l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("", "cachesync")
	if err != nil {
		return "", func() {}, err
	}
	server := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--dir", dir)
	if err := server.Start(); err != nil {
		return "", func() { os.RemoveAll(dir) }, err
	}
	stop = func() {
		server.Process.Kill()
		server.Wait()
		os.RemoveAll(dir)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	for range 100 {
		if err = client.Ping(ctx).Err(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return addr, stop, err
}

// report prints a table, with the ratios to the first way.
func report(out io.Writer, ways []way) {
	fmt.Fprintf(out, "%d members in one process, loopback, %d writes each; %s, %d CPUs\n\n", holders, writes, runtime.Version(), runtime.NumCPU())
	fmt.Fprint(out, "| | the writer knows | p50 | ratio | p99 | ratio |\n|---|---|---:|---:|---:|---:|\n")
	at := func(w way, percent int) time.Duration {
		slices.Sort(w.took)
		return w.took[len(w.took)*percent/100]
	}
	for _, w := range ways {
		knows := "no"
		if w.knows {
			knows = "yes"
		}
		fmt.Fprintf(out, "| %s | %s |", w.name, knows)
		for _, p := range []int{50, 99} {
			fmt.Fprintf(out, " %.2f ms | %.2f |", at(w, p).Seconds()*1000, float64(at(w, p))/float64(at(ways[0], p)))
		}
		fmt.Fprintln(out)
	}
}
