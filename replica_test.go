package starling

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// dawn is when the tests of the pure rooms begin.
var dawn = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testLimits() limits {
	return limits{
		gossip: 700, packet: 1390, message: DefaultMaxMessageSize, retransmit: 4,
		retention: Retention{Bytes: DefaultRetentionBytes, Age: DefaultRetentionAge},
		queue:     Queue{Messages: 100, Bytes: 1 << 20},
	}
}

// testReplica returns the replica of origin 1 with so many peers, named p1, p2 and so on.
func testReplica(lim limits, peers int) *replica {
	r := newReplica(sender{id: 1, name: "self", addr: netip.MustParseAddrPort("127.0.0.1:9999")}, lim, new(dropCounters))
	for i := range peers {
		r.change(Member{}, testPeer(i+1), dawn)
	}
	return r
}

func testPeer(i int) Member {
	return Member{
		Name: fmt.Sprint("p", i), ID: uint64(100 + i), Version: wireVersion,
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i)),
	}
}

// testChannel opens a channel without a handler loop.
func testChannel(r *replica, key string) *channel {
	ch := &channel{key: key, wake: make(chan struct{}, 1)}
	ch.inbox.limit = Inbox{Messages: DefaultInboxMessages, Bytes: DefaultInboxBytes}
	ch.ctx, ch.cancel = context.WithCancel(context.Background())
	r.open(ch, dawn)
	return ch
}

// say broadcasts data on ch at dawn and reports whether there was room.
func (ch *channel) say(r *replica, name string, data []byte) bool {
	body := appendBody(make([]byte, 0, len(ch.key)+len(data)+identityRoom+16), ch.key, data)
	o := &outgoing{ch: ch, name: name, body: body, size: len(data)}
	if !r.room.take(len(o.body)) {
		return false
	}
	r.broadcast(o, dawn)
	return true
}

