package starling_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
)

// beyond is longer than the retention of a lab's members.
const beyond = 2 * time.Minute

// registersEqual reports whether the members' registers are equal, with so many entries.
func (s *states) registersEqual(entries int, nodes ...*node) bool {
	r := s.registers[nodes[0]].copy()
	return len(r) == entries && !slices.ContainsFunc(nodes, func(n *node) bool { return !maps.Equal(r, s.registers[n].copy()) })
}

// converges waits until the registers are equal.
func (s *states) converges(t *testing.T, limit time.Duration, entries int, nodes ...*node) {
	t.Helper()
	took, ok := within(limit, func() bool { return s.registersEqual(entries, nodes...) })
	if !ok {
		for _, n := range nodes {
			t.Errorf("%s has %d of %d entries after %v", n.name, len(s.registers[n].copy()), entries, took)
		}
		return
	}
	t.Logf("equal after %v", took)
}

func openRegisters(t *testing.T, s *states) func(*node) {
	return func(n *node) { s.registers[n] = openRegister(t, n) }
}

// fill gives the members' registers so many entries, and waits until nothing of them is kept.
func (s *states) fill(t *testing.T, entries int, nodes ...*node) {
	t.Helper()
	for i := range entries {
		s.registers[nodes[i%len(nodes)]].set(t, fmt.Sprint("old", i), "old")
	}
	time.Sleep(beyond)
}

// Members that were each alone beyond the retention, and have each broadcast, are equal after the heal.
func TestConvergeOfThreeSides(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(3, openRegisters(t, s)))
		must(t, l.Net.Partition([]string{"m0"}, []string{"m1"}, []string{"m2"}))
		time.Sleep(beyond)
		for i, n := range nodes {
			s.registers[n].set(t, fmt.Sprint(i), "x")
		}
		time.Sleep(beyond)
		l.Net.Heal()
		l.whole(nodes...)
		s.converges(t, 5*time.Second, 3, nodes...)
	})
}

// What one of 30 has broadcast while it was alone beyond the retention, all 30 have after the heal.
func TestConvergeOfCrowd(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(30, openRegisters(t, s)))
		must(t, l.Net.Partition([]string{"m7"}, slices.DeleteFunc(nodeNames(nodes), func(n string) bool { return n == "m7" })))
		time.Sleep(beyond)
		s.registers[nodes[7]].set(t, "alone", "x")
		time.Sleep(beyond)
		l.Net.Heal()
		l.whole(nodes...)
		s.converges(t, 5*time.Second, 1, nodes...)
	})
}

// Members in seven groups, cut off for five minutes with changes everywhere, are equal within 5 s of being whole. STARLING_MEMBERS makes
// it larger; 60 take half a minute.
func TestConvergeOfSevenGroups(t *testing.T) {
	t.Parallel()
	members := seedtest.Number(t, "STARLING_MEMBERS", 14)
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(members, openRegisters(t, s)))
		groups := make([][]string, 7)
		for i, n := range nodes {
			groups[i%7] = append(groups[i%7], n.name)
		}
		must(t, l.Net.Partition(groups...))
		for range 5 {
			for i, n := range nodes {
				s.registers[n].set(t, fmt.Sprint(i), fmt.Sprint(time.Now()))
			}
			time.Sleep(time.Minute)
		}
		l.Net.Heal()
		l.whole(nodes...)
		s.converges(t, 5*time.Second, members, nodes...)
	})
}

// A newcomer whose donors are all busy in their handlers gets the state when one of them is not.
func TestConvergeFromBusyDonors(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(4, openRegisters(t, s)))
		s.fill(t, 10, nodes...)
		for i, n := range nodes {
			s.registers[n].setBusy(func() { time.Sleep(time.Duration(13+i) * time.Second) })
		}
		s.registers[nodes[0]].set(t, "new", "x")
		s.registers[nodes[1]].set(t, "other", "x")
		time.Sleep(time.Second)
		late := l.member("late", openRegisters(t, s))
		l.join(late, nodes[0])
		if took, ok := within(30*time.Second, func() bool { return len(s.registers[late].copy()) >= 10 }); !ok {
			t.Errorf("the newcomer has %d entries after %v", len(s.registers[late].copy()), took)
		}
		s.converges(t, time.Minute, 12, append(nodes, late)...)
	})
}

