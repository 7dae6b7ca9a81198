package starling_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// Everything that may happen to a large message on its way: everyone who lives gets everything once. Two members broadcast.
func TestLargeSurvives(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		trouble func(l *bulk, dice *rand.Rand) (living []*node)
	}{
		{"streams cut in the middle", cutThrough},
		{"streams cut after 40 kB", func(l *bulk, _ *rand.Rand) []*node {
			link := labLink
			link.CutAfter = 40_000 // less than one chunk, so that nothing large passes for a while
			l.links(link)
			time.Sleep(2 * time.Second)
			l.links(labLink)
			return l.nodes
		}},
		{"dials refused", refuseSome},
		{"a relay crashes", crashRelay},
		{"a partition", func(l *bulk, _ *rand.Rand) []*node {
			time.Sleep(300 * time.Millisecond)
			names := nodeNames(l.nodes)
			l.Must(l.Net.Partition(names[:4], names[4:]))
			time.Sleep(10 * time.Second)
			l.Net.Heal()
			l.whole(l.nodes...)
			return l.nodes
		}},
		{"a loss of 5 %", func(l *bulk, _ *rand.Rand) []*node {
			link := labLink
			link.Loss = 0.05
			l.links(link)
			return l.nodes
		}},
	}[:fewer(6, 1)] {
		t.Run(test.name, func(t *testing.T) {
			inBulk(t, 10, nil, func(t *testing.T, l *bulk, nodes []*node) {
				l.rates(fast)
				var numbers []int
				for range fewer(2, 1) {
					numbers = append(numbers, l.push(nodes[0], fewer(2, 1)*mib), l.push(nodes[1], fewer(2, 1)*mib))
				}
				living := test.trouble(l, rand.New(rand.NewPCG(l.Net.Seed(), 1)))
				calm := time.Now()
				for i, number := range numbers {
					l.reached(time.Minute, number, allBut(living, nodes[i%2])...)
				}
				t.Logf("everything everywhere %v after the trouble", time.Since(calm))
				time.Sleep(20 * time.Second)
				for i, number := range numbers {
					l.exact([]int{number}, allBut(living, nodes[i%2])...)
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := l.channels["m0"].Confirm(ctx, l.next(4*mib), &starling.ConfirmOptions{Handled: true}); err != nil {
					t.Errorf("Confirm afterwards: %v", err)
				}
			})
		})
	}
}

// next is message for those who do not need its number.
func (l *bulk) next(size int) []byte {
	_, b := l.message(size)
	return b
}

// cutThrough cuts the streams of every other pair, chosen anew every 100 ms, for a second.
func cutThrough(l *bulk, dice *rand.Rand) []*node {
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		for i, a := range l.nodes {
			for _, b := range l.nodes[:i] {
				if dice.IntN(2) == 0 {
					l.Must(l.Net.CutStreams(a.name, b.name))
				}
			}
		}
	}
	return l.nodes
}

// refuseSome has one dial in twenty refused: one direction in twenty at a time, chosen anew every 20 ms.
func refuseSome(l *bulk, dice *rand.Rand) []*node {
	refusing := labLink
	refusing.RefuseStreams = true
	for range 200 {
		for _, a := range l.nodes {
			for _, b := range l.nodes {
				link := labLink
				if dice.IntN(20) == 0 {
					link = refusing
				}
				if a != b {
					l.Must(l.Net.SetLink(a.name, b.name, link))
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, a := range l.nodes {
		for _, b := range allBut(l.nodes, a) {
			l.Must(l.Net.SetLink(a.name, b.name, labLink))
		}
	}
	return l.nodes
}

// crashRelay crashes the member that has passed on most, of those that broadcast nothing, while it does.
func crashRelay(l *bulk, _ *rand.Rand) []*node {
	before := map[string]int{}
	for _, n := range l.nodes {
		before[n.name] = l.wire(n.name)
	}
	time.Sleep(200 * time.Millisecond)
	relay := l.nodes[2]
	passed := func(n *node) int { return l.wire(n.name) - before[n.name] }
	for _, n := range l.nodes[2:] {
		if passed(n) > passed(relay) {
			relay = n
		}
	}
	l.t.Logf("%s crashes; it has passed on %d bytes", relay.name, passed(relay))
	l.crash(relay)
	return l.nodes
}
