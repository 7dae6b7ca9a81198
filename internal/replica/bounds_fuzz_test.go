package replica

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// FuzzBounds gives frames to a replica that knows one other member and is never told to send or to tick: whatever comes, it does
// not panic, and what it holds keeps within its bounds.
func FuzzBounds(f *testing.F) {
	p1 := wire.Peer{ID: 101, Name: "p1", Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	part := wire.AppendIdentity(wire.AppendBody(nil, "ch", []byte("data")), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
	content := wire.AppendSpread(nil, wire.BatchID{Root: 101, N: 1}, 7, wire.FlagList)
	f.Add(part)
	f.Add(wire.AppendBody(nil, "ch", []byte("of a foreign member")))
	f.Add(wire.AppendIdentity(wire.AppendBody(nil, "unknown", nil), wire.PartID{Origin: 7, Seq: 1 << 60}, 0, 0))
	f.Add(wire.FrameControl(p1, wire.BodySpread, append(content, spread.AppendParts(nil, []*store.Item{{Frame: part}}, time.Now())...)))
	f.Add(wire.EncodeBatch(p1, starlingpb.Batch_STREAM, part, part[:5], wire.AppendBody(nil, "who", nil)))
	f.Add(wire.EncodeControl(p1, wire.BodyDirect, &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 3, Floor: 2}))
	f.Add(wire.EncodeControl(p1, wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch"}))

	const kept, messages = 1 << 20, 1024
	r := New(wire.Peer{ID: 1, Name: "self", Addr: netip.MustParseAddrPort("127.0.0.1:9")}, Limits{
		Gossip: 700, Packet: 1390, Message: kept / 2, Bytes: kept, Age: time.Minute, QueueMessages: 100, QueueBytes: kept,
	})
	ch := &Channel{Key: "ch", Inbox: InboxLimits{Messages: messages, Bytes: kept}}
	r.Open(ch, time.Now())
	r.Change(wire.Peer{}, p1, time.Now())
	f.Fuzz(func(t *testing.T, frame []byte) {
		reused := bytes.Clone(frame)
		if p, err := wire.ParsePart(reused); err == nil && len(p.Key) > 0 {
			r.Receive(p, reused, wire.RouteGossip, time.Now())
		} else if ctl, err := wire.ParseControl(p.Control); err == nil {
			_ = r.Control(ctl, time.Now())
		}
		clear(reused) // whoever reads packets reuses it
		logs := 0
		for _, p := range r.roster.peers {
			if p.log != nil {
				logs++
			}
		}
		if logs > maxPeers+1 || r.roster.absent > maxPeers {
			t.Errorf("%d logs of parts, %d peers that are no members", logs, r.roster.absent)
		}
		if h := r.intake.history.Bytes(); h > kept {
			t.Errorf("%d bytes kept", h)
		}
		if batches := len(r.spreader.spread.Batches); batches > spread.MaxBatches || len(r.out.Packets) > maxPackets {
			t.Errorf("%d batches, %d packets", batches, len(r.out.Packets))
		}
		if ch.inbox.messages > messages {
			t.Errorf("inbox of %d", ch.inbox.messages)
		}
		e := r.Effects()
		e.Streams, e.Wake = nil, nil
		for d, ok := r.Take(ch, start); ok; d, ok = r.Take(ch, start) {
			if d.Item != nil && !d.Item.Kept() {
				t.Error("delivered what is not kept")
			}
		}
	})
}
