package replica

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

func TestSameType(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"", "json", true},
		{"json", "json", true},
		{"json", "json:prices", true},
		{"json:prices", "json:prices.v2", false},
		{"json", "bytes", false},
		{"protobuf:a.B", "protobuf:a.C", false},
		{"map:", "map:json", true},
		{"map:json", "map:bytes", false},
		{"map:json", "json", false},
	} {
		if sameType(test.a, test.b) != test.same || sameType(test.b, test.a) != test.same {
			t.Errorf("%q and %q: not %v", test.a, test.b, test.same)
		}
	}
}

// typeFrame is what a member tells of its channels, "key:type" each.
func typeFrame(nonce uint64, channels ...string) *starlingpb.Types {
	m, of := &starlingpb.Types{Nonce: nonce, Answer: true}, map[string]string{}
	for _, c := range channels {
		key, typ, _ := strings.Cut(c, ":")
		m.Channels = append(m.Channels, &starlingpb.ChannelType{Key: key, Type: typ})
		of[key] = typ
	}
	m.Sum = newTypeTable(of).sum
	return m
}

// questionTo returns the question about its channels that a member is asked, and fails the test if it is not asked one.
func questionTo(t *testing.T, r *Replica, to string, now time.Time) *starlingpb.Types {
	t.Helper()
	for _, told := range takeTold(t, r, wire.BodyTypes, now) {
		var m starlingpb.Types
		if told.decode(t, &m); told.to == to && m.GetNonce() != 0 && !m.GetAnswer() {
			return &m
		}
	}
	t.Fatalf("%s is not asked", to)
	return nil
}

// TestTypesWait: messages of a member wait until it is known what its channel carries, in their order and while others are handed on, and go
// on, or are refused; a member that does not answer is waited for for a while, one that tells nothing not at all.
func TestTypesWait(t *testing.T) {
	for _, test := range []struct {
		answer string
		want   int
	}{{"ch:json", 2}, {"ch:json:named", 2}, {"ch:bytes", 0}, {"", 2}, {"other:json", 2}} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", Type: "json"})
		r.types.heard(r.roster.get(102), r.types.own.sum, start)
		sum := typeFrame(0, "more:bytes", test.answer).GetSum()
		receiveControl(t, r, testPeer(1), wire.BodyTypes, &starlingpb.Types{Sum: sum}, start)
		for seq := range uint64(2) {
			receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq + 1}, seq, 0), wire.RouteGossip, start)
		}
		receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 102, Seq: 1}, 0, 0), wire.RouteGossip, start)
		if ds := handleAll(r, ch, start); len(ds) != 1 || ds[0].Origin != 102 {
			t.Fatalf("handed on meanwhile: %v", ds)
		}
		if inbox, deferred := ch.Waiting(); inbox != 0 || deferred != 2 || !r.Busy() {
			t.Errorf("%d wait for the handler and %d for something else", inbox, deferred)
		}
		now := start
		if test.answer == "" { // none comes
			for now = start; now.Before(start.Add(typesPatience + tickEvery)); now = now.Add(tickEvery) {
				if ds := handleAll(r, ch, now); len(ds) > 0 && now.Before(start.Add(typesPatience)) {
					t.Fatalf("handed on after %v", now.Sub(start))
				}
				r.Tick(now)
			}
		} else {
			q := questionTo(t, r, "p1", now)
			receiveControl(t, r, testPeer(1), wire.BodyTypes, typeFrame(q.GetNonce()+1, "ch:bytes"), now) // not asked for
			receiveControl(t, r, testPeer(1), wire.BodyTypes, typeFrame(q.GetNonce(), "more:bytes", test.answer), now)
			if test.answer == "other:json" { // it was asked before the messages came: so it is asked once more
				if ds := handleAll(r, ch, now); len(ds) > 0 {
					t.Errorf("handed on without a word of the channel")
				}
				q := questionTo(t, r, "p1", now)
				receiveControl(t, r, testPeer(1), wire.BodyTypes, typeFrame(q.GetNonce(), "more:bytes", test.answer), now)
			}
		}
		if ds := handleAll(r, ch, now); len(ds) != test.want || test.want == 2 && (ds[0].Seq != 1 || ds[1].Seq != 2) {
			t.Errorf("%q: handed on: %v", test.answer, seqsOf(ds))
		}
		log := r.intake.logged(101)
		if log.IsPending(1) || log.IsPending(2) || r.out.drops[DropOtherType] != uint64(2-test.want) {
			t.Errorf("%q: they wait still, or %d were refused", test.answer, r.out.drops[DropOtherType])
		}
	}
	r := testReplica(testLimits(), 1)
	ch := openChannel(r, Channel{Key: "ch", Type: "json"})
	receiveControl(t, r, testPeer(1), wire.BodyBaseline, &starlingpb.Baseline{Next: 1, Unasked: true}, start) // of an earlier version
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: 1}, 0, 0), wire.RouteGossip, start)
	if ds := handleAll(r, ch, start); len(ds) != 1 {
		t.Errorf("of a member that tells nothing: %v", ds)
	}
}

