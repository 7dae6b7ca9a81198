package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// shipment is a message by Send on its way in pieces, at its sender. The receiver says of each piece whether it is there. Where nothing is heard
// of a piece, it is asked about, which costs a packet: no piece goes again that the receiver has, or that may be on its way to it.
//
//	state    meaning                                     next
//	fresh    it has to leave                             leaving (leave)
//	leaving  it waits in its lane, or is being written   away (written), held (kept)
//	away     it was written, or could not be             held (kept), fresh (lacking)
//	held     the receiver has it                         fresh (restart)
type shipment struct {
	chunk  wire.Chunk    // of any piece: its Index means nothing
	places []place       // by index
	out    []*shipped    // those that are leaving or away. Invariant: at most shipWindow
	lane   int           // frames in the lane, those that are of no use any more among them; no piece joins shipLane of them
	first  int           // no piece before it is fresh
	done   int           // Σ bytes of those held
	number uint64        // of the receiver's gathering; 0: it has told of none
	trip   time.Duration // about how long pieces take from when they are away until they are held; 0: not known
	busy   bool          // the last answer was BUSY, and since then nothing was asked twice
	over   bool          // a verdict has ended it: what is answered later counts for nothing
	send   uint64        // see Progress
}

// place is what is remembered of each piece.
type place struct {
	state shipState
	tries uint8 // how often it was lost
}

type shipState uint8

const (
	shipFresh shipState = iota
	shipLeaving
	shipAway
	shipHeld
)

// shipped is a piece that is leaving or away.
type shipped struct {
	index  int
	at     time.Time // when it was away
	failed bool      // it was not written, or not taken: if the receiver lacks it, it is not on its way
	asked  int
	next   time.Time // when the receiver is asked about it
}

const (
	// WholeSend is the largest message that is sent whole: below, a second stream costs more than what pieces save. Measured on loopback, 1 MiB
	// takes as long in four pieces as whole.
	WholeSend = 512 << 10
	// shipPieces is into how many pieces a message is cut, so that a stream that breaks costs a few hundredths of it; but none is smaller than
	// shipLeast, since each costs a stream, nor larger than shipMost, since other frames for the member wait behind it.
	shipPieces = 48
	shipLeast  = 256 << 10
	shipMost   = 1 << 20
	// shipWindow is how many pieces may be on their way, and shipFirst how many before the receiver has said that it has room for the message.
	shipWindow = 4
	shipFirst  = 2
	// shipLane is how many of them may wait in their lane, so that those of several messages leave in turns, and others' frames among them.
	shipLane = 2
	// askFirst and askLongest bound the pauses between questions about a piece. After askPackets of them, which may be lost, they go by stream, too,
	// and are answered by stream.
	askFirst, askLongest = 50 * time.Millisecond, 5 * time.Second
	askPackets           = 2
	// askBusy is the pause after BUSY. It does not grow: or of those that wait for room the one that has waited longest would ask the least often, and
	// never get it while others keep coming.
	askBusy = 400 * time.Millisecond
	// shipPatience is how long a piece may be on its way before the receiver's word counts that it lacks it; beside it twice as long as those before
	// it took, or as what is on its way takes at shipSlow bytes a second before there were any; shipLongest in all. It doubles when a piece was
	// lost, shipDoublings times.
	shipPatience, shipLongest = time.Second, 15 * time.Second
	shipDoublings             = 3
	shipSlow                  = 256 << 10
)

// SendPiece returns how large the pieces of a message of so many bytes are.
func SendPiece(total int) int {
	return min(max((total+shipPieces-1)/shipPieces, shipLeast), shipMost)
}

func newShipment(total, size int, send uint64) *shipment {
	s := &shipment{chunk: wire.Chunk{Total: uint32(total), Size: uint32(size)}, send: send}
	s.places = make([]place, s.chunk.Count())
	return s
}

// piece returns the chunk of a piece.
func (s *shipment) piece(index int) wire.Chunk {
	c := s.chunk
	c.Index = uint32(index)
	return c
}

// find returns a piece that is leaving or away, nil if it is neither.
func (s *shipment) find(index int) *shipped {
	for _, p := range s.out {
		if p.index == index {
			return p
		}
	}
	return nil
}

// settle takes a piece out of those that are on their way, if it is one.
func (s *shipment) settle(index int, state shipState) {
	s.out = slices.DeleteFunc(s.out, func(p *shipped) bool { return p.index == index })
	s.places[index].state = state
	if state == shipFresh {
		s.first = min(s.first, index)
	}
}

