package replica

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// served is the answer to a pull.
type served struct {
	parts  []uint64 // their numbers
	lacks  map[uint64][]seqset.Span
	pull   uint64
	stream bool
	frames int
}

// serve lets a member ask for parts, and returns what it is answered.
func serve(t *testing.T, r *Replica, from wire.Peer, m *starlingpb.Pull, now time.Time) (s served) {
	t.Helper()
	r.out.Packets, r.out.Streams = nil, nil
	p := r.roster.get(from.ID)
	r.roster.proven(p, 0) // draws the proof
	m.Proof = p.proof
	receiveControl(t, r, from, wire.BodyPull, m, now)
	s.lacks = map[uint64][]seqset.Span{}
	for _, c := range takeTold(t, r, wire.BodyBatch, now) {
		if c.to != from.Name || s.pull != 0 {
			t.Errorf("told %+v", c)
		}
		s.frames++
		s.stream = s.stream || c.stream
		for frame, via := range wire.BatchParts(c.control.Content) {
			p, err := wire.ParsePart(frame)
			if err != nil || via != wire.RouteRepair {
				t.Errorf("%+v by %v: %v", p, via, err)
			}
			s.parts = append(s.parts, p.ID.Seq)
		}
		end := wire.BatchEnd(c.control.Content)
		s.pull = end.Pull
		for _, ranges := range end.Lacks {
			s.lacks[ranges.GetOrigin()], _ = wire.ReadSpans(ranges.GetSpans(), 0)
		}
	}
	return s
}

func pullOf(id uint64, stream bool, origin uint64, spans ...seqset.Span) *starlingpb.Pull {
	return &starlingpb.Pull{Id: id, Stream: stream, Want: []*starlingpb.Ranges{{Origin: origin, Spans: wire.AppendSpans(nil, 0, spans)}}}
}

// TestServe: what a member is answered that asks for parts: those that are kept, in packets if they are few, and what is
// lacking; no more than one answer holds, and nothing that it may not have.
func TestServe(t *testing.T) {
	lim := testLimits()
	lim.QueueBytes = 8 << 20
	for name, test := range map[string]struct {
		sizes  []int // of our own parts
		pull   *starlingpb.Pull
		parts  []uint64
		lacks  []seqset.Span
		stream bool
		frames int
	}{
		"all":              {[]int{10, 10, 10}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 3}), []uint64{1, 2, 3}, nil, false, 1},
		"some":             {[]int{10, 10, 10}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 1}, seqset.Span{Lo: 3, Hi: 3}), []uint64{1, 3}, nil, false, 1},
		"not sent yet":     {[]int{10}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 9}), []uint64{1}, nil, false, 1},
		"of nobody":        {nil, pullOf(7, false, 199, seqset.Span{Lo: 4, Hi: 6}), nil, []seqset.Span{{Lo: 4, Hi: 6}}, false, 1},
		"nothing":          {nil, &starlingpb.Pull{Id: 7}, nil, nil, false, 1},
		"three packets":    {[]int{600, 600, 600}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 3}), []uint64{1, 2, 3}, nil, false, 3},
		"many":             {[]int{600, 600, 600, 600, 600, 600, 600, 600, 600, 600}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 10}), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, nil, true, 1},
		"a large one":      {[]int{5000}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 1}), []uint64{1}, nil, true, 1},
		"as it is wanted":  {[]int{10}, pullOf(7, true, 1, seqset.Span{Lo: 1, Hi: 1}), []uint64{1}, nil, true, 1},
		"too many":         {[]int{100 << 10, 100 << 10, 100 << 10}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 3}), []uint64{1, 2}, nil, true, 1},
		"a very large one": {[]int{2 << 20, 10}, pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 2}), []uint64{1}, nil, true, 1},
	} {
		r := testReplica(lim, 2)
		ch := testChannel(r, "ch")
		for _, n := range test.sizes {
			sayWhole(r, ch, make([]byte, n))
			r.Sender.Pump(start)
		}
		confirmAll(r, start)
		s := serve(t, r, testPeer(1), test.pull, start)
		origin := uint64(1)
		if len(test.pull.GetWant()) > 0 {
			origin = test.pull.GetWant()[0].GetOrigin()
		}
		if !slices.Equal(s.parts, test.parts) || !slices.Equal(s.lacks[origin], test.lacks) || s.pull != 7 || s.stream != test.stream || s.frames != test.frames {
			t.Errorf("%s: %+v", name, s)
		}
		if n := r.Stats(start).Repaired; n != uint64(len(test.parts)) {
			t.Errorf("%s: %d parts counted", name, n)
		}
	}
}

