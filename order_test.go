package starling_test

import (
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// The first messages of every origin, at a loss at which the question for its baseline often gets lost too: order must
// not cost a message.
func TestOrderFromTheFirstMessageOn(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.options = &starling.ChannelOptions[[]byte]{FIFO: true}
		nodes := l.members(10)
		lossy := rough
		lossy.Loss = 0.3
		l.links(lossy)
		start := time.Now()
		ids := make([][]uint64, len(nodes))
		for i := range 200 {
			for o, n := range nodes {
				ids[o] = append(ids[o], l.send(n, mixed(i)))
			}
		}
		for o, n := range nodes {
			l.delivered(30*time.Second, ids[o], n, nodes...)
		}
		t.Logf("all delivered after %v", time.Since(start))
		l.once(nodes...)
		for _, n := range nodes {
			if n.unsorted > 0 {
				t.Errorf("%s: %d messages out of order", n.name, n.unsorted)
			}
		}
	})
}
