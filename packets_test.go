package starling_test

import (
	"testing"
	"time"
)

// Packets do not pass between some members, as behind a firewall that knows TCP only; streams do.
func TestBlockedPackets(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit time.Duration
		block func(l *lab)
	}{
		{"between two", 5 * time.Second, func(l *lab) { l.blockPackets(1, 2); l.blockPackets(2, 1) }},
		{"from one to all", 5 * time.Second, func(l *lab) {
			for i := range 9 {
				l.blockPackets(9, i)
			}
		}},
		{"from all to one", 5 * time.Second, func(l *lab) {
			for i := range 9 {
				l.blockPackets(i, 9)
			}
		}},
		{"one and all", 5 * time.Second, func(l *lab) {
			for i := range 9 {
				l.blockPackets(i, 9)
				l.blockPackets(9, i)
			}
		}},
		{"everybody", 10 * time.Second, func(l *lab) {
			for i := range 10 {
				for j := range 10 {
					if i != j {
						l.blockPackets(i, j)
					}
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := l.members(10)
				test.block(l)
				time.Sleep(15 * time.Second)
				if took := l.whole(nodes...); took > 0 {
					t.Errorf("the membership was not whole for %v", took)
				}
				worst := time.Duration(0)
				for _, origin := range []*node{nodes[9], nodes[1], nodes[5]} {
					for _, size := range []int{200, 3000} {
						worst = max(worst, l.delivered(test.limit, l.sendMany(origin, 10, size), origin, nodes...))
						time.Sleep(10 * time.Second) // so that each burst begins from silence
					}
				}
				t.Logf("all delivered within %v", worst)
				time.Sleep(2 * time.Minute)
				l.once(nodes...)
			})
		})
	}
}

func (l *lab) blockPackets(from, to int) {
	l.t.Helper()
	k := labLink
	k.BlockPackets = true
	must(l.t, l.net.SetLink(l.nodes[from].name, l.nodes[to].name, k))
}
