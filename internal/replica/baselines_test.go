package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// receiveAged lets a part of origin 101 arrive.
func receiveAged(t *testing.T, r *Replica, seq uint64, age time.Duration, now time.Time) {
	t.Helper()
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, 0, age), wire.RouteGossip, now)
}

// told lets the member of origin 101 say what it owes, and what it has sent.
func told(t *testing.T, r *Replica, next, top uint64, now time.Time) {
	t.Helper()
	p := r.roster.get(101)
	p.untold = false
	r.baselines.ask(p, false, now)
	receiveControl(t, r, testPeer(1), wire.BodyBaseline, &starlingpb.Baseline{Next: next, Top: top, Nonce: p.asked.nonce}, now)
}

// TestGapOfReturnedOrigin: an origin that comes back after its baseline was assumed may say that it owed more: that is reported
// too, but for what was handled.
func TestGapOfReturnedOrigin(t *testing.T) {
	for next, want := range map[uint64][]Gap{
		3: {{101, 3, 3}, {101, 5, 5}}, // 4 was handled while the origin lived
		5: {{101, 5, 5}}, 6: nil, 9: nil,
	} {
		lim := testLimits()
		r := testReplica(lim, 3)
		ch := testChannel(r, "ch")
		now := start.Add(2 * tentativeAfter)
		for seq, age := range map[uint64]time.Duration{4: 3 * tentativeAfter, 6: 0, 8: 0} {
			receiveAged(t, r, seq, age, now)
		}
		handleAll(r, ch, now)
		r.Change(testPeer(1), wire.Peer{}, now)
		now = now.Add(lim.Age + time.Second)
		if r.Tick(now); !slices.Equal(r.out.Gaps, []Gap{{101, 7, 7}}) {
			t.Fatalf("reported %v while it was gone", r.out.Gaps)
		}
		r.out.Gaps = nil
		r.Change(wire.Peer{}, testPeer(1), now)
		told(t, r, next, 8, now)
		told(t, r, next, 8, now)
		if !slices.Equal(r.out.Gaps, want) {
			t.Errorf("back, and owing from %d: reported %v, want %v", next, r.out.Gaps, want)
		}
	}
}

// TestTentativeUntilTold: a part of an origin that is gone, from before we met, is kept from its handler until the origin tells,
// back again, whether it is owed: an origin owes what it broadcast while it was alone.
func TestTentativeUntilTold(t *testing.T) {
	for next, want := range map[uint64]int{4: 1, 5: 0} {
		r := testReplica(testLimits(), 3)
		ch := testChannel(r, "ch")
		r.Change(testPeer(1), wire.Peer{}, start)
		receiveAged(t, r, 4, 2*time.Second, start.Add(time.Second))
		if n := ch.inbox.len(); n != 0 {
			t.Fatalf("%d parts wait for the handler before it is known whether they are owed", n)
		}
		r.Change(wire.Peer{}, testPeer(1), start.Add(time.Second))
		told(t, r, next, 4, start.Add(time.Second))
		if n := ch.inbox.len(); n != want {
			t.Errorf("%d parts wait for the handler when the baseline is %d", n, next)
		}
		handleAll(r, ch, start)
		log := r.intake.logged(101)
		if tentative := log.TakeTentative(); log.Floor() != 4 || len(tentative) != 0 || !log.IsDone(4) {
			t.Errorf("baseline %d: floor %d, %v tentative", next, log.Floor(), tentative)
		}
	}
}

// baselineOf returns the one baseline among the effects.
func baselineOf(t *testing.T, r *Replica, to string, now time.Time) *starlingpb.Baseline {
	t.Helper()
	told := takeTold(t, r, wire.BodyBaseline, now)
	if len(told) != 1 || told[0].to != to {
		t.Fatalf("told %+v, want one to %s", told, to)
	}
	m := new(starlingpb.Baseline)
	told[0].decode(t, m)
	return m
}

// shows lets one that has introduced itself show that it gets what is sent to its address.
func shows(t *testing.T, r *Replica, i int) {
	t.Helper()
	receiveControl(t, r, testPeer(i), wire.BodyHeard, &starlingpb.BaselineHeard{Proof: r.roster.get(testPeer(i).ID).proof}, start)
}

