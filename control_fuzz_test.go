package starling

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

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
		now := simEpoch
		retention := Retention{Bytes: 64 << 10, Age: 15 * time.Second}
		n, liar := newNode(0, 1, retention, now), newNode(1, 2, retention, now)
		state := &channel{key: "state"}
		state.inbox.limit = Inbox{Messages: 16, Bytes: 64 << 10}
		state.sync.enabled = true
		n.r.open(state, now)
		n.change(Member{}, liar.member, now)
		n.broadcast(0, make([]byte, 100), now)
		n.broadcast(1, make([]byte, 2000), now)
		// Whatever the liar is asked, it may answer: a sync counts only while one is asked for.
		state.sync.at, state.sync.donor, state.sync.id = now, liar.member.ID, 1
		state.sync.until, state.sync.early = now.Add(time.Hour), map[uint32]*starlingpb.Sync{}
		n.r.rep.asks[liar.member.ID] = &ask{at: now.Add(time.Hour)}
		n.pump(now)
		n.outputs()
		frame := frameControl(liar.r.self, body, content)
		sent := 0
		for range 8 {
			_ = n.receive(frame, now)
			n.pump(now)
			packets, streams := n.outputs()
			for _, p := range packets {
				sent += p.len()
			}
			for _, p := range streams {
				sent += p.bytes
			}
			for k := range n.channels {
				for d, ok := n.take(k); ok; d, ok = n.take(k) {
					n.handled(d, now)
				}
			}
			now = now.Add(tickEvery)
			n.tick(now)
		}
		bounded(t, n, state, len(frame), sent)
	})
}

// bounded checks what a replica holds after frames of that size.
func bounded(t *testing.T, n *node, state *channel, size, sent int) {
	t.Helper()
	r := n.r
	if len(r.windows) > maxWindows || len(r.tops) > maxTops || len(r.rep.pulls) > pullsAtOnce {
		t.Errorf("%d windows, %d tops, %d pulls", len(r.windows), len(r.tops), len(r.rep.pulls))
	}
	for _, w := range r.windows {
		if len(w.holes.list) > maxRanges+1 || w.held.count() > maxRanges+1 || w.pending.count() > maxRanges+1 {
			t.Errorf("a window of %d holes, %d held, %d pending", len(w.holes.list), w.held.count(), w.pending.count())
		}
	}
	if r.history.bytes() > r.lim.retention.Bytes {
		t.Errorf("history of %d bytes, bound %d", r.history.bytes(), r.lim.retention.Bytes)
	}
	if got := state.sync.bytes; got > syncBytes+itemOverhead*8*size {
		t.Errorf("%d bytes of state from frames of %d", got, size)
	}
	// Eight frames ask for no more than eight answers, each at most the bucket's worth or as large as the question.
	if bound := serveBurst + 8*(2*size+8*MaxGossipPacketSize); sent > bound {
		t.Errorf("%d bytes sent for frames of %d, bound %d", sent, size, bound)
	}
}

func FuzzDigest(f *testing.F) {
	fuzzControl(f, bodyDigest,
		&starlingpb.Digest{},
		&starlingpb.Digest{Complete: true, Stream: true},
		&starlingpb.Digest{Origins: []*starlingpb.OriginDigest{{Origin: 2, Floor: 3, Top: 9, Held: []uint64{2, 1}}, {Origin: 7, Top: 1 << 63}}},
		&starlingpb.Digest{Answer: true, Origins: []*starlingpb.OriginDigest{{Origin: 1, Top: 1}, {Origin: 2, Top: 1<<64 - 1}}})
}

func FuzzPull(f *testing.F) {
	fuzzControl(f, bodyPull,
		&starlingpb.Pull{},
		&starlingpb.Pull{Id: 1, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1}}}},
		&starlingpb.Pull{Id: 1, Stream: true, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1<<64 - 2}}, {Origin: 9, Spans: []uint64{1, 0, 2, 0}}}})
}

func FuzzSync(f *testing.F) {
	fuzzControl(f, bodySync,
		&starlingpb.Sync{},
		&starlingpb.Sync{Id: 1, Key: "state", Items: [][]byte{[]byte("a"), nil}},
		&starlingpb.Sync{Id: 1, Key: "state", Index: 1<<32 - 1, Last: true, Partial: true},
		&starlingpb.Sync{Id: 1, Key: "state", Last: true, Handled: []*starlingpb.OriginDigest{{Origin: 2, Floor: 5, Top: 5}}})
}

func FuzzBaseline(f *testing.F) {
	fuzzControl(f, bodyBaseline,
		&starlingpb.Baseline{},
		&starlingpb.Baseline{Next: 1, Top: 1<<64 - 1},
		&starlingpb.Baseline{Next: 1<<64 - 1, Top: 1<<64 - 1})
}

func FuzzBatchControl(f *testing.F) {
	frame := appendIdentity(appendBody(nil, "fifo", []byte("data")), partID{2, 5}, 3, time.Second)
	f.Add(append([]byte{1 << 3, 0}, protowire.AppendBytes([]byte{2<<3 | 2}, frame)...))
	fuzzControl(f, bodyBatch, &starlingpb.Batch{Pull: 1, Lacks: []*starlingpb.Ranges{{Origin: 2, Spans: []uint64{1, 1<<64 - 2}}}})
}