// TestServeLimit: a member is served so much at once, and as much again each second; what is beyond is dropped and counted.
func TestServeLimit(t *testing.T) {
	r := testReplica(testLimits(), 2)
	sayWhole(r, testChannel(r, "ch"), make([]byte, 1<<20-1000))
	confirmAll(r, start)
	pull := pullOf(7, false, 1, seqset.Span{Lo: 1, Hi: 1})
	times := func(from int, now time.Time) (n uint64) {
		for serve(t, r, testPeer(from), pull, now).pull != 0 {
			n++
		}
		return n
	}
	for _, step := range []struct {
		from  int
		after time.Duration
		want  uint64
	}{{1, 0, 8}, {2, 0, 8}, {1, 0, 0}, {1, 500 * time.Millisecond, 4}, {1, 5 * time.Second, 8}} {
		before := r.out.drops[DropRateLimited]
		if n := times(step.from, start.Add(step.after)); n != step.want {
			t.Errorf("%d is served %d times after %v, want %d", step.from, n, step.after, step.want)
		}
		if r.out.drops[DropRateLimited] != before+1 {
			t.Errorf("drops %v", r.out.drops)
		}
	}
	// A message that is malformed costs nothing, and is not answered.
	r = testReplica(testLimits(), 1)
	if s := serve(t, r, testPeer(1), &starlingpb.Pull{Id: 7, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1}}}}, start); s.frames != 0 || r.out.drops != only(DropMalformed) {
		t.Errorf("%+v, drops %v", s, r.out.drops)
	}
}

// TestBucket: it begins full, fills up to its size, and is not taken from where it does not suffice.
func TestBucket(t *testing.T) {
	var b bucket
	for i, step := range []struct {
		n     int
		after time.Duration
		ok    bool
	}{
		{serveBurst, 0, true}, {1, 0, false}, {serveBurst / 4, 250 * time.Millisecond, true}, {1, 250 * time.Millisecond, false},
		{serveBurst, time.Hour, true}, {1, time.Hour, false}, {serveBurst + 1, 2 * time.Hour, false}, {serveBurst, 2 * time.Hour, true},
	} {
		if ok := b.take(step.n, start.Add(step.after)); ok != step.ok {
			t.Errorf("%d: %d bytes: %v", i, step.n, ok)
		}
	}
}

// TestPull: what is missing is asked for when it has been for a moment: of its origin, then, while that does not answer, of
// others, later by stream; of one member once at a time, and of no more than so many.
func TestPull(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	part := func(origin, seq uint64) {
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: origin, Seq: seq}, 0, 0), wire.RouteGossip, start)
	}
	part(101, 3)
	told(t, r, 2, 3, start)
	asked := func(now time.Time) (names []string, stream bool) {
		r.out.Packets, r.out.Streams = nil, nil
		r.Tick(now)
		for _, c := range takeTold(t, r, wire.BodyPull, now) {
			var m starlingpb.Pull
			c.decode(t, &m)
			if spans, ok := wire.ReadSpans(m.GetWant()[0].GetSpans(), 0); !ok || m.GetWant()[0].GetOrigin() != 101 || !slices.Equal(spans, []seqset.Span{{Lo: 2, Hi: 2}}) || m.GetStream() != c.stream {
				t.Errorf("asked for %v", &m)
			}
			names, stream = append(names, c.to), c.stream
		}
		return names, stream
	}
	if names, _ := asked(start.Add(pullAfter - 1)); len(names) > 0 {
		t.Errorf("asked too soon: %v", names)
	}
	now := start.Add(pullAfter)
	var all []string
	streams := 0
	for range 8 {
		names, stream := asked(now)
		if len(names) != 1 {
			t.Fatalf("asked %v", names)
		}
		if again, _ := asked(r.pulls.open[0].pull.until); len(again) > 0 {
			t.Errorf("asked again: %v", again)
		}
		all = append(all, names[0])
		if stream {
			streams++
		}
		now = r.pulls.open[0].pull.until.Add(1)
	}
	if !slices.Equal(all[:4], []string{"p1", "p1", "p2", "p2"}) || streams != 4 {
		t.Errorf("asked %v, %d times by stream", all, streams)
	}
	if part(101, 2); !slices.Equal(seqsOf(handleAll(r, ch, now)), []uint64{3, 2}) {
		t.Error("it did not come")
	}
	if names, _ := asked(now); len(names) > 0 || len(r.pulls.open) > 0 {
		t.Errorf("%v are asked for nothing", names)
	}
}