// TestIntroduced: who introduces itself before memberlist tells of it is owed what is broadcast from then on, and what was
// broadcast before that while we were alone; it is told of others that have come a moment ago. It may be spoken with, but for
// so long only.
func TestIntroduced(t *testing.T) {
	r := testReplica(testLimits(), 0)
	ch := testChannel(r, "ch")
	introduce := func(i int, ask *starlingpb.BaselineAsk, room int) {
		ask.Nonce = 77
		r.Membership.Introduce(testPeer(i), testPeer(i), ask, "", room, start)
	}
	say(r, ch, "", nil)
	introduce(1, &starlingpb.BaselineAsk{}, 0)
	if m := baselineOf(t, r, "p1", start); m.GetNext() != 1 || m.GetTop() != 1 || len(m.GetNewcomers()) != 0 || m.GetUnasked() || m.GetNonce() != 77 {
		t.Errorf("the first is told %v", m)
	}
	p := r.roster.get(101)
	if p.live() || !p.reachable(start) || p.reachable(start.Add(introducedFor)) || len(r.Membership.Members()) != 0 {
		t.Errorf("it is %+v", p)
	}
	r.Change(wire.Peer{}, testPeer(1), start)
	if !p.live() || p.owed != 1 {
		t.Errorf("a member, it is %+v", p)
	}
	say(r, ch, "", nil)
	confirmAll(r, start)
	introduce(2, &starlingpb.BaselineAsk{}, 0)
	if m := baselineOf(t, r, "p2", start); m.GetNext() != 1 || m.GetTop() != 2 || len(m.GetNewcomers()) != 1 || m.GetNewcomers()[0].GetOrigin() != 101 {
		t.Errorf("the second is told %v", m) // the first part was broadcast while we were alone
	}
	for i, later := range []time.Duration{0, newFor, 2 * newFor} { // p1 is a member since long then, and p2 has not shown where it is
		r.out.Packets = nil
		r.Membership.Introduce(testPeer(5), testPeer(5), &starlingpb.BaselineAsk{Nonce: 77}, "", 0, start.Add(later))
		if m := baselineOf(t, r, "p5", start.Add(later)); len(m.GetNewcomers()) != []int{2, 0, 1}[i] {
			t.Errorf("after %v another is told %v", later, m)
		}
		if i == 1 {
			shows(t, r, 2)
		}
	}
	introduce(3, &starlingpb.BaselineAsk{}, 0)
	if m := baselineOf(t, r, "p3", start); len(m.GetNewcomers()) != 3 {
		t.Errorf("the third is told %v", m)
	}
	if introduce(4, &starlingpb.BaselineAsk{}, 1); len(r.out.Packets) != 0 || len(r.out.Streams) != 0 {
		t.Error("an answer larger than its question")
	}
	checkRoster(t, r.roster)
}

// TestOwedSince: a member is owed what was broadcast since it is one, as far as that is kept; and what was broadcast since it
// was met, though it asks when nothing of that is kept any more.
func TestOwedSince(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 1)
	ch := testChannel(r, "ch")
	now := start
	for range 3 { // parts 1 to 3, aged 20 s, 10 s, and 0 s
		sayAt(r, ch, "", nil, now)
		confirmAll(r, now)
		now = now.Add(10 * time.Second)
	}
	now = now.Add(-10 * time.Second)
	asks := func(i int, since time.Duration, now time.Time, want uint64) {
		t.Helper()
		receiveControl(t, r, testPeer(i), wire.BodyAsk, &starlingpb.BaselineAsk{SinceMs: uint64(since.Milliseconds())}, now)
		if m := baselineOf(t, r, testPeer(i).Name, now); m.GetNext() != want || m.GetTop() != r.intake.own {
			t.Errorf("a member for %v is told %v, want %d", since, m, want)
		}
	}
	for i := 2; i <= 6; i++ {
		r.Change(wire.Peer{}, testPeer(i), now)
	}
	r.out.Packets = nil
	asks(2, 0, now, 4)
	asks(3, 15*time.Second, now, 2)
	asks(3, time.Hour, now, 2) // it is said once
	asks(4, 1<<62, now, 1)
	sayAt(r, ch, "", nil, now)
	confirmAll(r, now)
	now = now.Add(lim.Age + time.Second)
	r.Tick(now)
	r.out.Packets = nil
	asks(5, 0, now, 4)
	asks(6, time.Hour, now, 4)
}

// TestMetLateAskedLate: what an origin broadcasts just after Join returned on a member that it had not met is owed to it, though the
// question takes a while to arrive.
func TestMetLateAskedLate(t *testing.T) {
	origin, newcomer := testReplica(testLimits(), 0), testReplica(testLimits(), 0)
	newcomer.Membership.Joined(true, start)
	ch := testChannel(origin, "ch")
	origin.Change(wire.Peer{}, testPeer(2), start) // it is not alone
	for _, at := range []time.Time{start.Add(-10 * time.Second), start} {
		sayAt(origin, ch, "", nil, at)
		confirmAll(origin, at)
	}
	now := start.Add(328*time.Millisecond + 385*time.Microsecond)
	newcomer.Change(wire.Peer{}, testPeer(1), now)
	newcomer.Membership.Join(nil, now)
	var ask starlingpb.BaselineAsk
	takeTold(t, newcomer, wire.BodyAsk, now)[0].decode(t, &ask)
	for _, transit := range []time.Duration{time.Millisecond, time.Second} {
		i := 3 + int(transit/time.Second)
		origin.Change(wire.Peer{}, testPeer(i), now)
		origin.out.Packets = nil
		receiveControl(t, origin, testPeer(i), wire.BodyAsk, &ask, now.Add(transit))
		if m := baselineOf(t, origin, testPeer(i).Name, now.Add(transit)); m.GetNext() != 2 {
			t.Errorf("asked %v later, it is told %v, want 2", transit, m)
		}
	}
}

