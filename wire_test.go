package starling

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

func mustMarshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// wireParts are parts of every shape.
func wireParts() []*starlingpb.Part {
	return []*starlingpb.Part{
		{Key: "k", Data: []byte("data"), Origin: 1, Seq: 1},
		{Key: strings.Repeat("k", 255), Data: make([]byte, 70_000), Origin: math.MaxUint64, Seq: math.MaxUint64, Prev: math.MaxUint64 - 1, AgeMs: math.MaxUint32},
		{Key: "k", Origin: 3, Seq: 300, Prev: 299, AgeMs: 5},
		{Key: "foreign", Data: []byte("without identity")},
	}
}

// TestPartBothWays: the generated code reads what we write, and we what it writes.
func TestPartBothWays(t *testing.T) {
	for i, want := range wireParts() {
		age := time.Duration(want.AgeMs) * time.Millisecond
		ours := appendBody(nil, want.Key, want.Data)
		if len(ours) > bodySize(want.Key, len(want.Data)) {
			t.Errorf("%d: body of %d bytes, said %d", i, len(ours), bodySize(want.Key, len(want.Data)))
		}
		if want.Origin != 0 {
			before := len(ours)
			ours = appendIdentity(ours, partID{want.Origin, want.Seq}, want.Prev, age)
			if n := len(ours) - before; n > identityRoom {
				t.Errorf("%d: identity of %d bytes, room for %d", i, n, identityRoom)
			}
		}
		var got starlingpb.Part
		if err := proto.Unmarshal(ours, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%d: generated code reads %.200v (%v), want %.200v", i, &got, err, want)
		}
		for name, frame := range map[string][]byte{"ours": ours, "generated": mustMarshal(t, want)} {
			p, err := parsePart(frame)
			if err != nil {
				t.Errorf("%d, %s: %v", i, name, err)
				continue
			}
			if string(p.key) != want.Key || !bytes.Equal(p.data, want.Data) || p.id != (partID{want.Origin, want.Seq}) ||
				p.prev != want.Prev || p.age != age || p.control != nil {
				t.Errorf("%d, %s: parsed %.200v", i, name, p)
			}
			if len(p.data) > 0 && &frame[p.dataAt] != &p.data[0] {
				t.Errorf("%d, %s: data is not where it is said to be", i, name)
			}
			if ends := name == "ours" && want.Origin != 0 || want.AgeMs != 0; p.agedEnd != ends {
				t.Errorf("%d, %s: ends with its age: %v", i, name, p.agedEnd)
			}
		}
	}
}

// TestPartOfAnotherProgram: a Part of two fields, as Alertmanager's cluster package gossips, is one of ours without an
// identity; and that program, which knows those fields alone, reads ours.
func TestPartOfAnotherProgram(t *testing.T) {
	theirs := protowire.AppendTag(nil, 1, protowire.BytesType)
	theirs = protowire.AppendString(theirs, "nfl")
	theirs = protowire.AppendTag(theirs, 2, protowire.BytesType)
	theirs = protowire.AppendBytes(theirs, []byte("entry"))
	p, err := parsePart(theirs)
	if err != nil || string(p.key) != "nfl" || string(p.data) != "entry" || p.id != (partID{}) {
		t.Errorf("parsed %+v, %v", p, err)
	}
	if !bytes.Equal(appendBody(nil, "nfl", []byte("entry")), theirs) {
		t.Error("our body is not their part")
	}
	ours := appendIdentity(theirs, partID{5, 6}, 4, time.Second)
	if !bytes.HasPrefix(ours, theirs) {
		t.Error("our part does not begin with theirs")
	}
	var state []byte
	state = appendFullState(state, "nfl", []byte("entry"))
	state = appendFullState(state, "sil", nil)
	want := protowire.AppendTag(nil, 1, protowire.BytesType)
	want = protowire.AppendBytes(want, theirs)
	if !bytes.HasPrefix(state, want) {
		t.Error("our full state is not theirs")
	}
}

