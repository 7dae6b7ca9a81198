package starling_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

func TestBroadcastBurstOfOne(t *testing.T) { broadcastBurst(t, 1, fewer(5000, 500)) }
func TestBroadcastBurstOfAll(t *testing.T) { broadcastBurst(t, 10, fewer(500, 50)) }

// broadcastBurst lets the first members of ten broadcast as fast as Broadcast accepts, over a rough network. Everybody gets every
// message once and in order.
func broadcastBurst(t *testing.T, origins, count int) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		l.options = &starling.ChannelOptions[[]byte]{FIFO: true}
		nodes := l.members(10)
		l.links(rough)
		start := time.Now()
		ids := make([][]uint64, origins)
		var bursts sync.WaitGroup
		for o := range origins {
			var msgs [][]byte
			for i := range count {
				id, b := l.payload(nodes[o], mixed(i))
				ids[o], msgs = append(ids[o], id), append(msgs, b)
			}
			bursts.Go(func() {
				for _, b := range msgs {
					if err := nodes[o].ch.Broadcast(t.Context(), b); err != nil {
						t.Error(err)
					}
				}
			})
		}
		bursts.Wait()
		accepted := time.Since(start)
		for o := range origins {
			l.delivered(2*time.Minute, ids[o], nodes[o], nodes...)
		}
		t.Logf("%d x %d messages: accepted after %v, with all after %v", origins, count, accepted, time.Since(start))
		time.Sleep(2 * time.Minute) // what is lost for good is told by then
		l.once(nodes...)
		l.inOrder(nodes...)
	})
}

// A large message waits for room beside many callers with small ones. Each of them is served in the order of the calls: before, the
// large one found too little room every time, as long as the small ones came, for all were woken and the smallest won.
func TestBroadcastServesInOrder(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) { c.Queue = starling.Queue{Messages: 4096, Bytes: 64 << 10} }
		nodes := l.members(2)
		l.links(starlingtest.Link{Latency: 20 * time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		var small sync.WaitGroup
		for range 120 {
			_, b := l.payload(nodes[0], 600)
			small.Go(func() {
				for nodes[0].ch.Broadcast(ctx, b) == nil {
				}
			})
		}
		time.Sleep(time.Second)
		if err := nodes[0].ch.TryBroadcast(make([]byte, 600)); !errors.Is(err, starling.ErrQueueFull) {
			t.Errorf("TryBroadcast while others wait: %v", err)
		}
		start := time.Now()
		soon, done := context.WithTimeout(t.Context(), 10*time.Second)
		defer done()
		err := nodes[0].ch.Broadcast(soon, make([]byte, 60<<10))
		t.Logf("60 KiB beside 120 callers of 600 bytes: %v after %v", err, time.Since(start))
		if err != nil {
			t.Error(err)
		}
		cancel()
		small.Wait()
		if n := starling.Waiting(nodes[0].Cluster, nodes[0].ch); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}
