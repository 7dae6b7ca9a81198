package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hashicorp/memberlist"
)

// handoffDepth is deep enough that memberlist never drops what was read; Starling's members use the same.
const handoffDepth = 16384

// plain is a delegate that only listens.
type plain struct{ notify func([]byte) }

func (p plain) NodeMeta(int) []byte             { return nil }
func (p plain) NotifyMsg(b []byte)              { p.notify(b) }
func (p plain) GetBroadcasts(int, int) [][]byte { return nil }
func (p plain) LocalState(bool) []byte          { return nil }
func (p plain) MergeRemoteState([]byte, bool)   {}

// plainConfig is memberlist's own for a LAN, on loopback, without compression, silent. A nil transport means memberlist's.
func plainConfig(name string, t *sockets, notify func([]byte)) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = name
	c.BindAddr, c.BindPort = "127.0.0.1", 0
	c.EnableCompression = false
	c.HandoffQueueDepth = handoffDepth
	c.Logger = log.New(io.Discard, "", 0)
	if notify != nil {
		c.Delegate = plain{notify}
	}
	if t != nil {
		c.Transport, c.BindPort, c.AdvertisePort = t, t.port(), t.port()
	}
	return c
}

// startPlain starts n plain members over the reused read buffer and returns when each sees all. notify may be nil.
func startPlain(ctx context.Context, n int, notify func(member int, b []byte)) (_ []*memberlist.Memberlist, err error) {
	var members []*memberlist.Memberlist
	defer func() {
		if err != nil {
			err = errors.Join(err, shutDown(members))
		}
	}()
	for i := range n {
		t, err := listen()
		if err != nil {
			return nil, err
		}
		hear := func([]byte) {}
		if notify != nil {
			hear = func(b []byte) { notify(i, b) }
		}
		m, err := memberlist.Create(plainConfig(fmt.Sprintf("plain-%d", i), t, hear))
		if err != nil {
			return members, errors.Join(err, t.Shutdown())
		}
		members = append(members, m)
	}
	return members, meet(ctx, members)
}

// meet lets all join the first, and waits until each sees all.
func meet(ctx context.Context, members []*memberlist.Memberlist) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	seed := members[0].LocalNode().Address()
	for _, m := range members[1:] {
		if _, err := m.Join([]string{seed}); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := complete(ctx, m, seed, len(members)); err != nil {
			return err
		}
	}
	return nil
}

// complete waits until a member sees all. Whom memberlist's gossip has not told of somebody by then asks again.
func complete(ctx context.Context, m *memberlist.Memberlist, seed string, n int) error {
	again := time.Now().Add(time.Second)
	err := await(ctx, func() bool {
		if m.NumMembers() != n && time.Now().After(again) {
			again = time.Now().Add(time.Second)
			_, _ = m.Join([]string{seed}) // what matters is whom it sees then
		}
		return m.NumMembers() == n
	})
	if err != nil {
		return fmt.Errorf("%s sees %d of %d members: %w", m.LocalNode().Name, m.NumMembers(), n, err)
	}
	return nil
}

func shutDown(members []*memberlist.Memberlist) error {
	var errs []error
	for _, m := range members {
		errs = append(errs, m.Shutdown())
	}
	return errors.Join(errs...)
}