// TestPullsAtOnce: no more than so many members are asked at once.
func TestPullsAtOnce(t *testing.T) {
	r := testReplica(testLimits(), pullsAtOnce+3)
	for i := range pullsAtOnce + 3 {
		r.pulls.pull(r.roster.get(uint64(101+i)), map[uint64][]seqset.Span{199: {{Lo: uint64(i + 1), Hi: uint64(i + 1)}}}, false, start)
		r.pulls.pull(r.roster.get(uint64(101+i)), map[uint64][]seqset.Span{199: {{Lo: 99, Hi: 99}}}, false, start)
	}
	if told := takeTold(t, r, wire.BodyPull, start); len(told) != pullsAtOnce || len(r.pulls.open) != pullsAtOnce {
		t.Errorf("%d are asked", len(told))
	}
	if left := r.pulls.notAsked(199, []seqset.Span{{Lo: 1, Hi: 9}}); !slices.Equal(left, []seqset.Span{{Lo: pullsAtOnce + 1, Hi: 9}}) {
		t.Errorf("not asked for: %v", left)
	}
}

// TestProvenPull: who has not shown that it is where it says it is gets at most ten times what it sent; who repeats what it
// was given gets all.
func TestProvenPull(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	const parts = 90
	for range parts {
		say(r, ch, "", make([]byte, 200))
	}
	confirmAll(r, start)
	m := &starlingpb.Pull{Id: 1, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, parts}}}}
	for _, proven := range []bool{false, true} {
		receiveControl(t, r, testPeer(1), wire.BodyPull, m, start)
		found, size, lacking := 0, 0, 0
		for _, c := range takeTold(t, r, wire.BodyBatch, start) {
			for frame := range wire.BatchParts(c.control.Content) {
				found++
				size += len(frame)
			}
			if end := wire.BatchEnd(c.control.Content); end.Pull != 0 {
				m.Proof, lacking = end.Proof, len(end.Lacks)
			}
		}
		if limit := 10 * proto.Size(m); lacking != 0 || m.GetProof() == 0 || proven && found != parts || !proven && size > limit {
			t.Errorf("proven %v: %d parts, %d bytes, limit %d, %d lacking", proven, found, size, limit, lacking)
		}
	}
}

func FuzzPull(f *testing.F) {
	fuzzControl(f, wire.BodyPull,
		&starlingpb.Pull{},
		&starlingpb.Pull{Id: 1, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1}}}},
		&starlingpb.Pull{Id: 1, Stream: true, Want: []*starlingpb.Ranges{{Origin: 1, Spans: []uint64{1, 1<<64 - 2}}, {Origin: 9, Spans: []uint64{1, 0, 2, 0}}}})
}

