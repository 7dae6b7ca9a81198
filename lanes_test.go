package starling_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// fills is the size of a message that fills the stream to a member that does not read.
const fills = 1 << 20

// post sends a message to one member for a minute at most, and yields what Send returns.
func (l *lab) post(from, to *node, size int) chan error {
	_, b := l.payload(from, size)
	sent := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
		defer cancel()
		sent <- from.ch.Send(ctx, to.name, b)
	}()
	return sent
}

// TestHungMembersHoldUpNobody: while 32 of 60 members hang, large messages between two others take as long as ever.
func TestHungMembersHoldUpNobody(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(l *lab, from, to *node){
		"they never read":      func(l *lab, _, to *node) { l.Must(l.Net.Freeze(to.name)) },
		"they answer no dials": func(l *lab, from, to *node) { l.Must(l.Net.Block(from.name, to.name)) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := l.members(60)
				from, healthy, hung := nodes[0], nodes[1:28], nodes[28:]
				for _, n := range hung {
					hang(l, from, n)
					l.post(from, n, fills)
				}
				time.Sleep(500 * time.Millisecond) // all their streams are under way before there is another
				var worst time.Duration
				for _, n := range healthy {
					began := time.Now()
					l.Must(<-l.post(from, n, fills))
					worst = max(worst, time.Since(began))
				}
				t.Logf("the slowest large message took %v", worst)
				if worst > 50*time.Millisecond {
					t.Errorf("members that hang held up a large message for %v", worst)
				}
			})
		})
	}
}

// TestSlowLink: a large message over a slow link arrives although it takes longer than the time-out of a stream, and a small one,
// which has to go by stream, too, does not wait for it.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(4)
		slow := labLink
		slow.Bandwidth, slow.BlockPackets = 400_000, true
		l.Must(l.Net.SetLink("m0", "m1", slow))
		began := time.Now()
		large := l.post(nodes[0], nodes[1], 8<<20)
		time.Sleep(2 * time.Second)
		l.Must(<-l.post(nodes[0], nodes[1], 100))
		// Its first two tries are lost packets. Before the third one's stream the link has 256 KiB to carry that are in the
		// large one's buffer.
		if took := time.Since(began) - 2*time.Second; took > 1500*time.Millisecond {
			t.Errorf("a small message waited %v for a large one", took)
		}
		l.Must(<-large)
		if took := time.Since(began); took < 15*time.Second || took > 30*time.Second {
			t.Errorf("the large message took %v", took)
		}
		l.once(nodes...)
	})
}

// TestGoneMembersStreamsEnd: when a member is gone, so are the streams to it, those that wait for their dial, too, although their
// time-out is far away.
func TestGoneMembersStreamsEnd(t *testing.T) {
	for name, hang := range map[string]func(l *lab, n *node){
		"it never reads":     func(l *lab, n *node) { l.Must(l.Net.Freeze(n.name)) },
		"it answers no dial": func(l *lab, n *node) { l.Must(l.Net.Partition([]string{n.name}, []string{"m0", "m1", "m2", "m3"})) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.configure = func(c *starling.Config) {
					c.Tune = func(m *memberlist.Config) { m.TCPTimeout = time.Hour }
				}
				nodes := l.members(5)
				hang(l, nodes[4])
				sent := l.post(nodes[0], nodes[4], fills)
				time.Sleep(500 * time.Millisecond)
				if !streaming() {
					t.Error("no stream is under way")
				}
				l.whole(nodes[:4]...)
				if err := <-sent; err == nil {
					t.Error("a message for a member that is gone was sent")
				}
				if _, ok := within(100*time.Millisecond, func() bool { return !streaming() }); !ok {
					t.Error("the stream to a member that is gone is still under way")
				}
			})
		})
	}
}

// streaming reports whether a goroutine sends a stream of ours.
func streaming() bool { return strings.Contains(ourGoroutines(), ".sendStreams(") }
