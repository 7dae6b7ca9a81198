package replica

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// checkRoster holds a roster against its invariants.
func checkRoster(t *testing.T, ro *roster) {
	t.Helper()
	absent := 0
	for id, p := range ro.peers {
		listed := slices.Contains(ro.ours, p)
		if p.ID != id || listed != p.live() {
			t.Errorf("peer %d is found as %d, in state %d, listed: %v", p.ID, id, p.state, listed)
		}
		if !p.live() {
			absent++
		}
		if _, forgotten := ro.forgotten[id]; forgotten {
			t.Errorf("peer %d is forgotten and found", id)
		}
	}
	if absent != ro.absent || len(ro.ours) != len(ro.peers)-absent || len(ro.names) != len(ro.ours)+len(ro.foreign) {
		t.Errorf("%d peers, %d of ours, %d foreign, %d names, %d absent and counted as %d", len(ro.peers), len(ro.ours), len(ro.foreign), len(ro.names), absent, ro.absent)
	}
	if len(ro.forgotten) != len(ro.forgottenIDs) || len(ro.forgotten) > maxRemains {
		t.Errorf("%d are forgotten, %d ids", len(ro.forgotten), len(ro.forgottenIDs))
	}
}

// record is all that a roster holds, to be compared.
type record struct {
	Names     map[string]wire.Peer
	Ours      []uint64
	Peers     map[uint64]string
	Forgotten map[uint64]remains
	IDs       []uint64
}

func recordOf(ro *roster) record {
	rec := record{Names: maps.Clone(ro.names), Peers: map[uint64]string{}, Forgotten: maps.Clone(ro.forgotten), IDs: slices.Clone(ro.forgottenIDs)}
	for _, p := range ro.ours {
		rec.Ours = append(rec.Ours, p.ID)
	}
	for id, p := range ro.peers {
		last := uint64(0)
		if p.log != nil {
			last = p.log.Last()
		}
		rec.Peers[id] = fmt.Sprintf("%+v %d silent %v met %v since %v last %d owed %d", p.Peer, p.state, p.silent(), p.met, p.since, last, p.owed)
	}
	return rec
}

// TestPeerStates: every state of a peer, and all that can happen to it. What is no transition of its state changes nothing.
func TestPeerStates(t *testing.T) {
	m, later := testPeer(1), start.Add(time.Minute)
	part := partOf("ch", nil, wire.PartID{Origin: m.ID, Seq: 7}, 0, 0)
	hear := func(r *Replica) { receivePart(t, r, part, wire.RouteGossip, start) }
	joins := func(r *Replica) { r.Change(wire.Peer{}, m, start) }
	leaves := func(r *Replica) { r.Change(m, wire.Peer{}, start) }
	forget := func(r *Replica) { r.roster.forget(r.roster.get(m.ID)) }
	// unanswered lets a message leave that nobody answers, and another one after a second.
	unanswered := func(r *Replica) {
		now := start
		for range 2 {
			sayAt(r, r.Channel("ch"), "", nil, now)
			for next, again := r.Sender.Pump(now); again; next, again = r.Sender.Pump(now) {
				now = next
			}
			now = now.Add(time.Second)
		}
	}
	reach := map[string][]func(*Replica){
		"unknown":   nil,
		"heard":     {hear},
		"alive":     {joins},
		"silent":    {joins, unanswered},
		"gone":      {joins, leaves},
		"forgotten": {hear, forget},
		"past":      {joins, leaves, forget}, // forgotten too, but it was a member
	}
	stateOf := func(r *Replica) string {
		p := r.roster.get(m.ID)
		_, forgotten := r.roster.forgotten[m.ID]
		switch {
		case p == nil && forgotten && r.roster.forgotten[m.ID].owed > 0:
			return "past"
		case p == nil && forgotten:
			return "forgotten"
		case p == nil:
			return "unknown"
		case r.Membership.Silent(m.ID):
			return "silent"
		}
		return map[peerState]string{peerHeard: "heard", peerAlive: "alive", peerGone: "gone"}[p.state]
	}
	next := map[string]map[string]string{ // what is not here stays as it is
		"unknown":   {"hear": "heard", "joins": "alive"},
		"heard":     {"joins": "alive", "forget": "forgotten"},
		"alive":     {"unanswered": "silent", "leaves": "gone"},
		"silent":    {"answers": "alive", "leaves": "gone"},
		"gone":      {"joins": "alive", "forget": "past"},
		"forgotten": {"hear": "heard", "joins": "alive"},
		"past":      {"hear": "gone", "joins": "alive"},
	}
	for from, steps := range reach {
		for name, event := range map[string]func(r *Replica, was *peer){
			"hear":       func(r *Replica, _ *peer) { r.roster.hear(m.ID, later) },
			"joins":      func(r *Replica, _ *peer) { r.roster.joins(m, later) },
			"leaves":     func(r *Replica, _ *peer) { r.roster.leaves(m, later) },
			"forget":     func(r *Replica, was *peer) { r.roster.forget(was) },
			"unanswered": func(r *Replica, _ *peer) { unanswered(r) },
			"answers": func(r *Replica, _ *peer) {
				_ = r.Control(wire.Control{From: m, Body: wire.BodyReports, Content: wire.AppendReport(nil, wire.Report{ID: wire.BatchID{Root: 1, N: 1}})}, later)
			},
		} {
			r := testReplica(testLimits(), 0)
			testChannel(r, "ch")
			was := &peer{Peer: m} // one that is not in the roster, if there is none
			for _, step := range steps {
				step(r)
				if p := r.roster.get(m.ID); p != nil {
					was = p
				}
			}
			if got := stateOf(r); got != from {
				t.Fatalf("the way to %s leads to %s", from, got)
			}
			before := recordOf(r.roster)
			event(r, was)
			want, moves := next[from][name]
			if !moves {
				want = from
			}
			if got := stateOf(r); got != want {
				t.Errorf("%s, %s: %s, want %s", from, name, got, want)
			}
			if after := recordOf(r.roster); !moves && !reflect.DeepEqual(before, after) {
				t.Errorf("%s, %s: changed\n%+v\nto\n%+v", from, name, before, after)
			}
			checkRoster(t, r.roster)
		}
	}
}

