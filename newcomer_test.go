package starling_test

import (
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// TestNewcomerAsksAgain: a newcomer whom no packet tells of those who join soon after it asks its seed again, one second and
// four after its own join, and does not wait for the next push/pull.
func TestNewcomerAsksAgain(t *testing.T) {
	for later, within := range map[time.Duration]time.Duration{
		500 * time.Millisecond: 600 * time.Millisecond,
		2 * time.Second:        2100 * time.Millisecond,
	} {
		inLab(t, func(t *testing.T, l *lab) {
			k := labLink
			k.BlockPackets = true
			l.links(k)
			l.configure = func(c *starling.Config) {
				c.Tune = func(m *memberlist.Config) { m.PushPullInterval, m.ProbeInterval = 0, time.Hour }
			}
			seed, first, second := l.member("seed"), l.member("first"), l.member("second")
			k.RefuseStreams = true // the first must ask by itself
			must(t, l.net.SetLink("second", "first", k))
			l.join(first, seed)
			time.Sleep(later)
			l.join(second, seed)
			if n := len(first.Members()); n != 2 {
				t.Fatalf("packets are blocked, and %d members are known", n)
			}
			if took := l.whole(seed, first, second); took > within {
				t.Errorf("who joined %v later was known after %v", later, took)
			}
		})
	}
}