// TestJoinAsks: who joins asks all members, with its metadata, until each has told; and introduces itself to the newcomers
// that they name.
func TestJoinAsks(t *testing.T) {
	r := testReplica(testLimits(), 2)
	r.Membership.Join([]byte("meta"), start)
	asked := takeTold(t, r, wire.BodyAsk, start)
	if len(asked) != 2 || len(r.Membership.NotTakenIn(start)) != 2 {
		t.Fatalf("asked %+v", asked)
	}
	var ask starlingpb.BaselineAsk
	if asked[0].decode(t, &ask); string(ask.GetMeta()) != "meta" || ask.GetSinceMs() != 0 || len(ask.GetPadding()) == 0 {
		t.Errorf("asked %v", &ask)
	}
	newcomer := testPeer(3)
	for _, forged := range []*starlingpb.Baseline{
		{Next: 1 << 60, Top: 1<<60 - 1},                          // of no question
		{Next: 1 << 60, Top: 1 << 60, Nonce: ask.GetNonce() + 1}, // of another one
		{Next: 1 << 60, Top: 6, Nonce: ask.GetNonce()},           // makes no sense
	} {
		receiveControl(t, r, testPeer(1), wire.BodyBaseline, forged, start)
		if p := r.roster.get(101); p.next != 0 || p.log != nil || p.asked == nil {
			t.Errorf("told %v, it is %+v", forged, p)
		}
	}
	r.out.Packets, r.out.Streams = nil, nil
	receiveControl(t, r, testPeer(1), wire.BodyBaseline, &starlingpb.Baseline{
		Nonce: ask.GetNonce(),
		Next:  7, Top: 6, Newcomers: []*starlingpb.Sender{{Origin: newcomer.ID, Name: newcomer.Name, Addr: wire.EncodeAddr(newcomer.Addr)}},
	}, start)
	if p := r.roster.get(101); p.next != 7 || p.asked != nil || !r.out.Told {
		t.Errorf("told, it is %+v", p)
	}
	if asked := takeTold(t, r, wire.BodyAsk, start); len(asked) != 1 || asked[0].to != "p3" {
		t.Errorf("asked %+v", asked)
	}
	if ps := r.Membership.NotTakenIn(start); len(ps) != 2 || ps[0].ID != 102 || ps[1].ID != 103 {
		t.Errorf("pending %v", ps)
	}
	receiveControl(t, r, newcomer, wire.BodyBaseline, &starlingpb.Baseline{Next: 1, Nonce: r.roster.get(103).asked.nonce}, start)
	if ps := r.Membership.NotTakenIn(start); len(ps) != 1 || ps[0].ID != 102 {
		t.Errorf("pending %v", ps)
	}
	r.Membership.Joined(true, start)
	now := start.Add(askEvery << 6)
	r.Tick(now)
	if asked = takeTold(t, r, wire.BodyAsk, now); len(asked) == 0 {
		t.Fatal("it is not asked again")
	}
	if asked[0].decode(t, &ask); asked[0].to != "p2" || ask.GetSinceMs() != uint64((now.Sub(start)+onTheWay).Milliseconds()) {
		t.Errorf("asked %s %v", asked[0].to, &ask)
	}
}

// TestRefusal: a newcomer that is refused is told why, and not taken in; it goes on asking until it is.
func TestRefusal(t *testing.T) {
	r := testReplica(testLimits(), 0)
	if r.Membership.Introduce(testPeer(1), testPeer(1), &starlingpb.BaselineAsk{}, "no", 0, start); r.roster.get(101) != nil {
		t.Error("it is taken in")
	}
	m := baselineOf(t, r, "p1", start)
	if m.GetRefusal() != "no" || m.GetNext() != 0 {
		t.Errorf("told %v", m)
	}
	r = testReplica(testLimits(), 1)
	r.Membership.Join(nil, start)
	m.Nonce, m.Unasked = r.roster.get(101).asked.nonce, false
	receiveControl(t, r, testPeer(1), wire.BodyBaseline, m, start)
	if ps := r.Membership.NotTakenIn(start); len(ps) != 1 || ps[0].Refusal != "no" || r.roster.get(101).asked == nil || !r.out.Told {
		t.Errorf("pending %v", ps)
	}
	if told(t, r, 1, 1, start); len(r.Membership.NotTakenIn(start)) != 0 || r.roster.get(101).asked != nil {
		t.Errorf("pending %v", r.Membership.NotTakenIn(start))
	}
}

