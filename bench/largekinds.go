package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/memberlist"
	alertmanager "github.com/prometheus/alertmanager/cluster"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

// largeKinds is whom large payloads are measured with. Each starts n members, of which all but the first give to take what they get, and
// returns how the first sends to all, and how they end.
var largeKinds = map[string]func(ctx context.Context, n int, take func([]byte)) (send func([]byte) error, end func() error, err error){
	"starling":     largeStarling,
	"in turn":      largeInTurn,
	"alertmanager": largeAlertmanager,
}

func largeStarling(ctx context.Context, n int, take func([]byte)) (func([]byte) error, func() error, error) {
	all := &cluster{}
	for i := range n {
		c, err := starling.New(starling.Config{
			Name: fmt.Sprintf("starling-%d", i), BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, all.close, err
		}
		all.members = append(all.members, c)
		ch, err := starling.NewChannelOf(c, channelKey, func(_ context.Context, m starling.Message[[]byte]) {
			take(m.Value)
		}, starling.Bytes(), nil)
		if err != nil {
			return nil, all.close, err
		}
		all.channels = append(all.channels, ch)
	}
	send := func(b []byte) error { return all.broadcast(ctx, 0, b) }
	return send, all.close, all.join(ctx, nil)
}

// largeInTurn is memberlist's SendReliable to each of the others, one after the other, over memberlist's own transport.
func largeInTurn(ctx context.Context, n int, take func([]byte)) (func([]byte) error, func() error, error) {
	var members []*memberlist.Memberlist
	end := func() error { return shutDown(members) }
	for i := range n {
		m, err := memberlist.Create(plainConfig(fmt.Sprintf("plain-%d", i), nil, take))
		if err != nil {
			return nil, end, err
		}
		members = append(members, m)
		if _, err := m.Join([]string{members[0].LocalNode().Address()}); err != nil {
			return nil, end, err
		}
	}
	for _, m := range members {
		if err := complete(ctx, m, members[0].LocalNode().Address(), n); err != nil {
			return nil, end, err
		}
	}
	send := func(b []byte) error {
		for _, m := range members[0].Members() {
			if m.Name == members[0].LocalNode().Name {
				continue
			}
			if err := members[0].SendReliable(m, b); err != nil {
				return err
			}
		}
		return nil
	}
	return send, end, nil
}

// received is a state of Alertmanager's that only takes what is broadcast.
type received func([]byte)

func (r received) MarshalBinary() ([]byte, error) { return nil, nil }
func (r received) Merge(b []byte) error           { r(b); return nil }

// largeAlertmanager is Alertmanager's cluster package, as its own program configures it for a LAN. It has no way to close its sockets: they end
// with the process.
func largeAlertmanager(ctx context.Context, n int, take func([]byte)) (func([]byte) error, func() error, error) {
	var peers []*alertmanager.Peer
	var first alertmanager.ClusterChannel
	end := func() error { return nil }
	var known []string
	for i := range n {
		reg := prometheus.NewRegistry()
		p, err := alertmanager.Create(slog.New(slog.DiscardHandler), reg, "127.0.0.1:0", "", known, false,
			alertmanager.DefaultPushPullInterval, alertmanager.DefaultGossipInterval, alertmanager.DefaultTCPTimeout, alertmanager.DefaultResolvePeersTimeout,
			alertmanager.DefaultProbeTimeout, alertmanager.DefaultProbeInterval, nil, false, "", fmt.Sprintf("alertmanager-%d", i))
		if err != nil {
			return nil, end, err
		}
		peers = append(peers, p)
		state := received(func([]byte) {})
		if i > 0 {
			state = take
		}
		ch := p.AddState(channelKey, state, reg)
		if i == 0 {
			first, known = ch, []string{p.Self().Address()}
		}
		if err := p.Join(alertmanager.DefaultReconnectInterval, alertmanager.DefaultReconnectTimeout); err != nil {
			return nil, end, err
		}
	}
	for _, p := range peers {
		if err := await(ctx, func() bool { return p.ClusterSize() == n }); err != nil {
			return nil, end, fmt.Errorf("a peer sees %d of %d: %w", p.ClusterSize(), n, err)
		}
	}
	send := func(b []byte) error { first.Broadcast(b); return nil }
	return send, end, nil
}
