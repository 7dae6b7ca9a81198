package starling_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// A handler that is slow, and one that stops, hold up nothing but their own channel on their own member.
func TestSlowHandlerUnderLoad(t *testing.T) {
	t.Parallel()
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

// beats is what a member's handler was given on a channel beside the slow one.
type beats struct{ count, oldest atomic.Int64 }

// age returns the greatest age that a message had when it was handled.
func (b *beats) age() time.Duration { return time.Duration(b.oldest.Load()) }

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
				b.oldest.Store(max(b.oldest.Load(), int64(m.Age)))
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
			if b.count.Load() != rounds || b.age() > 2*time.Second {
				t.Errorf("%s heard %d of %d beats, the latest after %v", n.name, b.count.Load(), rounds, b.age())
			}
		}
		t.Logf("the slow one handled its other channel within %v, m5 within %v", heard[slow.name].age(), heard["m5"].age())
		time.Sleep(2 * time.Minute)
		l.once(nodes...)
		l.inOrder(slow)
	})
}
