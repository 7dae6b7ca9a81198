package replica

import (
	"strings"
	"testing"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// directOf lets a message of a member for us alone be taken, and returns the verdict.
func directOf(r *Replica, from *peer, series, id, floor uint64, key string) starlingpb.DirectAck_Verdict {
	m := &starlingpb.Direct{To: r.roster.self.ID, Series: series, Key: key, Data: []byte{byte(id)}, Id: id, Floor: floor}
	var ack starlingpb.DirectAck
	r.Calls.take(from, m, wire.Chunk{}, &ack, start)
	return ack.GetVerdict()
}

// TestDirectOnce: a retry is accepted again and handled once, whatever the membership does meanwhile; a busy inbox takes it
// later; of what the sender has said that it will not repeat nothing is remembered, and it is taken no more.
func TestDirectOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 2, Bytes: 16 << 20}})
	from := r.roster.get(101)
	direct := func(id, floor uint64) starlingpb.DirectAck_Verdict { return directOf(r, from, 5, id, floor, "ch") }
	const accepted, busy, stale = starlingpb.DirectAck_ACCEPTED, starlingpb.DirectAck_BUSY, starlingpb.DirectAck_STALE
	for i, step := range []struct {
		id, floor uint64
		want      starlingpb.DirectAck_Verdict
	}{{2, 0, accepted}, {1, 0, accepted}, {2, 0, accepted}, {3, 0, busy}, {3, 0, busy}, {1, 0, accepted}} {
		if got := direct(step.id, step.floor); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	var got []byte
	for d, ok := r.Take(ch, start); ok; d, ok = r.Take(ch, start) {
		got = append(got, d.Data...)
	}
	if string(got) != "\x02\x01" {
		t.Errorf("handled %v", got)
	}
	for id, want := range map[uint64]starlingpb.DirectAck_Verdict{3: accepted, 1: stale, 2: stale} {
		for range 2 {
			if v := direct(id, 2); v != want {
				t.Errorf("%d: %v when there is room again, want %v", id, v, want)
			}
		}
	}
	if d, ok := r.Take(ch, start); !ok || d.Data[0] != 3 || d.Origin != 101 || d.Route != wire.RouteDirect {
		t.Errorf("handled %+v", d)
	}
	r.Change(testPeer(1), wire.Peer{}, start)
	r.Change(wire.Peer{}, testPeer(1), start)
	if v := direct(3, 2); v != accepted {
		t.Errorf("after a flap: %v", v)
	}
	if _, ok := r.Take(ch, start); ok {
		t.Error("a retry was handled again")
	}
	if s := from.taken.of(5); s.above.Count() != 1 || s.floor != 2 {
		t.Errorf("%d ranges above %d are remembered", s.above.Count(), s.floor)
	}
	if ch.Counters.Duplicates != 4 || ch.Counters.Received != 3 {
		t.Errorf("counters %+v", ch.Counters)
	}
	// A new run of the member counts from 1 again, and so does a new series.
	is := testPeer(1)
	is.ID = 999
	r.Change(testPeer(1), is, start)
	if v := directOf(r, r.roster.get(999), 5, 1, 0, "ch"); v != accepted {
		t.Errorf("of a new run: %v", v)
	}
	if v := directOf(r, from, 6, 1, 0, "ch"); v != accepted {
		t.Errorf("of a new series: %v", v)
	}
	if v := directOf(r, from, 5, 9, 0, "who"); v != starlingpb.DirectAck_NO_CHANNEL {
		t.Errorf("unknown key: %v", v)
	}
}

// TestDirectForgedFloor: a number or a floor that somebody forged swallows nothing of what the sender sends itself: it has a
// series of its own.
func TestDirectForgedFloor(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	direct := func(series, id, floor uint64) {
		receiveControl(t, r, testPeer(1), wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Series: series, Id: id, Floor: floor}, start)
	}
	direct(7, 1, 0)
	direct(8, 1<<60, 1<<60-1)
	direct(7, 2, 0)
	direct(7, 5, 1<<60) // no floor of an honest sender
	if n := ch.inbox.len(); n != 3 || r.out.drops != only(DropMalformed) {
		t.Errorf("%d are handled, drops %v", n, r.out.drops)
	}
}

// TestDirectOfSeriesForgotten: of a sender that draws one series after the other the latest few are remembered.
func TestDirectOfSeriesForgotten(t *testing.T) {
	r := testReplica(testLimits(), 1)
	testChannel(r, "ch")
	from := r.roster.get(101)
	for series := range uint64(3 * maxSeries) {
		directOf(r, from, series+1, 1, 0, "ch")
	}
	if len(from.taken) != maxSeries || from.taken[0].series != 3*maxSeries || from.taken[maxSeries-1].series != 2*maxSeries+1 {
		t.Errorf("%d series are remembered, the first is %d", len(from.taken), from.taken[0].series)
	}
}

// TestDirectVerdicts: what is for another run or too large is refused, and the sender is told so.
func TestDirectVerdicts(t *testing.T) {
	lim := testLimits()
	lim.Message = 10
	r := testReplica(lim, 1)
	ch := testChannel(r, "ch")
	for i, test := range []struct {
		m    *starlingpb.Direct
		want starlingpb.DirectAck_Verdict
	}{
		{&starlingpb.Direct{To: 2, Key: "ch", Series: 3, Id: 1}, starlingpb.DirectAck_OTHER_RUN},
		{&starlingpb.Direct{Key: "ch", Series: 3, Id: 1}, starlingpb.DirectAck_OTHER_RUN},
		{&starlingpb.Direct{To: 1, Key: "ch", Series: 3, Id: 1, Data: make([]byte, 11)}, starlingpb.DirectAck_TOO_LARGE},
		{&starlingpb.Direct{To: 1, Key: "ch", Series: 3, Id: 1, Data: make([]byte, 10)}, starlingpb.DirectAck_ACCEPTED},
	} {
		receiveControl(t, r, testPeer(1), wire.BodyDirect, test.m, start)
		told := takeTold(t, r, wire.BodyDirectAck, start)
		if len(told) != 1 {
			t.Fatalf("%d: told %+v", i, told)
		}
		var ack starlingpb.DirectAck
		if told[0].decode(t, &ack); ack.GetVerdict() != test.want || ack.GetSeries() != 3 || ack.GetId() != 1 {
			t.Errorf("%d: told %v, want %v", i, &ack, test.want)
		}
	}
	if n := ch.inbox.len(); n != 1 || r.out.drops != only(DropTooLarge) {
		t.Errorf("%d are handled, drops %v", n, r.out.drops)
	}
}