// parts returns the parts in the packets that wait, once each, as "seq:data", in order.
func (r *replica) parts(t *testing.T) (texts []string) {
	t.Helper()
	for _, p := range r.packets {
		outer, err := parsePart(p.frame())
		if err != nil {
			t.Fatal(err)
		}
		ctl, err := parseControl(outer.control)
		if err != nil || ctl.body != bodySpread {
			continue
		}
		f, err := parseSpread(ctl.content)
		if err != nil {
			t.Fatal(err)
		}
		for frame, ok := f.next(); ok; frame, ok = f.next() {
			part, err := parsePart(frame)
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprintf("%d:%s", part.id.seq, part.data); !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// confirmAll pumps, and lets every member report at once and in full all that it was given, until nothing is on its way.
func (r *replica) confirmAll(now time.Time) {
	for r.pump(now); len(r.spread.batches) > 0; r.pump(now) {
		r.confirmOnce(now)
	}
	r.packets, r.streams = nil, nil
}

func (r *replica) confirmOnce(now time.Time) {
	for _, b := range r.spread.batches {
		for _, l := range slices.Clone(b.legs) {
			r.spread.report(l.to.ID, honest(l), now)
		}
	}
}

// honest is the report of a member that has served its whole slice.
func honest(l *leg) report {
	return report{id: l.batch.id, done: true, count: uint64(l.view.len()), sum: l.view.sum()}
}

// TestSupersede: a newer message of a name takes the place of one that has not left, in order, with no hole among the
// sequence numbers and no room lost.
func TestSupersede(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "flags")
	ch.supersedes = true
	other := testChannel(r, "other")
	other.supersedes = true
	for _, m := range []struct{ name, data string }{{"a", "a1"}, {"b", "b1"}, {"a", "a2 longer"}, {"", "x1"}, {"", "x2"}, {"a", "a3"}} {
		if !ch.say(r, m.name, []byte(m.data)) {
			t.Fatal("no room")
		}
	}
	if !other.say(r, "a", []byte("other")) { // the same name on another channel is another name
		t.Fatal("no room")
	}
	r.pump(dawn)
	if got := r.parts(t); !slices.Equal(got, []string{"1:a3", "2:b1", "3:x1", "4:x2", "5:other"}) {
		t.Errorf("sent %v", got)
	}
	if s := ch.stats; s.Accepted != 6 || s.Sent != 4 || s.Superseded != 2 {
		t.Errorf("stats %+v", s)
	}
	r.confirmAll(dawn)
	if r.room.messages != 0 || r.room.bytes != 0 || ch.outstanding != 0 || r.outbox.bytes != 0 || r.local.messages != 0 {
		t.Errorf("left: room %+v, outstanding %d, outbox of %d bytes", r.room, ch.outstanding, r.outbox.bytes)
	}
	// What has left is not superseded.
	ch.say(r, "a", []byte("a4"))
	r.pump(dawn)
	ch.say(r, "a", []byte("a5"))
	if ch.stats.Superseded != 2 || r.seq != 6 {
		t.Errorf("superseded %d, seq %d", ch.stats.Superseded, r.seq)
	}
}

// TestSupersedeConfirms: who confirms a message that supersedes, or was superseded, is told of the end of what left.
func TestSupersedeConfirms(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "flags")
	var ends []chan landing
	for _, data := range []string{"old", "new"} {
		end := make(chan landing, 1)
		o := &outgoing{ch: ch, name: "a", body: appendBody(nil, ch.key, []byte(data)), size: len(data), confirm: []chan<- landing{end}}
		r.room.take(len(o.body))
		r.broadcast(o, dawn)
		ends = append(ends, end)
	}
	r.confirmAll(dawn)
	for i, end := range ends {
		select {
		case l := <-end:
			if l.seq != 1 || len(l.missing) > 0 {
				t.Errorf("%d: %+v", i, l)
			}
		default:
			t.Errorf("%d was not told", i)
		}
	}
}

// TestSupersedeWaits: no more leaves than the window lets, so that what is not sent yet can still be superseded.
func TestSupersedeWaits(t *testing.T) {
	lim := testLimits()
	lim.queue.Messages = 1000
	r := testReplica(lim, 2)
	ch := testChannel(r, "flags")
	ch.supersedes = true
	for i := range 500 {
		ch.say(r, fmt.Sprint("name", i), make([]byte, 200))
	}
	r.pump(dawn)
	if window := r.spread.flow.window; r.spread.flow.sent > window+lim.packet || ch.stats.Sent == 0 || ch.stats.Sent == 500 {
		t.Errorf("%d parts left, %d bytes for a window of %d", ch.stats.Sent, r.spread.flow.sent, window)
	}
	if ch.say(r, "name499", nil); ch.stats.Superseded != 1 {
		t.Error("what waits is not superseded")
	}
}

// TestSupersedeIsNotStarved: what waits to be superseded leaves in the end, however much the other channels have to say.
func TestSupersedeIsNotStarved(t *testing.T) {
	lim := testLimits()
	lim.queue.Messages = 1000
	r := testReplica(lim, 2)
	flags, busy := testChannel(r, "flags"), testChannel(r, "busy")
	flags.supersedes = true
	for i := range 100 {
		for busy.say(r, "", make([]byte, 200)) {
			if i == 0 && r.room.messages == 500 {
				break
			}
		}
		if i == 0 {
			flags.say(r, "name", []byte("value"))
		}
		r.pump(dawn)
		r.confirmOnce(dawn)
		if flags.stats.Sent == 1 {
			return
		}
	}
	t.Error("it still waits after 100 windows")
}

// TestPrev: each part names the one before it on its channel.
func TestPrev(t *testing.T) {
	r := testReplica(testLimits(), 1)
	a, b := testChannel(r, "a"), testChannel(r, "b")
	for _, ch := range []*channel{a, b, a, a, b} {
		ch.say(r, "", nil)
	}
	r.pump(dawn)
	want := []uint64{0, 0, 1, 3, 2}
	for it := range r.history.ascend(1, 1, 5) {
		if p, err := parsePart(it.frame); err != nil || p.prev != want[p.id.seq-1] || it.prev != p.prev {
			t.Errorf("part %d: prev %d, want %d (%v)", p.id.seq, p.prev, want[p.id.seq-1], err)
		}
	}
}

// TestReceiveOnce: a part is delivered once, whichever ways and however often it comes.
func TestReceiveOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	frame := appendIdentity(appendBody(nil, "ch", []byte("data")), partID{101, 7}, 0, 3*time.Second)
	for _, via := range []Via{Gossip, Stream, Gossip, Repair} {
		p, err := parsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		r.receive(p, frame, via, dawn)
	}
	clear(frame) // it is the caller's again
	d, ok := r.take(ch)
	if !ok || string(d.data) != "data" || d.via != Gossip || d.origin != 101 || d.seq != 7 || !d.born.Equal(dawn.Add(-3*time.Second)) {
		t.Errorf("delivered %+v, %v", d, ok)
	}
	r.handled(d, dawn)
	if _, ok := r.take(ch); ok {
		t.Error("delivered twice")
	}
	if s := ch.stats; s.Received != 1 || s.Duplicates != 3 {
		t.Errorf("stats %+v", s)
	}
}

