package replica

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestSupersede: a newer message of a name takes the place of one that has not left, in order, with no hole among the
// sequence numbers and no room lost.
func TestSupersede(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch, other := testChannel(r, "flags"), testChannel(r, "other")
	for _, m := range []struct{ name, data string }{{"a", "a1"}, {"b", "b1"}, {"a", "a2 longer"}, {"", "x1"}, {"", "x2"}, {"a", "a3"}} {
		if !say(r, ch, m.name, []byte(m.data)) {
			t.Fatal("no room")
		}
	}
	if !say(r, other, "a", []byte("other")) { // the same name on another channel is another name
		t.Fatal("no room")
	}
	r.Sender.Pump(start)
	if got := sentParts(t, r); !slices.Equal(got, []string{"1:a3", "2:b1", "3:x1", "4:x2", "5:other"}) {
		t.Errorf("sent %v", got)
	}
	if c := ch.Counters; c.Accepted != 6 || c.Sent != 4 || c.Superseded != 2 {
		t.Errorf("counters %+v", c)
	}
	confirmAll(r, start)
	s := r.Sender
	if s.budget.messages != 0 || s.budget.bytes != 0 || ch.outstanding != 0 || s.outbox.small.bytes != 0 || queued(r) != 0 {
		t.Errorf("left: %+v, outstanding %d, outbox of %d bytes, %d queued", s.budget, ch.outstanding, s.outbox.small.bytes, queued(r))
	}
	// What has left is not superseded.
	say(r, ch, "a", []byte("a4"))
	r.Sender.Pump(start)
	say(r, ch, "a", []byte("a5"))
	if ch.Counters.Superseded != 2 || r.intake.own != 6 {
		t.Errorf("superseded %d, last part %d", ch.Counters.Superseded, r.intake.own)
	}
}

// TestSupersedeFinishes: whoever waits for a message that supersedes, or was superseded, is told which one leaves for both, and
// that one's end.
func TestSupersedeFinishes(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "flags")
	old, superseded, ok := sayAt(r, ch, "a", []byte("old"), start)
	if superseded != nil || !ok {
		t.Fatalf("the first supersedes %v, accepted: %v", superseded, ok)
	}
	if _, superseded, ok = sayAt(r, ch, "a", []byte("new"), start); superseded != old || !ok {
		t.Fatalf("the second supersedes %v, accepted: %v", superseded, ok)
	}
	confirmAll(r, start)
	f := r.out.Finished
	if len(f) != 1 || f[0].Message != old || seqOf(f[0].Message) != 1 || f[0].Number() != 1 || f[0].Channel() != ch || len(f[0].Missing) > 0 {
		t.Fatalf("finished: %+v", f)
	}
	if p, err := wire.ParsePart(f[0].Frame()); err != nil || string(p.Data) != "new" {
		t.Errorf("what left is %+v (%v)", p, err)
	}
}

// TestSupersedeWaits: no more leaves than the window lets, so that what is not sent yet can still be superseded.
func TestSupersedeWaits(t *testing.T) {
	lim := testLimits()
	lim.QueueMessages = 1000
	r := testReplica(lim, 2)
	ch := testChannel(r, "flags")
	for i := range 500 {
		say(r, ch, fmt.Sprint("name", i), make([]byte, 200))
	}
	r.Sender.Pump(start)
	if f := &r.spreader.spread.Flow; f.Sent > f.Window+lim.Packet || ch.Counters.Sent == 0 || ch.Counters.Sent == 500 {
		t.Errorf("%d parts left, %d bytes for a window of %d", ch.Counters.Sent, f.Sent, f.Window)
	}
	if say(r, ch, "name499", nil); ch.Counters.Superseded != 1 {
		t.Error("what waits is not superseded")
	}
}

// TestSupersedeIsNotStarved: what waits to be superseded leaves in the end, however much the other channels have to say.
func TestSupersedeIsNotStarved(t *testing.T) {
	lim := testLimits()
	lim.QueueMessages = 1000
	r := testReplica(lim, 2)
	flags, busy := testChannel(r, "flags"), testChannel(r, "busy")
	for i := range 100 {
		for say(r, busy, "", make([]byte, 200)) {
			if i == 0 && r.Sender.budget.messages == 500 {
				break
			}
		}
		if i == 0 {
			say(r, flags, "name", []byte("value"))
		}
		r.Sender.Pump(start)
		confirmOnce(r, start)
		if flags.Counters.Sent == 1 {
			return
		}
	}
	t.Error("it still waits after 100 windows")
}

