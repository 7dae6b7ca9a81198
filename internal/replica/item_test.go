package replica

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestUnknownFieldsKept: what a later version adds is passed on, and the copy that is kept can be restamped in place,
// wherever the unknown fields stand.
func TestUnknownFieldsKept(t *testing.T) {
	frame := wire.AppendIdentity(wire.AppendBody(nil, "k", []byte("data")), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
	later := protowire.AppendTag(nil, 9, protowire.BytesType)
	later = protowire.AppendString(later, "of a later version")
	later = protowire.AppendTag(later, 2, protowire.VarintType) // the data's field in another type
	later = protowire.AppendVarint(later, 7)
	for name, frame := range map[string][]byte{"before": append(slices.Clone(later), frame...), "after": append(slices.Clone(frame), later...)} {
		p, err := wire.ParsePart(frame)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		it := newItem(nil, p, frame, start)
		again, err := wire.ParsePart(wire.AppendRestamped(nil, it.Frame, 5*time.Second))
		if err != nil || again.Age != 5*time.Second || again.ID != p.ID || string(again.Data) != "data" || string(it.Data) != "data" {
			t.Errorf("%s: restamped %+v, %v", name, again, err)
		}
		if !bytes.Contains(it.Frame, []byte("of a later version")) {
			t.Errorf("%s: the unknown field is lost", name)
		}
	}
}

// TestRestamped: a part that is passed on carries the age it has by now, wherever its age field stood.
func TestRestamped(t *testing.T) {
	r := testReplica(testLimits(), 2)
	testChannel(r, "k")
	ageless := func(seq uint64) []byte {
		b, err := proto.Marshal(&starlingpb.Part{Key: "k", Origin: 101, Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, frame := range [][]byte{
		wire.AppendIdentity(wire.AppendBody(nil, "k", nil), wire.PartID{Origin: 101, Seq: 1}, 0, time.Second),
		append(wire.AppendAge(nil, time.Second), ageless(2)...),
		ageless(3),
	} {
		p, err := wire.ParsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		r.Receive(p, frame, wire.RouteGossip, start)
	}
	ages := map[uint64]time.Duration{}
	for it := range r.intake.history.Ascend(101, 1, 3) {
		p, err := wire.ParsePart(it.Restamped(start.Add(2 * time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		ages[p.ID.Seq] = p.Age
	}
	for seq, want := range map[uint64]time.Duration{1: 3 * time.Second, 2: 3 * time.Second, 3: 2 * time.Second} {
		if got, ok := ages[seq]; !ok || got != want {
			t.Errorf("part %d left with age %v (%v), want %v", seq, got, ok, want)
		}
	}
}