// TestPullsDoNotWaitForOne: what several members may have is not asked of the one alone that may have something else, too, and does
// not answer.
func TestPullsDoNotWaitForOne(t *testing.T) {
	r := testReplica(testLimits(), 3)
	origin, other, mute := r.roster.get(101), r.roster.get(102), r.roster.get(103)
	r.intake.rebase(origin, 1, 9, start)
	origin.log.Announce(9, start)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 9}, 0, 0), wire.RouteGossip, start)
	var lacking seqset.Set
	lacking.AddRange(1, 5)
	origin.denied = map[uint64]seqset.Set{101: lacking, 102: lacking}
	mute.failures = 5
	want := map[uint64]map[uint64][]seqset.Span{}
	r.pulls.divide(origin, r.pulls.openHoles(origin, 0, start), want)
	if len(want) != 2 || !slices.Equal(want[103][101], []seqset.Span{{Lo: 1, Hi: 5}}) || !slices.Equal(want[101][101], []seqset.Span{{Lo: 6, Hi: 8}}) {
		t.Errorf("wants %v", want)
	}
	origin.failures = 5 // then another one that answers, before the one that does not
	clear(want)
	r.pulls.divide(origin, r.pulls.openHoles(origin, 0, start), want)
	if !slices.Equal(want[other.ID][101], []seqset.Span{{Lo: 6, Hi: 8}}) {
		t.Errorf("wants %v", want)
	}
}

// TestEachIsAskedOnce: what members have denied they are not asked again, however many they are, and the origin is asked in the end, though
// it has not answered lately.
func TestEachIsAskedOnce(t *testing.T) {
	const members = 20
	r := testReplica(testLimits(), members)
	origin := r.roster.get(101)
	r.intake.rebase(origin, 1, 9, start)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 9}, 0, 0), wire.RouteGossip, start)
	origin.failures = 5
	now := start.Add(pullAfter)
	r.pulls.tick(now)
	asked := map[string]int{}
	for range 10 * members {
		for _, p := range slices.Clone(r.pulls.open) {
			asked[p.Name]++
			if p == origin {
				continue
			}
			lacks := []*starlingpb.Ranges{{Origin: 101, Spans: wire.AppendSpans(nil, 0, p.pull.want[101])}}
			r.pulls.ended(p, wire.PullEnd{Pull: p.pull.id, Lacks: lacks}, now)
		}
		if origin.pull != nil {
			break
		}
	}
	if len(asked) != members-1 || origin.pull == nil {
		t.Errorf("asked %d of %d others, and the origin: %v", len(asked), members-1, origin.pull != nil)
	}
	for name, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked %d times", name, n)
		}
	}
}

// TestServeWhatIsSent: a piece that is on its way to a member is neither given to it nor denied, as long as it is likely to come, and be that long:
// while it waits or is written, and while the member reads on. One that the spread gave up, or of which nothing is heard, is given.
func TestServeWhatIsSent(t *testing.T) {
	r := testReplica(testLimits(), 2)
	say(r, testChannel(r, "ch"), "", someData(300<<10))
	r.Sender.Pump(start)
	streams := slices.Clone(r.out.Streams)
	pull := pullOf(7, true, 1, seqset.Span{Lo: 1, Hi: 1})
	sending := func(from wire.Peer, now time.Time) (parts int, sending bool) {
		r.out.Packets, r.out.Streams = nil, nil
		r.roster.proven(r.roster.get(from.ID), 0)
		pull.Proof = r.roster.get(from.ID).proof
		receiveControl(t, r, from, wire.BodyPull, pull, now)
		for _, c := range takeTold(t, r, wire.BodyBatch, now) {
			for range wire.BatchParts(c.control.Content) {
				parts++
			}
			end := wire.BatchEnd(c.control.Content)
			if sending = end.Sending; len(end.Lacks) > 0 {
				t.Errorf("lacks %v", end.Lacks)
			}
		}
		return parts, sending
	}
	if parts, is := sending(testPeer(1), start); parts != 0 || !is {
		t.Errorf("at once: %d parts, sending %v", parts, is)
	}
	late := testPeer(7)
	r.Change(wire.Peer{}, late, start) // it came when the piece had left
	if parts, is := sending(late, start); parts != 1 || is {
		t.Errorf("to one that it is not sent to: %d parts, sending %v", parts, is)
	}
	now := start.Add(time.Minute / 2)
	if parts, is := sending(testPeer(1), now); parts != 0 || !is {
		t.Errorf("not written yet: %d parts, sending %v", parts, is)
	}
	for _, s := range streams {
		s.Written(true, now)
	}
	for range 3 {
		now = now.Add(1900 * time.Millisecond)
		if parts, is := sending(testPeer(1), now); parts != 0 || !is {
			t.Errorf("being read: %d parts, sending %v", parts, is)
		}
		for _, s := range streams {
			s.Moved(now)
		}
	}
	if parts, is := sending(testPeer(1), now.Add(2*time.Second)); parts != 1 || is {
		t.Errorf("read no more: %d parts, sending %v", parts, is)
	}
}

