package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/hashicorp/memberlist"
)

// tutorial is memberlist as tutorials use it: a TransmitLimitedQueue that the delegate drains, and nobody who passes on what it has heard.
type tutorial struct {
	members []*memberlist.Memberlist
	queues  []*memberlist.TransmitLimitedQueue
}

// tutorialDelegate hears for one member.
type tutorialDelegate struct {
	plain
	queue *memberlist.TransmitLimitedQueue
}

func (d tutorialDelegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// queued is a broadcast that no other replaces.
type queued []byte

func (queued) Invalidates(memberlist.Broadcast) bool { return false }
func (q queued) Message() []byte                     { return q }
func (queued) Finished()                             {}

func startTutorial(ctx context.Context, o load, l *ledger) (_ system, err error) {
	s := &tutorial{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for i := range o.members {
		c := memberlist.DefaultLANConfig()
		c.Name, c.BindAddr, c.BindPort = fmt.Sprintf("tutorial-%d", i), "127.0.0.1", 0
		c.Logger = log.New(io.Discard, "", 0)
		q := &memberlist.TransmitLimitedQueue{RetransmitMult: 3, NumNodes: func() int { return o.members }}
		c.Delegate = tutorialDelegate{plain{func(b []byte) { l.deliver(i, b) }}, q}
		m, err := memberlist.Create(c)
		if err != nil {
			return nil, err
		}
		s.members, s.queues = append(s.members, m), append(s.queues, q)
	}
	return s, meet(ctx, s.members)
}

func (s *tutorial) broadcast(_ context.Context, from int, payload []byte) error {
	s.queues[from].QueueBroadcast(append(queued(nil), payload...))
	return nil
}

func (s *tutorial) close() error { return shutDown(s.members) }

// inTurn is memberlist's SendReliable to each of the others, one after the other, over memberlist's own transport.
type inTurn struct{ members []*memberlist.Memberlist }

func startInTurn(ctx context.Context, o load, l *ledger) (_ system, err error) {
	s := &inTurn{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for i := range o.members {
		m, err := memberlist.Create(plainConfig(fmt.Sprintf("plain-%d", i), nil, func(b []byte) { l.deliver(i, b) }))
		if err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
	}
	return s, meet(ctx, s.members)
}

func (s *inTurn) broadcast(_ context.Context, from int, payload []byte) error {
	for _, m := range s.members[from].Members() {
		if m.Name == s.members[from].LocalNode().Name {
			continue
		}
		if err := s.members[from].SendReliable(m, payload); err != nil {
			return err
		}
	}
	return nil
}

func (s *inTurn) close() error { return shutDown(s.members) }
