package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// Message is a message of this member's own until every member has it, in one allocation with the part that it becomes if it is small.
type Message struct {
	Owner any // whatever the replica's owner keeps with it

	ch       *Channel
	name     string // what a newer message supersedes it by, before it has left; "" for none
	room     int    // the room that was claimed: Σ len(item.Frame) of pieces, before they have left
	number   uint64 // of the message on its channel
	accepted time.Time

	pieces  []piece // the parts that it becomes
	one     [1]piece
	left    int         // how many of them are not done
	missing []wire.Peer // live members that one of them was given up for
	watch   *watch      // who holds how much of it; nil: nobody wants to know, or it has not left
}

// piece is a part to be.
type piece struct {
	item  store.Item    // as it is kept, once it has left; before, it has no seq, and its frame no identity but room for one
	batch *spread.Batch // that carries it; nil: it has not left yet
}

const (
	// minPiece and maxPiece bound the pieces of a large message, in bytes of data. Each travels in a stream of its own, which costs a
	// dial: not too small. Each waits as a whole at every hop, and others wait behind it: not too large.
	minPiece = 8 << 10
	maxPiece = 256 << 10
	// Each member heads as many pieces as any other, and so passes on as much: one, or crowdPieces where there are more than crowd, which
	// pass a piece on in several steps. Measured on loopback, 1 MiB to ten members: one takes three quarters of the time of two.
	crowd       = 16
	crowdPieces = 2
	// minPieces is how many a message is cut into where there are few members, so that they pass it on while it arrives.
	minPieces = 8
	maxPieces = 128
	// wholeMost is the largest message that is not cut: below, the streams that cutting costs take longer than what it saves. Measured on
	// loopback, ten members: 64 KiB whole takes a quarter of the time.
	wholeMost = 128 << 10
)

// pieceSize returns how large the pieces are that a message is cut into for so many members; total if it is not cut.
func pieceSize(total, members int) int {
	if total <= wholeMost {
		return total
	}
	pieces := members
	if members > crowd {
		pieces = crowdPieces * members
	}
	pieces = min(max(pieces, minPieces), maxPieces)
	return min(max((total+pieces-1)/pieces, minPiece), maxPiece)
}

// Init makes m a message of a channel. data is copied, and so is trace, the context of a trace, which may be empty. A name that is not "" lets
// it supersede one of the same name that has not left. members is about how many there are: a large message is cut accordingly.
func (m *Message) Init(ch *Channel, name string, data, trace []byte, members int) {
	m.ch, m.name = ch, name
	size := pieceSize(len(data), members)
	if size >= len(data) {
		m.one[0].init(ch.Key, data, trace, wire.Chunk{})
		m.pieces = m.one[:]
	} else {
		c := wire.Chunk{Total: uint32(len(data)), Size: uint32(size)}
		m.pieces = make([]piece, c.Count())
		for i := range m.pieces {
			c.Index = uint32(i)
			m.pieces[i].init(ch.Key, data[i*size:][:c.Len()], trace, c)
			trace = nil // the first piece has it, and is needed for any of the message
		}
	}
	m.left = len(m.pieces)
	for i := range m.pieces {
		m.room += len(m.pieces[i].item.Frame)
	}
}

func (p *piece) init(key string, data, trace []byte, c wire.Chunk) {
	room := wire.BodySize(key, len(data)) + wire.TraceSize(trace) + wire.IdentityRoom
	if !c.Whole() {
		room += wire.ChunkRoom
	}
	body := wire.AppendBody(make([]byte, 0, room), key, data)
	p.item.Chunk, p.item.Traced = c, len(trace) > 0
	p.item.Data = body[len(body)-len(data) : len(body) : len(body)]
	p.item.Frame = wire.AppendChunk(wire.AppendTrace(body, trace), c)
}

// issue makes the piece a part. Its data stays where it is: nothing is appended beyond the room that the frame has.
func (p *piece) issue(id wire.PartID, prev uint64) {
	p.item.ID, p.item.Prev = id, prev
	p.item.Frame = wire.AppendIdentity(p.item.Frame, id, prev, 0)
}

// supersede lets m have the content of a newer message of its name. It returns the room that the old content took.
func (m *Message) supersede(newer *Message) (freed int) {
	freed, m.room = m.room, newer.room
	m.pieces, m.left = newer.pieces, newer.left
	if len(m.pieces) == 1 {
		m.one = newer.one
		m.pieces = m.one[:]
	}
	return freed
}

// brings reports whether a part of the message is likely on its way to a member, or soon will be.
func (m *Message) brings(it *store.Item, member uint64, now time.Time) bool {
	b := m.pieces[it.Chunk.Index].batch
	return b == nil || b.Brings(member, now)
}

// done notes that one of the parts is done, but for some live members.
func (m *Message) done(missing []wire.Peer) {
	m.left--
	for _, p := range missing {
		if !slices.ContainsFunc(m.missing, func(o wire.Peer) bool { return o.ID == p.ID }) {
			m.missing = append(m.missing, p)
		}
	}
}

// foreign encodes the whole message as those read it that know no pieces.
func (m *Message) foreign(time.Time) []byte {
	total := 0
	for i := range m.pieces {
		total += len(m.pieces[i].item.Data)
	}
	data := make([]byte, 0, total)
	for i := range m.pieces {
		data = append(data, m.pieces[i].item.Data...)
	}
	return wire.AppendBody(make([]byte, 0, wire.BodySize(m.ch.Key, total)), m.ch.Key, data)
}

// bytes is how many bytes of data the message has, if it is in pieces.
func (m *Message) bytes() int { return int(m.pieces[0].item.Chunk.Total) }

// whole reports whether the message is one part.
func (m *Message) whole() bool { return len(m.pieces) == 1 }

// Channel returns the channel that the message is broadcast on.
func (m *Message) Channel() *Channel { return m.ch }

// Number counts the channel's own messages, in the order in which they were accepted, from 1.
func (m *Message) Number() uint64 { return m.number }

// Span is the seqs of the first and the last of its parts, once the message has left; 0 before.
func (m *Message) Span() (first, last uint64) {
	return m.pieces[0].item.ID.Seq, m.pieces[len(m.pieces)-1].item.ID.Seq
}

// Frame is its first part, encoded, once the message has left. Nobody may write to it.
func (m *Message) Frame() []byte { return m.pieces[0].item.Frame }