// TestRelayedIsNotGiven: a member that passes on a piece gives a member that it is for neither that one nor another, while it is under way; small
// parts are given at once.
func TestRelayedIsNotGiven(t *testing.T) {
	lim := testLimits()
	lim.Packet = wire.MinChunk - 1
	r := testReplica(lim, 3)
	testChannel(r, "ch")
	told(t, r, 1, 0, start)
	frames := piecesOf(someData(3*wire.MinChunk), 1)
	receivePart(t, r, frames[1], wire.RouteStream, start) // not passed on
	receivePart(t, r, partOf("ch", []byte("small"), wire.PartID{Origin: 101, Seq: 9}, 0, 0), wire.RouteGossip, start)
	parts := spread.AppendParts(nil, []*store.Item{{Frame: frames[0], Born: start}}, start)
	f, err := wire.ParseSpread(spreadContent(wire.BatchID{Root: 101, N: 1}, spread.Position("self"), wire.FlagStream, parts))
	if err != nil {
		t.Fatal(err)
	}
	r.spreader.receive(testPeer(1), f, start) // all others are in our slice
	r.Sender.Pump(start)
	var streams []wire.Stream
	for _, s := range r.out.Streams {
		if s.Moved != nil && s.To.ID == 102 {
			streams = append(streams, s)
		}
	}
	if len(streams) != 1 {
		t.Fatalf("%d streams to the member", len(streams))
	}
	given := func(now time.Time) (parts int, sending bool) {
		r.out.Packets, r.out.Streams = nil, nil
		r.roster.proven(r.roster.get(102), 0)
		pull := pullOf(7, false, 101, seqset.Span{Lo: 1, Hi: 9})
		pull.Proof = r.roster.get(102).proof
		receiveControl(t, r, testPeer(2), wire.BodyPull, pull, now)
		for _, c := range takeTold(t, r, wire.BodyBatch, now) {
			for range wire.BatchParts(c.control.Content) {
				parts++
			}
			sending = sending || wire.BatchEnd(c.control.Content).Sending
		}
		return parts, sending
	}
	if parts, sending := given(start); parts != 1 || !sending {
		t.Errorf("under way: %d parts are given, sending %v; want the small one", parts, sending)
	}
	streams[0].Written(true, start)
	if parts, sending := given(start.Add(1900 * time.Millisecond)); parts != 1 || !sending {
		t.Errorf("written: %d parts are given, sending %v; want the small one", parts, sending)
	}
	if parts, sending := given(start.Add(2 * time.Second)); parts != 3 || sending {
		t.Errorf("nothing is heard: %d parts are given, sending %v", parts, sending)
	}
}

// TestLateAnswer: an answer to a pull that was given up already still tells what its member sends, and what it lacks; for as long as it has taken
// nothing is asked for again.
func TestLateAnswer(t *testing.T) {
	r := testReplica(testLimits(), 2)
	testChannel(r, "ch")
	told(t, r, 1, 4, start)
	origin := r.roster.get(101)
	r.pulls.pull(origin, map[uint64][]seqset.Span{101: {{Lo: 1, Hi: 2}}}, false, start)
	id := origin.pull.id
	now := start.Add(5 * time.Second)
	r.pulls.tick(now)
	if origin.late == nil || origin.failures != 1 || origin.pull != nil && origin.pull.id == id {
		t.Fatalf("late %v, failures %d", origin.late, origin.failures)
	}
	r.pulls.ended(origin, wire.PullEnd{Pull: id + 100, Sending: true}, now)
	if len(origin.coming) != 0 {
		t.Error("an answer to nothing is heeded")
	}
	r.pulls.ended(origin, wire.PullEnd{Pull: id, Sending: true}, now)
	missing := []seqset.Span{{Lo: 1, Hi: 2}}
	if early, late := origin.coming.without(missing, now.Add(5*time.Second)), origin.coming.without(missing, now.Add(5*time.Second+1)); len(early) != 0 || len(late) != 1 || origin.late != nil {
		t.Errorf("on its way: %v, later %v", early, late)
	}
}