// TestReceiveRefused: each reason is counted, and nothing is delivered.
func TestReceiveRefused(t *testing.T) {
	lim := testLimits()
	lim.message = 10
	identity := func(b []byte, seq uint64, age time.Duration) []byte {
		return appendIdentity(b, partID{101, seq}, 0, age)
	}
	for name, tt := range map[string]struct {
		frame []byte
		want  Drop
	}{
		"too large":   {identity(appendBody(nil, "ch", make([]byte, 11)), 1, 0), DropTooLarge},
		"too old":     {identity(appendBody(nil, "ch", nil), 1, DefaultRetentionAge), DropTooOld},
		"unknown key": {identity(appendBody(nil, "who", nil), 1, 0), DropUnknownKey},
		"foreign key": {appendBody(nil, "who", nil), DropUnknownKey},
	} {
		r := testReplica(lim, 1)
		ch := testChannel(r, "ch")
		p, err := parsePart(tt.frame)
		if err != nil {
			t.Fatal(err)
		}
		r.receive(p, tt.frame, Gossip, dawn)
		if _, ok := r.take(ch); ok || r.drops[tt.want].Load() != 1 {
			t.Errorf("%s: delivered: %v, drops %v", name, ok, r.drops.snapshot())
		}
	}
	// What nobody keeps is dropped when the inbox is full.
	r := testReplica(lim, 1)
	ch := testChannel(r, "ch")
	ch.inbox.limit.Messages = 2
	frame := appendBody(nil, "ch", nil)
	for range 3 {
		p, _ := parsePart(frame)
		r.receive(p, frame, Gossip, dawn)
	}
	if n := r.drops[DropInboxFull].Load(); n != 1 || ch.inbox.len() != 2 {
		t.Errorf("inbox of %d, %d drops", ch.inbox.len(), n)
	}
}

// TestReceiveOwn: our own part that comes back is no news.
func TestReceiveOwn(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	frame := appendIdentity(appendBody(nil, "ch", nil), partID{1, 9}, 0, 0)
	p, _ := parsePart(frame)
	r.receive(p, frame, Gossip, dawn)
	if _, ok := r.take(ch); ok || ch.stats.Duplicates != 1 {
		t.Errorf("delivered: %v, stats %+v", ok, ch.stats)
	}
}

// TestDirectOnce: a retry is accepted again and handled once; a busy inbox takes it later; nothing is remembered that the
// sender will not repeat.
func TestDirectOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	ch.inbox.limit.Messages = 2
	from := sender{id: 101, name: "p1"}
	direct := func(id, floor uint64) starlingpb.DirectAck_Verdict {
		return r.direct(from, &starlingpb.Direct{Key: "ch", Data: []byte{byte(id)}, Id: id, Floor: floor}, Direct, dawn)
	}
	const accepted, busy = starlingpb.DirectAck_ACCEPTED, starlingpb.DirectAck_BUSY
	for i, step := range []struct {
		id, floor uint64
		want      starlingpb.DirectAck_Verdict
	}{{2, 0, accepted}, {1, 0, accepted}, {2, 0, accepted}, {3, 0, busy}, {3, 0, busy}, {1, 0, accepted}} {
		if got := direct(step.id, step.floor); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	var got []byte
	for d, ok := r.take(ch); ok; d, ok = r.take(ch) {
		got = append(got, d.data...)
	}
	if string(got) != "\x02\x01" {
		t.Errorf("handled %v", got)
	}
	for _, id := range []uint64{3, 3, 1} {
		if v := direct(id, 2); v != accepted {
			t.Errorf("%d: %v when there is room again", id, v)
		}
	}
	if d, ok := r.take(ch); !ok || d.data[0] != 3 || d.origin != 101 || d.via != Direct {
		t.Errorf("handled %+v", d)
	}
	if _, ok := r.take(ch); ok {
		t.Error("a retry was handled again")
	}
	if n := r.directs[101].above.count(); n != 1 {
		t.Errorf("%d ranges are remembered", n)
	}
	if ch.stats.Duplicates != 4 || ch.stats.Received != 3 {
		t.Errorf("stats %+v", ch.stats)
	}
	// A new run of the member counts from 1 again.
	was, is := testPeer(1), testPeer(1)
	is.ID = 999
	r.change(was, is, dawn)
	if len(r.directs) != 0 {
		t.Error("the old run is remembered")
	}
	if v := r.direct(from, &starlingpb.Direct{Key: "who", Id: 9}, Direct, dawn); v != starlingpb.DirectAck_NO_CHANNEL {
		t.Errorf("unknown key: %v", v)
	}
}

