package starling_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// steady lets members broadcast, each every interval and always the same message, until the returned function is called.
func (l *lab) steady(every time.Duration, nodes ...*node) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	_, b := l.payload(nodes[0], 200)
	go func() {
		defer close(done)
		for tick := time.NewTicker(every); ; {
			select {
			case <-tick.C:
				for _, n := range nodes {
					n.ch.TryBroadcast(b)
				}
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// Members join while others broadcast over a rough network: they owe nothing older, and nobody reports a gap.
func TestNoFalseGapAtJoin(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprintf("fifo=%v", fifo), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.options = &starling.ChannelOptions[[]byte]{FIFO: fifo}
				nodes := append([]*node(nil), l.members(5)...)
				l.links(rough)
				stop := l.steady(150*time.Millisecond, nodes...)
				time.Sleep(70 * time.Second)
				for range 5 {
					l.join(l.member(fmt.Sprint("late", len(l.nodes))), nodes[1])
					time.Sleep(700 * time.Millisecond)
				}
				time.Sleep(20 * time.Second)
				stop()
				time.Sleep(3 * time.Minute)
				l.noGaps(l.nodes...)
			})
		})
	}
}

// A member that was alone, and busy, for longer than the retention owes to whom it meets what it keeps, not what it kept.
func TestNoFalseGapAfterBeingAlone(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		lone := l.member("lone")
		stop := l.steady(20*time.Millisecond, lone)
		time.Sleep(70 * time.Second)
		for i := range 3 {
			l.join(l.member(fmt.Sprint("m", i)), lone)
			time.Sleep(3 * time.Second)
		}
		stop()
		time.Sleep(3 * time.Minute)
		l.noGaps(l.nodes...)
	})
}

// Members leave or crash, and restart under their names, while all broadcast.
func TestNoFalseGapAtRestart(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := append([]*node(nil), l.members(8)...)
		l.links(rough)
		steady, restarted := nodes[:6], nodes[6:]
		stop := l.steady(50*time.Millisecond, steady...)
		time.Sleep(5 * time.Second)
		for range 3 {
			for i, n := range restarted {
				if i == 0 {
					l.gone(n)
					_ = n.Leave(context.Background()) // memberlist's part of it may time out on this network
				} else {
					l.crash(n)
				}
				time.Sleep(time.Second)
				restarted[i] = l.member(n.name)
				l.join(restarted[i], nodes[0])
			}
			time.Sleep(3 * time.Second)
		}
		stop()
		time.Sleep(3 * time.Minute)
		l.noGaps(l.nodes...)
	})
}

// Two clusters that never met become one: nobody owes the others what is older.
func TestNoFalseGapAtMerge(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		for i := range 8 {
			n := l.member(fmt.Sprint("m", i))
			if i != 0 && i != 4 {
				l.join(n, l.nodes[i/4*4])
			}
		}
		l.whole(l.nodes[:4]...)
		l.whole(l.nodes[4:]...)
		l.links(rough)
		stop := l.steady(100*time.Millisecond, l.nodes...)
		time.Sleep(70 * time.Second)
		l.join(l.nodes[5], l.nodes[2])
		t.Logf("whole after %v", l.whole(l.nodes...))
		time.Sleep(10 * time.Second)
		stop()
		fresh := l.send(l.nodes[0], 200)
		l.delivered(5*time.Second, []uint64{fresh}, l.nodes[0], l.nodes...)
		time.Sleep(3 * time.Minute)
		l.noGaps(l.nodes...)
	})
}
