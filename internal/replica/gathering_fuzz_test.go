package replica

import (
	"bytes"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// FuzzGathering lets a hostile member send pieces of messages for us alone with whatever fields, that overlap, change their sizes, have ended and
// never end, while another one sends an honest message in pieces. Nothing panics, what is claimed keeps within its bounds, the honest
// message is handled once and as it was sent, and in the end nothing is left.
//
// The script has six bytes for each hostile frame: its number, its floor, its index, its total and size, what it carries, and what happens after it.
func FuzzGathering(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1}) // one that is complete
	f.Add([]byte{1, 0, 0, 8, 0, 2, 2, 1, 1, 8, 1, 1, 1, 0, 1, 8, 0, 0, 3, 0, 200, 9, 2, 3})
	f.Add(bytes.Repeat([]byte{5, 0, 1, 16, 1, 3, 6, 4, 0, 24, 1, 7}, 20))
	f.Fuzz(func(t *testing.T, script []byte) {
		lim := testLimits()
		lim.Message = 4 * wire.MinDirectChunk
		r := testReplica(lim, 2)
		ch := openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 3, Bytes: 1 << 20}})
		r.Observer.Watch(ch, true)
		data := someData(2*wire.MinDirectChunk + 100)
		honest := directPieces(7, 1, data, wire.MinDirectChunk)
		now, got := start, 0
		step := func(from int, m *starlingpb.Direct) {
			receiveControl(t, r, testPeer(from), wire.BodyDirect, m, now)
			gs, claimed := r.Calls.gatherings, 0
			for key, g := range gs.all {
				if claimed += claim(g.chunk); g.gatheringKey != key || g.here > len(g.pieces) || g.done > int(g.chunk.Total) {
					t.Errorf("%v: %d pieces of %d", key, g.here, len(g.pieces))
				}
			}
			if claimed != gs.bytes || claimed > gs.most || gs.of[101]+gs.of[102] != claimed || gs.of[101] > gs.each {
				t.Errorf("%d bytes are claimed, %d by the hostile one", claimed, gs.of[101])
			}
			for _, d := range handleAll(r, ch, now) {
				if d.Origin == 102 {
					if got++; !bytes.Equal(d.Payload(), data) {
						t.Error("the honest message is damaged")
					}
				} else if len(d.Payload()) > lim.Message {
					t.Errorf("a message of %d bytes", len(d.Payload()))
				}
			}
			r.out.Packets, r.out.Streams, r.out.Progress = nil, nil, nil
		}
		for i := 0; len(script) >= 6 && i < 20; i++ {
			step(1, hostileDirect(script[:6]))
			now = now.Add(time.Duration(script[5]>>3) * 100 * time.Millisecond)
			if script[5]&1 > 0 {
				step(2, honest[int(script[5]>>1)%len(honest)])
			}
			if script[5]&4 > 0 {
				r.Tick(now)
			}
			script = script[6:]
		}
		for range 2 { // some of it may have given way
			for _, m := range honest {
				step(2, m)
			}
		}
		if got != 1 {
			t.Errorf("the honest message is handled %d times", got)
		}
		r.Calls.gatherings.sweep(now.Add(gatherLasts))
		holdsNothing(t, r)
	})
}

// hostileDirect makes a frame of a script.
func hostileDirect(script []byte) *starlingpb.Direct {
	m := &starlingpb.Direct{To: 1, Key: "ch", Series: uint64(script[0] >> 5), Id: uint64(script[0]&31) + 1, Floor: uint64(script[1] & 31)}
	m.Size = wire.MinDirectChunk + uint32(script[4]&7) - uint32(script[4]>>7)*wire.MinDirectChunk
	m.Total = m.Size + uint32(script[3])*(wire.MinDirectChunk/16) + uint32(script[4]>>3&3)
	m.Index = uint32(script[2])
	if m.Index == 255 {
		m.Index = 1<<32 - 1
	}
	if script[5]&2 == 0 {
		m.Data = make([]byte, min(m.Size, max(m.Total, m.Size*m.Index)-m.Size*m.Index)) // of the right length, as a rule
	}
	return m
}

// FuzzDirect feeds a replica bodies of Direct.
func FuzzDirect(f *testing.F) {
	m := directPieces(7, 2, someData(100_000), wire.MinDirectChunk)[0]
	fuzzControl(f, wire.BodyDirect, asking(m))
}