// TestTypesUntold: who met a member that told it nothing asks when it matters, and waits no longer than for the answer. Where both have the
// same channels, the answer has none; an answer to a question that tells what is no longer so is none.
func TestTypesUntold(t *testing.T) {
	r := testReplica(testLimits(), 2)
	openChannel(r, Channel{Key: "ch", Type: "json"})
	peer := r.roster.get(101)
	const accepted, busy = starlingpb.DirectAck_ACCEPTED, starlingpb.DirectAck_BUSY
	if v := directOf(r, peer, 5, 1, 0, "ch"); v != busy {
		t.Fatalf("%v, although nothing is known of its sender's channel", v)
	}
	asked := questionTo(t, r, "p1", start)
	same := &starlingpb.Types{Sum: asked.GetSum(), Nonce: asked.GetNonce(), Answer: true}
	openChannel(r, Channel{Key: "other", Type: "json"})
	receiveControl(t, r, testPeer(1), wire.BodyTypes, same, start)
	if v := directOf(r, peer, 5, 1, 0, "ch"); v != busy {
		t.Errorf("%v: the answer was about the channels that were open before", v)
	}
	now := start.Add(2 * askEvery)
	r.Tick(now)
	asked = questionTo(t, r, "p1", now)
	if asked.GetSum() != r.types.own.sum {
		t.Errorf("the question tells the sum %d", asked.GetSum())
	}
	receiveControl(t, r, testPeer(1), wire.BodyTypes, &starlingpb.Types{Sum: asked.GetSum(), Nonce: asked.GetNonce(), Answer: true}, now)
	if v := directOf(r, peer, 5, 1, 0, "ch"); v != accepted || peer.types.table != r.types.own {
		t.Errorf("%v, with a table of %v", v, peer.types.table)
	}

	receiveControl(t, r, testPeer(2), wire.BodyTypes, &starlingpb.Types{Sum: r.types.own.sum, Nonce: 7}, now)
	receiveControl(t, r, testPeer(1), wire.BodyTypes, &starlingpb.Types{Sum: 1, Nonce: 7}, now)
	answers := map[string]int{}
	for _, told := range takeTold(t, r, wire.BodyTypes, now) {
		var m starlingpb.Types
		if told.decode(t, &m); m.GetAnswer() {
			answers[told.to] = len(m.GetChannels())
		}
	}
	if len(answers) != 2 || answers["p2"] != 0 || answers["p1"] != 2 {
		t.Errorf("channels told: %v", answers)
	}
	receiveControl(t, r, testPeer(2), wire.BodyStates, &starlingpb.StateDigest{Answer: true, Types: typeFrame(0, "ch:bytes").GetSum()}, now)
	questionTo(t, r, "p2", now)
}

// TestTypesAreToldOnce: each difference is told once, and once more when it was gone in between.
func TestTypesAreToldOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := openChannel(r, Channel{Key: "ch", Type: "json"})
	told := func(what string) (n int) {
		receiveControl(t, r, testPeer(1), wire.BodyTypes, &starlingpb.Types{Sum: typeFrame(0, what).GetSum()}, start)
		if r.roster.get(101).types.asked != nil {
			receiveControl(t, r, testPeer(1), wire.BodyTypes, typeFrame(r.roster.get(101).types.asked.nonce, what), start)
		}
		r.types.compare(r.Channel("ch"))
		n, r.out.Types = len(r.out.Types), nil
		return n
	}
	for i, step := range []struct {
		what string
		want int
	}{{"ch:json", 0}, {"ch:bytes", 1}, {"ch:bytes", 0}, {"ch:other", 1}, {"ch:json", 0}, {"ch:bytes", 1}} {
		if n := told(step.what); n != step.want {
			t.Errorf("step %d, %q: told %d times, want %d", i, step.what, n, step.want)
		}
	}
	r.Close(ch, start)
	openChannel(r, Channel{Key: "ch", Type: "bytes"})
	if told("ch:bytes") != 0 {
		t.Error("told of the same type")
	}
}

// TestTypesAreBounded: what a member tells of its own channels, and what it keeps of those of others, is bounded; a table that finds no room is
// not held against its owner, and tables that nobody has any more make room.
func TestTypesAreBounded(t *testing.T) {
	r := testReplica(testLimits(), 1)
	key := func(i int) string { return strings.Repeat("k", 200) + fmt.Sprint(i) }
	for i := range 400 {
		r.types.open(&Channel{Key: key(i), Type: "json"}, start)
	}
	if n := r.types.own.size; n > maxTypesSize || n < maxTypesSize/2 {
		t.Errorf("own table: %d bytes", n)
	}
	table := func(i int) *typeTable {
		return newTypeTable(map[string]string{strings.Repeat("k", wire.MaxBody): fmt.Sprint("json:", i)})
	}
	const many = 300 // more than there is room for
	for i := range many {
		if r.types.keep(table(i)) == nil || r.types.size > maxTablesSize {
			t.Fatalf("%d bytes, though nobody has the other tables", r.types.size)
		}
	}
	for i := range many { // now each has an owner
		r.roster.add(uint64(1000+i), start).types.table = r.types.keep(table(many + i))
	}
	if r.types.size > maxTablesSize || r.roster.get(1000+many-1).types.table != nil {
		t.Errorf("%d bytes", r.types.size)
	}
}

func FuzzTypes(f *testing.F) {
	fuzzControl(f, wire.BodyTypes,
		&starlingpb.Types{},
		&starlingpb.Types{Sum: 7, Nonce: 3},
		&starlingpb.Types{Sum: 7, Nonce: 3, Stream: true},
		typeFrame(1, "ch:json", "ch:bytes", ":"))
}