// TestLastMemberLeaves: when the last member goes, nothing of ours is still on its way.
func TestLastMemberLeaves(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	say(r, ch, "", []byte("on its way"))
	r.Sender.Pump(start)
	say(r, ch, "a", []byte("in the outbox"))
	r.Change(testPeer(1), wire.Peer{}, start)
	r.Sender.Pump(start)
	s := r.Sender
	if s.budget.messages != 0 || ch.outstanding != 0 || len(s.outbox.small.waiting) != 0 || queued(r) != 0 || r.spreader.spread.Flow.Sent != 0 {
		t.Errorf("left: %+v, outstanding %d, %d queued", s.budget, ch.outstanding, queued(r))
	}
	if len(r.out.Finished) != 2 || givenUp(r, ch) != 0 {
		t.Errorf("finished %+v: given up, though there is nobody to lack it", r.out.Finished)
	}
	if h := r.intake.history; h.Get(wire.PartID{Origin: 1, Seq: 1}) == nil || h.Get(wire.PartID{Origin: 1, Seq: 2}) == nil {
		t.Error("not kept for those to come")
	}
}

// TestNothingOnItsWayForever: a member that answers no stream, or goes while one waits, frees the room.
func TestNothingOnItsWayForever(t *testing.T) {
	for _, goes := range []bool{false, true} {
		r := testReplica(testLimits(), 2)
		ch := testChannel(r, "ch")
		say(r, ch, "", make([]byte, 5000))
		r.Sender.Pump(start)
		if len(r.out.Streams) != 2 || len(r.out.Packets) != 0 {
			t.Fatalf("%d streams, %d packets", len(r.out.Streams), len(r.out.Packets))
		}
		for _, b := range r.spreader.spread.Batches {
			for _, hop := range slices.Clone(b.Hops) {
				if hop.To.ID == 101 {
					r.spreader.spread.Report(101, honest(hop), start)
				}
			}
		}
		r.Sender.Pump(start)
		if ch.outstanding != 1 || r.Sender.budget.messages != 1 {
			t.Errorf("finished with a stream under way")
		}
		if goes {
			r.Change(testPeer(2), wire.Peer{}, start)
		}
		now := start
		for range 100 {
			for _, st := range r.out.Streams {
				wasWritten(st, true, now)
			}
			r.out.Streams = nil
			next, again := r.Sender.Pump(now)
			if !again {
				break
			}
			now = next
		}
		off := 1
		if goes {
			off = 0 // it lacks nothing that a member has
		}
		if ch.outstanding != 0 || r.Sender.budget.messages != 0 || givenUp(r, ch) != off || r.spreader.spread.Ahead.Hops != 0 || now.Sub(start) > time.Minute {
			t.Errorf("%+v, outstanding %d, given up %d, after %v", r.Sender.budget, ch.outstanding, givenUp(r, ch), now.Sub(start))
		}
	}
}

// TestForeignCopies: a foreign member gets each small part twice, a gossip interval apart and as old as it is by then, from its
// origin; a large one once, by stream.
func TestForeignCopies(t *testing.T) {
	lim := testLimits()
	lim.GossipEvery = 200 * time.Millisecond
	r := testReplica(lim, 2)
	foreign := wire.Peer{Name: "plain", Addr: testPeer(9).Addr}
	r.Change(wire.Peer{}, foreign, start)
	ch := testChannel(r, "ch")
	say(r, ch, "", []byte("small"))
	copies := func(now time.Time) (ages []time.Duration) {
		r.Sender.Pump(now)
		for _, p := range r.out.Packets {
			if p.To.Name != foreign.Name {
				continue
			}
			part, err := wire.ParsePart(p.Frame())
			if err != nil || string(part.Data) != "small" || part.ID != (wire.PartID{Origin: 1, Seq: 1}) {
				t.Errorf("a copy is %+v (%v)", part, err)
			}
			ages = append(ages, part.Age)
		}
		r.out.Packets = nil
		return ages
	}
	for _, step := range []struct {
		after time.Duration
		want  []time.Duration
	}{{0, []time.Duration{0}}, {199 * time.Millisecond, nil}, {200 * time.Millisecond, []time.Duration{200 * time.Millisecond}}, {time.Second, nil}} {
		if ages := copies(start.Add(step.after)); !slices.Equal(ages, step.want) {
			t.Errorf("after %v: copies of age %v, want %v", step.after, ages, step.want)
		}
	}
	r.out.Streams = nil
	say(r, ch, "", make([]byte, 1000))
	r.Sender.Pump(start.Add(2 * time.Second))
	large := 0
	for _, s := range r.out.Streams {
		if s.To.Name == foreign.Name {
			large++
		}
	}
	if again := copies(start.Add(3 * time.Second)); large != 1 || len(again) > 0 {
		t.Errorf("a large part went %d times by stream and %d by packet", large, len(again))
	}
}