// TestGoodbye: who leaves tells what it owes to whom: so others know it, and can tell each other. It names those who have not
// asked yet; whom it does not name, and who may have been unknown to it, is told its top alone, since nobody knows more.
func TestGoodbye(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	say(r, ch, "", nil)
	confirmAll(r, start)
	r.Membership.Introduce(testPeer(3), testPeer(3), &starlingpb.BaselineAsk{}, "", 0, start)
	receiveControl(t, r, testPeer(3), wire.BodyHeard, &starlingpb.BaselineHeard{Proof: r.roster.get(103).proof}, start)
	for i := range 2 {
		receiveControl(t, r, testPeer(i+1), wire.BodyAsk, &starlingpb.BaselineAsk{SinceMs: 1000}, start)
		if r.Membership.AwaitsNewcomer(start) != (i == 0) || r.Membership.AwaitsNewcomer(start.Add(askedWithin)) {
			t.Errorf("after question %d: awaits another %t", i, r.Membership.AwaitsNewcomer(start))
		}
	}
	m := r.Membership.Goodbye()
	if m.GetNext() != 1 || m.GetTop() != 1 || len(m.GetOwed()) != 1 || m.GetOwed()[0].GetMember() != 103 || m.GetOwed()[0].GetNext() != 2 {
		t.Errorf("our goodbye is %v", m)
	}
	for _, self := range []uint64{1, 9, 10} {
		r := New(wire.Peer{ID: self, Name: "self", Addr: testPeer(9).Addr}, testLimits())
		if self != 10 {
			r.Membership.Joined(true, start.Add(-unknownFor))
		}
		for i := range 3 {
			r.Change(wire.Peer{}, testPeer(i+1), start)
		}
		receiveControl(t, r, testPeer(1), wire.BodyGoodbye, &starlingpb.Goodbye{
			Next: 8, Top: 8, Owed: []*starlingpb.Owed{{Member: 1, Next: 5}, {Member: 102, Next: 7}},
		}, start)
		next := map[uint64]uint64{1: 5, 9: 8}[self]
		if self == 10 { // it has just come
			if p := r.roster.get(101); p.next != 0 || p.based() {
				t.Errorf("who has just come takes what others are owed: %d", p.next)
			}
			continue
		}
		if p := r.roster.get(101); p.next != next || len(p.log.Missing(9)) != 1 || p.log.Missing(9)[0].Lo != next || p.log.Missing(9)[0].Hi != 8 {
			t.Errorf("%d is owed from %d on, missing %v", self, p.next, p.log.Missing(9))
		}
		r.Change(testPeer(1), wire.Peer{}, start)
		for i, next := range map[int]uint64{2: 7, 3: 8} {
			r.out.Packets, r.out.Streams = nil, nil
			ask := &starlingpb.BaselineAsk{Origin: 101, SinceMs: uint64(unknownFor.Milliseconds())}
			if i == 3 {
				receiveControl(t, r, testPeer(i), wire.BodyAsk, &starlingpb.BaselineAsk{Origin: 101, SinceMs: 1000}, start)
				if m := baselineOf(t, r, testPeer(i).Name, start); m.GetNext() != 0 || m.GetTop() != 8 {
					t.Errorf("one that had just come is told %v", m)
				}
				r.out.Packets, r.out.Streams = nil, nil
			}
			receiveControl(t, r, testPeer(i), wire.BodyAsk, ask, start)
			if m := baselineOf(t, r, testPeer(i).Name, start); m.GetOrigin() != 101 || m.GetNext() != next || m.GetTop() != 8 || !m.GetGone() {
				t.Errorf("p%d is told %v, want %d", i, m, next)
			}
		}
	}
}

