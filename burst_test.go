package starling_test

import (
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// rough is a network that does everything to a packet that a network may do.
var rough = starlingtest.Link{
	Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05,
}

// mixed is the size of the i-th message of a burst: one in fifty does not fit a packet.
func mixed(i int) int {
	if i%50 == 49 {
		return 3000
	}
	return 200
}

func TestBurstOfOneMember(t *testing.T)  { burst(t, 1, 5000) }
func TestBurstOfAllMembers(t *testing.T) { burst(t, 10, 500) }

// burst lets the first members of ten broadcast as fast as they may over a rough network.
func burst(t *testing.T, origins, count int) {
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
				id, b := l.payload(mixed(i))
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
		for _, n := range nodes {
			if n.unsorted > 0 {
				t.Errorf("%s: %d messages out of order", n.name, n.unsorted)
			}
		}
	})
}