// TestLeaves: of a member that is gone, nothing is kept of what was between us, but for the numbers of messages to it alone
// and from it; what it sent and what it is owed is, and when it was met first.
func TestLeaves(t *testing.T) {
	r := testReplica(testLimits(), 2)
	testChannel(r, "ch")
	now := start.Add(time.Second)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 5}, 0, 0), wire.RouteGossip, now)
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 8}, 0, 0), wire.RouteGossip, now)
	r.Calls.Begin(new(Call), 101, start)
	receiveControl(t, r, testPeer(1), wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Id: 1}, now)
	receiveControl(t, r, testPeer(1), wire.BodyPull, &starlingpb.Pull{Id: 1}, now)
	now = now.Add(time.Second)
	r.Tick(now) // asks again, pulls, tells
	p := r.roster.get(101)
	p.deaf, p.failures = true, 3
	if p.asked == nil || p.pull == nil || p.bucket == (bucket{}) || p.calls.last != 1 || p.taken.of(0).above.Count() != 1 {
		t.Fatalf("nothing was between us: %+v", p)
	}
	log, owed, met := p.log, p.owed, p.met
	r.Change(testPeer(1), wire.Peer{}, now)
	if p.asked != nil || p.pull != nil || p.bucket != (bucket{}) || p.deaf || p.failures != 0 || p.spread != (spread.Peer{}) {
		t.Errorf("remembered of one that is gone: %+v", p)
	}
	if p.calls.last != 1 || len(p.calls.waiting) != 1 || p.taken.of(0).above.Count() != 1 {
		t.Errorf("numbers of messages to it alone, or from it, are forgotten: %+v", p)
	}
	if slices.Contains(r.baselines.asking, p) || len(r.pulls.open) != 0 {
		t.Errorf("it is asked, or of %d something is pulled", len(r.pulls.open))
	}
	r.Change(wire.Peer{}, testPeer(1), now.Add(time.Second))
	if again := r.roster.get(101); again != p || p.log != log || p.owed != owed || p.met != met || owed == 0 || !met.Equal(start) {
		t.Errorf("back: %+v, was met at %v", again, met)
	}
	checkRoster(t, r.roster)
}

// passIdle lets so much time pass.
func passIdle(r *Replica, now time.Time, d time.Duration) time.Time {
	for end := now.Add(d); now.Before(end); now = now.Add(sweepEvery) {
		r.Tick(now)
	}
	return now
}

