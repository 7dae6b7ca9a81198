package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// TestHoleOutlivesOrigin loses a part with its origin. What came after it is held by a survivor: it has to be handled by both,
// and the lost part alone is a gap. To wait for the hole as long as parts are kept would lose them all.
func TestHoleOutlivesOrigin(t *testing.T) {
	const fifo = 1
	now := start
	keep := bounds{bytes: 64 << 20, age: 15 * time.Second}
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, newNode(i, uint64(i+1), keep, now))
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.change(wire.Peer{}, b.member, now)
			}
		}
	}
	live := nodes
	handled, lost := map[string][]uint64{}, map[string][]Gap{}
	pass := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(tickEvery) {
			for _, n := range live {
				gaps, _ := n.tick(now)
				lost[n.member.Name] = append(lost[n.member.Name], gaps...)
				for d, ok := n.take(fifo, now); ok; d, ok = n.take(fifo, now) {
					handled[n.member.Name] = append(handled[n.member.Name], d.Seq)
					n.handled(fifo, d, now)
				}
				n.pump(now)
				packets, streams := n.outputs()
				for _, p := range packets {
					deliver(t, live, p.To.Name, p.Frame(), now)
				}
				for _, s := range streams {
					deliver(t, live, s.To.Name, s.Encode(now), now)
				}
			}
		}
	}
	origin := nodes[0]
	origin.broadcast(fifo, "", make([]byte, 1000), now)
	pass(time.Second)
	origin.broadcast(fifo, "", make([]byte, 1000), now)
	origin.pump(now)
	origin.outputs() // the second part never arrives
	origin.broadcast(fifo, "", make([]byte, 1000), now)
	origin.pump(now)
	_, streams := origin.outputs()
	for _, s := range streams {
		if s.To.Name == nodeName(1) {
			deliver(t, live, s.To.Name, s.Encode(now), now)
		}
	}
	live = nodes[1:]
	for _, n := range live {
		n.change(origin.member, wire.Peer{}, now)
	}
	pass(3 * keep.age)
	for _, n := range live {
		name := n.member.Name
		if !slices.Equal(handled[name], []uint64{1, 3}) || !slices.Equal(lost[name], []Gap{{1, 2, 2}}) {
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

// TestReleaseOrder: what a hole held back on several channels is handed on in the order of their keys: the same calls have
// the same effects.
func TestReleaseOrder(t *testing.T) {
	var keys []string
	for i := range 20 {
		keys = append(keys, string(rune('a'+i)))
	}
	r := testReplica(testLimits(), 1)
	for _, i := range rand.Perm(len(keys)) {
		openChannel(r, Channel{Key: keys[i], FIFO: true, FIFOHold: time.Minute})
	}
	for i, key := range keys {
		receivePart(t, r, partOf(key, nil, wire.PartID{Origin: 101, Seq: uint64(i + 2)}, 1, 0), wire.RouteGossip, start)
	}
	if len(r.out.Wake) > 0 {
		t.Fatalf("%d are woken before the hole is closed", len(r.out.Wake))
	}
	told(t, r, 2, uint64(len(keys)+1), start)
	var woken []string
	for _, ch := range r.out.Wake {
		woken = append(woken, ch.Key)
	}
	if !slices.Equal(woken, keys) {
		t.Errorf("woken in the order %v", woken)
	}
}

// TestLate: a part that comes when a newer one was handed on is dropped. It is reported lost if it was owed: at once, or as
// soon as its origin has told what it owes.
func TestLate(t *testing.T) {
	for name, test := range map[string]struct {
		before, after uint64 // the baseline that is told before the part comes, and after; 0: none
		want          []Gap
	}{
		"owed":            {before: 1, want: []Gap{{101, 1, 1}}},
		"told later":      {after: 1, want: []Gap{{101, 1, 1}}},
		"not owed":        {after: 2},
		"nothing is told": {},
	} {
		r := testReplica(testLimits(), 1)
		ch := openChannel(r, Channel{Key: "ch", FIFO: true, FIFOHold: time.Second})
		part := func(seq, prev uint64, now time.Time) {
			receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, prev, 0), wire.RouteGossip, now)
		}
		part(2, 1, start)
		part(3, 2, start)
		if test.before > 0 {
			told(t, r, test.before, 3, start)
		}
		if r.Tick(start.Add(999 * time.Millisecond)); ch.inbox.len() != 0 {
			t.Fatalf("%s: handed on before its turn", name)
		}
		now := start.Add(time.Second)
		if r.Tick(now); ch.inbox.len() != 2 {
			t.Fatalf("%s: %d parts are handed on when they have waited long enough", name, ch.inbox.len())
		}
		part(1, 0, now)
		if test.after > 0 {
			told(t, r, test.after, 3, now)
		}
		if seqs := seqsOf(handleAll(r, ch, now)); !slices.Equal(seqs, []uint64{2, 3}) || r.out.drops != only(DropLate) || !slices.Equal(r.out.Gaps, test.want) {
			t.Errorf("%s: handled %v, dropped %v, reported %v", name, seqs, r.out.drops, r.out.Gaps)
		}
		if !r.intake.logged(101).IsDone(1) {
			t.Errorf("%s: it is waited for still", name)
		}
	}
}

// TestExpiring: what waits for its turn is handed on before its retention ends.
func TestExpiring(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 1)
	ch := openChannel(r, Channel{Key: "ch", FIFO: true, FIFOHold: 9 * lim.Age})
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 2}, 1, 0), wire.RouteGossip, start)
	if r.Tick(start.Add(lim.Age/10*9 - 1)); ch.inbox.len() != 0 {
		t.Error("handed on too soon")
	}
	if r.Tick(start.Add(lim.Age / 10 * 9)); ch.inbox.len() != 1 {
		t.Error("not handed on")
	}
}

// TestEvictedInTurn: a part that history lets go while it waits for its turn is missing again, and takes its turn when it
// comes back.
func TestEvictedInTurn(t *testing.T) {
	lim := testLimits()
	lim.Bytes = 1000
	r := testReplica(lim, 1)
	ch := openChannel(r, Channel{Key: "ch", FIFO: true, FIFOHold: lim.Age})
	part := func(seq uint64, size int) {
		receivePart(t, r, partOf("ch", make([]byte, size), wire.PartID{Origin: 101, Seq: seq}, seq-1, 0), wire.RouteGossip, start)
	}
	part(2, 400)
	part(3, 400)
	if _, waiting := ch.Waiting(); waiting != 1 {
		t.Fatalf("%d parts wait", waiting)
	}
	part(1, 0)
	if seqs := seqsOf(handleAll(r, ch, start)); !slices.Equal(seqs, []uint64{1}) {
		t.Errorf("handled %v", seqs)
	}
	part(2, 0)
	if seqs := seqsOf(handleAll(r, ch, start)); !slices.Equal(seqs, []uint64{2, 3}) {
		t.Errorf("handled %v when it was back", seqs)
	}
}