// leave returns a piece that leaves now, if one may.
func (s *shipment) leave() (index int, ok bool) {
	window := shipWindow
	if s.number == 0 {
		window = shipFirst
	}
	if s.over || s.lane >= shipLane || len(s.out) >= window {
		return 0, false
	}
	for ; s.first < len(s.places); s.first++ {
		if index = s.first; s.places[index].state == shipFresh {
			s.places[index].state = shipLeaving
			s.out = append(s.out, &shipped{index: index})
			s.lane++
			return index, true
		}
	}
	return 0, false
}

// written notes that a piece has left its lane.
func (s *shipment) written(index int, ok bool, now time.Time) {
	s.lane--
	p := s.find(index)
	if p == nil || s.places[index].state != shipLeaving {
		return
	}
	s.places[index].state = shipAway
	p.at, p.failed = now, p.failed || !ok
	p.next = now.Add(askPause(p.asked + int(s.places[index].tries)))
}

// ask returns a piece that the receiver is asked about now, and whether by stream, too.
func (s *shipment) ask(now time.Time) (index int, stream, ok bool) {
	for _, p := range s.out {
		if !s.over && s.places[p.index].state == shipAway && !now.Before(p.next) {
			p.asked++
			p.next = now.Add(askPause(p.asked))
			s.busy = s.busy && p.asked == 1
			return p.index, p.asked > askPackets, true
		}
	}
	return 0, false, false
}

// askPause is the pause before the n-th question about a piece, from 0.
func askPause(n int) time.Duration { return min(askFirst<<min(n, 10), askLongest) }

// again returns when there may be something to ask; the zero time: not before something else happens.
func (s *shipment) again() (at time.Time) {
	for _, p := range s.out {
		if s.places[p.index].state == shipAway && (at.IsZero() || p.next.Before(at)) {
			at = p.next
		}
	}
	return at
}

// patience is how long a piece may be on its way before it counts as lost.
func (s *shipment) patience(index int) time.Duration {
	trip := s.trip
	if trip == 0 {
		trip = time.Duration(len(s.out)) * time.Duration(s.chunk.Size) * time.Second / shipSlow
	}
	return min(shipPatience+2*trip, shipLongest) << min(s.places[index].tries, shipDoublings)
}

// answer takes what the receiver says of a piece.
func (s *shipment) answer(m *starlingpb.DirectAck, now time.Time) {
	index := int(m.GetIndex())
	if s.over || index >= len(s.places) {
		return
	}
	switch v := m.GetVerdict(); v {
	case starlingpb.DirectAck_KEPT, starlingpb.DirectAck_LACKING:
		if m.GetGathering() < s.number {
			return // it has begun anew since
		}
		if m.GetGathering() > s.number {
			s.restart(m.GetGathering())
		}
		s.busy = false
		if v == starlingpb.DirectAck_KEPT {
			s.kept(index, now)
		} else {
			s.lacking(index, now)
		}
	case starlingpb.DirectAck_ACCEPTED, starlingpb.DirectAck_NO_CHANNEL, starlingpb.DirectAck_OTHER_RUN, starlingpb.DirectAck_STALE,
		starlingpb.DirectAck_TOO_LARGE, starlingpb.DirectAck_OTHER_TYPE:
		s.over = true
	default: // BUSY, or a verdict of a later version: the piece was not taken, or all are there and the inbox is full
		s.busy = true
		if p := s.find(index); p != nil {
			p.failed, p.asked, p.next = true, 0, now.Add(askBusy)
		}
	}
}

// kept notes that the receiver has a piece.
func (s *shipment) kept(index int, now time.Time) {
	if s.places[index].state == shipHeld {
		return
	}
	if p := s.find(index); p != nil && s.places[index].tries == 0 {
		took := time.Millisecond
		if s.places[index].state == shipAway {
			took = max(now.Sub(p.at), took)
		}
		s.trip = max(took, s.trip*3/4)
	}
	s.settle(index, shipHeld)
	s.done += s.piece(index).Len()
}

// lacking notes that the receiver does not have a piece. It counts if the piece is not on its way any more.
func (s *shipment) lacking(index int, now time.Time) {
	p := s.find(index)
	if p == nil || s.places[index].state != shipAway || !p.failed && now.Sub(p.at) < s.patience(index) {
		return
	}
	s.places[index].tries = min(s.places[index].tries+1, 250)
	s.settle(index, shipFresh)
}

// restart notes that the receiver has begun to gather, or has begun anew and lacks what it had.
func (s *shipment) restart(number uint64) {
	s.number, s.done, s.first = number, 0, 0
	for i := range s.places {
		if s.places[i].state == shipHeld {
			s.places[i].state = shipFresh
		}
	}
}

// renew lets everything leave anew, under another number of the call.
func (s *shipment) renew() {
	*s = shipment{chunk: s.chunk, places: make([]place, len(s.places)), lane: s.lane, send: s.send}
}