// TestForgottenOwes: an origin that comes back when it was forgotten still owes what is newer than the last that was seen of
// it, and is owed what it was.
func TestForgottenOwes(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 7}, 0, 0), wire.RouteGossip, start)
	handleAll(r, ch, start)
	r.Change(testPeer(1), wire.Peer{}, start)
	say(r, ch, "", nil)
	confirmAll(r, start)
	now := passIdle(r, start, 2*r.intake.age)
	if p := r.roster.get(101); p == nil {
		t.Fatal("forgotten too soon")
	}
	now = passIdle(r, now, time.Second)
	if p, rest := r.roster.get(101), r.roster.forgotten[101]; p != nil || rest != (remains{last: 7, owed: 1}) {
		t.Fatalf("%+v is kept, and %+v remains", p, rest)
	}
	for _, seq := range []uint64{7, 9} {
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, 0, 0), wire.RouteGossip, now)
	}
	if seqs := seqsOf(handleAll(r, ch, now)); !slices.Equal(seqs, []uint64{9}) {
		t.Errorf("handled %v", seqs)
	}
	if log := r.intake.logged(101); !log.Based() || len(log.Missing(9)) != 1 || log.Missing(1)[0].Lo != 8 {
		t.Errorf("based %v, missing %v", log.Based(), log.Missing(9))
	}
	r.Change(wire.Peer{}, testPeer(1), now)
	receiveControl(t, r, testPeer(1), wire.BodyAsk, &starlingpb.BaselineAsk{}, now)
	told := takeTold(t, r, wire.BodyBaseline, now)
	if len(told) != 1 {
		t.Fatalf("told %+v", told)
	}
	var m starlingpb.Baseline
	if told[0].decode(t, &m); m.GetNext() != 1 || m.GetTop() != 1 {
		t.Errorf("owed from %d on, of %d", m.GetNext(), m.GetTop())
	}
	checkRoster(t, r.roster)
}

// TestForgottenQuiet: a member that had sent nothing when it was forgotten was a member all the same: what others tell of it
// is asked for.
func TestForgottenQuiet(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	r.Change(testPeer(1), wire.Peer{}, start)
	now := passIdle(r, start, 2*r.intake.age+time.Second)
	if p := r.roster.get(101); p != nil {
		t.Fatalf("%+v is kept", p)
	}
	receiveControl(t, r, testPeer(2), wire.BodyDigest, &starlingpb.Digest{
		Answer: true, Origins: []*starlingpb.OriginDigest{{Origin: 101, Floor: 3, Known: 3, Top: 3}, {Origin: 199, Floor: 3, Known: 3, Top: 3}},
	}, now)
	told := takeTold(t, r, wire.BodyPull, now)
	if len(told) != 1 || told[0].to != "p2" {
		t.Fatalf("asked %+v", told)
	}
	var m starlingpb.Pull
	told[0].decode(t, &m)
	if len(m.GetWant()) != 1 || m.GetWant()[0].GetOrigin() != 101 {
		t.Errorf("asked for %v", m.GetWant())
	}
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 2}, 0, 0), wire.RouteRepair, now)
	if seqs := seqsOf(handleAll(r, ch, now)); !slices.Equal(seqs, []uint64{2}) {
		t.Errorf("handled %v", seqs)
	}
	if p := r.roster.get(101); !p.gone() || !p.met.Equal(start) || p.owed != 1 {
		t.Errorf("it is %+v", p)
	}
}

// TestMaxPeers: of strangers no more than so many are remembered; for one more, the one that was seen longest ago is
// forgotten, and counted. Members come and go all the same.
func TestMaxPeers(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	for i := range uint64(maxPeers) {
		r.roster.hear(1000+i, start.Add(-time.Duration(i)*time.Second))
	}
	part := func(origin uint64) {
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: origin, Seq: 1}, 0, 0), wire.RouteGossip, start)
	}
	oldest := uint64(1000 + maxPeers - 1)
	expect := func(what string, evicted int) {
		t.Helper()
		if n := r.Stats(start).Drops[DropTooManyOrigins]; n != uint64(evicted) || r.roster.absent > maxPeers {
			t.Errorf("%s: %d are forgotten before their time, want %d; %d are no members", what, n, evicted, r.roster.absent)
		}
		for i := range uint64(evicted) {
			if r.roster.get(oldest-i) != nil {
				t.Errorf("%s: %d is there still", what, oldest-i)
			}
		}
		checkRoster(t, r.roster)
	}
	if part(99); ch.inbox.len() != 1 {
		t.Error("a part of one more is refused")
	}
	expect("one more", 1)
	if part(1000); ch.inbox.len() != 2 {
		t.Error("one that was heard of before is refused")
	}
	if part(101); ch.inbox.len() != 3 {
		t.Error("a member is refused")
	}
	r.Change(wire.Peer{}, testPeer(2), start)
	if part(102); ch.inbox.len() != 4 {
		t.Error("a member that comes now is refused")
	}
	expect("members", 1)
	if r.Change(testPeer(2), wire.Peer{}, start); r.roster.get(102) == nil {
		t.Error("a member that goes now is dropped")
	}
	expect("a member went", 2)
	r.roster.forget(r.roster.get(102))
	r.roster.hear(98, start)
	expect("one for a member that was forgotten", 2)
	was := testPeer(3)
	was.ID = 1001
	r.Change(wire.Peer{}, was, start)
	r.roster.hear(97, start)
	expect("one for one that has become a member", 2)
}

