package replica

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestRequests: of each member the last question for the state waits, of no more than so many members, and of none where
// there is no state.
func TestRequests(t *testing.T) {
	ch := &Channel{State: true}
	for i := range maxSnapshotRequests {
		if !ch.request(SnapshotRequest{testPeer(i + 1), uint64(i)}) {
			t.Fatalf("question %d is refused", i)
		}
	}
	if ch.request(SnapshotRequest{testPeer(999), 999}) || len(ch.snapshots) != maxSnapshotRequests {
		t.Errorf("%d questions wait", len(ch.snapshots))
	}
	if !ch.request(SnapshotRequest{testPeer(7), 1000}) || len(ch.snapshots) != maxSnapshotRequests || ch.snapshots[6] != (SnapshotRequest{testPeer(7), 1000}) {
		t.Errorf("asked again: %d questions wait, %+v", len(ch.snapshots), ch.snapshots[6])
	}
	if none := new(Channel); none.request(SnapshotRequest{testPeer(1), 1}) || none.Asked() || !ch.Asked() {
		t.Error("asked for a state that there is not")
	}
}

// TestStateAnswers: a question for a state wakes the handler of its channel, which is told once who asks; who asks is told at once, by
// stream, to wait, or that there is none, or that it is one too many. Who has not proved that it is where it says it is has to, first.
func TestStateAnswers(t *testing.T) {
	r := testReplica(testLimits(), maxSnapshotRequests+1)
	ch, plain := openChannel(r, Channel{Key: "state", State: true}), testChannel(r, "plain")
	r.out.Packets, r.out.Streams = nil, nil
	ask := func(i int, key string) starlingpb.Sync_Verdict {
		m := &starlingpb.SyncAsk{Id: uint64(i), Key: key, First: true}
		receiveControl(t, r, testPeer(i+1), wire.BodySyncAsk, m, start)
		told := takeTold(t, r, wire.BodySync, start)
		if len(told) != 1 {
			t.Fatalf("%d is told %d things", i, len(told))
		}
		var how starlingpb.Sync
		told[0].decode(t, &how)
		if how.GetProof() != 0 {
			if !told[0].stream || how.GetLast() {
				t.Errorf("%d has not proved where it is, and is told %+v", i, &how)
			}
			m.Proof = how.GetProof()
			receiveControl(t, r, testPeer(i+1), wire.BodySyncAsk, m, start)
			told = takeTold(t, r, wire.BodySync, start)
		}
		if len(told) != 1 {
			t.Fatalf("%d is told %d things", i, len(told))
		}
		if told[0].decode(t, &how); !told[0].stream || told[0].to != testPeer(i+1).Name || how.GetId() != uint64(i) || how.GetKey() != key || len(how.GetItems()) > 0 {
			t.Errorf("%d is told %+v", i, told[0])
		}
		return how.GetVerdict()
	}
	for i := range maxSnapshotRequests + 1 {
		want := starlingpb.Sync_WAIT
		if i == maxSnapshotRequests {
			want = starlingpb.Sync_FAILED
		}
		if v := ask(i, "state"); v != want {
			t.Errorf("%d is told %v", i, v)
		}
	}
	if who, plain := ask(0, "who"), ask(1, "plain"); who != starlingpb.Sync_NO_CHANNEL || plain != starlingpb.Sync_NO_CHANNEL {
		t.Errorf("of no state: %v, %v", who, plain)
	}
	if len(r.out.Wake) != 1 || r.out.Wake[0] != ch || plain.Asked() {
		t.Errorf("woken: %v", r.out.Wake)
	}
	who, s := r.States.Asked(ch)
	if len(who) != maxSnapshotRequests || who[3] != (SnapshotRequest{testPeer(4), 3}) || !s.partial {
		t.Errorf("%d ask, partial %v", len(who), s.partial)
	}
	if who, _ := r.States.Asked(ch); len(who) > 0 || ch.Asked() {
		t.Error("they are told twice")
	}
}

// TestOpen: of channels with one key, one is open at a time.
func TestOpen(t *testing.T) {
	r := testReplica(testLimits(), 0)
	a, b := &Channel{Key: "ch", FIFO: true}, &Channel{Key: "ch"}
	if !r.Open(a, start) || r.Open(b, start) || r.Channel("ch") != a || len(r.Channels()) != 1 {
		t.Error("the second is open")
	}
	for range 2 {
		r.Close(a, start) // twice does nothing
	}
	if r.Channel("ch") != nil || !a.Closed() || b.Closed() || !r.Open(b, start) || r.Channel("ch") != b {
		t.Error("the second is not open")
	}
	if r.Close(a, start); r.Channel("ch") != b {
		t.Error("to close the first once more closes the second")
	}
}

// TestClose: what waits for the handler of a channel that closes, for whatever reason, needs no handler any more; and what
// waits for the state of a channel that closed is told to nobody.
func TestClose(t *testing.T) {
	for name, ch := range map[string]Channel{
		"inbox":                   {Key: "ch"},
		"turn":                    {Key: "ch", FIFO: true, FIFOHold: time.Minute},
		"state":                   {Key: "ch", State: true},
		"state, and then in turn": {Key: "ch", State: true, FIFO: true, FIFOHold: time.Minute},
	} {
		r := testReplica(testLimits(), 1)
		ch := openChannel(r, ch)
		for seq := uint64(2); seq <= 5; seq++ { // 1 is missing
			receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, seq-1, 0), wire.RouteGossip, start)
		}
		receivePart(t, r, wire.AppendBody(nil, "ch", nil), wire.RouteGossip, start)
		log := r.intake.logged(101)
		if inbox, deferred := ch.Waiting(); inbox+deferred != 5 || !log.IsPending(2) || !log.IsPending(5) {
			t.Fatalf("%s: %d wait for the handler, and %d for something else", name, inbox, deferred)
		}
		ch.request(SnapshotRequest{testPeer(1), 1})
		r.Close(ch, start)
		for seq := uint64(2); seq <= 5; seq++ {
			if log.IsPending(seq) || !log.IsDone(seq) {
				t.Errorf("%s: part %d waits still", name, seq)
			}
		}
		if _, ok := r.Take(ch, start); ok || ch.inbox.len() != 0 || ch.inbox.messages != 0 || len(ch.sync.deferred) != 0 || ch.Asked() {
			t.Errorf("%s: something waits still", name)
		}
	}
}

// TestCloseEvicted: a part that history let go while it waited needs no handler either: it is not asked for when the channel has
// closed.
func TestCloseEvicted(t *testing.T) {
	lim := testLimits()
	lim.Bytes = 1000
	r := testReplica(lim, 1)
	ch := testChannel(r, "ch")
	for seq := range uint64(4) {
		receivePart(t, r, partOf("ch", make([]byte, 200), wire.PartID{Origin: 101, Seq: seq + 1}, seq, 0), wire.RouteGossip, start)
	}
	log := r.intake.logged(101)
	if !log.Incomplete() {
		t.Fatal("nothing was evicted")
	}
	if r.Close(ch, start); log.Incomplete() {
		t.Errorf("missing: %v", log.Missing(9))
	}
}
