package starling_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// The origin crashes right after its first packet left: whoever got it must see to it that all get it. Of what nobody got,
// the messages below the last that somebody has are gaps; those above it left no trace, and nobody can tell of them.
func TestCrashOfTheOrigin(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known=%v", known), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := l.members(10)
				origin, rest := nodes[9], nodes[:9:9]
				if known {
					l.delivered(5*time.Second, l.sendMany(origin, 1, 200), origin, rest...)
					time.Sleep(5 * time.Second)
				}
				ids := l.sendMany(origin, 30, 200) // more than one packet holds
				before, _ := l.Net.Counters(origin.name)
				for { // at most a gossip interval
					now, _ := l.Net.Counters(origin.name)
					if someHave(ids, rest) || now.Sent.Packets > before.Sent.Packets+20 {
						break
					}
					time.Sleep(100 * time.Microsecond)
				}
				l.crash(origin)
				time.Sleep(2 * time.Minute)
				survived, traced := 0, 0
				for i, id := range ids {
					have := 0
					for _, n := range rest {
						if n.lacks([]uint64{id}) == 0 {
							have++
						}
					}
					if have > 0 {
						survived++
						traced = i + 1
					}
					if have != 0 && have != len(rest) {
						t.Errorf("%d of %d have a message", have, len(rest))
					}
				}
				t.Logf("%d of %d messages survived", survived, len(ids))
				for _, n := range rest {
					// Who never learned where the origin's parts begin owes none before the first one seen.
					lacking, told := n.lacks(ids[:traced]), n.told(origin.Self().ID)
					if known && told != lacking || told > lacking {
						t.Errorf("%s misses %d messages and reported %d", n.name, lacking, told)
					}
				}
			})
		})
	}
}

func someHave(ids []uint64, nodes []*node) bool {
	for _, n := range nodes {
		if n.lacks(ids) < len(ids) {
			return true
		}
	}
	return false
}

// Half the members crash while they relay a burst.
func TestCrashOfHalfTheMembers(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(10)
		survivors, victims := nodes[:5:5], append([]*node(nil), nodes[5:]...)
		l.links(rough)
		ids := map[*node][]uint64{}
		for i := range 100 {
			for _, n := range append([]*node{victims[0]}, survivors...) {
				ids[n] = append(ids[n], l.send(n, mixed(i)))
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(250 * time.Millisecond)
		for _, n := range victims {
			l.crash(n)
		}
		start := time.Now()
		for _, n := range survivors {
			l.delivered(10*time.Second, ids[n], n, survivors...)
		}
		t.Logf("survivors have all of each other %v later; whole %v after that", time.Since(start), l.whole(survivors...))
		time.Sleep(2 * time.Minute)
		for _, id := range ids[victims[0]] {
			have := 0
			for _, n := range survivors {
				have += 1 - n.lacks([]uint64{id})
			}
			if have != 0 && have != len(survivors) {
				t.Errorf("%d of %d survivors have a message of %s", have, len(survivors), victims[0].name)
			}
		}
		for _, n := range survivors {
			if lacking, told := n.lacks(ids[victims[0]]), n.told(victims[0].Self().ID); told > lacking {
				t.Errorf("%s misses %d messages and reported %d", n.name, lacking, told)
			}
		}
	})
}

// A member that comes back under its name is another origin: its seqs begin anew, and nothing of either is mixed up.
func TestRestartOfTheOrigin(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.options = &starling.ChannelOptions[[]byte]{FIFO: true}
		nodes := l.members(10)
		origin, rest := nodes[9], append([]*node(nil), nodes[:9]...)
		ids := l.sendMany(origin, 20, 200)
		l.delivered(5*time.Second, ids, origin, rest...)
		l.crash(origin)
		time.Sleep(300 * time.Millisecond)
		again := l.member(origin.name)
		l.join(again, rest[0])
		ids = append(ids, l.sendMany(again, 20, 200)...)
		l.delivered(10*time.Second, ids, again, rest...)
		late := append(ids, l.sendMany(again, 5, 200)...)
		l.delivered(10*time.Second, late, again, rest...)
		fresh := l.sendMany(rest[0], 5, 200)
		l.delivered(10*time.Second, fresh, rest[0], l.nodes...)
		time.Sleep(2 * time.Minute)
		l.once(l.nodes...)
	})
}

// What is broadcast while a member is alone is owed to all whom it meets soon.
func TestBroadcastWhileAlone(t *testing.T) {
	t.Parallel()
	t.Run("one joins many", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			nodes := append([]*node(nil), l.members(5)...)
			lone := l.member("lone")
			ids := l.sendMany(lone, 10, 200)
			time.Sleep(10 * time.Second)
			l.join(lone, nodes[3])
			t.Log("delivered after", l.delivered(10*time.Second, ids, lone, nodes...))
			time.Sleep(2 * time.Minute)
			l.once(l.nodes...)
		})
	})
	t.Run("many join one", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			lone := l.member("lone")
			ids := l.sendMany(lone, 10, 200)
			time.Sleep(10 * time.Second)
			var rest []*node
			for i := range 5 {
				rest = append(rest, l.member(fmt.Sprint("m", i)))
				l.join(rest[i], lone)
				time.Sleep(2 * time.Second)
			}
			t.Log("delivered after", l.delivered(10*time.Second, ids, lone, rest...))
			time.Sleep(2 * time.Minute)
			l.once(l.nodes...)
		})
	})
	t.Run("after the others have gone", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			nodes := append([]*node(nil), l.members(4)...)
			lone, rest := nodes[0], nodes[1:]
			must(t, l.Net.Partition([]string{lone.name}, nodeNames(rest)))
			l.whole(lone)
			ids := l.sendMany(lone, 10, 200)
			time.Sleep(5 * time.Second)
			l.Net.Heal()
			l.whole(nodes...)
			fresh := l.member("fresh")
			l.join(fresh, rest[0])
			t.Log("delivered after", l.delivered(10*time.Second, ids, lone, rest...))
			time.Sleep(2 * time.Minute)
			l.once(l.nodes...)
		})
	})
}

// A message too large for what one member is served at once can be repaired too.
func TestRepairOfALargeMessage(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(3)
		k := labLink
		k.RefuseStreams = true
		must(t, l.Net.SetLink(nodes[0].name, nodes[2].name, k)) // the origin cannot reach it, the other one can
		ids := l.sendMany(nodes[0], 1, 12<<20)
		t.Log("delivered after", l.delivered(10*time.Second, ids, nodes[0], nodes...))
		l.once(nodes...)
	})
}

// Several parts that travel by stream, each smaller than what a pull's answer may put into packets, can be repaired at
// once.
func TestRepairOfMiddlingMessages(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(3)
		k := labLink
		k.RefuseStreams = true
		must(t, l.Net.SetLink(nodes[0].name, nodes[2].name, k))
		ids := l.sendMany(nodes[0], 3, 1600)
		time.Sleep(time.Second)
		must(t, l.Net.SetLink(nodes[0].name, nodes[2].name, labLink))
		t.Log("delivered after", l.delivered(2*time.Second, ids, nodes[0], nodes...))
		l.once(nodes...)
	})
}