// TestDirectFloorHostile: a floor above the message's own number does not swallow the message.
func TestDirectFloorHostile(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	r.direct(sender{id: 101}, &starlingpb.Direct{Key: "ch", Id: 5, Floor: 1 << 60}, Direct, dawn)
	if _, ok := r.take(ch); !ok {
		t.Error("swallowed")
	}
}

// TestDirectBounded: numbers far apart cannot fill memory.
func TestDirectBounded(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	for i := range uint64(3 * maxRanges) {
		r.direct(sender{id: 101}, &starlingpb.Direct{Key: "ch", Id: 2*i + 1}, Direct, dawn)
		r.take(ch)
	}
	if n := r.directs[101].above.count(); n > maxRanges {
		t.Errorf("%d ranges, limit %d", n, maxRanges)
	}
}

// TestStrand: when the last peer goes, nothing of ours is still on its way.
func TestStrand(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	ch.say(r, "", []byte("on its way"))
	r.pump(dawn)
	ch.supersedes = true
	ch.say(r, "a", []byte("in the outbox"))
	r.change(testPeer(1), Member{}, dawn)
	r.pump(dawn)
	if r.room.messages != 0 || ch.outstanding != 0 || len(r.outbox.waiting) != 0 || r.local.messages != 0 || r.spread.flow.sent != 0 {
		t.Errorf("left: %+v, outstanding %d", r.room, ch.outstanding)
	}
	if ch.writtenOff != 0 {
		t.Error("written off, though there is nobody to lack it")
	}
	if !r.history.has(partID{1, 1}) || !r.history.has(partID{1, 2}) {
		t.Error("not kept for those to come")
	}
}

// TestNothingInFlightForever: a peer that answers no stream, or goes while one waits, frees the room.
func TestNothingInFlightForever(t *testing.T) {
	for _, goes := range []bool{false, true} {
		r := testReplica(testLimits(), 2)
		ch := testChannel(r, "ch")
		ch.say(r, "", make([]byte, 5000))
		r.pump(dawn)
		if len(r.streams) != 2 || len(r.packets) != 0 {
			t.Fatalf("%d streams, %d packets", len(r.streams), len(r.packets))
		}
		for _, b := range r.spread.batches {
			for _, l := range b.legs {
				if l.to.ID == 101 {
					r.spread.report(101, honest(l), dawn)
				}
			}
		}
		r.pump(dawn)
		if ch.outstanding != 1 || r.room.messages != 1 {
			t.Errorf("finished with a stream under way")
		}
		if goes {
			r.change(testPeer(2), Member{}, dawn)
		}
		now := dawn
		for range 100 {
			next, again := r.pump(now)
			if !again {
				break
			}
			now = next
		}
		off := uint64(1)
		if goes {
			off = 0 // it lacks nothing that a member has
		}
		if ch.outstanding != 0 || r.room.messages != 0 || ch.writtenOff != off || r.spread.bulk.sent != 0 || now.Sub(dawn) > time.Minute {
			t.Errorf("room %+v, outstanding %d, written off %d, after %v", r.room, ch.outstanding, ch.writtenOff, now.Sub(dawn))
		}
	}
}