// TestComingOnSlowLink: where pieces come slowly, the next are waited for three times as long as the last took, but not for ever.
func TestComingOnSlowLink(t *testing.T) {
	var c coming
	missing, now := []seqset.Span{{Lo: 1, Hi: 9}}, start
	for _, step := range []struct{ gap, want time.Duration }{
		{0, comingFor}, {100 * time.Millisecond, comingFor}, {2 * time.Second, 6 * time.Second}, {time.Minute, comingFor}, {6 * time.Second, comingMost},
	} {
		now = now.Add(step.gap)
		c.came(1, 9, now)
		if early, late := c.without(missing, now.Add(step.want)), c.without(missing, now.Add(step.want+1)); len(early) != 0 || len(late) != 1 || len(c) != 1 {
			t.Errorf("after %v: on its way %v, later %v, %d spans", step.gap, early, late, len(c))
		}
	}
}

// TestNotPulledWhileComing: what its origin is sending, and the rest of a message of which a piece has come, is not asked for at once.
func TestNotPulledWhileComing(t *testing.T) {
	r := testReplica(testLimits(), 2)
	testChannel(r, "ch")
	told(t, r, 1, 0, start)
	origin := r.roster.get(101)
	holes := func(after time.Duration) []seqset.Span { return r.pulls.openHoles(origin, 0, start.Add(after)) }
	frames := piecesOf(someData(4*wire.MinChunk), 1)
	receivePart(t, r, frames[3], wire.RouteStream, start)
	if early, late := holes(comingFor), holes(comingFor+1); len(early) != 0 || !slices.Equal(late, []seqset.Span{{Lo: 1, Hi: 3}}) {
		t.Errorf("beside a piece: %v, later %v", early, late)
	}
	now := start.Add(2 * comingFor)
	receivePart(t, r, frames[0], wire.RouteRepair, now) // who has sent this sends no more by itself
	if got := holes(2 * comingFor); !slices.Equal(got, []seqset.Span{{Lo: 2, Hi: 3}}) {
		t.Errorf("beside a repaired piece: %v", got)
	}
	r.pulls.pull(origin, map[uint64][]seqset.Span{101: {{Lo: 2, Hi: 3}}}, false, now)
	r.pulls.ended(origin, wire.PullEnd{Pull: origin.pull.id, Sending: true}, now)
	if early, late := holes(2*comingFor+comingSoon), holes(2*comingFor+comingSoon+1); len(early) != 0 || len(late) != 1 {
		t.Errorf("what is sent: %v, later %v", early, late)
	}
}

// TestAnsweringDonorsFirst: where more members would be asked than may be at once, those are that have answered lately, whatever their ids.
func TestAnsweringDonorsFirst(t *testing.T) {
	const origins = pullsAtOnce + 1
	r := testReplica(testLimits(), origins)
	testChannel(r, "ch")
	for i := range uint64(origins) {
		origin := r.roster.get(101 + i)
		r.intake.rebase(origin, 1, 0, start)
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: origin.ID, Seq: 2}, 0, 0), wire.RouteGossip, start)
		origin.denied, origin.deniedAt, origin.failures = map[uint64]seqset.Set{}, start, 2
		for other := range uint64(origins) { // but for the origin nobody has it
			var lacking seqset.Set
			lacking.AddRange(1, 1)
			if other != i {
				origin.denied[101+other] = lacking
			}
		}
	}
	r.roster.get(100 + origins).failures = 1
	r.out.Packets = nil
	r.pulls.tick(start.Add(pullAfter))
	var asked []string
	for _, c := range takeTold(t, r, wire.BodyPull, start) {
		asked = append(asked, c.to)
	}
	if slices.Sort(asked); !slices.Equal(asked, []string{"p1", "p2", "p3", "p5"}) {
		t.Errorf("asked %v", asked)
	}
}
