package starling_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// A handler that is slow, and one that stops, hold up nothing but their channel on their member.
func TestHandlerUnderLoad(t *testing.T) {
	for _, test := range []struct {
		name string
		busy func() func()
	}{
		{"takes 1 ms", func() func() { return func() { time.Sleep(time.Millisecond) } }},
		{"stops for 10 s", func() func() {
			var calls atomic.Int64
			return func() {
				if calls.Add(1) == 100 {
					time.Sleep(10 * time.Second)
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) { slowHandler(t, test.busy()) })
	}
}

// beats is what a member heard on a channel beside the slow one.
type beats struct{ count, worst atomic.Int64 } // worst: the greatest age of one when it was handled

func (b *beats) latest() time.Duration { return time.Duration(b.worst.Load()) }

func slowHandler(t *testing.T, busy func()) {
	const rounds = 50
	inLab(t, func(t *testing.T, l *lab) {
		l.options = &starling.ChannelOptions[[]byte]{FIFO: true}
		var beat *starling.Channel[[]byte]
		heard := map[string]*beats{}
		nodes := l.members(10, func(n *node) {
			b := new(beats)
			heard[n.name] = b
			ch, err := starling.NewChannelOf(n.Cluster, "beat", func(_ context.Context, m starling.Message[[]byte]) {
				b.count.Add(1)
				b.worst.Store(max(b.worst.Load(), int64(m.Age)))
			}, starling.Bytes(), nil)
			must(t, err)
			if beat == nil {
				beat = ch
			}
		})
		slow, rest := nodes[1], append([]*node{nodes[0]}, nodes[2:]...)
		slow.setBusy(busy)
		start := time.Now()
		var ids []uint64
		for range rounds { // 2,000 messages in 5 s
			must(t, beat.Broadcast(t.Context(), []byte("beat")))
			ids = append(ids, l.sendMany(nodes[0], 2000/rounds, 200)...)
			time.Sleep(100 * time.Millisecond)
		}
		l.delivered(10*time.Second, ids, nodes[0], rest...)
		t.Logf("the others have all after %v", time.Since(start))
		l.delivered(30*time.Second, ids, nodes[0], slow)
		t.Logf("the slow one has all after %v", time.Since(start))
		for _, n := range nodes[1:] {
			b := heard[n.name]
			if b.count.Load() != rounds || b.latest() > 2*time.Second {
				t.Errorf("%s heard %d of %d beats, the latest after %v", n.name, b.count.Load(), rounds, b.latest())
			}
		}
		t.Logf("the slow one handled its other channel within %v, another one within %v", heard[slow.name].latest(), heard["m5"].latest())
		time.Sleep(2 * time.Minute)
		l.once(nodes...)
		if slow.unsorted > 0 {
			t.Errorf("%d messages out of order", slow.unsorted)
		}
	})
}
