package interop

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

// member is a Starling member whose states are Alertmanager's own.
type member struct {
	*memory
	*starling.Cluster
}

// newCluster makes a member without states. Nothing happens by itself but gossip, as with startAlertmanager.
func newCluster(tb testing.TB, name string, o options) *starling.Cluster {
	tb.Helper()
	c, err := starling.New(starling.Config{
		Name: name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal, Label: o.label, Logger: slog.New(slog.DiscardHandler),
		Tune: func(c *memberlist.Config) {
			c.PushPullInterval, c.ProbeInterval = o.pushPull, patience
			c.TCPTimeout = patience
		},
	})
	must(tb, err)
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return c
}

func startMember(tb testing.TB, name string, o options) *member {
	tb.Helper()
	b := &member{newMemory(tb, prometheus.NewRegistry()), newCluster(tb, name, o)}
	sil, err := starling.NewState(b.Cluster, silencesKey, b.silences)
	must(tb, err)
	nfl, err := starling.NewState(b.Cluster, logKey, b.log)
	must(tb, err)
	if !o.mute {
		b.silences.SetBroadcast(broadcast(tb, sil))
		b.log.SetBroadcast(broadcast(tb, nfl))
	}
	return b
}

// broadcast is a StateChannel's Broadcast in the shape that Alertmanager's states call.
func broadcast(tb testing.TB, sc *starling.StateChannel) func([]byte) {
	return func(data []byte) {
		if err := sc.Broadcast(data); err != nil && !errors.Is(err, starling.ErrClosed) {
			tb.Errorf("Broadcast: %v", err)
		}
	}
}

// addr is where others reach c.
func addr(c *starling.Cluster) string { return c.Self().Addr.String() }

// dial joins c to a member.
func dial(tb testing.TB, c *starling.Cluster, seed string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	must(tb, c.Join(ctx, seed))
}

// sees returns the names of c's members.
func sees(c *starling.Cluster) []string {
	var names []string
	for _, m := range c.Members() {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// together waits until each sees all.
func together(tb testing.TB, a *alertmanager, members ...*starling.Cluster) {
	tb.Helper()
	want := []string{a.peer.Name()}
	for _, b := range members {
		want = append(want, b.Self().Name)
	}
	slices.Sort(want)
	eventually(tb, "Alertmanager sees all", func() bool { return slices.Equal(a.sees(), want) })
	for _, b := range members {
		eventually(tb, b.Self().Name+" sees all", func() bool { return slices.Equal(sees(b), want) })
	}
}

// pair is a Starling member and an Alertmanager that has joined it. After a Join of its own Starling exchanges states once
// more, when it has settled; so with no pushPull here nothing but updates passes from now on.
func pair(tb testing.TB, o options) (*alertmanager, *member) {
	tb.Helper()
	b := startMember(tb, "starling", o)
	a := startAlertmanager(tb, o, addr(b.Cluster))
	a.join(tb)
	together(tb, a, b.Cluster)
	return a, b
}