// TestRumours: of origins that a digest names and nobody here has met nothing is kept but when they were asked about, and that of
// no more than so many.
func TestRumours(t *testing.T) {
	r := testReplica(testLimits(), 1)
	say(r, testChannel(r, "ch"), "", nil)
	peers := len(r.roster.peers)
	for i := range uint64(2*maxRumours + 9) {
		receiveControl(t, r, testPeer(1), wire.BodyDigest, &starlingpb.Digest{
			Answer: true, Origins: []*starlingpb.OriginDigest{{Origin: 1000 + i, Floor: 3, Known: 3, Top: 3}},
		}, start)
	}
	if len(r.baselines.rumours) > maxRumours || len(r.roster.peers) != peers {
		t.Errorf("%d rumours, %d peers of %d", len(r.baselines.rumours), len(r.roster.peers), peers)
	}
	r.baselines.rumours = map[uint64]rumour{}
	r.out.Packets = nil
	for _, wait := range []time.Duration{0, 1, digestEvery} {
		r.baselines.rumour(r.roster.get(101), 99, false, start.Add(wait))
	}
	if asked := takeTold(t, r, wire.BodyAsk, start); len(asked) != 2 || asked[0].to != "p1" {
		t.Errorf("asked %+v", asked)
	}
	// Only what was asked about is heard.
	nonce := r.baselines.rumours[99].nonce
	for origin, want := range map[uint64]bool{98: false, 99: true} {
		answer := &starlingpb.Baseline{Origin: origin, Next: 2, Top: 3, Gone: true, Nonce: nonce}
		receiveControl(t, r, testPeer(1), wire.BodyBaseline, answer, start)
		if p := r.roster.get(origin); (p != nil) != want || p != nil && (p.next != 2 || p.log.Top() != 3) {
			t.Errorf("%d is %+v", origin, p)
		}
	}
}

// TestReminders: a member that parts of ours were given up for is told what we have sent until it has heard that, or is gone.
func TestReminders(t *testing.T) {
	for name, end := range map[string]func(r *Replica, now time.Time){
		"heard": func(r *Replica, now time.Time) {
			receiveControl(t, r, testPeer(1), wire.BodyHeard, &starlingpb.BaselineHeard{Top: 1}, now)
		},
		"gone": func(r *Replica, now time.Time) { r.Change(testPeer(1), wire.Peer{}, now) },
	} {
		r := testReplica(testLimits(), 1)
		say(r, testChannel(r, "ch"), "", nil)
		confirmAll(r, start)
		r.reminders.remind(r.roster.get(101), start)
		now, n := start, 0
		for range 20 {
			now = now.Add(remindEvery)
			r.Tick(now)
			for _, c := range takeTold(t, r, wire.BodyBaseline, now) {
				var m starlingpb.Baseline
				if c.decode(t, &m); c.to != "p1" || m.GetNext() != 1 || m.GetTop() != 1 || !m.GetUnasked() {
					t.Errorf("%s: told %+v", name, &m)
				}
				n++
			}
		}
		if n < 3 || n > 6 {
			t.Errorf("%s: told %d times in %v", name, n, now.Sub(start))
		}
		receiveControl(t, r, testPeer(1), wire.BodyHeard, &starlingpb.BaselineHeard{Top: 0}, now) // of what there was before
		if len(r.reminders.telling) != 1 {
			t.Errorf("%s: it is told no more", name)
		}
		end(r, now)
		r.Tick(now.Add(time.Minute))
		if told := takeTold(t, r, wire.BodyBaseline, now); len(told) != 0 || len(r.reminders.telling) != 0 || r.roster.get(101).reminded != nil {
			t.Errorf("%s: told %+v at the end", name, told)
		}
	}
	// Who was never told asks when it is told unasked: it may be owed more.
	r := testReplica(testLimits(), 1)
	receiveControl(t, r, testPeer(1), wire.BodyBaseline, &starlingpb.Baseline{Next: 3, Top: 3, Unasked: true}, start)
	if p := r.roster.get(101); p.next != 0 || p.asked == nil {
		t.Errorf("told unasked, it is %+v", p)
	}
}

func FuzzBaseline(f *testing.F) {
	fuzzControl(f, wire.BodyBaseline,
		&starlingpb.Baseline{},
		&starlingpb.Baseline{Next: 1, Top: 1<<64 - 1},
		&starlingpb.Baseline{Next: 1<<64 - 1, Top: 1<<64 - 1})
}

