package starling_test

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// TestStatsDiffering: while a cut lasts nobody counts as different whom one does not see; when it has healed both sides find that they
// differ, and then that they do not.
func TestStatsDiffering(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		registers := map[*node]*register{}
		nodes := l.members(4, func(n *node) { registers[n] = openRegister(t, n) })
		differing := func() (most int) {
			for _, n := range nodes {
				most = max(most, n.Stats().Channels["register"].Differing)
			}
			return most
		}
		must(t, l.Net.Partition(nodeNames(nodes[:2]), nodeNames(nodes[2:])))
		time.Sleep(30 * time.Second)
		registers[nodes[0]].set(t, "a", "left")
		registers[nodes[2]].set(t, "b", "right")
		time.Sleep(2 * starling.DefaultRetentionAge)
		if n := differing(); n != 0 {
			t.Errorf("while it is cut, %d members differ", n)
		}
		l.Net.Heal()
		if _, ok := within(2*time.Minute, func() bool { return differing() > 0 }); !ok {
			t.Error("nobody differs after the cut")
		}
		if took, ok := within(2*time.Minute, func() bool { return differing() == 0 && len(registers[nodes[0]].copy()) == 2 }); !ok {
			t.Errorf("after %v still %d members differ", took, differing())
		}
	})
}

// TestStatsOfChannel: what is dropped on a channel is counted there, by the shell and by the replica, and a handler that runs is seen.
func TestStatsOfChannel(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		release := make(chan struct{})
		open := map[*node]*starling.Channel[[]byte]{}
		nodes := l.members(2, func(n *node) {
			handle := func(context.Context, starling.Message[[]byte]) { <-release }
			var err error
			open[n], err = starling.NewChannelOf(n.Cluster, "slow", handle, starling.Bytes(),
				&starling.ChannelOptions[[]byte]{Inbox: starling.Inbox{Messages: 1}})
			must(t, err)
		})
		of := func() starling.ChannelStats { return nodes[1].Stats().Channels["slow"] }
		if s := of(); s.Running != 0 || s.Dropped != nil {
			t.Errorf("before anything came: %+v", s)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		for range 4 { // one runs, one waits; the others are refused, and tried again until the context ends
			go open[nodes[0]].Send(ctx, nodes[1].name, []byte("x"))
		}
		time.Sleep(8 * time.Second)
		if s := of(); s.Running < 7*time.Second || s.HandlerTime != 0 || s.Dropped[starling.DropInboxFull] == 0 || len(s.Dropped) != 1 {
			t.Errorf("while the handler runs: %+v", s)
		}
		close(release)
		time.Sleep(5 * time.Second)
		if s := of(); s.Running != 0 || s.HandlerTime < 7*time.Second || s.Delivered == 0 {
			t.Errorf("after it: %+v", s)
		}
	})
}