// TestForeignLarge: a message that travels in pieces goes to a foreign member whole, without what that would not understand; one that
// memberlist cannot take is counted.
func TestForeignLarge(t *testing.T) {
	lim := testLimits()
	lim.QueueBytes, lim.Message = 64<<20, 32<<20
	r := testReplica(lim, 2)
	foreign := wire.Peer{Name: "plain", Addr: testPeer(9).Addr}
	r.Change(wire.Peer{}, foreign, start)
	ch := testChannel(r, "ch")
	data := someData(200 << 10)
	say(r, ch, "", data)
	r.Sender.Pump(start)
	var whole []wire.Part
	for _, s := range r.out.Streams {
		if s.To.Name == foreign.Name {
			p, err := wire.ParsePart(s.Encode(start))
			if err != nil || !s.Bulk {
				t.Errorf("bulk %v, %v", s.Bulk, err)
			}
			whole = append(whole, p)
		}
	}
	if len(whole) != 1 || !bytes.Equal(whole[0].Data, data) || !whole[0].Chunk.Whole() || string(whole[0].Key) != "ch" {
		t.Errorf("it gets %d parts", len(whole))
	}
	confirmAll(r, start)
	if say(r, ch, "", make([]byte, wire.MaxStreamSize)); r.out.drops[DropForeignTooLarge] != 0 {
		t.Error("counted before it has left")
	}
	if r.Sender.Pump(start); r.out.drops != only(DropForeignTooLarge) {
		t.Errorf("drops %v", r.out.drops)
	}
}

// TestSizeRule: up to Limits.Gossip bytes of encoded part, packets and memberlist's gossip carry it, beyond the streams do;
// and the streams carry everything of a channel that says so.
func TestSizeRule(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch, stream := testChannel(r, "ch"), openChannel(r, Channel{Key: "st", Stream: true})
	for i, test := range []struct {
		ch              *Channel
		size            int
		queued, streams int
	}{{ch, 699, 1, 0}, {ch, 700, 1, 0}, {ch, 701, 0, 2}, {stream, 100, 0, 2}, {ch, 100, 1, 0}} {
		now := start.Add(time.Duration(i) * time.Second)
		data := dataFor(t, r, test.ch, test.size)
		m, _, ok := sayAt(r, test.ch, "", data, now)
		r.Sender.Pump(now)
		if it := r.intake.history.Get(wire.PartID{Origin: 1, Seq: r.intake.own}); !ok || len(it.Frame) != test.size || !bytes.Equal(it.Frame, m.Frame()) {
			t.Fatalf("a part of %d bytes, want %d", len(it.Frame), test.size)
		}
		if queued(r) != test.queued || len(r.out.Packets) != 2*test.queued || len(r.out.Streams) != test.streams {
			t.Errorf("%d bytes on %s: %d queued, %d packets, %d streams", test.size, test.ch.Key, queued(r), len(r.out.Packets), len(r.out.Streams))
		}
		for _, st := range r.out.Streams {
			if !st.Bulk || st.Size != test.size {
				t.Errorf("%d bytes on %s: %d bytes in the lane for bulk %v", test.size, test.ch.Key, st.Size, st.Bulk)
			}
		}
		confirmAll(r, now)
	}
}

