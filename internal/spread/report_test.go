package spread

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/wire"
)

// TestDifferentViews: whomever the root sees gets the batch, whomever the others see; at a bounded cost.
func TestDifferentViews(t *testing.T) {
	rng := seedtest.Rand(t)
	for n := 1; n <= 200; n++ {
		unknown := map[[2]int]bool{}
		for range n {
			unknown[[2]int{rng.IntN(n), rng.IntN(n)}] = true
		}
		f := newTestNet(n, func(who, whom int) bool { return who == 0 || !unknown[[2]int{who, whom}] })
		f.startBatch()
		if b := f.run(t); len(b.Gone) > 0 || f.sends > 5*n {
			t.Errorf("%d members: %d sends, %d given up", n, f.sends, len(b.Gone))
		}
		for _, m := range f.members[1:] {
			if f.got[m.ID] == 0 {
				t.Errorf("%d members: %s never got it", n, m.Name)
			}
		}
	}
}

// lies are reports that no honest member makes.
func lies() map[string]func(r *wire.Report) {
	endless := make([]uint64, wire.MaxListed)
	for i := range endless {
		endless[i] = uint64(i)
	}
	return map[string]func(r *wire.Report){
		"count":         func(r *wire.Report) { r.Count++ },
		"sum":           func(r *wire.Report) { r.Sum++ },
		"nobody has it": func(r *wire.Report) { r.Count, r.Sum = 0, 0 },
		"others gone":   func(r *wire.Report) { r.Gone = []uint64{1, 2, 3} },
		"others gone, and it adds up": func(r *wire.Report) {
			r.Gone, r.Count = endless, r.Count-wire.MaxListed
			for _, pos := range endless {
				r.Sum ^= pos
			}
		},
		"more":          func(r *wire.Report) { r.More = true },
		"endless list":  func(r *wire.Report) { r.Count, r.List = 0, endless },
		"empty list":    func(r *wire.Report) { r.Count, r.List = 0, []uint64{} },
		"endless gone":  func(r *wire.Report) { r.Gone, r.List = endless, endless },
		"held for ever": func(r *wire.Report) { *r = wire.Report{ID: r.ID} },
	}
}

// TestLies: whatever members report of their slices, the batch ends, in bounded time and with bounded sends.
func TestLies(t *testing.T) {
	const n = 20
	for name, lie := range lies() {
		f := newTestNet(n, nil)
		root := f.root()
		b := f.startBatch()
		sends := 0
		for root.Finished == nil && f.now.Sub(start) < 5*time.Minute {
			for pending := root.Sends; len(pending) > 0; pending = root.Sends {
				sends += len(pending)
				root.Sends = nil
				for _, s := range pending {
					r := honest(s.Hop)
					lie(&r)
					root.Report(s.Hop.To.ID, r, f.now)
				}
			}
			next, again := root.Next()
			if !again {
				break
			}
			f.now = next
			root.Tick(f.now)
		}
		if root.Finished == nil {
			t.Errorf("%s: never finished", name)
		}
		took := f.now.Sub(start)
		// Who says held, and is never done, is asked now and then, each of the three members of a slice in its turn.
		asked := fanOut * int(took/(heldRTOs*rtoMin))
		if sends > 20*n+asked || len(b.Hops) > 3*n || len(b.Gone) > n*wire.MaxListed || took > 3*heldMost+time.Second {
			t.Errorf("%s: %d sends, %d hops, %d given up, after %v", name, sends, len(b.Hops), len(b.Gone), took)
		}
		if root.Flow.Sent != 0 || root.Impossible != 0 {
			t.Errorf("%s: %d bytes are on their way for ever, %d impossible events", name, root.Flow.Sent, root.Impossible)
		}
		t.Logf("%s: %d sends, %d hops, after %v", name, sends, len(b.Hops), took)
	}
}

// TestReportOfUnknownBatch: it changes nothing.
func TestReportOfUnknownBatch(t *testing.T) {
	f := newTestNet(20, nil)
	root := f.root()
	f.startBatch()
	sends := len(root.Sends)
	for _, id := range []wire.BatchID{{Root: root.self, N: 2}, {Root: root.self, N: 0}, {Root: 1001, N: 1}, {Root: 7, N: 7}} {
		for _, m := range f.members[1:] {
			root.Report(m.ID, wire.Report{ID: id, Done: true, Count: 1, List: []uint64{1}}, f.now)
		}
	}
	// Nor does that of somebody who was not asked.
	root.Report(4711, wire.Report{ID: wire.BatchID{Root: root.self, N: 1}, Done: true, Count: 19}, f.now)
	if len(root.Sends) != sends || len(root.Batches) != 1 || root.Finished != nil {
		t.Errorf("%d sends, %d batches, finished %v", len(root.Sends), len(root.Batches), root.Finished)
	}
}