// TestIntroducedMaySayLittle: who has only introduced itself may not say goodbye, compare digests or ask what became of parts; it has a
// name all the same.
func TestIntroducedMaySayLittle(t *testing.T) {
	r := testReplica(testLimits(), 0)
	r.Membership.Introduce(testPeer(1), testPeer(1), &starlingpb.BaselineAsk{}, "", 0, start)
	if p, _ := r.Membership.Run(101); p != testPeer(1) {
		t.Errorf("it is %+v", p)
	}
	r.out.Packets, r.out.Streams = nil, nil
	receiveControl(t, r, testPeer(1), wire.BodyGoodbye, &starlingpb.Goodbye{Next: 1, Top: 1}, start)
	receiveControl(t, r, testPeer(1), wire.BodyDigest, &starlingpb.Digest{Complete: true}, start)
	receiveControl(t, r, testPeer(1), wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch", Stream: true}, start)
	if p := r.roster.get(101); p.goodbye != nil || len(r.out.Packets)+len(r.out.Streams) > 0 || r.out.drops[DropStranger] != 3 {
		t.Errorf("goodbye %v, %d answers, drops %v", p.goodbye, len(r.out.Packets)+len(r.out.Streams), r.out.drops)
	}
}

// TestPlaced: who has only introduced itself is owed what comes, and is asked three questions in packets, and nothing is sent to it, until it has
// shown that it gets what is sent to its address. Another address is to be shown anew.
func TestPlaced(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	newcomer := testPeer(7)
	introduce := func() uint64 {
		r.Membership.Introduce(newcomer, newcomer, &starlingpb.BaselineAsk{Nonce: 1}, "", 0, start)
		return baselineOf(t, r, "p7", start).GetProof()
	}
	var call Call
	state := func() (placed bool) {
		t.Helper()
		_, there, placed := r.Calls.Reaches(&call, start)
		if owed := r.Membership.Owed(start); !there || len(owed) != 2 || len(r.Membership.Placed(start)) == 2 != placed ||
			r.Membership.AwaitsNewcomer(start) == placed || r.Membership.AwaitsNewcomer(start.Add(askedWithin)) {
			t.Errorf("there %v, placed %v, owed to %v", there, placed, owed)
		}
		return placed
	}
	proof := introduce()
	told(t, r, 1, 0, start)
	r.baselines.fix(r.roster.get(101), 0, start)
	if found, ok := r.Membership.Find("p7", 0, start); !ok || found != newcomer || !r.Calls.Begin(&call, found.ID, start) {
		t.Fatalf("found %v, %v", found, ok)
	}
	if _, ok := r.Membership.Find("p7", 0, start.Add(introducedFor)); ok || r.Calls.Begin(new(Call), 107, start.Add(introducedFor)) || r.Calls.Begin(new(Call), 108, start) {
		t.Error("it may be sent to for ever")
	}
	q := new(Inquiry)
	r.Inquiries.Begin(q, 1, 1, ch)
	asks := func() (packets, streams int) {
		r.out.Packets, r.out.Streams = nil, nil
		for range 10 {
			r.Inquiries.Ask(q, newcomer, true, start)
		}
		for _, c := range takeTold(t, r, wire.BodyHeldAsk, start) {
			if packets++; c.stream {
				streams++
			}
		}
		return packets, streams
	}
	if packets, streams := asks(); state() || packets != askNewcomer || streams != 0 {
		t.Errorf("on its word alone it is asked %d times, %d of them by stream", packets, streams)
	}
	receiveControl(t, r, newcomer, wire.BodyHeldAnswer, &starlingpb.HeldAnswer{Seq: 1}, start) // which anybody may give
	if packets, _ := asks(); packets != 0 {
		t.Errorf("after an answer it is asked %d times", packets)
	}
	receiveControl(t, r, newcomer, wire.BodyHeard, &starlingpb.BaselineHeard{Proof: proof + 1}, start)
	receiveControl(t, r, newcomer, wire.BodyHeard, &starlingpb.BaselineHeard{}, start)
	if state() {
		t.Error("it has shown nothing")
	}
	receiveControl(t, r, newcomer, wire.BodyHeard, &starlingpb.BaselineHeard{Proof: proof}, start)
	if packets, streams := asks(); !state() || packets != 10 || streams != 10 {
		t.Errorf("shown where it is, it is asked %d times, %d of them by stream", packets, streams)
	}
	if introduce(); !state() {
		t.Error("it has said the same again, and is to show it again")
	}
	newcomer.Addr = testPeer(8).Addr
	if another := introduce(); state() || another == proof {
		t.Error("what it has shown of one address counts for another")
	}
	receiveControl(t, r, newcomer, wire.BodyHeard, &starlingpb.BaselineHeard{Proof: proof}, start)
	if state() {
		t.Error("the proof of one address counts for another")
	}
	goodbye := func(proof uint64) {
		receiveControl(t, r, newcomer, wire.BodyGoodbye, &starlingpb.Goodbye{Next: 1, Proof: proof}, start)
	}
	proof = r.roster.get(107).proof
	receiveControl(t, r, newcomer, wire.BodyHeard, &starlingpb.BaselineHeard{Proof: proof}, start)
	for _, forged := range []uint64{0, proof + 1} {
		if goodbye(forged); !state() {
			t.Error("somebody else has said goodbye for it")
		}
	}
	if goodbye(proof); len(r.Membership.Owed(start)) != 1 {
		t.Error("its goodbye is not heeded")
	}
	checkRoster(t, r.roster)
}

// TestHeldAskTells: a member that is asked about a part that it lacks asks the origin what it has sent, once at a time.
func TestHeldAskTells(t *testing.T) {
	r := testReplica(testLimits(), 1)
	testChannel(r, "ch")
	told(t, r, 1, 4, start)
	r.out.Packets = nil
	ask := func(seq uint64) int {
		receiveControl(t, r, testPeer(1), wire.BodyHeldAsk, &starlingpb.HeldAsk{Seq: seq, Key: "ch"}, start)
		defer func() { r.out.Packets = nil }()
		return len(takeTold(t, r, wire.BodyAsk, start))
	}
	for i, want := range []int{0, 1, 0} { // it knows of part 4, and not of part 5
		if n := ask(uint64(4 + min(i, 1))); n != want {
			t.Errorf("question %d: the origin is asked %d times", i, n)
		}
	}
}

// TestNewcomerIsAskedSeldom: one that others have named, and that is no member, is asked three times. Then others are asked to ask it, in
// packets, until it is given up; memberlist has half a minute to tell of it.
func TestNewcomerIsAskedSeldom(t *testing.T) {
	r := testReplica(testLimits(), 1)
	told(t, r, 1, 0, start)
	newcomer := testPeer(3)
	r.roster.introduce(newcomer, start).failures = 1 // though packets have not reached it before
	r.baselines.ask(r.roster.get(newcomer.ID), true, start)
	p, asked := r.roster.get(newcomer.ID), map[string]int{}
	for after := time.Duration(0); after < time.Minute; after += tickEvery {
		r.Tick(start.Add(after))
		for _, c := range takeTold(t, r, wire.BodyAsk, start) {
			if asked[c.to]++; c.to == "p3" && c.stream {
				t.Error("asked by stream")
			}
		}
		if reachable := p.reachable(start.Add(after)); reachable != (after < 30*time.Second) {
			t.Errorf("reachable after %v: %v", after, reachable)
		}
	}
	if asked["p3"] != 3 || asked["p1"] < askGone || p.asked != nil || slices.Contains(r.baselines.asking, p) {
		t.Errorf("asked %v, and %v still", asked, p.asked)
	}
}

// TestWhoIsNamed: newcomers are believed of a member alone, so many of one answer, with an address, and if they are neither known nor
// this member; and no more than so many are named.
func TestWhoIsNamed(t *testing.T) {
	addr := wire.EncodeAddr(testPeer(1).Addr)
	answer := func(r *Replica, from int, named ...*starlingpb.Sender) {
		p := r.roster.get(testPeer(from).ID)
		receiveControl(t, r, testPeer(from), wire.BodyBaseline, &starlingpb.Baseline{Next: 1, Newcomers: named, Nonce: p.asked.nonce}, start)
	}
	peers := func(r *Replica) (ids []uint64) {
		for _, p := range r.roster.sorted(func(p *peer) bool { return p.named }) {
			ids = append(ids, p.ID)
		}
		return ids
	}
	var many []*starlingpb.Sender
	for i := range uint64(20) {
		many = append(many, &starlingpb.Sender{Origin: 500 + i, Name: "n", Addr: addr})
	}
	r := testReplica(testLimits(), 2)
	r.Membership.Join(nil, start)
	if answer(r, 1, many...); len(peers(r)) != 8 {
		t.Errorf("%v are believed", peers(r))
	}
	if p := r.roster.get(500); p.owed != 1 || p.asked == nil {
		t.Errorf("it is %+v", p)
	}
	r = testReplica(testLimits(), 2)
	r.Membership.Join(nil, start)
	answer(r, 1,
		&starlingpb.Sender{Name: "n", Addr: addr}, &starlingpb.Sender{Origin: 1, Name: "self", Addr: addr},
		&starlingpb.Sender{Origin: 102, Name: "forged", Addr: addr}, &starlingpb.Sender{Origin: 600, Name: "n", Addr: []byte("?")},
		&starlingpb.Sender{Origin: 601, Name: "n", Addr: addr})
	if got := peers(r); !slices.Equal(got, []uint64{601}) || r.roster.get(102).Name != "p2" {
		t.Errorf("%v are believed", got)
	}
	r.Membership.Introduce(testPeer(7), testPeer(7), &starlingpb.BaselineAsk{}, "", 0, start)
	r.baselines.ask(r.roster.get(107), false, start)
	if answer(r, 7, many...); len(peers(r)) != 1 {
		t.Errorf("%v are believed of one to come", peers(r))
	}
	for i := range 20 {
		r.out.Packets = nil
		r.Membership.Introduce(testPeer(20+i), testPeer(20+i), &starlingpb.BaselineAsk{}, "", 0, start)
		shows(t, r, 20+i)
	}
	r.out.Packets = nil
	r.Membership.Introduce(testPeer(50), testPeer(50), &starlingpb.BaselineAsk{}, "", 0, start) // itself it shows nothing
	r.out.Packets = nil
	r.Membership.Introduce(testPeer(39), testPeer(39), &starlingpb.BaselineAsk{}, "", 0, start)
	if m := baselineOf(t, r, "p39", start); len(m.GetNewcomers()) != maxNewcomers {
		t.Errorf("%d are named", len(m.GetNewcomers()))
	}
}

// TestStrangersAskedAtOnce: of origins that are no members no more than so many are asked for at once.
func TestStrangersAskedAtOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	for i := range uint64(2 * maxStrangersAsked) {
		r.baselines.ask(r.roster.hear(1000+i, start), false, start)
	}
	if n := len(r.baselines.asking); n != maxStrangersAsked {
		t.Errorf("%d are asked for", n)
	}
	if r.baselines.ask(r.roster.get(101), false, start); r.roster.get(101).asked == nil {
		t.Error("a member is not asked")
	}
}

