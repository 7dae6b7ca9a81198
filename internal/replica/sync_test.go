package replica

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// newcomer returns a replica with a channel with state that waits for its first one, when it is time to ask.
func newcomer(members int) (r *Replica, ch *Channel, now time.Time) {
	r = testReplica(testLimits(), 0)
	ch = openChannel(r, Channel{Key: "state", State: true})
	for i := range members {
		r.Change(wire.Peer{}, testPeer(i+1), start)
	}
	return r, ch, start.Add(syncAfter)
}

// askedForState ticks, and returns who is asked for the state, and the number of the question; "" if nobody is.
func askedForState(t *testing.T, r *Replica, now time.Time) (name string, id uint64) {
	t.Helper()
	r.out.Packets, r.out.Streams = nil, nil
	r.Tick(now)
	name, m := stateQuestion(t, r, now)
	return name, m.GetId()
}

// stateQuestion returns who is asked for a state in what is to be sent, and how.
func stateQuestion(t *testing.T, r *Replica, now time.Time) (name string, last *starlingpb.SyncAsk) {
	t.Helper()
	for _, c := range takeTold(t, r, wire.BodySyncAsk, now) {
		var m starlingpb.SyncAsk
		if c.decode(t, &m); name != "" || !c.stream || m.GetKey() != "state" {
			t.Errorf("%s is asked by %+v", c.to, c)
		}
		name, last = c.to, &m
	}
	return name, last
}

// answer lets a member answer.
func answer(t *testing.T, r *Replica, name string, now time.Time, frames ...*starlingpb.Sync) {
	t.Helper()
	for _, m := range frames {
		receiveControl(t, r, r.roster.names[name], wire.BodySync, m, now)
	}
}

func spansOf(spans ...uint64) (set seqset.Set) {
	for i := 0; i < len(spans); i += 2 {
		set.AddRange(spans[i], spans[i+1])
	}
	return set
}

// TestFirstState: a newcomer's handler gets the state of one member first, in order, and then what came meanwhile, but for
// what the state contains.
func TestFirstState(t *testing.T) {
	r, ch, now := newcomer(2)
	part := func(seq uint64) {
		receivePart(t, r, partOf("state", []byte{byte(seq)}, wire.PartID{Origin: 102, Seq: seq}, 0, 0), wire.RouteGossip, now)
	}
	part(5)
	part(7)
	receivePart(t, r, wire.AppendBody(nil, "state", []byte{99}), wire.RouteGossip, now) // of a foreign member
	if name, _ := askedForState(t, r, now.Add(-1)); name != "" || !r.Busy() {
		t.Fatalf("%s is asked too soon", name)
	}
	name, id := askedForState(t, r, now)
	if name == "" {
		t.Fatal("nobody is asked")
	}
	if _, waiting := ch.Waiting(); waiting != 3 || !ch.sync.first() {
		t.Fatalf("%d parts wait for the state", waiting)
	}
	contains := coverage{102: spansOf(1, 5)}.encode(0)
	answer(t, r, name, now,
		&starlingpb.Sync{Id: id + 1, Key: "state", Last: true},                 // to another question
		&starlingpb.Sync{Id: id, Key: "other", Last: true},                     // of another channel
		&starlingpb.Sync{Id: id, Key: "state", Index: 2, Last: true},           // the end is early
		&starlingpb.Sync{Id: id, Key: "state", Index: 1, Items: [][]byte{{3}}}, // so is this
		&starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{{1}, {2}}, Contains: contains},
		&starlingpb.Sync{Id: id, Key: "state", Index: 1, Items: [][]byte{{4}}, Last: true}) // again
	var got []byte
	for _, d := range handleAll(r, ch, now) {
		got = append(got, d.Data...)
		if sync := len(got) <= 3; sync != (d.Route == wire.RouteSync) {
			t.Errorf("%d came by %v", d.Data, d.Route)
		}
	}
	if string(got) != "\x01\x02\x03\x07\x63" {
		t.Errorf("handled %v", got)
	}
	if ch.sync.first() || !ch.sync.at.IsZero() {
		t.Error("it waits for a state still")
	}
	part(3) // older than the state, and contained
	part(8)
	if seqs := seqsOf(handleAll(r, ch, now)); !slices.Equal(seqs, []uint64{8}) || !r.intake.logged(102).IsDone(3) {
		t.Errorf("handled %v afterwards", seqs)
	}
	// When nothing so old can come any more, that is not remembered.
	if r.Tick(now.Add(2*r.intake.age + time.Second)); ch.sync.covered != nil {
		t.Error("what the state contains is remembered for ever")
	}
}