// TestLanesOfStreams: what is large, or may be long, waits behind nothing that is small: a small message that is tried by stream, a
// question about a large one, and a short control frame go in the other lane.
func TestLanesOfStreams(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch, stream := testChannel(r, "ch"), openChannel(r, Channel{Key: "st", Stream: true})
	foreign := wire.Peer{Name: "plain", Addr: testPeer(9).Addr}
	lanes := func() (bulk []bool) {
		for _, s := range r.out.Streams {
			bulk = append(bulk, s.Bulk)
		}
		r.out.Packets, r.out.Streams = nil, nil
		return bulk
	}
	say(r, ch, "", make([]byte, 10))
	now := start
	for next, _ := r.Sender.Pump(now); len(r.out.Streams) == 0; next, _ = r.Sender.Pump(now) {
		now = next
	}
	if got := lanes(); slices.Contains(got, true) {
		t.Errorf("a small message, tried again: bulk %v", got)
	}
	confirmAll(r, now)
	say(r, stream, "", make([]byte, 10))
	r.Sender.Pump(now)
	hop := r.spreader.spread.Batches[wire.BatchID{Root: 1, N: 2}].Hops[0]
	wasWritten(r.out.Streams[0], true, now)
	lanes()
	r.spreader.spread.Report(101, wire.Report{ID: hop.Batch.ID}, now)
	for next, _ := r.Sender.Pump(now); len(r.out.Streams) == 0; next, _ = r.Sender.Pump(now) {
		now = next
	}
	if got := lanes(); slices.Contains(got, true) {
		t.Errorf("a question about a large message: bulk %v", got)
	}
	confirmAll(r, now)
	for size, want := range map[int]bool{10: false, 2 * bulkSize: true} {
		r.out.tell(testPeer(1), wire.BodyDirect, &starlingpb.Direct{Data: make([]byte, size)}, true)
		if got := lanes(); !slices.Equal(got, []bool{want}) {
			t.Errorf("a control frame with %d bytes: bulk %v", size, got)
		}
	}
	r.Change(testPeer(1), wire.Peer{}, now)
	r.Change(wire.Peer{}, foreign, now)
	sayAt(r, stream, "", make([]byte, 10), now)
	r.Sender.Pump(now)
	if got := lanes(); !slices.Equal(got, []bool{true}) {
		t.Errorf("a large message to a foreign member: bulk %v", got)
	}
}

// dataFor returns data that makes the next part on ch an encoded part of so many bytes.
func dataFor(t *testing.T, r *Replica, ch *Channel, size int) []byte {
	t.Helper()
	for n := size; n >= 0; n-- {
		if len(partOf(ch.Key, make([]byte, n), wire.PartID{Origin: 1, Seq: r.intake.own + 1}, ch.last, 0)) == size {
			return bytes.Repeat([]byte{byte(size)}, n)
		}
	}
	t.Fatalf("no part has %d bytes", size)
	return nil
}

// TestAccept: what a message claims of the room, and when it is given back: at once what is refused or superseded, the rest when
// it is done.
func TestAccept(t *testing.T) {
	body := len(wire.AppendBody(nil, "ch", make([]byte, 10)))
	type step struct {
		name                 string
		size                 int
		accepted, supersedes bool
		messages, bytes      int // claimed then
	}
	for name, test := range map[string]struct {
		messages, bytes int
		steps           []step
	}{
		"by number": {2, 1 << 20, []step{{"", 10, true, false, 1, body}, {"", 10, true, false, 2, 2 * body}, {"", 10, false, false, 2, 2 * body}}},
		"by size": {9, 2*body - 1, []step{
			{"", 10, true, false, 1, body}, {"", 10, false, false, 1, body}, {"", 9, true, false, 2, 2*body - 1}, {"", 0, false, false, 2, 2*body - 1},
		}},
		"larger than all room":       {9, 5, []step{{"", 10, true, false, 1, body}, {"", 0, false, false, 1, body}}},
		"superseded":                 {2, 1 << 20, []step{{"a", 10, true, false, 1, body}, {"a", 12, true, true, 1, body + 2}, {"a", 10, true, true, 1, body}}},
		"superseding needs room too": {1, 1 << 20, []step{{"a", 10, true, false, 1, body}, {"a", 10, false, false, 1, body}}},
	} {
		lim := testLimits()
		lim.QueueMessages, lim.QueueBytes = test.messages, test.bytes
		r := testReplica(lim, 1)
		ch := testChannel(r, "ch")
		outstanding := 0
		for i, s := range test.steps {
			r.out.Room = false
			m, superseded, ok := sayAt(r, ch, s.name, make([]byte, s.size), start)
			if b := r.Sender.budget; ok != s.accepted || (superseded != nil) != s.supersedes || b.messages != s.messages || b.bytes != s.bytes {
				t.Errorf("%s: %d: accepted %v, supersedes %v, %+v; want %+v", name, i, ok, superseded != nil, b, s)
			}
			if r.out.Room != s.supersedes {
				t.Errorf("%s: %d: there is room again: %v", name, i, r.out.Room)
			}
			if s.accepted && !s.supersedes {
				if outstanding++; m.Number() != uint64(outstanding) {
					t.Errorf("%s: %d is number %d", name, i, m.Number())
				}
			}
			if n, left := ch.Accepted(); n != uint64(outstanding) || left != outstanding || r.Outstanding() != outstanding {
				t.Errorf("%s: %d: accepted %d, of which %d are not done, %d in all", name, i, n, left, r.Outstanding())
			}
		}
		r.out.Room = false
		confirmAll(r, start)
		if b := r.Sender.budget; b.messages != 0 || b.bytes != 0 || !r.out.Room || len(r.out.Finished) != outstanding || r.Sender.outbox.small.bytes != 0 {
			t.Errorf("%s: at the end %+v, room %v, %d finished", name, b, r.out.Room, len(r.out.Finished))
		}
	}
}