// TestOthersAreAskedToAsk: a member that does not answer two questions is asked by stream, too, and others are asked to ask it.
func TestOthersAreAskedToAsk(t *testing.T) {
	r := testReplica(testLimits(), 2)
	now := start
	r.baselines.ask(r.roster.get(101), false, now)
	var rounds []string
	for range 4 {
		var round string
		for _, c := range takeTold(t, r, wire.BodyAsk, now) {
			var m starlingpb.BaselineAsk
			if c.decode(t, &m); c.to == "p1" && len(m.GetPadding()) != questionPadding {
				t.Errorf("%d bytes of padding", len(m.GetPadding()))
			}
			if round += c.to; c.stream {
				round += " by stream"
			}
			round += "; "
		}
		rounds = append(rounds, round)
		now = now.Add(time.Minute)
		r.baselines.tick(now)
	}
	want := []string{"p1; ", "p1; p1 by stream; ", "p1; p1 by stream; p2 by stream; ", "p1; p2; p1 by stream; "}
	if !slices.Equal(rounds, want) || r.roster.get(101).failures == 0 {
		t.Errorf("asked %q, want %q; %d failures", rounds, want, r.roster.get(101).failures)
	}
	r.Membership.Joined(true, now.Add(time.Hour)) // a clock that goes back
	if got := r.baselines.memberFor(now); got != onTheWay {
		t.Errorf("a member for %v", got)
	}
}

