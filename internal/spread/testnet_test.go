package spread

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

const testPacket = 1390

var (
	start     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	someParts = []*store.Item{{ID: wire.PartID{Origin: 1000, Seq: 1}, Frame: make([]byte, 200)}}
)

func testMember(i int) wire.Peer {
	return wire.Peer{Name: fmt.Sprintf("member-%d", i), ID: uint64(1000 + i)}
}

// testPeers is the records that the owner of a spread keeps.
type testPeers map[uint64]*Peer

func (ps testPeers) get(id uint64) *Peer {
	if ps[id] == nil {
		ps[id] = new(Peer)
	}
	return ps[id]
}

// testNet connects the spreads of some members without a network: what one sends reaches the other at once. Time passes only
// when nobody has anything to send.
type testNet struct {
	now     time.Time
	members []wire.Peer
	spreads map[uint64]*Spread
	peers   map[uint64]testPeers // by the member that keeps them
	down    map[uint64]bool
	deaf    map[uint64]time.Time // nothing reaches the member until then
	refuses map[uint64]bool      // the member keeps no parts
	got     map[uint64]int       // frames with parts that were kept, by member
	looks   func()               // called after each frame, if set
	sends   int
	sent    map[uint64]int // the same by member
}

// newTestNet makes n members. Each knows of those others whom knows says; of all, if it is nil.
func newTestNet(n int, knows func(who, whom int) bool) *testNet {
	f := &testNet{
		now: start, spreads: map[uint64]*Spread{}, peers: map[uint64]testPeers{},
		down: map[uint64]bool{}, deaf: map[uint64]time.Time{}, refuses: map[uint64]bool{}, got: map[uint64]int{},
		sent: map[uint64]int{},
	}
	for i := range n {
		f.members = append(f.members, testMember(i))
	}
	all := NewRing(f.members[0], f.members[1:])
	for i, self := range f.members {
		peers := testPeers{}
		s := New(self.ID, testPacket, peers.get)
		s.Ring = &Ring{}
		for _, p := range all.Places {
			if p.Member.ID == self.ID {
				s.Ring.self = len(s.Ring.Places)
			} else if knows != nil && !knows(i, int(p.Member.ID-1000)) {
				continue
			}
			s.Ring.Places = append(s.Ring.Places, p)
		}
		f.spreads[self.ID], f.peers[self.ID] = s, peers
	}
	return f
}

// root is the first member's spread.
func (f *testNet) root() *Spread { return f.spreads[f.members[0].ID] }

// startBatch spreads a small batch from the first member.
func (f *testNet) startBatch() *Batch { return f.root().Start(someParts, 200, false, f.now) }

// lose lets a member learn that another has left the membership.
func (f *testNet) lose(who, whom uint64) {
	delete(f.peers[who], whom)
	f.spreads[who].Lost(whom, f.now)
}

// run delivers all frames, and lets time pass, until a batch of the first member is finished.
func (f *testNet) run(t *testing.T) *Batch {
	t.Helper()
	root := f.root()
	for range 10_000 {
		f.deliver()
		if len(root.Finished) > 0 {
			b := root.Finished[0]
			root.Finished = nil
			return b
		}
		f.pass()
	}
	t.Fatal("the batch is never finished")
	return nil
}

// deliver delivers frames until nobody has any.
func (f *testNet) deliver() {
	for moved := true; moved; {
		moved = false
		for _, m := range f.members {
			moved = f.deliverFrom(m) || moved
		}
	}
}

// deliverFrom delivers the frames of one member, and reports whether it had any.
func (f *testNet) deliverFrom(from wire.Peer) bool {
	s := f.spreads[from.ID]
	sends, reports := s.Sends, s.Reports
	s.Sends, s.Reports = nil, nil
	for _, send := range sends {
		f.sends++
		f.sent[from.ID]++
		s.Written(send.Hop, true, f.now)
		to := send.Hop.To.ID
		if f.down[from.ID] || f.down[to] || f.now.Before(f.deaf[to]) {
			continue
		}
		o := offerOf(from, send)
		switch {
		case send.Query:
		case f.refuses[to]:
			o.Items, o.Lack = nil, true
		default:
			f.got[to]++
		}
		f.spreads[to].Receive(o, f.now)
		f.look()
	}
	for _, rep := range reports {
		if !f.down[from.ID] && !f.down[rep.To.ID] {
			f.spreads[rep.To.ID].Report(from.ID, rep.Report, f.now)
			f.look()
		}
	}
	return len(sends)+len(reports) > 0
}

func (f *testNet) look() {
	if f.looks != nil {
		f.looks()
	}
}

// pass lets time pass until something is due, and does that.
func (f *testNet) pass() {
	var next time.Time
	for id, s := range f.spreads {
		if at, ok := s.Next(); ok && !f.down[id] && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		panic("nothing is due: time would not pass")
	}
	f.now = next
	for id, s := range f.spreads {
		if !f.down[id] {
			s.Tick(f.now)
		}
	}
}

// offerOf is a frame as it reaches the child.
func offerOf(from wire.Peer, send Send) Offer {
	o := Offer{
		From: from, ID: send.Hop.Batch.ID, End: send.Hop.End, Items: send.Hop.Batch.Items,
		List: send.List, Stream: send.Stream, Try: uint64(len(send.Hop.Sent)),
	}
	if send.Query {
		o.Items = nil
	}
	if send.Stream {
		o.Try = 0
	}
	return o
}

// honest is the report of a member whose whole slice holds the batch.
func honest(h *Hop) wire.Report {
	return wire.Report{ID: h.Batch.ID, Done: true, Count: uint64(h.View.Len()), Sum: h.View.Sum()}
}

// wrongCount tells what is wrong with what a batch counts of its hops.
func (b *Batch) wrongCount() string {
	open, inWindow := 0, 0
	for _, h := range b.Hops {
		if h.state != hopEnded {
			open++
		}
		if h.state.inWindow() {
			inWindow++
		}
		if h.state == hopAskedReleased && h.View.Len() > 1 {
			return "a hop is asked and released, and has members behind its child"
		}
	}
	switch {
	case open != b.open || open == 0 != b.done():
		return fmt.Sprintf("%d hops are open, the batch counts %d; done: %v", open, b.open, b.done())
	case inWindow != b.inWindow || b.ours() && inWindow == 0 && !b.refunded:
		return fmt.Sprintf("%d hops are in the window, the batch counts %d; refunded: %v", inWindow, b.inWindow, b.refunded)
	}
	return ""
}
