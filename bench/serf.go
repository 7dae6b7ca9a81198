package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// serfs is Serf's user events, as its documentation configures it for a LAN.
type serfs struct {
	members []*serf.Serf
	stop    chan struct{}
	wg      sync.WaitGroup
}

func startSerf(ctx context.Context, o load, l *ledger) (_ system, err error) {
	s := &serfs{stop: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var seed string
	for i := range o.members {
		c := serf.DefaultConfig()
		c.Init()
		c.NodeName = fmt.Sprintf("serf-%d", i)
		c.MemberlistConfig = memberlist.DefaultLANConfig()
		c.MemberlistConfig.BindAddr, c.MemberlistConfig.BindPort = "127.0.0.1", 0
		c.Logger = log.New(io.Discard, "", 0)
		c.MemberlistConfig.Logger = c.Logger
		events := make(chan serf.Event, 4096)
		c.EventCh = events
		m, err := serf.Create(c)
		if err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
		s.wg.Go(func() {
			for {
				select {
				case e := <-events:
					if u, ok := e.(serf.UserEvent); ok && foreign(i, u.Payload) {
						l.deliver(i, u.Payload)
					}
				case <-s.stop:
					return
				}
			}
		})
		if i == 0 {
			local := m.Memberlist().LocalNode()
			seed = local.Address()
		} else if _, err := m.Join([]string{seed}, true); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	for _, m := range s.members {
		if err := await(ctx, func() bool { return m.Memberlist().NumMembers() == o.members }); err != nil {
			return nil, fmt.Errorf("%s sees %d of %d: %w", m.LocalMember().Name, m.Memberlist().NumMembers(), o.members, err)
		}
	}
	return s, nil
}

func (s *serfs) broadcast(_ context.Context, from int, payload []byte) error {
	return s.members[from].UserEvent(channelKey, payload, false)
}

func (s *serfs) close() error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.Shutdown())
		<-m.ShutdownCh()
	}
	close(s.stop)
	s.wg.Wait()
	return errors.Join(errs...)
}