// TestFirstStateOfAnother: who gives no state, does not answer, or is gone is not the last to be asked. When members say that they have
// none, the channel goes on without; while they do not answer, it asks again and again, and its handler goes on before what waits for it
// is too old.
func TestFirstStateOfAnother(t *testing.T) {
	for how, frames := range map[string][]*starlingpb.Sync{
		"partial": {{Items: [][]byte{{1}}, Last: true, Partial: true}},
		"nothing": {{Verdict: starlingpb.Sync_NO_CHANNEL, Last: true}},
		"failed":  {{Verdict: starlingpb.Sync_FAILED, Last: true}},
		"silent":  nil,
		"waiting": {{Verdict: starlingpb.Sync_WAIT}},
	} {
		t.Run(how, func(t *testing.T) {
			const members = 5
			r, ch, now := newcomer(members)
			asked := map[string]int{}
			for end := now.Add(2 * r.intake.age); now.Before(end); now = now.Add(25 * time.Millisecond) {
				name, id := askedForState(t, r, now)
				for name != "" {
					asked[name]++
					for _, f := range frames {
						f.Id, f.Key = id, "state"
						answer(t, r, name, now, f)
					}
					handleAll(r, ch, now)
					var m *starlingpb.SyncAsk
					name, m = stateQuestion(t, r, now)
					id = m.GetId()
				}
			}
			none := how == "partial" || how == "nothing"
			for i := range members {
				if n := asked[testPeer(i+1).Name]; none && n != 1 || !none && n < 3 {
					t.Errorf("%s was asked %d times", testPeer(i+1).Name, n)
				}
			}
			if ch.sync.synced != none || ch.sync.first() {
				t.Errorf("synced: %v, waits for the first state: %v", ch.sync.synced, ch.sync.first())
			}
		})
	}
}

// TestLateState: the answer of a member that was given up counts when it comes, unless another one is answering.
func TestLateState(t *testing.T) {
	r, ch, now := newcomer(2)
	first, id := askedForState(t, r, now)
	now = now.Add(syncTimeout + 1)
	second, other := askedForState(t, r, now)
	if second == "" || second == first {
		t.Fatalf("%q is asked after %q", second, first)
	}
	answer(t, r, first, now, &starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{{1}}})
	answer(t, r, second, now, &starlingpb.Sync{Id: other, Key: "state", Items: [][]byte{{9}}, Last: true})
	answer(t, r, first, now, &starlingpb.Sync{Id: id, Key: "state", Index: 1, Items: [][]byte{{2}}, Last: true})
	var got []byte
	for _, d := range handleAll(r, ch, now) {
		got = append(got, d.Data...)
	}
	if string(got) != "\x01\x02" || !ch.sync.synced {
		t.Errorf("handled %v", got)
	}
}

