package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/receipt"
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
	for _, c := range takeTold(t, r, wire.BodySyncAsk, now) {
		var m starlingpb.SyncAsk
		if c.decode(t, &m); name != "" || !c.stream || !slices.Equal(m.GetKeys(), []string{"state"}) {
			t.Errorf("%s is asked by %+v", c.to, c)
		}
		name, id = c.to, m.GetId()
	}
	return name, id
}

// answer lets a member answer.
func answer(t *testing.T, r *Replica, name string, now time.Time, frames ...*starlingpb.Sync) {
	t.Helper()
	for _, m := range frames {
		receiveControl(t, r, r.roster.names[name], wire.BodySync, m, now)
	}
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
	contains := []*starlingpb.OriginDigest{receipt.EncodeDigest(102, receipt.Digest{Floor: 5, Known: 5, Top: 9})}
	answer(t, r, name, now,
		&starlingpb.Sync{Id: id + 1, Key: "state", Last: true},                 // to another question
		&starlingpb.Sync{Id: id, Key: "other", Last: true},                     // of another channel
		&starlingpb.Sync{Id: id, Key: "state", Index: 2, Last: true},           // the end is early
		&starlingpb.Sync{Id: id, Key: "state", Index: 1, Items: [][]byte{{3}}}, // so is this
		&starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{{1}, {2}}, Handled: contains},
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
	if ch.sync.first() || r.sync.busy() {
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

// TestStateOfAnother: who does not answer, is gone, or waits for the state itself is not the last to be asked, but only so
// many are.
func TestStateOfAnother(t *testing.T) {
	const partial, silent, gone = "partial", "silent", "gone"
	for _, how := range []string{partial, silent, gone} {
		r, ch, now := newcomer(9)
		asked := map[string]bool{}
		for i := range syncTries {
			name, id := askedForState(t, r, now)
			if i > 0 && how == partial { // it was asked at once
				name, id = r.roster.get(ch.sync.donor).Name, ch.sync.id
			}
			if name == "" || asked[name] {
				t.Fatalf("%s: %q is asked as number %d of %v", how, name, i, asked)
			}
			asked[name] = true
			switch how {
			case partial:
				answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Last: true, Partial: true, Items: [][]byte{{1}}})
			case silent:
				if again, _ := askedForState(t, r, now.Add(syncTimeout)); again != "" {
					t.Errorf("%s is asked too soon after %s", again, name)
				}
				now = now.Add(syncTimeout + 1)
			case gone:
				r.Change(r.roster.names[name], wire.Peer{}, now)
				now = now.Add(syncTimeout + 1)
			}
		}
		if name, _ := askedForState(t, r, now); name != "" || ch.sync.first() || !ch.sync.done || r.sync.busy() {
			t.Errorf("%s: %q is asked when %d were", how, name, len(asked))
		}
	}
}

// TestStateTooLarge: a state that is larger than may be, or comes in too many pieces at once, is not waited for; and an item
// that is too large is left out.
func TestStateTooLarge(t *testing.T) {
	r, ch, now := newcomer(1)
	name, id := askedForState(t, r, now)
	item := make([]byte, 1<<20)
	for i := range uint32(SyncBytes>>20 - 1) {
		answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Index: i, Items: [][]byte{item}})
	}
	if !ch.sync.first() || len(handleAll(r, ch, now)) != SyncBytes>>20-1 {
		t.Fatal("given up too soon")
	}
	if answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Index: SyncBytes>>20 - 1, Items: [][]byte{item}}); ch.sync.first() || r.out.drops != only(DropTooLarge) {
		t.Errorf("drops %v", r.out.drops)
	}

	r, ch, now = newcomer(1)
	name, id = askedForState(t, r, now)
	for i := range uint32(SyncBytes/SyncFrame + 2) {
		if !ch.sync.first() {
			t.Fatalf("given up at piece %d", i)
		}
		answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Index: i + 1})
	}
	if ch.sync.first() || r.out.drops != only(DropTooLarge) || ch.sync.early != nil {
		t.Errorf("drops %v", r.out.drops)
	}

	r, ch, now = newcomer(1)
	r.sync.message = 10
	name, id = askedForState(t, r, now)
	answer(t, r, name, now, &starlingpb.Sync{Id: id, Key: "state", Items: [][]byte{make([]byte, 11), {7}}, Last: true})
	if ds := handleAll(r, ch, now); len(ds) != 1 || ds[0].Data[0] != 7 || r.out.drops != only(DropTooLarge) {
		t.Errorf("handled %v, drops %v", ds, r.out.drops)
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
	fuzzControl(f, wire.BodySync,
		&starlingpb.Sync{},
		&starlingpb.Sync{Id: 1, Key: "state", Items: [][]byte{[]byte("a"), nil}},
		&starlingpb.Sync{Id: 1, Key: "state", Index: 1<<32 - 1, Last: true, Partial: true},
		&starlingpb.Sync{Id: 1, Key: "state", Last: true, Handled: []*starlingpb.OriginDigest{{Origin: 2, Floor: 5, Top: 5}}})
}
