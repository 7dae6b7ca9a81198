package replica

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestReportsOfStrangers: they are counted, and end nothing.
func TestReportsOfStrangers(t *testing.T) {
	r := testReplica(testLimits(), 2)
	say(r, testChannel(r, "ch"), "", nil)
	r.Sender.Pump(start)
	open := len(r.spreader.spread.Batches)
	c := wire.Control{From: wire.Peer{ID: 999}, Body: wire.BodyReports, Content: wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}, Done: true})}
	if err := r.Control(c, start); err != nil || r.out.drops != only(DropStranger) {
		t.Errorf("%v, drops %v", err, r.out.drops)
	}
	if n := len(r.spreader.spread.Batches); open != 1 || n != open || r.Outstanding() != 1 {
		t.Errorf("%d batches on their way, %d after the report", open, n)
	}
}

// fuzzControl gives the bodies of control frames to a replica, from a member and again and again. Nothing may panic, and
// what the replica remembers stays within its bounds.
func fuzzControl(f *testing.F, body protowire.Number, seeds ...proto.Message) {
	for _, m := range seeds {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		now := start
		keep := bounds{bytes: 64 << 10, age: 15 * time.Second}
		n, liar := newNode(0, 1, keep, now), newNode(1, 2, keep, now)
		state := openChannel(n.r, Channel{Key: "a state", State: true, Inbox: InboxLimits{Messages: 16, Bytes: 64 << 10}})
		n.change(wire.Peer{}, liar.member, now)
		n.broadcast(0, "", make([]byte, 100), now)
		n.broadcast(1, "", make([]byte, 2000), now)
		// Whatever the liar is asked, it may answer: a sync counts only while one is asked for.
		n.r.sync.begin(&state.sync, now)
		n.r.sync.from(&state.sync, n.r.roster.get(liar.member.ID), now)
		state.sync.asked[liar.member.ID], state.sync.until = 1, now.Add(time.Hour)
		n.r.baselines.ask(n.r.roster.get(liar.member.ID), false, now)
		n.r.roster.get(liar.member.ID).asked.at = now.Add(time.Hour)
		n.pump(now)
		n.outputs()
		frame := wire.FrameControl(liar.member, body, content)
		sent := 0
		for range 8 {
			_ = n.receive(frame, now)
			n.pump(now)
			packets, streams := n.outputs()
			for _, p := range packets {
				sent += p.Len()
			}
			for _, s := range streams {
				sent += s.Size
			}
			for k := range n.channels {
				for d, ok := n.take(k, now); ok; d, ok = n.take(k, now) {
					n.handled(k, d, now)
				}
			}
			now = now.Add(tickEvery)
			n.tick(now)
		}
		checkBounds(t, n, state, len(frame), sent)
	})
}

// checkBounds checks what a replica holds after frames of that size.
func checkBounds(t *testing.T, n *node, state *Channel, size, sent int) {
	t.Helper()
	r := n.r
	checkRoster(t, r.roster)
	if len(r.pulls.open) > pullsAtOnce {
		t.Errorf("%d pulls", len(r.pulls.open))
	}
	for _, p := range r.roster.peers {
		if p.log != nil && p.log.Ranges() > receipt.MaxRanges+1 {
			t.Errorf("a log of %d ranges of one kind", p.log.Ranges())
		}
	}
	if r.intake.history.Bytes() > n.lim.Bytes {
		t.Errorf("history of %d bytes, bound %d", r.intake.history.Bytes(), n.lim.Bytes)
	}
	if got := state.sync.taking.bytes; got > SyncBytes+store.ItemOverhead*8*size {
		t.Errorf("%d bytes of state from frames of %d", got, size)
	}
	if s := &state.sync; len(s.merged) > 8*wire.MaxSyncItems || len(s.taking.early) > syncWindow || len(s.differ) > 1 || len(s.unmerged) > 8 {
		t.Errorf("%d origins merged, %d frames early, %d members differ, %d states unmerged", len(s.merged), len(s.taking.early), len(s.differ), len(s.unmerged))
	}
	// Eight frames ask for no more than eight answers, each at most the bucket's worth or as large as the question.
	if bound := serveBurst + 8*(2*size+8*packetSize); sent > bound {
		t.Errorf("%d bytes sent for frames of %d, bound %d", sent, size, bound)
	}
}

func FuzzBatchControl(f *testing.F) {
	frame := partOf("fifo", []byte("data"), wire.PartID{Origin: 2, Seq: 5}, 3, time.Second)
	f.Add(append([]byte{1 << 3, 0}, protowire.AppendBytes([]byte{2<<3 | 2}, frame)...))
	fuzzControl(f, wire.BodyBatch, &starlingpb.Batch{Pull: 1, Lacks: []*starlingpb.Ranges{{Origin: 2, Spans: []uint64{1, 1<<64 - 2}}}})
}
