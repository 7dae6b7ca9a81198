package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestHeldAsked: what a member is told that asks what has become of a part of its own.
func TestHeldAsked(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	for seq, key := range []string{"ch", "ch", "ch", "closed"} {
		receivePart(t, r, partOf(key, nil, wire.PartID{Origin: 101, Seq: uint64(seq + 1)}, 0, 0), wire.RouteGossip, start)
	}
	for _, undecodable := range []bool{false, true} {
		d, _ := r.Take(ch, start)
		r.Handled(ch, d, undecodable, start)
	}
	told(t, r, 1, 8, start)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 8}, 0, lim.Age), wire.RouteGossip, start) // refused
	r.intake.giveUp(r.roster.get(101), 5, 5, start)
	for _, test := range []struct {
		from       int
		first, seq uint64
		key        string
		want       Status
	}{
		{1, 0, 1, "ch", starlingpb.HeldAnswer_HANDLED},
		{1, 0, 2, "ch", starlingpb.HeldAnswer_UNDECODABLE},
		{1, 0, 3, "ch", starlingpb.HeldAnswer_HELD},
		{1, 0, 4, "closed", starlingpb.HeldAnswer_NO_CHANNEL},
		{1, 0, 5, "ch", starlingpb.HeldAnswer_LOST},    // given up
		{1, 0, 7, "ch", starlingpb.HeldAnswer_LACKING}, // has not come
		{1, 0, 8, "ch", starlingpb.HeldAnswer_REFUSED},
		{1, 0, 9, "ch", starlingpb.HeldAnswer_LACKING}, // not sent yet
		{2, 0, 1, "ch", starlingpb.HeldAnswer_LACKING}, // of another origin
		// Of several parts, what is worst.
		{1, 1, 2, "ch", starlingpb.HeldAnswer_UNDECODABLE},
		{1, 1, 3, "ch", starlingpb.HeldAnswer_HELD},
		{1, 3, 4, "closed", starlingpb.HeldAnswer_NO_CHANNEL},
		{1, 3, 5, "ch", starlingpb.HeldAnswer_LOST},
		{1, 6, 7, "ch", starlingpb.HeldAnswer_LACKING},
		{1, 7, 8, "ch", starlingpb.HeldAnswer_REFUSED},
		{1, 4, 1 << 60, "ch", starlingpb.HeldAnswer_REFUSED},
	} {
		r.out.Packets, r.out.Streams = nil, nil
		receiveControl(t, r, testPeer(test.from), wire.BodyHeldAsk, &starlingpb.HeldAsk{First: test.first, Seq: test.seq, Key: test.key}, start)
		answers := takeTold(t, r, wire.BodyHeldAnswer, start)
		if len(answers) != 1 || answers[0].to != testPeer(test.from).Name || answers[0].stream {
			t.Fatalf("%+v: answered by %+v", test, answers)
		}
		var m starlingpb.HeldAnswer
		if answers[0].decode(t, &m); m.GetSeq() != test.seq || m.GetFate() != test.want {
			t.Errorf("%+v: told %v", test, m.GetFate())
		}
	}
}

