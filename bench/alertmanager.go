package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"

	alertmanager "github.com/prometheus/alertmanager/cluster"
	"github.com/prometheus/client_golang/prometheus"
)

// alertmanagerPeers is Alertmanager's cluster package, as its own program configures it for a LAN, with a state that passes on what was new
// to it, as its silences do.
type alertmanagerPeers struct {
	states []*silences
}

// silences is the state of one peer.
type silences struct {
	member int
	ledger *ledger
	ch     alertmanager.ClusterChannel

	mu   sync.Mutex
	seen map[[2]uint32]bool // by origin and number
}

func (s *silences) MarshalBinary() ([]byte, error) { return nil, nil }

func (s *silences) Merge(b []byte) error {
	if len(b) == 0 {
		return nil // of a push/pull
	}
	s.ledger.deliver(s.member, b)
	if alertmanager.OversizedMessage(b) || len(b) < stampSize {
		return nil
	}
	if s.isNew(b) {
		s.ch.Broadcast(b)
	}
	return nil
}

// isNew reports whether a message was not seen before, and notes that it was.
func (s *silences) isNew(b []byte) bool {
	id := [2]uint32{binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.seen[id]
	s.seen[id] = true
	return !known
}

func startAlertmanager(ctx context.Context, o load, l *ledger) (system, error) {
	s := &alertmanagerPeers{}
	var peers []*alertmanager.Peer
	var known []string
	for i := range o.members {
		reg := prometheus.NewRegistry()
		p, err := alertmanager.Create(slog.New(slog.DiscardHandler), reg, "127.0.0.1:0", "", known, false,
			alertmanager.DefaultPushPullInterval, alertmanager.DefaultGossipInterval, alertmanager.DefaultTCPTimeout, alertmanager.DefaultResolvePeersTimeout,
			alertmanager.DefaultProbeTimeout, alertmanager.DefaultProbeInterval, nil, false, "", fmt.Sprintf("alertmanager-%d", i))
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
		state := &silences{member: i, ledger: l, seen: map[[2]uint32]bool{}}
		state.ch = p.AddState(channelKey, state, reg)
		s.states = append(s.states, state)
		known = append(known, p.Self().Address())
		if err := p.Join(alertmanager.DefaultReconnectInterval, alertmanager.DefaultReconnectTimeout); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	for _, p := range peers {
		if err := await(ctx, func() bool { return p.ClusterSize() == o.members }); err != nil {
			return nil, fmt.Errorf("a peer sees %d of %d: %w", p.ClusterSize(), o.members, err)
		}
	}
	return s, nil
}

// broadcast marks as seen what the origin sends: it would pass it on again when it came back.
func (s *alertmanagerPeers) broadcast(_ context.Context, from int, payload []byte) error {
	own, b := s.states[from], append([]byte(nil), payload...)
	if !alertmanager.OversizedMessage(b) {
		own.isNew(b)
	}
	own.ch.Broadcast(b)
	return nil
}

// close does nothing: the package has no way to close its sockets. They end with the process.
func (s *alertmanagerPeers) close() error { return nil }
