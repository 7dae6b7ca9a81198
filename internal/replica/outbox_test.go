package replica

import (
	"fmt"
	"slices"
	"testing"
)

// TestLanes: what goes by stream does not hold up what goes in packets, but on a FIFO channel the order stays, and a newer value
// supersedes an older one in either lane.
func TestLanes(t *testing.T) {
	const small, large = 10, 5000
	for name, test := range map[string]struct {
		fifo     bool
		sizes    []int
		named    bool
		seqs     []int // the sizes, in the order of the seqs that they get
		leftOver int   // that did not leave: the window of large ones is closed
	}{
		"small ones first":          {false, []int{large, small, small}, false, []int{small, small, large}, 0},
		"in order":                  {true, []int{small, large, small, large, small}, false, []int{small, large, small, large, small}, 0},
		"the newest alone":          {false, []int{small, small, small}, true, []int{small}, 0},
		"small supersedes large":    {false, []int{large, small}, true, []int{small}, 0},
		"large supersedes small":    {false, []int{small, large}, true, []int{large}, 0},
		"the newest alone in order": {true, []int{large, small, large}, true, []int{large}, 0},
	} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", FIFO: test.fifo, FIFOHold: testLimits().Age})
		label := ""
		if test.named {
			label = "x"
		}
		var sent []*Message
		for _, size := range test.sizes {
			m, superseded, ok := sayAt(r, ch, label, make([]byte, size), start)
			if !ok {
				t.Fatal("no room")
			}
			if superseded == nil {
				sent = append(sent, m)
			}
		}
		confirmAll(r, start)
		slices.SortFunc(sent, func(a, b *Message) int { return int(seqOf(a)) - int(seqOf(b)) })
		var sizes []int
		for _, m := range sent {
			sizes = append(sizes, len(m.pieces[0].item.Data))
		}
		if fmt.Sprint(sizes) != fmt.Sprint(test.seqs) {
			t.Errorf("%s: left in the order %v, want %v", name, sizes, test.seqs)
		}
		if o := &r.sender.outbox; ch.waiting != [laneKinds]int{} || o.small.bytes != 0 || o.large.bytes != 0 || len(o.named) != 0 || r.Outstanding() != 0 {
			t.Errorf("%s: left behind: %+v, %v waiting, %d outstanding", name, o, ch.waiting, r.Outstanding())
		}
	}
}

// TestTransfers: large messages take turns, piece by piece.
func TestTransfers(t *testing.T) {
	r := testReplica(testLimits(), 2)
	a, b := testChannel(r, "a"), testChannel(r, "b")
	say(r, a, "", make([]byte, 500<<10))
	say(r, b, "", make([]byte, 300<<10))
	r.Pump(start)
	var order string
	for it := r.sender.transfers.next(); it != nil; it = r.sender.transfers.next() {
		order += it.Key
	}
	if len(order) < 8 || order[:4] != "abab" && order[:4] != "baba" {
		t.Errorf("they leave in the order %s", order)
	}
}
