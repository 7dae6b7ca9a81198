package starling_test

import (
	"testing"
	"time"
)

// Packets do not pass between some members, as behind a firewall that knows TCP only; streams do.
func TestBlockedPackets(t *testing.T) {
	t.Parallel()
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
	must(l.t, l.Net.SetLink(l.nodes[from].name, l.nodes[to].name, k))
}

// A newcomer that packets do not reach, or whose packets reach nobody, is given the state all the same.
func TestSnapshotWithoutPackets(t *testing.T) {
	for _, members := range []int{1, 4} {
		for _, way := range []string{"to", "from", "both"} {
			inLab(t, func(t *testing.T, l *lab) {
				s := newStates()
				nodes := append([]*node(nil), l.members(members, s.open(t))...)
				s.registers[nodes[0]].set(t, "key", "value")
				time.Sleep(2 * time.Minute) // beyond the retention: nothing but the snapshot can bring it
				late := l.member("late", s.open(t))
				k := labLink
				k.BlockPackets = true
				for _, n := range nodes {
					if way != "from" {
						must(t, l.Net.SetLink(n.name, "late", k))
					}
					if way != "to" {
						must(t, l.Net.SetLink("late", n.name, k))
					}
				}
				l.join(late, nodes[0])
				if _, ok := within(30*time.Second, func() bool { return s.equal(1, 0, append(nodes, late)...) }); !ok {
					t.Errorf("%d members, packets blocked %s the newcomer: it has %v", members, way, s.registers[late].copy())
				}
			})
		}
	}
}