// TestStateInWindows: of a large state some frames come, and the next ones when they are asked for, while not too much waits for the
// handler; a frame that was lost is asked for again.
func TestStateInWindows(t *testing.T) {
	r, ch, now := newcomer(1)
	name, id := askedForState(t, r, now)
	item := make([]byte, SyncFrame)
	frame := func(i int) *starlingpb.Sync {
		return &starlingpb.Sync{Id: id, Key: "state", Index: uint32(i), Items: [][]byte{item}}
	}
	at := 0
	for ch.inbox.bytes <= syncAhead {
		answer(t, r, name, now, frame(at))
		at++
		if asked, m := stateQuestion(t, r, now); asked != "" && (int(m.GetNext()) != at || m.GetId() != id || m.GetAgain()) {
			t.Fatalf("after frame %d: %v", at-1, m)
		}
	}
	for int(ch.sync.taking.granted) > at {
		answer(t, r, name, now, frame(at))
		at++
	}
	answer(t, r, name, now, frame(at))
	if ch.sync.taking.next != uint32(at) || len(ch.sync.taking.early) > 0 {
		t.Error("a frame that was not asked for is taken")
	}
	now = now.Add(2 * time.Second)
	if asked, _ := askedForState(t, r, now); asked != "" {
		t.Error("more is asked for while too much waits")
	}
	handleAll(r, ch, now)
	asked, m := "", (*starlingpb.SyncAsk)(nil)
	r.out.Streams = nil
	r.Tick(now)
	if asked, m = stateQuestion(t, r, now); asked != name || int(m.GetNext()) != at {
		t.Fatalf("%q is asked %v", asked, m)
	}
	now = now.Add(syncTimeout + 1)
	r.Tick(now)
	if asked, m = stateQuestion(t, r, now); asked != name || int(m.GetNext()) != at || !m.GetAgain() {
		t.Fatalf("%q is asked %v", asked, m)
	}
	last := frame(at)
	last.Last = true
	if answer(t, r, name, now, last); !ch.sync.synced {
		t.Error("the state is not here")
	}
}

// TestStateTooLarge: a state that is larger than may be is told of, and so is an item, which is left out; a large item of a state that is
// one comes in pieces.
func TestStateTooLarge(t *testing.T) {
	told := func(r *Replica) (kinds []StateEventKind) {
		for _, e := range r.out.States {
			kinds = append(kinds, e.Kind)
		}
		return kinds
	}
	r, ch, now := newcomer(1)
	name, id := askedForState(t, r, now)
	answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Verdict: starlingpb.Sync_TOO_LARGE, Size: 5, Last: true})
	r.Tick(now)
	if got := told(r); ch.sync.first() || !slices.Equal(got, []StateEventKind{StateTooLarge}) || r.out.States[0].Size != 5 {
		t.Errorf("told %v", got)
	}

	r, ch, now = newcomer(1)
	name, id = askedForState(t, r, now)
	ch.sync.taking.bytes = SyncBytes - 100
	answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{make([]byte, 200)}, Last: true})
	if got := told(r); !slices.Equal(got, []StateEventKind{StateTooLarge}) {
		t.Errorf("told %v", got)
	}

	r, ch, now = newcomer(1)
	r.sync.message = 10
	name, id = askedForState(t, r, now)
	answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{make([]byte, 11), {7}}, Last: true})
	if ds := handleAll(r, ch, now); len(ds) != 1 || ds[0].Data[0] != 7 || !slices.Equal(told(r), []StateEventKind{StateItemTooLarge}) {
		t.Errorf("handled %v, told %v", ds, told(r))
	}

	r, ch, now = newcomer(1)
	r.sync.message, ch.Whole = 10, true
	name, id = askedForState(t, r, now)
	answer(t, r, name, now,
		&starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{[]byte("in several ")}, Split: true},
		&starlingpb.Sync{Id: id, Key: "state", Index: 1, Items: [][]byte{[]byte("pieces, ")}, Split: true},
		&starlingpb.Sync{Id: id, Key: "state", Index: 2, Items: [][]byte{[]byte("three"), []byte("next")}, Last: true})
	if ds := handleAll(r, ch, now); len(ds) != 2 || string(ds[0].Data) != "in several pieces, three" || string(ds[1].Data) != "next" {
		t.Errorf("handled %d items", len(ds))
	}
}

// TestFramesOf: a state that is cut into frames is the same when it is put together, whatever the sizes of its items.
func TestFramesOf(t *testing.T) {
	var items [][]byte
	for i, size := range []int{0, 1, SyncFrame - 1, SyncFrame, SyncFrame + 1, 3, 5*SyncFrame + 7, 100, SyncFrame / 2, SyncFrame / 2, 1} {
		items = append(items, bytes.Repeat([]byte{byte(i)}, size))
	}
	contains := coverage{}
	for i := range uint64(9000) {
		contains[i+1000] = spansOf(1, i+1)
	}
	r, ch, now := newcomer(1)
	ch.Whole = true
	name, id := askedForState(t, r, now)
	frames := framesOf(contains, items)
	for i, f := range frames {
		f.Id, f.Key, f.Index, f.Last = id, "state", uint32(i), i == len(frames)-1
		if frameSize(f) > 2*SyncFrame {
			t.Errorf("frame %d has %d bytes", i, frameSize(f))
		}
		answer(t, r, name, now, f)
	}
	ds := handleAll(r, ch, now)
	if len(ds) != len(items) || len(ch.sync.merged) != len(contains) {
		t.Fatalf("%d items, %d origins", len(ds), len(ch.sync.merged))
	}
	for i, d := range ds {
		if !bytes.Equal(d.Data, items[i]) {
			t.Errorf("item %d has %d bytes, want %d", i, len(d.Data), len(items[i]))
		}
	}
}

