package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// errNoRedis says that there is no server here to be measured.
var errNoRedis = errors.New("no redis-server here (Debian: apt-get install redis-server)")

// redisBus is a channel of a Redis server that each member publishes to and is subscribed to: what people use who run a broker. The server
// is a process of its own, without persistence.
type redisBus struct {
	server  *exec.Cmd
	clients []*redis.Client
	subs    []*redis.PubSub
	wg      sync.WaitGroup
}

func startRedis(ctx context.Context, o load, l *ledger) (_ system, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &redisBus{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	_, port, _ := net.SplitHostPort(addr)
	s.server = exec.CommandContext(ctx, path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
		"--dir", os.TempDir(), "--client-output-buffer-limit", "pubsub 0 0 0")
	if err := s.server.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	for i := range o.members {
		c := redis.NewClient(&redis.Options{Addr: addr})
		s.clients = append(s.clients, c)
		if err := await(ctx, func() bool { return c.Ping(ctx).Err() == nil }); err != nil {
			return nil, fmt.Errorf("redis-server does not answer: %w", err)
		}
		sub := c.Subscribe(ctx, channelKey)
		s.subs = append(s.subs, sub)
		if _, err := sub.Receive(ctx); err != nil {
			return nil, err
		}
		come := sub.Channel(redis.WithChannelSize(1 << 16))
		s.wg.Go(func() {
			for m := range come {
				if b := []byte(m.Payload); foreign(i, b) {
					l.deliver(i, b)
				}
			}
		})
	}
	return s, nil
}

// freeAddr returns an address of loopback that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *redisBus) broadcast(ctx context.Context, from int, payload []byte) error {
	return s.clients[from].Publish(ctx, channelKey, payload).Err()
}

// cpu is what the server has used.
func (s *redisBus) cpu() time.Duration {
	const perSecond = 100 // USER_HZ on every Linux that this program runs on
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.server.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / perSecond
}

func (s *redisBus) close() error {
	var errs []error
	for _, sub := range s.subs {
		errs = append(errs, sub.Close())
	}
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	s.wg.Wait()
	if s.server.Process != nil {
		errs = append(errs, s.server.Process.Kill())
		_ = s.server.Wait() // it says no more than that it was killed
	}
	return errors.Join(errs...)
}
