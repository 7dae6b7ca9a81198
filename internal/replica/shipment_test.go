package replica

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// testShipment is a shipment of so many pieces of the least size.
func testShipment(pieces int) *shipment { return newShipment(pieces*shipLeast, shipLeast, 1) }

// leaves lets all leave that may, and returns it.
func (s *shipment) leaves() (all []int) {
	for index, ok := s.leave(); ok; index, ok = s.leave() {
		all = append(all, index)
	}
	return all
}

// asks returns what is asked now.
func (s *shipment) asks(now time.Time) (all []int) {
	for index, _, ok := s.ask(now); ok; index, _, ok = s.ask(now) {
		all = append(all, index)
	}
	return all
}

// says lets the receiver answer.
func (s *shipment) says(v starlingpb.DirectAck_Verdict, index int, gathering uint64, now time.Time) bool {
	s.answer(&starlingpb.DirectAck{Verdict: v, Index: uint32(index), Gathering: gathering}, now)
	return s.over
}

func wantPieces(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestShipmentWindow: few pieces are on their way, fewer in the lane, and fewest before the receiver has said that there is room.
func TestShipmentWindow(t *testing.T) {
	s := testShipment(20)
	wantPieces(t, "at first", s.leaves(), 0, 1)
	s.written(0, true, start)
	wantPieces(t, "before an answer", s.leaves())
	s.says(directKept, 0, 1, start)
	wantPieces(t, "with one in the lane", s.leaves(), 2)
	s.written(1, true, start)
	s.written(2, true, start)
	wantPieces(t, "with two on their way", s.leaves(), 3, 4)
	s.written(3, true, start)
	s.written(4, true, start)
	wantPieces(t, "with four on their way", s.leaves())
	s.says(directKept, 3, 1, start)
	s.says(directKept, 3, 1, start)
	wantPieces(t, "after one of them is there", s.leaves(), 5)
	if s.done != 2*shipLeast || len(s.out) != shipWindow {
		t.Errorf("%d bytes are there, %d pieces on their way", s.done, len(s.out))
	}
}

// TestShipmentLost: a piece that may be on its way is not sent again, whatever the receiver says; one that was not written is, as soon as the
// receiver says that it lacks it; one of which nothing is heard is asked about.
func TestShipmentLost(t *testing.T) {
	s := testShipment(20)
	s.leaves()
	s.says(directLacking, 0, 1, start)
	wantPieces(t, "one in the lane", s.leaves())
	s.written(0, true, start)
	s.written(1, false, start)
	wantPieces(t, "others", s.leaves(), 2, 3)
	wantPieces(t, "asked at once", s.asks(start))
	now := start.Add(askFirst)
	if again := s.again(); !again.Equal(now) {
		t.Errorf("looked at again after %v", again.Sub(start))
	}
	wantPieces(t, "asked", s.asks(now), 0, 1)
	wantPieces(t, "asked again at once", s.asks(now))
	s.says(directLacking, 0, 1, now)
	s.says(directLacking, 1, 1, now)
	s.written(2, true, now)
	s.written(3, true, now)
	wantPieces(t, "after the answers", s.leaves(), 1)
	late := start.Add(s.patience(0))
	s.says(directLacking, 0, 1, late.Add(-1))
	wantPieces(t, "before its time", s.leaves())
	s.says(directLacking, 0, 1, late)
	wantPieces(t, "when it must be lost", s.leaves(), 0)
	if first, second := s.patience(2), s.patience(0); second != 2*first {
		t.Errorf("patience %v, and %v with one that was lost", first, second)
	}
}

// TestShipmentAsks: questions about a piece come after pauses that double; from the third on they go by stream, too.
func TestShipmentAsks(t *testing.T) {
	s := testShipment(2)
	s.leaves()
	s.written(0, true, start)
	now, want := start, askFirst
	for i := range 12 {
		at := s.again()
		if pause := at.Sub(now); pause != want {
			t.Errorf("question %d after %v, want %v", i, pause, want)
		}
		now, want = at, min(2*want, askLongest)
		if index, stream, ok := s.ask(now); !ok || index != 0 || stream != (i >= 2) {
			t.Errorf("question %d: %d %v %v", i, index, stream, ok)
		}
	}
}

// TestShipmentPace: how long a piece may take follows from how long those before it took.
func TestShipmentPace(t *testing.T) {
	s := testShipment(20)
	s.leaves()
	if p := s.patience(0); p != shipPatience+2*2*time.Second*shipLeast/shipSlow {
		t.Errorf("at first %v", p)
	}
	now := start
	for i, test := range []struct{ took, trip time.Duration }{{10, 10}, {6, 7500}, {20, 20}, {0, 15}, {0, 11250}, {4, 8437}} {
		for test.trip < 1000 {
			test.trip *= 1000
		}
		s.written(i, true, now)
		now = now.Add(test.took * time.Second)
		s.says(directKept, i, 1, now)
		s.leaves()
		if p, want := s.patience(5), min(shipPatience+2*test.trip*time.Millisecond, shipLongest); p != want {
			t.Errorf("after piece %d, which took %v s: %v, want %v", i, int(test.took), p, want)
		}
	}
}

// TestShipmentRestart: when the receiver has let go of what it had, all goes again; what it said before that counts for nothing.
func TestShipmentRestart(t *testing.T) {
	s := testShipment(4)
	s.leaves()
	s.says(directKept, 0, 1, start)
	s.says(directKept, 1, 1, start)
	s.written(0, true, start)
	s.written(1, true, start)
	wantPieces(t, "the rest", s.leaves(), 2, 3)
	s.says(directKept, 2, 5, start)
	if s.done != shipLeast {
		t.Errorf("%d bytes are there", s.done)
	}
	s.written(2, true, start)
	s.written(3, true, start)
	s.says(directKept, 3, 1, start) // late
	wantPieces(t, "all again", s.leaves(), 0, 1)
	s.says(directKept, 0, 5, start)
	s.says(directKept, 1, 5, start)
	if over := s.says(directAccepted, 3, 5, start); !over || !s.over {
		t.Error("it has not ended")
	}
	s.says(directBusy, 3, 5, start)
	if wantPieces(t, "after the end", append(s.leaves(), s.asks(start.Add(time.Hour))...)); s.busy {
		t.Error("it goes on after its end")
	}
}

// TestShipmentBusy: while there is no room the receiver is asked, which costs no bytes, and the piece goes when there is. Who has waited long asks as often
// as who has just come.
func TestShipmentBusy(t *testing.T) {
	s := testShipment(4)
	s.leaves()
	s.written(0, true, start)
	s.written(1, true, start)
	s.says(directBusy, 0, 0, start)
	s.says(directBusy, 1, 0, start)
	if !s.busy {
		t.Error("it is not known to be busy")
	}
	wantPieces(t, "while it is busy", s.leaves())
	now := start
	for range 20 {
		wantPieces(t, "too soon", s.asks(now.Add(askBusy-1)))
		now = now.Add(askBusy)
		wantPieces(t, "asked", s.asks(now), 0, 1)
		s.says(directBusy, 1, 0, now)
		if !s.busy {
			t.Error("it is not known to be busy while a question is under way")
		}
		s.says(77, 0, 0, now) // of a later version
	}
	if s.asks(now.Add(askBusy)); !s.busy {
		t.Error("it is not known to be busy after one question")
	}
	if s.asks(now.Add(askBusy + time.Second)); s.busy {
		t.Error("it counts as busy though it answers no more")
	}
	s.says(directLacking, 1, 1, now)
	wantPieces(t, "when there is room", s.leaves(), 1, 2)
	s.says(directLacking, 0, 1, now)
	s.written(1, true, now)
	wantPieces(t, "and then", s.leaves(), 0)
}

// TestShipmentThroughTrouble: a sender and a receiver between which pieces, questions and answers are lost, late, and come twice, and of which the
// receiver lets go of what it has now and then. The message is handled once, byte for byte; without trouble no piece goes twice.
func TestShipmentThroughTrouble(t *testing.T) {
	for seed := range uint64(300) {
		s := newShipping(t, seed)
		s.play()
		if s.handled != 1 || !s.ended {
			t.Errorf("seed %d: handled %d times, ended %v after %v", seed, s.handled, s.ended, s.now.Sub(start))
		}
		if most := s.pieces + s.lost; s.letGo == 0 && s.sent > most {
			t.Errorf("seed %d: %d pieces were sent, of %d, of which %d were lost", seed, s.sent, s.pieces, s.lost)
		}
		holdsNothing(t, s.to)
	}
}

// shipping is one message in pieces between two replicas, in virtual time.
type shipping struct {
	t        *testing.T
	rng      *rand.Rand
	from, to *Replica
	ch       *Channel
	call     Call
	data     []byte
	loss     float64
	now      time.Time
	events   []shippingEvent

	pieces, sent, lost, letGo, handled int
	ended                              bool
}

type shippingEvent struct {
	at time.Time
	do func()
}

func newShipping(t *testing.T, seed uint64) *shipping {
	s := &shipping{t: t, rng: rand.New(rand.NewPCG(seed, 2)), now: start, loss: float64(seed%4) / 10}
	s.from, s.to = testReplica(testLimits(), 1), New(testPeer(1), testLimits())
	self := s.from.roster.self
	self.Features = wire.OwnFeatures
	s.to.Change(wire.Peer{}, self, start)
	s.ch = testChannel(s.to, "ch")
	s.data = someData(wire.MinDirectChunk*(2+s.rng.IntN(10)) + s.rng.IntN(wire.MinDirectChunk))
	s.from.Calls.Begin(&s.call, 101, start)
	s.from.Calls.Cut(&s.call, testChannel(s.from, "ch"), len(s.data), wire.MinDirectChunk)
	s.pieces = len(s.call.shipment.places)
	return s
}

// after lets something happen later, in an order that chance has a hand in.
func (s *shipping) after(d time.Duration, do func()) {
	s.events = append(s.events, shippingEvent{s.now.Add(d + time.Duration(s.rng.IntN(20))*time.Millisecond), do})
}

func (s *shipping) play() {
	for !s.ended && s.now.Sub(start) < 10*time.Minute {
		frames, again := s.from.Calls.Ship(&s.call, s.now)
		for _, f := range frames {
			s.send(f)
		}
		if again.IsZero() || !again.After(s.now) {
			again = s.now.Add(time.Second)
		}
		slices.SortStableFunc(s.events, func(a, b shippingEvent) int { return a.at.Compare(b.at) })
		if len(s.events) == 0 || s.events[0].at.After(again) {
			s.now = again
			continue
		}
		e := s.events[0]
		s.events = s.events[1:]
		s.now = e.at
		e.do()
		if s.loss > 0 && s.letGo < 3 && s.rng.IntN(60) == 0 {
			s.letGo++
			s.to.Calls.gatherings.sweep(s.now.Add(gatherLasts))
		}
	}
}

// send sends a frame, which may be lost, or come twice.
func (s *shipping) send(f Shipped) {
	f.Key = "ch"
	lost := s.rng.Float64() < s.loss
	if !f.Asks {
		at := int(f.Chunk.Index) * int(f.Chunk.Size)
		f.Data = s.data[at:][:f.Chunk.Len()]
		if s.sent++; lost {
			s.lost++
		}
		ok := !lost || s.rng.IntN(2) == 0 // or it is lost after it was written
		s.after(time.Millisecond, func() { s.from.Calls.Written(&s.call, f.Chunk, ok, s.now) })
	}
	for range 1 + s.rng.IntN(2)*int(10*s.loss)/2 {
		if !lost {
			s.after(2*time.Millisecond, func() { s.arrives(f) })
		}
	}
}

// arrives lets the receiver take a frame, and its answer come back.
func (s *shipping) arrives(f Shipped) {
	ack := tellAs(s.t, s.to, s.from.roster.self, f.Direct, s.now)
	for _, d := range handleAll(s.to, s.ch, s.now) {
		if s.handled++; !bytes.Equal(d.Payload(), s.data) {
			s.t.Error("it is not what was sent")
		}
	}
	if s.rng.Float64() < s.loss {
		return
	}
	s.after(time.Millisecond, func() {
		s.from.Calls.answered(s.call.to, ack, s.now)
		s.ended = s.call.shipment.over
	})
}

// tellAs is tellDirect of any member.
func tellAs(t *testing.T, r *Replica, from wire.Peer, m *starlingpb.Direct, now time.Time) *starlingpb.DirectAck {
	t.Helper()
	receiveControl(t, r, from, wire.BodyDirect, m, now)
	var ack starlingpb.DirectAck
	takeTold(t, r, wire.BodyDirectAck, now)[0].decode(t, &ack)
	return &ack
}
