package replica

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// fuzzedReplica has a batch of its own on its way among twelve members.
func fuzzedReplica() *Replica {
	lim := testLimits()
	lim.Bytes = 1 << 20
	r := testReplica(lim, 12)
	say(r, testChannel(r, "ch"), "", []byte("ours"))
	r.Sender.Pump(start)
	return r
}

// comeToRest lets time pass until nothing is on its way, and holds the replica against its bounds.
func comeToRest(t *testing.T, r *Replica) {
	t.Helper()
	now, sent := start, 0
	for steps := 0; ; steps++ {
		next, again := r.Sender.Pump(now)
		sent += len(r.out.Packets) + len(r.out.Streams)
		r.out.Packets, r.out.Streams = nil, nil
		if !again {
			break
		}
		if now = next; steps > 20_000 {
			t.Fatal("it never comes to rest")
		}
	}
	if sent > 2000 {
		t.Errorf("%d frames were sent", sent)
	}
	s := r.spreader.spread
	if r.Sender.budget.messages != 0 || s.Flow.Sent != 0 || len(s.Served) != 0 || r.intake.history.Bytes() > 1<<20 {
		t.Errorf("%+v, %d bytes on their way, %d roots served", r.Sender.budget, s.Flow.Sent, len(s.Served))
	}
}

// FuzzSpread: whatever comes as a batch, the replica comes to rest.
func FuzzSpread(f *testing.F) {
	part := partOf("ch", []byte("data"), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
	for _, end := range []uint64{0, 1, spread.Position("p3"), spread.Position("self"), 1<<64 - 1} {
		for _, flags := range []uint64{0, wire.FlagList, wire.FlagStream, wire.FlagList | wire.FlagStream} {
			f.Add(spreadContent(wire.BatchID{Root: 101, N: 1}, end, flags, spread.AppendParts(nil, []*store.Item{{Frame: part}}, start)))
		}
	}
	f.Add(spreadContent(wire.BatchID{Root: 101, N: 1}, 7, 0, nil))
	f.Add(spreadContent(wire.BatchID{Root: 1, N: 1}, 7, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := wire.ParseSpread(b)
		if err != nil {
			return
		}
		r := fuzzedReplica()
		for i := range 3 { // and the same from others
			r.spreader.receive(testPeer(i+1), frame, start)
		}
		comeToRest(t, r)
	})
}

// FuzzReports: whatever members report, and however often, the batch ends.
func FuzzReports(f *testing.F) {
	f.Add(wire.AppendReport(wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}}), wire.Report{
		ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 2, Sum: 3, Gone: []uint64{4}, More: true, List: []uint64{5, 6},
	}))
	f.Add(wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}, Done: true, Count: 1, Sum: spread.Position("p1")}))
	f.Add(wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}, Done: true, List: []uint64{spread.Position("p1"), spread.Position("p2")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := fuzzedReplica()
		for range 3 {
			for i := range 12 {
				r.spreader.report(r.roster.get(uint64(101+i)), b, start)
			}
			r.Sender.Pump(start)
		}
		comeToRest(t, r)
	})
}