// TestGoneIsAskedAbout: an origin that is gone is not asked itself; others are asked about it at once, since they may know its goodbye.
func TestGoneIsAskedAbout(t *testing.T) {
	r := testReplica(testLimits(), 2)
	r.Change(testPeer(1), wire.Peer{}, start)
	r.out.Packets, r.out.Streams = nil, nil
	r.baselines.ask(r.roster.get(101), false, start)
	asked := takeTold(t, r, wire.BodyAsk, start)
	if len(asked) != 1 || asked[0].to != "p2" {
		t.Fatalf("asked %+v", asked)
	}
	var m starlingpb.BaselineAsk
	if asked[0].decode(t, &m); m.GetOrigin() != 101 || m.GetNonce() != r.roster.get(101).asked.nonce {
		t.Errorf("asked %v", &m)
	}
}

// TestPredecessorIsNotAwaited: whoever has run at our address before us is gone, though nobody has noticed: neither Join nor Ready waits for it.
func TestPredecessorIsNotAwaited(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := openChannel(r, Channel{Key: "state", State: true})
	r.Membership.Joining()
	for _, addr := range []wire.Peer{{Addr: testPeer(9).Addr}, testPeer(1)} {
		r.Membership.SetAddr(addr.Addr)
		r.States.Await(start)
		awaited := ch.sync.awaiting.members
		if ps := r.Membership.NotTakenIn(start); addr.ID == 0 && (len(ps) != 2 || len(awaited) != 2) ||
			addr.ID != 0 && (len(ps) != 1 || ps[0].ID != 102 || len(awaited) != 1 || !awaited[102]) {
			t.Errorf("at %v Join waits for %v, and Ready for %v", addr.Addr, ps, awaited)
		}
	}
}

// TestTentativeIsNotAwaited: Ready does not wait for parts that are kept from their handler because their origin was gone before we met it. It
// waited for them until their age was over.
func TestTentativeIsNotAwaited(t *testing.T) {
	r := testReplica(testLimits(), 3)
	ch := openChannel(r, Channel{Key: "ch", State: true})
	ch.sync.done, ch.sync.synced = true, true
	r.Change(testPeer(1), wire.Peer{}, start)
	receiveAged(t, r, 4, 2*time.Second, start.Add(time.Second))
	p := r.roster.get(101)
	if !p.log.IsTentative(4) || !r.compares.settledUpTo(ch, p, 4) {
		t.Errorf("tentative %v, and it is waited for", p.log.IsTentative(4))
	}
	p.log.TakeTentative()
	if r.compares.settledUpTo(ch, p, 4) {
		t.Error("what waits for the handler is not waited for")
	}
}