// TestMaxRemains: of no more than so many forgotten peers anything is remembered, those that were forgotten last, and each
// only until it is known again.
func TestMaxRemains(t *testing.T) {
	ro := newRoster(wire.Peer{ID: 1})
	forgotten := func(id, owed uint64) {
		p := ro.hear(id, start)
		p.owed, p.sure = owed, owed
		ro.forget(p)
	}
	if forgotten(7, 0); len(ro.forgotten) != 0 {
		t.Error("one of which there is nothing to remember is remembered")
	}
	for i := range uint64(maxRemains) {
		forgotten(1000+i, 7)
	}
	if forgotten(99, 7); len(ro.forgotten) != maxRemains || ro.peers[99] != nil {
		t.Errorf("%d are remembered, limit %d", len(ro.forgotten), maxRemains)
	}
	checkRoster(t, ro)
	if p := ro.hear(1000, start); p.owed != 0 {
		t.Errorf("the one that was forgotten first is owed from %d on", p.owed)
	}
	for _, id := range []uint64{99, 1000 + maxRemains/2, 1000 + maxRemains - 1} {
		if p := ro.hear(id, start); p.owed != 7 {
			t.Errorf("%d is owed from %d on", id, p.owed)
		}
	}
	if len(ro.forgotten) != maxRemains-3 {
		t.Errorf("%d are remembered when three are known again", len(ro.forgotten))
	}
	if forgotten(98, 7); len(ro.forgotten) != maxRemains-2 {
		t.Error("there is no room though one was taken out")
	}
	checkRoster(t, ro)
}

// TestForeignMembers: members that do not speak Starling are counted and found by name alone; one that changes its address, or
// becomes one of ours, is there once.
func TestForeignMembers(t *testing.T) {
	r := testReplica(testLimits(), 0)
	foreign := wire.Peer{Name: "f", Addr: testPeer(7).Addr}
	moved := wire.Peer{Name: "f", Addr: testPeer(8).Addr}
	ours := wire.Peer{Name: "f", ID: 107, Addr: testPeer(7).Addr}
	for i, step := range []struct {
		was, is       wire.Peer
		foreign, ours int
	}{{wire.Peer{}, foreign, 1, 0}, {foreign, moved, 1, 0}, {moved, ours, 0, 1}, {ours, foreign, 1, 0}, {foreign, wire.Peer{}, 0, 0}} {
		r.Change(step.was, step.is, start)
		if len(r.roster.foreign) != step.foreign || len(r.Membership.Members()) != step.ours || r.roster.count() != step.foreign+step.ours {
			t.Errorf("%d: foreign %v, ours %v, %d in all", i, r.roster.foreign, r.Membership.Members(), r.roster.count())
		}
		if step.foreign == 1 && r.roster.foreign[0] != step.is {
			t.Errorf("%d: it is %+v", i, r.roster.foreign[0])
		}
		checkRoster(t, r.roster)
	}
	if !r.roster.alone() || !r.out.Unqueue {
		t.Error("not alone in the end")
	}
}

// TestChangedAddress: a member whose address changes stays the one that it was.
func TestChangedAddress(t *testing.T) {
	r := testReplica(testLimits(), 3)
	p := r.roster.get(102)
	was, is := testPeer(2), testPeer(2)
	is.Addr = testPeer(9).Addr
	p.failures = 1
	r.Change(was, is, start.Add(time.Second))
	if again, live := r.roster.member(102); again != p || !live || p.Addr != is.Addr || p.failures != 1 || p.owed != 1 || !p.met.Equal(start) {
		t.Errorf("it is %+v", again)
	}
	if !slices.Contains(r.Membership.Members(), is) || len(r.Membership.Members()) != 3 {
		t.Errorf("members %v", r.Membership.Members())
	}
	checkRoster(t, r.roster)
}