// A newcomer to which no stream gets through for 20 s gets the state after that.
func TestConvergeAfterRefusedStreams(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(4, openRegisters(t, s)))
		s.fill(t, 10, nodes...)
		late := l.member("late", openRegisters(t, s))
		l.join(late, nodes[0])
		refusing := labLink
		refusing.RefuseStreams = true
		l.links(refusing)
		time.Sleep(20 * time.Second)
		l.links(labLink)
		s.converges(t, 15*time.Second, 10, append(nodes, late)...)
	})
}

// A member that crashes and comes back under its name at a new address gets the state, though memberlist does not let it in for a while.
func TestConvergeAtNewAddress(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(4, openRegisters(t, s)))
		s.fill(t, 10, nodes...)
		l.crash(nodes[3])
		tr, err := l.Net.TransportAt("moved", netip.MustParseAddrPort("10.77.0.9:7946"))
		must(t, err)
		c, err := starling.New(starling.Config{Name: "m3", Transport: tr, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		defer c.Close()
		back := &node{Cluster: c, name: "m3"}
		s.registers[back] = openRegister(t, back)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = c.Join(ctx, nodes[0].Self().Addr.String()) // it is refused for a while
		s.converges(t, time.Minute, 10, append(nodes[:3:3], back)...)
	})
}

// A member that stood still beyond the retention, and was never dropped, learns what it has missed though nobody broadcasts any more.
func TestConvergeAfterPause(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) {
			c.Tune = func(m *memberlist.Config) { m.SuspicionMult = 10_000 } // nobody is dropped
		}
		s := newStates()
		nodes := slices.Clone(l.members(4, openRegisters(t, s)))
		s.fill(t, 4, nodes...)
		must(t, l.Net.Partition([]string{"m3"}, []string{"m0", "m1", "m2"}))
		for i := range 10 {
			s.registers[nodes[i%3]].set(t, fmt.Sprint("new", i), "x")
		}
		time.Sleep(beyond)
		l.Net.Heal()
		if n := len(nodes[0].Members()); n != 4 {
			t.Fatalf("m3 was dropped: %d members", n)
		}
		s.converges(t, 90*time.Second, 14, nodes...)
	})
}

// A gap is made good by a state, though the membership does not change.
func TestConvergeAfterGap(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(4, openRegisters(t, s)))
		s.fill(t, 4, nodes...)
		var once atomic.Bool
		s.registers[nodes[3]].setBusy(func() {
			if once.CompareAndSwap(false, true) {
				time.Sleep(beyond)
			}
		})
		for i := range 10 {
			s.registers[nodes[i%3]].set(t, fmt.Sprint("new", i), "x")
		}
		time.Sleep(beyond)
		if nodes[3].Stats().Lost == 0 {
			t.Fatal("nothing was lost")
		}
		s.converges(t, time.Minute, 14, nodes...)
	})
}

// openHoard opens a channel whose Snapshot yields items of 1 MiB, and returns how many came.
func openHoard(t *testing.T, n *node, items int) (got *atomic.Int64) {
	got = new(atomic.Int64)
	_, err := starling.NewChannelOf(n.Cluster, "hoard", func(context.Context, starling.Message[[]byte]) { got.Add(1) },
		starling.Bytes(), &starling.ChannelOptions[[]byte]{Snapshot: func() iter.Seq[[]byte] {
			return func(yield func([]byte) bool) {
				b := make([]byte, 1<<20)
				for range items {
					if !yield(b) {
						return
					}
				}
			}
		}})
	must(t, err)
	return got
}

// A state of 80 MiB reaches a newcomer.
func TestConvergeLargeState(t *testing.T) {
	if raced {
		t.Skip("80 MiB")
	}
	inLab(t, func(t *testing.T, l *lab) {
		const items = 80
		a := l.member("a", func(n *node) { openHoard(t, n, items) })
		var got *atomic.Int64
		b := l.member("b", func(n *node) { got = openHoard(t, n, 0) })
		l.join(b, a)
		if took, ok := within(time.Minute, func() bool { return got.Load() == items }); !ok {
			t.Errorf("%d of %d items after %v", got.Load(), items, took)
		} else {
			t.Logf("%d MiB after %v", items, took)
		}
	})
}

// What a state has in it before its member joins is in the end in the states of all, though nobody has broadcast it.
func TestConvergeOfWhatWasThere(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		own := func(n *node) {
			openRegisters(t, s)(n)
			s.registers[n].put(entry{Key: n.name, Value: "from disk"})
		}
		nodes := slices.Clone(l.members(5, own))
		s.converges(t, 5*time.Second, 5, nodes...)
	})
}
