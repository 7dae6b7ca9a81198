package spread

import (
	"slices"
	"testing"

	"github.com/starling-go/starling/internal/seedtest"
)

// TestHolders: whatever members die, refuse, or see of each other, the root names nobody as a holder who has not kept the batch. In the end
// it names everybody that the batch was not given up for.
func TestHolders(t *testing.T) {
	rng := seedtest.Rand(t)
	for n := 2; n <= 60; n++ {
		unknown := map[[2]int]bool{}
		for range rng.IntN(n) {
			unknown[[2]int{rng.IntN(n), rng.IntN(n)}] = true
		}
		f := newTestNet(n, func(who, whom int) bool { return who == 0 || !unknown[[2]int{who, whom}] })
		for _, m := range f.members[1:] {
			switch rng.IntN(8) {
			case 0:
				f.down[m.ID] = true
			case 1:
				f.refuses[m.ID] = true
			}
		}
		root := f.root()
		root.Watch = true
		f.startPiece()
		if len(root.Moved) != 1 {
			t.Fatalf("%d batches have moved, want the one that has left", len(root.Moved))
		}
		b := root.Moved[0]
		var named []uint64
		f.looks = func() {
			if len(root.Moved) == 0 {
				return
			}
			root.Moved = nil
			for id := range b.Holders() {
				if f.got[id] == 0 {
					t.Fatalf("%d members: %d is named, and has kept nothing", n, id)
				}
				if !slices.Contains(named, id) {
					named = append(named, id)
				}
			}
		}
		f.run(t)
		f.looks()
		for _, m := range f.members[1:] {
			if b.Reached(m.ID) != slices.Contains(named, m.ID) {
				t.Errorf("%d members: %d was named: %v, and reached: %v", n, m.ID, slices.Contains(named, m.ID), b.Reached(m.ID))
			}
		}
	}
}

// TestRefusingHead: a head that keeps nothing is given up, whatever else it is asked, and its slice is served.
func TestRefusingHead(t *testing.T) {
	for _, piece := range []bool{false, true} {
		f := newTestNet(30, nil)
		root := f.root()
		if piece {
			f.startPiece()
		} else {
			f.startBatch()
		}
		head := root.Sends[0].Hop.To
		f.refuses[head.ID] = true
		b := f.run(t)
		if !slices.Equal(b.Gone, []uint64{Position(head.Name)}) || len(f.got) != 28 {
			t.Errorf("piece=%v: given up for %x, %d others have it", piece, b.Gone, len(f.got))
		}
	}
}