// TestStateBeforeAnybody: parts that come before anybody is known wait for the first state too.
func TestStateBeforeAnybody(t *testing.T) {
	r, ch, now := newcomer(0)
	receivePart(t, r, partOf("state", nil, wire.PartID{Origin: 101, Seq: 5}, 0, 0), wire.RouteGossip, now)
	if inbox, waiting := ch.Waiting(); inbox != 0 || waiting != 1 {
		t.Fatalf("%d in the inbox, %d wait", inbox, waiting)
	}
	r.Change(wire.Peer{}, testPeer(1), now)
	name, id := askedForState(t, r, now.Add(syncAfter))
	answer(t, r, name, now.Add(syncAfter), &starlingpb.Sync{Id: id, Key: "state", Last: true})
	if seqs := seqsOf(handleAll(r, ch, now)); !slices.Equal(seqs, []uint64{5}) {
		t.Errorf("handled %v", seqs)
	}
}

// TestDeferredFull: of what nobody keeps, no more waits for the first state than the inbox holds.
func TestDeferredFull(t *testing.T) {
	r, ch, now := newcomer(1)
	for range testInbox.Messages + 1 {
		receivePart(t, r, wire.AppendBody(nil, "state", nil), wire.RouteGossip, now)
	}
	if _, waiting := ch.Waiting(); waiting != testInbox.Messages || r.out.drops != only(DropInboxFull) {
		t.Errorf("%d wait, drops %v", waiting, r.out.drops)
	}
	receivePart(t, r, partOf("state", nil, wire.PartID{Origin: 101, Seq: 5}, 0, 0), wire.RouteGossip, now)
	if _, waiting := ch.Waiting(); waiting != testInbox.Messages+1 {
		t.Error("a part that is kept is dropped")
	}
}

func FuzzSync(f *testing.F) {
	contains := coverage{2: spansOf(1, 5, 7, 1<<63)}.encode(0)
	fuzzControl(f, wire.BodySync,
		&starlingpb.Sync{},
		&starlingpb.Sync{Id: 1, Key: "a state", Items: [][]byte{[]byte("a"), nil}},
		&starlingpb.Sync{Id: 1, Key: "a state", Items: [][]byte{[]byte("a"), nil}, Split: true},
		&starlingpb.Sync{Id: 1, Key: "a state", Index: 1<<32 - 1, Last: true, Partial: true},
		&starlingpb.Sync{Id: 1, Key: "a state", Verdict: starlingpb.Sync_TOO_LARGE, Last: true},
		&starlingpb.Sync{Id: 1, Key: "a state", Last: true, Contains: contains})
}

func FuzzSyncAsk(f *testing.F) {
	have := coverage{1: spansOf(1, 1), 9: spansOf(3, 1<<63)}.encode(0)
	fuzzControl(f, wire.BodySyncAsk,
		&starlingpb.SyncAsk{Id: 1, Key: "a state", First: true},
		&starlingpb.SyncAsk{Id: 1, Key: "a state", Have: have},
		&starlingpb.SyncAsk{Id: 1, Key: "a state", Next: 3, Again: true})
}

func FuzzStateDigest(f *testing.F) {
	fuzzControl(f, wire.BodyStates,
		&starlingpb.StateDigest{},
		&starlingpb.StateDigest{Channels: []*starlingpb.ChannelDigest{{Key: "a state", Sum: 7}}, Stream: true},
		&starlingpb.StateDigest{Answer: true, Channels: []*starlingpb.ChannelDigest{{Key: "a state", Sum: 7, Shape: 7}}})
}
