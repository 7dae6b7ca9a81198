package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
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
		if o := &r.Sender.outbox; ch.waiting != [laneKinds]int{} || o.small.bytes != 0 || o.large.bytes != 0 || len(o.named) != 0 || r.Outstanding() != 0 {
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
	r.Sender.Pump(start)
	var order string
	for it := r.Sender.transfers.next(); it != nil; it = r.Sender.transfers.next() {
		order += it.Key
	}
	if len(order) < 8 || order[:4] != "abab" && order[:4] != "baba" {
		t.Errorf("they leave in the order %s", order)
	}
}

// TestTransfersAreBounded: no more than so many large messages are cut up at once. The others wait in the outbox.
func TestTransfersAreBounded(t *testing.T) {
	lim := testLimits()
	lim.QueueBytes = 64 << 20
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	const messages = 3 * maxTransfers
	for range messages {
		say(r, ch, "", make([]byte, 2*wholeMost))
	}
	r.Sender.Pump(start)
	if under, wait := len(r.Sender.transfers), len(r.Sender.outbox.large.waiting); under > maxTransfers || wait < messages-maxTransfers {
		t.Errorf("%d are under way, %d wait", under, wait)
	}
}

// TestOutboxOldest: in whichever lane it waits.
func TestOutboxOldest(t *testing.T) {
	for _, order := range [][]int{{10, 5000}, {5000, 10}} {
		r := testReplica(testLimits(), 2)
		ch := testChannel(r, "ch")
		for i, size := range order {
			sayAt(r, ch, "", make([]byte, size), start.Add(time.Duration(i)*time.Second))
		}
		if got := r.Stats(start.Add(time.Minute)).Oldest; got != time.Minute {
			t.Errorf("accepted in the order %v: the oldest is %v old", order, got)
		}
	}
}

// TestSupersededLeavesLast: on a FIFO channel a newer value leaves after what was accepted before it; on others in the place of the older.
func TestSupersededLeavesLast(t *testing.T) {
	for fifo, want := range map[bool]string{true: "[1:between 2:newer]", false: "[1:newer 2:between]"} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", FIFO: fifo, FIFOHold: testLimits().Age})
		say(r, ch, "x", []byte("older"))
		say(r, ch, "", []byte("between"))
		say(r, ch, "x", []byte("newer"))
		r.Sender.Pump(start)
		if got := fmt.Sprint(sentParts(t, r)); got != want {
			t.Errorf("FIFO %v: %v left, want %v", fifo, got, want)
		}
	}
}

// TestLaneForgets: a lane that is empty keeps room, but no message.
func TestLaneForgets(t *testing.T) {
	ch := &Channel{}
	var l lane
	for _, n := range []int{8, 1} { // the second time where the array ends while messages wait
		for range n {
			l.push(&Message{ch: ch})
		}
		for range 4 {
			l.remove(0)
		}
	}
	for len(l.waiting) > 0 {
		l.remove(0)
	}
	kept := slices.DeleteFunc(slices.Clone(l.empty[:cap(l.empty)]), func(m *Message) bool { return m == nil })
	if len(kept) > 0 || cap(l.empty) < 8 {
		t.Errorf("%d messages are kept; room for %d", len(kept), cap(l.empty))
	}
}

// TestPieceSize: how large the pieces are, by the message and the number of members.
func TestPieceSize(t *testing.T) {
	for _, test := range []struct{ total, members, want int }{
		{wholeMost, 50, wholeMost}, {wholeMost + 1, 1, wholeMost/8 + 1}, {wholeMost + 1, 1000, minPiece},
		{1 << 20, 1, 128 << 10}, {1 << 20, 16, 64 << 10}, {1 << 20, 32, 16 << 10}, {1 << 20, 1000, 8 << 10}, {8 << 20, 1000, 64 << 10},
		{64 << 20, 1, 256 << 10}, {64 << 20, 1000, 256 << 10},
	} {
		if got := pieceSize(test.total, test.members); got != test.want {
			t.Errorf("%d bytes for %d members: pieces of %d, want %d", test.total, test.members, got, test.want)
		}
	}
}

// TestMessageParts: a member that lacks several pieces is missing once; and who takes the content of a newer message keeps nothing of it.
func TestMessageParts(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	var m, newer Message
	m.Init(ch, "x", make([]byte, 2*wholeMost), nil, 2)
	for range 2 {
		m.done([]wire.Peer{testPeer(1), testPeer(2)})
	}
	if len(m.missing) != 2 {
		t.Errorf("%d are missing", len(m.missing))
	}
	newer.Init(ch, "x", []byte("newer"), nil, 2)
	if m.supersede(&newer); &m.pieces[0] != &m.one[0] || !m.whole() || string(m.pieces[0].item.Data) != "newer" {
		t.Error("it points into the newer one")
	}
}
