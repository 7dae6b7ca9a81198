package starling

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// seedFrames gives a fuzzer frames of every kind to start from.
func seedFrames(f *testing.F) {
	from := wire.Peer{ID: 101, Name: "p1", Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	part := wire.AppendIdentity(wire.AppendBody(nil, "ch", []byte("data")), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
	batch := func(n, flags uint64, frames ...[]byte) []byte {
		var items []*store.Item
		for _, frame := range frames {
			items = append(items, &store.Item{Frame: frame})
		}
		return append(wire.AppendSpread(nil, wire.BatchID{Root: 101, N: n}, 7, flags), spread.AppendParts(nil, items, time.Now())...)
	}
	f.Add([]byte(nil))
	f.Add(part)
	f.Add(wire.AppendBody(nil, "ch", []byte("foreign")))
	f.Add(wire.EncodeControl(from, wire.BodyGoodbye, &starlingpb.Goodbye{}))
	f.Add(wire.EncodeControl(wire.Peer{ID: 999, Name: "s", Addr: from.Addr}, wire.BodyGoodbye, &starlingpb.Goodbye{})) // of who is no member
	f.Add(wire.EncodeControl(from, wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{}))
	f.Add(wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 3, Floor: 2}))
	f.Add(wire.EncodeControl(from, wire.BodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_BUSY}))
	f.Add(wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{Key: "ch", Id: 5, Total: 100_000, Size: wire.MinDirectChunk, Index: 1}))
	f.Add(wire.EncodeControl(from, wire.BodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_LACKING, Index: 1, Gathering: 2}))
	f.Add(wire.EncodeBatch(from, starlingpb.Batch_STREAM, part, part[:5], wire.AppendBody(nil, "who", nil)))
	f.Add(wire.FrameControl(from, wire.BodySpread, batch(1, wire.FlagList, part)))
	f.Add(wire.FrameControl(from, wire.BodyReports, wire.AppendReport(wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}}), wire.Report{
		ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 2, Sum: 3, Gone: []uint64{4}, More: true, List: []uint64{5, 6},
	})))
	brief := wire.Peer{ID: 101}
	f.Add(wire.FrameControl(brief, wire.BodySpread, batch(2, 1<<wire.TryShift, part, part)))
	f.Add(wire.FrameControl(brief, wire.BodyReports, wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 1, Sum: 3, Try: 1, List: make([]uint64, 40)})))
	f.Add(wire.EncodeControl(brief, wire.BodyGoodbye, &starlingpb.Goodbye{}))
	f.Add(wire.EncodeControl(brief, wire.BodyDirect, &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 4}))
	f.Add(wire.EncodeBundle(from, [][]byte{wire.FrameControl(brief, wire.BodyReports, wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}}))}))
	f.Add(wire.EncodeControl(from, wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch"}))
	f.Add(wire.EncodeBundle(from, [][]byte{wire.EncodeControl(from, wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{}), part}))
	f.Add([]byte("\n\x0200\x12\x040000\x100")) // the data's field again, in another type
	f.Add(wire.AppendFullState(wire.AppendFullState(nil, "a", []byte("1")), "b", nil))
}

// FuzzAnswer: whoever reads packets writes none, for it might wait for another one that does the same; and who is no member is
// answered at no more length than it asked.
func FuzzAnswer(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		c := unstarted(t, Config{})
		c.inlet.receive(frame)
		for _, p := range c.replica.Effects().Packets {
			if p.Len() > len(frame) {
				t.Errorf("answered %d bytes of who is no member by %d", len(frame), p.Len())
			}
		}
	})
}

// FuzzNotifyMsg feeds the delegate of a live member, which knows one other: whatever comes, it does not panic, counts what
// is malformed, and keeps within its bounds. Those that are the replica's own are held there.
func FuzzNotifyMsg(f *testing.F) {
	seedFrames(f)
	const retention = 1 << 20
	tap := newTap("10.0.0.1:7946")
	tap.member = "127.0.0.1:1" // p1 gets digests and answers at any time
	c, err := New(Config{Name: "self", Transport: tap, Logger: slog.New(slog.DiscardHandler), Retention: Retention{Bytes: retention}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	ch := openUnserved(c, "ch")
	c.table.NotifyJoin(testNode("p1", 101, 1, ""))
	f.Fuzz(func(t *testing.T, frame []byte) {
		malformed := c.Stats().Dropped[DropMalformed]
		p, err := wire.ParsePart(frame)
		if err == nil && len(p.Key) == 0 {
			_, err = wire.ParseControl(p.Control)
		}
		reused := bytes.Clone(frame)
		c.delegate.NotifyMsg(reused)
		c.delegate.MergeRemoteState(reused, true)
		clear(reused) // memberlist reuses it
		if err != nil && c.Stats().Dropped[DropMalformed] == malformed {
			t.Errorf("malformed, and not counted: %v", err)
		}
		c.do(func(r *replica.Replica, now time.Time) {
			kept, unkept := r.Stats(now).KeptBytes, 0
			for d, ok := r.Take(&ch.core, now); ok; d, ok = r.Take(&ch.core, now) {
				if d.Item == nil {
					unkept++
				} else if !d.Item.Kept() {
					t.Error("delivered what is not kept")
				}
			}
			if kept > retention || unkept > DefaultInboxMessages {
				t.Errorf("%d bytes kept, inbox of %d beside them", kept, unkept)
			}
		})
	})
}
