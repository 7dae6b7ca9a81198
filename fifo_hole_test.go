package starling

import (
	"slices"
	"testing"
	"time"
)

// TestFIFOHoleOutlivesOrigin loses a part with its origin. What came after it is held by a survivor: it has to be handled by
// both, and the lost part alone is a gap. To wait for the hole as long as parts are kept would lose them all.
func TestFIFOHoleOutlivesOrigin(t *testing.T) {
	const fifo = 1
	now := simEpoch
	retention := Retention{Bytes: DefaultRetentionBytes, Age: 15 * time.Second}
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, newNode(i, uint64(i+1), retention, now))
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.change(Member{}, b.member, now)
			}
		}
	}
	live := nodes
	handled, lost := map[string][]uint64{}, map[string][]lostRange{}
	pass := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(tickEvery) {
			for _, n := range live {
				gaps, _ := n.tick(now)
				lost[n.member.Name] = append(lost[n.member.Name], gaps...)
				for d, ok := n.take(fifo); ok; d, ok = n.take(fifo) {
					handled[n.member.Name] = append(handled[n.member.Name], d.seq)
					n.handled(d, now)
				}
				n.pump(now)
				packets, streams := n.outputs()
				for _, p := range packets {
					deliver(t, live, p.to.Name, p.frame(), now)
				}
				for _, p := range streams {
					deliver(t, live, p.to.Name, p.frame(now), now)
				}
			}
		}
	}
	origin := nodes[0]
	origin.broadcast(fifo, make([]byte, 1000), now)
	pass(time.Second)
	origin.broadcast(fifo, make([]byte, 1000), now)
	origin.pump(now)
	origin.outputs() // the second part never arrives
	origin.broadcast(fifo, make([]byte, 1000), now)
	origin.pump(now)
	_, streams := origin.outputs()
	for _, p := range streams {
		if p.to.Name == nodeName(1) {
			deliver(t, live, p.to.Name, p.frame(now), now)
		}
	}
	live = nodes[1:]
	for _, n := range live {
		n.change(origin.member, Member{}, now)
	}
	pass(3 * retention.Age)
	for _, n := range live {
		name := n.member.Name
		if !slices.Equal(handled[name], []uint64{1, 3}) || !slices.Equal(lost[name], []lostRange{{1, 2, 2}}) {
			t.Errorf("%s handled %v and lost %v, want 1 and 3, and 2 lost", name, handled[name], lost[name])
		}
	}
}

func deliver(t *testing.T, nodes []*node, to string, frame []byte, now time.Time) {
	t.Helper()
	for _, n := range nodes {
		if n.member.Name != to {
			continue
		}
		if err := n.receive(frame, now); err != nil {
			t.Error(err)
		}
	}
}
