package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/internal/wiretest"
	"github.com/starling-go/starling/starlingpb"
)

// TestUnknownFieldsAreKept: a part is kept and passed on with the fields that only a later version knows, wherever they stand, and its data
// is its data.
func TestUnknownFieldsAreKept(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		frame := wire.AppendIdentity(wire.AppendBody(nil, "ch", []byte("data")), wire.PartID{Origin: 101, Seq: 2}, 1, time.Second)
		frame = wiretest.Later(rng, frame)
		var before starlingpb.Part
		if err := proto.Unmarshal(frame, &before); err != nil {
			t.Fatal(err)
		}
		p, err := wire.ParsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		it := newItem(nil, p, frame, start)
		var after starlingpb.Part
		if err := proto.Unmarshal(it.Restamped(start.Add(time.Second)), &after); err != nil {
			t.Fatal(err)
		}
		if after.AgeMs != 2000 || string(it.Data) != "data" {
			t.Errorf("passed on it is %d ms old, with %q", after.AgeMs, it.Data)
		}
		if after.AgeMs = before.AgeMs; !proto.Equal(&before, &after) {
			t.Errorf("%v became %v", &before, &after)
		}
	}
}

// TestUnknownAnswers: what only a later version says is counted, and nobody takes it for anything else.
func TestUnknownAnswers(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	var c Call
	r.Calls.Begin(&c, 101, start)
	m := r.Calls.Try(&c, false)
	control := func(body protowire.Number, m proto.Message) {
		t.Helper()
		frame, err := wire.ParsePart(wire.EncodeControl(testPeer(1), body, m))
		if err != nil {
			t.Fatal(err)
		}
		ctl, err := wire.ParseControl(frame.Control)
		if err == nil {
			err = r.Control(ctl, start)
		}
		if err != nil {
			t.Error(err)
		}
	}
	control(wire.BodyDirectAck, &starlingpb.DirectAck{Id: m.GetId(), Series: m.GetSeries(), Verdict: 77})
	if len(r.out.Verdicts) != 1 || r.out.Verdicts[0].Verdict == starlingpb.DirectAck_ACCEPTED {
		t.Errorf("verdicts %v, want one that says to try again", r.out.Verdicts)
	}
	var q Inquiry
	r.Inquiries.open[7] = []*Inquiry{&q}
	q.status = map[uint64]Status{}
	control(wire.BodyHeldAnswer, &starlingpb.HeldAnswer{Seq: 7, Fate: 77})
	if len(q.status) != 0 || len(r.out.Answers) != 0 {
		t.Errorf("a fate that nobody knows is taken for an answer: %v", q.status)
	}
	control(77, &starlingpb.Goodbye{})
	if n := r.out.drops[DropLaterVersion]; n != 3 {
		t.Errorf("%d are counted, want 3", n)
	}
	if r.out.drops[DropMalformed] != 0 || ch.closed || !r.roster.get(101).live() {
		t.Error("it does harm")
	}
}