// TestAcceptAlone: where there is nobody to send to, a message is done at once; but one that supersedes is done with the other.
func TestAcceptAlone(t *testing.T) {
	r := testReplica(testLimits(), 0)
	ch := testChannel(r, "ch")
	for i := range 3 {
		if m, superseded, ok := sayAt(r, ch, "a", nil, start); superseded != nil || !ok || seqOf(m) != uint64(i+1) || r.Outstanding() != 0 || len(r.out.Finished) != i+1 {
			t.Errorf("%d: part %d, %d outstanding, %d finished", i, seqOf(m), r.Outstanding(), len(r.out.Finished))
		}
	}
	if len(r.out.Packets) != 0 || len(r.out.Streams) != 0 || len(r.out.Queue) != 0 || r.Sender.Due() {
		t.Errorf("sent to nobody: %+v", r.out.Effects)
	}
}

// TestLinger: a message that leaves soon after the last packet waits for company, but no longer than Limits.Linger, and no longer
// than it takes to fill a packet.
func TestLinger(t *testing.T) {
	lim := testLimits()
	lim.Linger = 10 * time.Millisecond
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	sent := func(now time.Time, data int) (parts uint64, next time.Time, again bool) {
		sayAt(r, ch, "", make([]byte, data), now)
		before := ch.Counters.Sent
		next, again = r.Sender.Pump(now)
		return ch.Counters.Sent - before, next, again
	}
	if n, _, _ := sent(start, 100); n != 1 {
		t.Fatalf("%d parts left at first", n)
	}
	confirmAll(r, start)
	now := start.Add(4 * time.Millisecond)
	if n, next, again := sent(now, 100); n != 0 || !again || !next.Equal(start.Add(lim.Linger)) || r.Sender.Due() {
		t.Errorf("%d parts left within %v; pump again: %v, at %v", n, lim.Linger, again, next.Sub(start))
	}
	for range 3 {
		sayAt(r, ch, "", make([]byte, 600), now)
	}
	if !r.Sender.Due() {
		t.Error("a full packet waits")
	}
	before := ch.Counters.Sent
	r.Sender.Pump(now)
	if n := ch.Counters.Sent - before; n != 2 { // of 100, 600, 600 and 600 bytes; the last two wait for company again
		t.Errorf("%d parts left when there was enough for a packet", n)
	}
	confirmAll(r, now.Add(lim.Linger))
	if ch.Counters.Sent != 5 || r.Outstanding() != 0 {
		t.Errorf("%d parts left in the end, %d are outstanding", ch.Counters.Sent, r.Outstanding())
	}
}

// BenchmarkAccept is Broadcast below the lock, without the encoding of the message: what the protocol itself costs.
func BenchmarkAccept(b *testing.B) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "bench")
	data := make([]byte, 200)
	b.ReportAllocs()
	queued := 0
	for b.Loop() {
		say(r, ch, "", data)
		if queued++; queued == 64 {
			b.StopTimer()
			confirmAll(r, start)
			r.out.Queue, r.out.Finished = nil, nil
			queued = 0
			b.StartTimer()
		}
	}
}

// seqOf is the seq of a message's last part.
func seqOf(m *Message) uint64 {
	_, last := m.Span()
	return last
}