// TestPartLimits: what breaks a limit is malformed, what just keeps it is not.
func TestPartLimits(t *testing.T) {
	goodbye := &starlingpb.Control{Sender: &starlingpb.Sender{Origin: 1, Name: "a", Addr: make([]byte, 6)}}
	for name, tt := range map[string]struct {
		part *starlingpb.Part
		ok   bool
	}{
		"key of 255":          {&starlingpb.Part{Key: strings.Repeat("k", 255)}, true},
		"key of 256":          {&starlingpb.Part{Key: strings.Repeat("k", 256)}, false},
		"nothing":             {&starlingpb.Part{}, false},
		"no key":              {&starlingpb.Part{Data: []byte("x")}, false},
		"control":             {&starlingpb.Part{Control: goodbye}, true},
		"control with a key":  {&starlingpb.Part{Key: "k", Control: goodbye}, false},
		"origin without seq":  {&starlingpb.Part{Key: "k", Origin: 1}, false},
		"seq without origin":  {&starlingpb.Part{Key: "k", Seq: 1}, false},
		"prev before seq":     {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 1}, true},
		"prev equal to seq":   {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 2}, false},
		"prev after seq":      {&starlingpb.Part{Key: "k", Origin: 1, Seq: 2, Prev: 3}, false},
		"prev without either": {&starlingpb.Part{Key: "k", Prev: 3}, false},
	} {
		_, err := parsePart(mustMarshal(t, tt.part))
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPartTruncated: cut at any byte, a part is malformed or another valid part, and never more than was there.
func TestPartTruncated(t *testing.T) {
	whole := mustMarshal(t, &starlingpb.Part{Key: "key", Data: []byte("data"), Origin: 1 << 60, Seq: 1 << 40, Prev: 1 << 30, AgeMs: 77})
	valid := 0
	for n := range whole {
		p, err := parsePart(whole[:n])
		if err == nil {
			valid++
			if len(p.key)+len(p.data) > n {
				t.Errorf("cut at %d: %+v", n, p)
			}
		} else if !errors.Is(err, errMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if valid != 4 { // after the key, the data, seq and prev; an origin alone is half an identity
		t.Errorf("%d cuts are valid", valid)
	}
}

// TestUnknownFields: what a later version adds is ignored, and passed on.
func TestUnknownFields(t *testing.T) {
	frame := appendIdentity(appendBody(nil, "k", []byte("data")), partID{101, 2}, 1, time.Second)
	later := protowire.AppendTag(nil, 9, protowire.BytesType)
	later = protowire.AppendString(later, "of a later version")
	later = protowire.AppendTag(later, fieldSeq, protowire.BytesType) // a known field in another type
	later = protowire.AppendString(later, "7")
	later = protowire.AppendTag(later, fieldData, protowire.VarintType)
	later = protowire.AppendVarint(later, 7)
	for name, frame := range map[string][]byte{"before": append(slices.Clone(later), frame...), "after": append(slices.Clone(frame), later...)} {
		p, err := parsePart(frame)
		if err != nil || string(p.key) != "k" || string(p.data) != "data" || p.id != (partID{101, 2}) || p.prev != 1 || p.age != time.Second {
			t.Fatalf("%s: %+v, %v", name, p, err)
		}
		// The copy that is kept can be restamped in place, and still has everything.
		it := newItem(nil, p, frame, dawn)
		again, err := parsePart(appendRestamped(nil, it.frame, 5*time.Second))
		if err != nil || again.age != 5*time.Second || again.id != p.id || string(again.data) != "data" || string(it.data) != "data" {
			t.Errorf("%s: restamped %+v, %v", name, again, err)
		}
		if !bytes.Contains(it.frame, []byte("of a later version")) {
			t.Errorf("%s: the unknown field is lost", name)
		}
	}
}

// TestRestamped: a part that is passed on carries the age it has by now, wherever its age field stood.
func TestRestamped(t *testing.T) {
	r := testReplica(testLimits(), 2)
	testChannel(r, "k")
	ageFirst := protowire.AppendTag(nil, fieldAge, protowire.Fixed32Type)
	ageFirst = protowire.AppendFixed32(ageFirst, 1000)
	ageFirst = append(ageFirst, mustMarshal(t, &starlingpb.Part{Key: "k", Origin: 101, Seq: 2})...)
	for _, frame := range [][]byte{
		appendIdentity(appendBody(nil, "k", nil), partID{101, 1}, 0, time.Second),
		ageFirst,
		mustMarshal(t, &starlingpb.Part{Key: "k", Origin: 101, Seq: 3}),
	} {
		p, err := parsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		r.receive(p, frame, Gossip, dawn)
	}
	ages := map[uint64]time.Duration{}
	for it := range r.history.ascend(101, 1, 3) {
		p, err := parsePart(it.restamped(dawn.Add(2 * time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		ages[p.id.seq] = p.age
	}
	for seq, want := range map[uint64]time.Duration{1: 3 * time.Second, 2: 3 * time.Second, 3: 2 * time.Second} {
		if got, ok := ages[seq]; !ok || got != want {
			t.Errorf("part %d left with age %v (%v), want %v", seq, got, ok, want)
		}
	}
	for age, want := range map[time.Duration]uint32{-time.Second: 0, 1500 * time.Microsecond: 1, math.MaxInt64: math.MaxUint32} {
		if got := ageMillis(age); got != want {
			t.Errorf("%v is %d ms, want %d", age, got, want)
		}
	}
}

func testSender() sender {
	return sender{id: 1 << 63, name: "me", addr: netip.MustParseAddrPort("[::1]:7946")}
}

// TestControlBothWays: the generated code reads our control frames, and we its.
func TestControlBothWays(t *testing.T) {
	from := testSender()
	pb := &starlingpb.Sender{Origin: from.id, Name: from.name, Addr: encodeAddr(from.addr)}
	direct := &starlingpb.Direct{Key: "k", Data: []byte("data"), Id: 3, Floor: 2}
	ack := &starlingpb.DirectAck{Id: 3, Verdict: starlingpb.DirectAck_BUSY}
	batch := &starlingpb.Batch{Via: starlingpb.Batch_REPAIR, Parts: [][]byte{{1}, {2, 3}}}
	for _, tt := range []struct {
		ours []byte
		want *starlingpb.Control
		body protowire.Number
	}{
		{encodeControl(from, bodyGoodbye, &starlingpb.Goodbye{}), &starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}}, bodyGoodbye},
		{encodeControl(from, bodyGoodbyeAck, &starlingpb.GoodbyeAck{}), &starlingpb.Control{Sender: pb, Body: &starlingpb.Control_GoodbyeAck{GoodbyeAck: &starlingpb.GoodbyeAck{}}}, bodyGoodbyeAck},
		{encodeControl(from, bodyDirect, direct), &starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Direct{Direct: direct}}, bodyDirect},
		{encodeControl(from, bodyDirectAck, ack), &starlingpb.Control{Sender: pb, Body: &starlingpb.Control_DirectAck{DirectAck: ack}}, bodyDirectAck},
		{encodeBatch(from, starlingpb.Batch_REPAIR, batch.Parts...), &starlingpb.Control{Sender: pb, Body: &starlingpb.Control_Batch{Batch: batch}}, bodyBatch},
	} {
		want := &starlingpb.Part{Control: tt.want}
		var got starlingpb.Part
		if err := proto.Unmarshal(tt.ours, &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("generated code reads %v (%v), want %v", &got, err, want)
		}
		for _, frame := range [][]byte{tt.ours, mustMarshal(t, want)} {
			p, err := parsePart(frame)
			if err != nil || len(p.key) != 0 {
				t.Errorf("%v: %v", want, err)
				continue
			}
			ctl, err := parseControl(p.control)
			if err != nil || ctl.from != from || ctl.body != tt.body {
				t.Errorf("%v: parsed %+v, %v", want, ctl, err)
			}
			for n := range p.control { // cut anywhere, it is refused or shorter
				if ctl, err := parseControl(p.control[:n]); err != nil && !errors.Is(err, errMalformed) {
					t.Errorf("%v cut at %d: %+v, %v", want, n, ctl, err)
				}
			}
		}
	}
}

// TestControlRefused: a control frame says who wrote it, or is malformed; a body of a later version is neither.
func TestControlRefused(t *testing.T) {
	addr := encodeAddr(netip.MustParseAddrPort("127.0.0.1:1"))
	for name, s := range map[string]*starlingpb.Sender{
		"no sender": nil, "no origin": {Name: "a", Addr: addr}, "no name": {Origin: 1, Addr: addr},
		"long name": {Origin: 1, Name: strings.Repeat("n", maxNameSize+1), Addr: addr},
		"no addr":   {Origin: 1, Name: "a"}, "odd addr": {Origin: 1, Name: "a", Addr: make([]byte, 7)},
		"short addr": {Origin: 1, Name: "a", Addr: []byte{1}},
	} {
		b := mustMarshal(t, &starlingpb.Control{Sender: s, Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}})
		if _, err := parseControl(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := frameControl(testSender(), bodyLast+1, []byte("?"))
	p, err := parsePart(later)
	if err != nil {
		t.Fatal(err)
	}
	if ctl, err := parseControl(p.control); err != nil || ctl.body != 0 {
		t.Errorf("a body of a later version: %+v, %v", ctl, err)
	}
}

// TestBatch: the parts of a batch, and the way they came; a malformed rest ends it.
func TestBatch(t *testing.T) {
	for via, want := range map[starlingpb.Batch_Via]Via{
		starlingpb.Batch_GOSSIP: Gossip, starlingpb.Batch_STREAM: Stream, starlingpb.Batch_REPAIR: Repair, 99: Gossip,
	} {
		frame := encodeBatch(testSender(), via, []byte("one"), nil, []byte("three"))
		p, err := parsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		ctl, err := parseControl(p.control)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for frame, via := range batchParts(append(slices.Clone(ctl.content), 0xff)) {
			if via != want {
				t.Errorf("via %v, want %v", via, want)
			}
			got = append(got, string(frame))
		}
		if !slices.Equal(got, []string{"one", "", "three"}) {
			t.Errorf("parts %q", got)
		}
		for range batchParts(ctl.content) {
			break
		}
	}
}

// TestFullState: parts in, parts out; a malformed one is told where it comes.
func TestFullState(t *testing.T) {
	b := appendFullState(nil, "a", []byte("1"))
	b = appendFullState(b, "b", make([]byte, 1000))
	var pb starlingpb.FullState
	if err := proto.Unmarshal(b, &pb); err != nil || len(pb.Parts) != 2 || pb.Parts[1].Key != "b" || len(pb.Parts[1].Data) != 1000 {
		t.Errorf("generated code reads %v, %v", &pb, err)
	}
	var keys []string
	for p, err := range fullState(append(mustMarshal(t, &pb), 0x0a, 200)) {
		if err != nil {
			keys = append(keys, "error")
			continue
		}
		keys = append(keys, string(p.key))
	}
	if !slices.Equal(keys, []string{"a", "b", "error"}) {
		t.Errorf("parts %q", keys)
	}
}

// TestMeta: what members say of themselves comes back, and what is not ours is foreign.
func TestMeta(t *testing.T) {
	id, version, user := decodeMeta(encodeMeta(7, []byte("user")))
	if id != 7 || version != wireVersion || string(user) != "user" {
		t.Errorf("id %d, version %d, %q", id, version, user)
	}
	if n := len(encodeMeta(7, make([]byte, MaxMetaSize))); n != 512 {
		t.Errorf("the largest is %d bytes", n)
	}
	later := encodeMeta(7, []byte("user"))
	later[len(metaMagic)] = wireVersion + 1
	for name, b := range map[string][]byte{"nothing": nil, "theirs": []byte("something else altogether"), "cut": encodeMeta(7, nil)[:metaHeader-1], "later": later} {
		if id, _, _ := decodeMeta(b); id != 0 {
			t.Errorf("%s: id %d", name, id)
		}
	}
}
