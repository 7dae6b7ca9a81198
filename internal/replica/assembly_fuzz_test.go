package replica

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// FuzzAssembly lets a hostile member send pieces with whatever fields, of messages that overlap, change their sizes and never end, while
// another one sends an honest message in pieces. Nothing panics, what is held keeps within its bound, the honest message is handed on
// once and as it was sent, and in the end nothing is left.
//
// The script has four bytes for each hostile piece: its seq, its index, how many pieces there are and how large, and what happens after it.
func FuzzAssembly(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 2, 0, 2, 1, 2, 0, 3, 2, 2, 0, 4, 0, 9, 1}) // one that is complete, and one that is not
	f.Add([]byte{5, 1, 4, 0, 5, 1, 5, 0, 5, 2, 4, 0, 6, 1, 4, 3}) // others of the same seqs
	f.Add([]byte{9, 0, 255, 1, 8, 200, 255, 2, 1, 7, 255, 3, 250, 249, 251, 7})
	f.Add(bytes.Repeat([]byte{3, 1, 7, 2, 200, 3, 9, 1}, 40))
	f.Fuzz(func(t *testing.T, script []byte) {
		lim := testLimits()
		lim.Bytes, lim.Message = 1<<20, 1<<18
		r := testReplica(lim, 2)
		ch := testChannel(r, "ch")
		for _, id := range []uint64{101, 102} {
			r.intake.rebase(r.roster.get(id), 1, 0, start)
		}
		data := someData(3*wire.MinChunk + 100)
		honest := piecesFrom(102, data, 1)
		now, sent := start, 0
		for len(script) >= 4 && now.Sub(start) < lim.Age/2 && sent < lim.Bytes/2 { // what is sent before does not push the honest one out
			frame := hostilePiece(script[:4])
			if p, err := wire.ParsePart(frame); err == nil {
				r.Receive(p, frame, wire.RouteStream, now)
				sent += len(frame) + store.ItemOverhead
			}
			switch after := script[3]; {
			case after&1 > 0 && len(honest) > 0: // an honest one, from either end, perhaps twice
				at := int(after>>1&1) * (len(honest) - 1)
				receivePart(t, r, honest[at], wire.RouteStream, now)
				if after&4 == 0 {
					honest = slices.Delete(honest, at, at+1)
				}
			case after&2 > 0:
				now = now.Add(time.Duration(after) * 4 * time.Millisecond)
				r.Tick(now)
			}
			r.out.Packets, r.out.Streams = nil, nil
			checkHeld(t, r, ch)
			script = script[4:]
		}
		for _, frame := range honest {
			receivePart(t, r, frame, wire.RouteStream, now)
		}
		got := 0
		for _, d := range handleAll(r, ch, now) {
			if want := int(d.Item.Chunk.Total); len(d.Payload()) != max(want, len(d.Item.Data)) {
				t.Errorf("a message of %d bytes has %d", want, len(d.Payload()))
			}
			if d.Origin == 102 {
				if got++; !bytes.Equal(d.Payload(), data) {
					t.Error("the honest message is damaged")
				}
			}
		}
		if got != 1 {
			t.Errorf("the honest message is handed on %d times", got)
		}
		for end := now.Add(5 * lim.Age); now.Before(end); now = now.Add(time.Second) {
			r.Tick(now)
			r.out.Packets, r.out.Streams = nil, nil
		}
		if r.intake.history.Len() > 0 || len(ch.assembly.partial) > 0 || r.roster.get(101) != nil && len(r.roster.get(101).coming) > maxComing {
			t.Errorf("left: %d parts, %d messages", r.intake.history.Len(), len(ch.assembly.partial))
		}
	})
}

// hostilePiece makes a piece of origin 101 whose fields a script of four bytes says. Not all are well-formed.
func hostilePiece(script []byte) []byte {
	c := wire.Chunk{
		Size: wire.MinChunk + uint32(script[3]>>4), Index: uint32(script[1]), Total: uint32(script[2])*wire.MinChunk + uint32(script[3]&8)*500,
	}
	seq, n := uint64(script[0]), 0
	if script[0] > 240 { // far beyond
		seq = 1 << (script[0] - 200)
	}
	if int(c.Index) < c.Count() {
		n = c.Len()
	}
	return wire.AppendIdentity(wire.AppendChunk(wire.AppendBody(nil, "ch", make([]byte, n)), c), wire.PartID{Origin: 101, Seq: seq}, 0, 0)
}

// checkHeld holds what is held of messages in pieces against its bound: every piece is in history, once, but for a few that have gone.
func checkHeld(t *testing.T, r *Replica, ch *Channel) {
	t.Helper()
	for key, p := range ch.assembly.sorted() {
		if len(p.items) == 0 || len(p.items) >= (wire.Chunk{Total: key.total, Size: key.size}).Count() {
			t.Errorf("%+v has %d pieces", key, len(p.items))
		}
		if slices.ContainsFunc(p.items, func(it *store.Item) bool { return !it.Kept() }) {
			t.Errorf("%+v waits with pieces that are not kept", key)
		}
	}
	held, gone := heldPieces(ch), 0
	for it, n := range held {
		if n > 1 {
			t.Errorf("%v is held %d times", it.ID, n)
		}
		if !it.Kept() {
			gone++
		}
	}
	if gone > max(inboxSlack, ch.inbox.len()/2) || len(held)-gone > r.intake.history.Len() || r.intake.history.Bytes() > 1<<20 {
		t.Errorf("%d pieces are held, %d of them gone, %d parts kept", len(held), gone, r.intake.history.Len())
	}
	for _, p := range r.roster.peers {
		if len(p.coming) > maxComing {
			t.Errorf("%d stretches are said to come", len(p.coming))
		}
	}
}