// TestInquiry: members are asked about the part, and what they say is there until the end of the inquiry.
func TestInquiry(t *testing.T) {
	r := testReplica(testLimits(), 3)
	ch := testChannel(r, "ch")
	q := &Inquiry{Owner: "owner"}
	r.Inquiries.Begin(q, 7, 7, ch)
	r.out.Packets = nil
	for i := range 3 {
		r.Inquiries.Ask(q, testPeer(i+1), i == 1, start)
	}
	r.Inquiries.Ask(q, wire.Peer{ID: 1, Name: "self"}, false, start) // of ourselves we know
	asked := takeTold(t, r, wire.BodyHeldAsk, start)
	if len(asked) != 3 {
		t.Fatalf("asked %+v", asked)
	}
	for _, c := range asked {
		var m starlingpb.HeldAsk
		if c.decode(t, &m); m.GetSeq() != 7 || m.GetKey() != "ch" || c.stream != (c.to == "p2") {
			t.Errorf("%s is asked %v, by stream: %v", c.to, &m, c.stream)
		}
	}
	answer := func(from int, seq uint64, fate Status) {
		receiveControl(t, r, testPeer(from), wire.BodyHeldAnswer, &starlingpb.HeldAnswer{Seq: seq, Fate: fate}, start)
	}
	answer(1, 7, starlingpb.HeldAnswer_HELD)
	answer(2, 7, starlingpb.HeldAnswer_HANDLED)
	answer(1, 7, starlingpb.HeldAnswer_HANDLED)
	answer(3, 8, starlingpb.HeldAnswer_HANDLED) // of nothing that we ask about
	if a := r.out.Answers; len(a) != 3 || a[0] != q || a[1] != q || a[2] != q {
		t.Errorf("answers: %v", a)
	}
	r.Change(testPeer(2), wire.Peer{}, start)
	type status struct {
		Status
		live bool
	}
	for id, want := range map[uint64]status{
		101: {starlingpb.HeldAnswer_HANDLED, true}, 102: {starlingpb.HeldAnswer_HANDLED, false},
		103: {starlingpb.HeldAnswer_LACKING, true}, 104: {starlingpb.HeldAnswer_LACKING, false},
	} {
		if s, live := r.Inquiries.StatusAt(q, id, start); (status{s, live}) != want {
			t.Errorf("%d: %v, a member: %v", id, s, live)
		}
	}
	r.Inquiries.End(q)
	if answer(3, 7, starlingpb.HeldAnswer_HELD); len(r.out.Answers) != 3 || len(r.Inquiries.open) != 0 {
		t.Errorf("answers after the end: %v", r.out.Answers)
	}
}

// TestStatusOfOwn: what has become of a part of our own on a channel with Echo.
func TestStatusOfOwn(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 0)
	ch := openChannel(r, Channel{Key: "ch", Echo: true})
	for range 3 {
		say(r, ch, "", nil)
	}
	for _, undecodable := range []bool{false, true} {
		d, _ := r.Take(ch, start)
		r.Handled(ch, d, undecodable, start)
	}
	expect := func(want ...Status) {
		t.Helper()
		for i, want := range want {
			q := new(Inquiry)
			r.Inquiries.Begin(q, uint64(i+1), uint64(i+1), ch)
			if s, live := r.Inquiries.StatusAt(q, 1, start); s != want || !live {
				t.Errorf("part %d: %v, a member: %v; want %v", i+1, s, live, want)
			}
		}
	}
	expect(starlingpb.HeldAnswer_HANDLED, starlingpb.HeldAnswer_UNDECODABLE, starlingpb.HeldAnswer_HELD)
	r.Tick(start.Add(lim.Age + time.Second))
	// What is not kept any more was handled, or is lost and was reported.
	expect(starlingpb.HeldAnswer_HANDLED, starlingpb.HeldAnswer_HANDLED, starlingpb.HeldAnswer_LOST)
	if !slices.Equal(r.out.Gaps, []Gap{{1, 3, 3}}) || r.Stats(start).Lost != 1 {
		t.Errorf("reported %v", r.out.Gaps)
	}
}

// TestStrange: a member that leaves questions unanswered for a second may not know of this one, and that is said again after a while. One that has
// missed a question long ago, or has answered, is not such.
func TestStrange(t *testing.T) {
	r := testReplica(testLimits(), 1)
	q := &Inquiry{}
	r.Inquiries.Begin(q, 7, 7, testChannel(r, "ch"))
	for _, s := range []struct {
		at      time.Duration
		strange bool
	}{
		{0, false}, {time.Minute, false}, {time.Minute + strangeAfter - 1, false}, {time.Minute + strangeAfter, true},
		{time.Minute + 2*strangeAfter, false}, {time.Minute + strangeAfter + strangeAgain - 1, false}, {time.Minute + strangeAfter + strangeAgain, true},
	} {
		r.out.Strange = nil
		r.Inquiries.Ask(q, testPeer(1), false, start.Add(s.at))
		if strange := len(r.out.Strange) > 0; strange != s.strange {
			t.Errorf("after %v: %v", s.at, strange)
		}
	}
	r.Inquiries.answered(r.roster.get(testPeer(1).ID), &starlingpb.HeldAnswer{Seq: 7})
	r.out.Strange = nil
	if r.Inquiries.Ask(q, testPeer(1), false, start.Add(time.Hour)); len(r.out.Strange) > 0 {
		t.Error("one that has answered")
	}
}