// TestDirectBounded: numbers far apart cannot fill memory.
func TestDirectBounded(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	from := r.roster.get(101)
	for i := range uint64(3 * receipt.MaxRanges) {
		directOf(r, from, 1, 2*i+1, 0, "ch")
		r.Take(ch, start)
	}
	if n := from.taken.of(1).above.Count(); n > receipt.MaxRanges {
		t.Errorf("%d ranges, limit %d", n, receipt.MaxRanges)
	}
}

// TestDirectOfStranger: a message for us alone from somebody who is no member is counted, and neither handled nor answered.
func TestDirectOfStranger(t *testing.T) {
	r := testReplica(testLimits(), 0)
	ch := testChannel(r, "ch")
	from := testPeer(1)
	from.Name = strings.Repeat("n", wire.MaxNameSize)
	m := &starlingpb.Direct{To: 1, Key: "ch", Id: 1}
	receiveControl(t, r, from, wire.BodyDirect, m, start)
	if r.out.drops != only(DropStranger) || ch.inbox.len() != 0 || len(r.out.Packets) != 0 || len(r.out.Streams) != 0 {
		t.Errorf("drops %v, inbox of %d, answered by %d packets", r.out.drops, ch.inbox.len(), len(r.out.Packets))
	}
	r.Change(wire.Peer{}, from, start)
	receiveControl(t, r, from, wire.BodyDirect, m, start)
	if told := takeTold(t, r, wire.BodyDirectAck, start); ch.inbox.len() != 1 || len(told) != 1 || told[0].to != from.Name {
		t.Errorf("of a member: inbox of %d, answers %+v", ch.inbox.len(), told)
	}
}

// TestDirectMalformed: a message without a number or a channel is counted, and neither handled nor answered.
func TestDirectMalformed(t *testing.T) {
	for name, m := range map[string]*starlingpb.Direct{
		"no number": {To: 1, Key: "ch"}, "no channel": {To: 1, Id: 1}, "its own floor": {To: 1, Key: "ch", Id: 1, Floor: 1},
	} {
		r := testReplica(testLimits(), 1)
		ch := testChannel(r, "ch")
		receiveControl(t, r, testPeer(1), wire.BodyDirect, m, start)
		if told := takeTold(t, r, wire.BodyDirectAck, start); r.out.drops != only(DropMalformed) || ch.inbox.len() != 0 || len(told) != 0 {
			t.Errorf("%s: drops %v, inbox of %d, answers %+v", name, r.out.drops, ch.inbox.len(), told)
		}
	}
}

// TestCalls: each message to one member gets a number of its own and tells up to which number nothing comes again; a verdict
// reaches whoever waits for it, and nobody after the end.
func TestCalls(t *testing.T) {
	r := testReplica(testLimits(), 1)
	tries := map[*Call]*starlingpb.Direct{}
	begin := func(c *Call) {
		if !r.Calls.Begin(c, 101, start) {
			t.Fatal("101 is no member")
		}
		tries[c] = r.Calls.Try(c, false)
	}
	var a, b, c Call
	begin(&a)
	begin(&b)
	r.Calls.End(&a, ProgressHeld)
	begin(&c)
	for call, want := range map[*Call][2]uint64{&a: {1, 0}, &b: {2, 0}, &c: {3, 1}} {
		if m := tries[call]; m.GetId() != want[0] || m.GetFloor() != want[1] || m.GetTo() != 101 || m.GetSeries() == 0 || m.GetSeries() != tries[&b].GetSeries() || m.GetStream() {
			t.Errorf("sent %+v, want number and floor %v", m, want)
		}
	}
	if m := r.Calls.Try(&b, true); m.GetId() != 2 || m.GetFloor() != 1 || !m.GetStream() {
		t.Errorf("sent again: %+v, want the same number, the floor of now, and an answer by stream", m)
	}
	series := tries[&b].GetSeries()
	for id := range uint64(5) {
		for _, series := range []uint64{series, series + 1} { // one of another series is no answer
			receiveControl(t, r, testPeer(1), wire.BodyDirectAck, &starlingpb.DirectAck{Series: series, Id: id, Verdict: starlingpb.DirectAck_BUSY}, start)
		}
	}
	want := []Verdict{{&b, starlingpb.DirectAck_BUSY}, {&c, starlingpb.DirectAck_BUSY}}
	if vs := r.out.Verdicts; len(vs) != 2 || vs[0] != want[0] || vs[1] != want[1] {
		t.Errorf("verdicts %+v", vs)
	}
	// Who is gone or never was gets nothing, and the end of what waited for it does no harm.
	r.Change(testPeer(1), wire.Peer{}, start)
	r.Calls.End(&b, ProgressGivenUp)
	for _, id := range []uint64{101, 102, 1, 0} {
		if r.Calls.Begin(new(Call), id, start) {
			t.Errorf("a message to %d, which is no member", id)
		}
	}
}
