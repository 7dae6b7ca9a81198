package replica

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// TestReceiveOnce: a part is delivered once, whichever ways and however often it comes.
func TestReceiveOnce(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	frame := partOf("ch", []byte("data"), wire.PartID{Origin: 101, Seq: 7}, 0, 3*time.Second)
	for _, via := range []wire.Route{wire.RouteGossip, wire.RouteStream, wire.RouteGossip, wire.RouteRepair} {
		receivePart(t, r, frame, via, start)
	}
	clear(frame) // it is the caller's again
	d, ok := r.Take(ch, start)
	if !ok || string(d.Data) != "data" || d.Route != wire.RouteGossip || d.Origin != 101 || d.Seq != 7 || !d.Born.Equal(start.Add(-3*time.Second)) {
		t.Errorf("delivered %+v, %v", d, ok)
	}
	r.Handled(ch, d, false, start)
	if _, ok := r.Take(ch, start); ok {
		t.Error("delivered twice")
	}
	if c := ch.Counters; c.Received != 1 || c.Duplicates != 3 || c.Delivered != 1 {
		t.Errorf("counters %+v", c)
	}
}

// TestReceiveRefused: each reason is counted, and nothing is delivered.
func TestReceiveRefused(t *testing.T) {
	lim := testLimits()
	lim.Message = 10
	id := wire.PartID{Origin: 101, Seq: 1}
	for name, test := range map[string]struct {
		frame []byte
		want  Drop
	}{
		"too large":         {partOf("ch", make([]byte, 11), id, 0, 0), DropTooLarge},
		"foreign too large": {wire.AppendBody(nil, "ch", make([]byte, 11)), DropTooLarge},
		"too old":           {partOf("ch", nil, id, 0, lim.Age), DropTooOld},
		"unknown key":       {partOf("who", nil, id, 0, 0), DropUnknownKey},
		"foreign key":       {wire.AppendBody(nil, "who", nil), DropUnknownKey},
	} {
		r := testReplica(lim, 1)
		ch := testChannel(r, "ch")
		receivePart(t, r, test.frame, wire.RouteGossip, start)
		if _, ok := r.Take(ch, start); ok || r.out.drops != only(test.want) {
			t.Errorf("%s: delivered: %v, drops %v", name, ok, r.out.drops)
		}
	}
	// What nobody keeps is dropped when the inbox is full.
	r := testReplica(lim, 1)
	ch := openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 2, Bytes: 16 << 20}})
	for range 3 {
		receivePart(t, r, wire.AppendBody(nil, "ch", nil), wire.RouteGossip, start)
	}
	if n := r.out.drops[DropInboxFull]; n != 1 || ch.inbox.len() != 2 {
		t.Errorf("inbox of %d, %d drops", ch.inbox.len(), n)
	}
}

// only is one drop of that kind.
func only(d Drop) (ds Drops) {
	ds[d] = 1
	return ds
}

// TestReceiveOwn: our own part that comes back is no news.
func TestReceiveOwn(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 1, Seq: 9}, 0, 0), wire.RouteGossip, start)
	if _, ok := r.Take(ch, start); ok || ch.Counters.Duplicates != 1 || r.intake.history.Len() != 0 {
		t.Errorf("delivered: %v, counters %+v", ok, ch.Counters)
	}
}

// TestPassOn: what is passed on of a batch to those behind this member, and whether its parent need not send it again.
func TestPassOn(t *testing.T) {
	lim := testLimits()
	lim.Message = 100
	theirs, own := wire.PartID{Origin: 101, Seq: 7}, wire.PartID{Origin: 1, Seq: 9}
	frame := func(id wire.PartID, size int, age time.Duration) []byte {
		return partOf("ch", make([]byte, size), id, 0, age)
	}
	for name, test := range map[string]struct {
		frame       []byte
		again       bool // it came before
		passed      bool // if this member serves somebody
		drop        Drop
		drops       uint64
		duplicates  uint64
		deliverable int
		lacks       bool // it breaks our limits, so that it never will be here
	}{
		"new":              {frame: frame(theirs, 9, 0), passed: true, deliverable: 1},
		"known":            {frame: frame(theirs, 9, 0), again: true, passed: true, duplicates: 1, deliverable: 1},
		"own":              {frame: frame(own, 9, 0), passed: true, duplicates: 1},
		"too large":        {frame: frame(theirs, 101, 0), drop: DropTooLarge, drops: 1, lacks: true},
		"own, too large":   {frame: frame(own, 101, 0), passed: true, duplicates: 1},
		"too old":          {frame: frame(theirs, 9, lim.Age), drop: DropTooOld, drops: 1, lacks: true},
		"own, too old":     {frame: frame(own, 9, lim.Age), passed: true, duplicates: 1},
		"without identity": {frame: wire.AppendBody(nil, "ch", nil), drop: DropMalformed, drops: 1},
		"without key":      {frame: wire.AppendIdentity(nil, theirs, 0, 0), drop: DropMalformed, drops: 1},
		"no part":          {frame: []byte{0xff}, drop: DropMalformed, drops: 1},
	} {
		for _, serves := range []bool{true, false} {
			r := testReplica(lim, 3)
			ch := testChannel(r, "ch")
			if test.again {
				r.receiver.passOn(test.frame, wire.RouteGossip, serves, start)
			}
			it, held := r.receiver.passOn(test.frame, wire.RouteGossip, serves, start)
			// Who serves nobody still gets what is new: it is not passed on because there is nobody, which is the spread's to know.
			want := test.passed && (serves || !test.again && test.duplicates == 0)
			if (it != nil) != want || held == test.lacks {
				t.Errorf("%s, serves %v: passed on: %v, held: %v", name, serves, it != nil, held)
			}
			if n := r.out.drops[test.drop]; n != test.drops || ch.Counters.Duplicates != test.duplicates || ch.inbox.len() != test.deliverable {
				t.Errorf("%s, serves %v: %d drops, %d duplicates, inbox of %d", name, serves, n, ch.Counters.Duplicates, ch.inbox.len())
			}
		}
	}
}

// TestRefusedBeforeBaseline: of a part that breaks our limits, and comes before its origin has told what it owes, is asked, and
// nothing is reported. It is when it comes again, if it is owed.
func TestRefusedBeforeBaseline(t *testing.T) {
	for next, want := range map[uint64]int{1: 1, 2: 0} {
		lim := testLimits()
		lim.Message = 10
		r := testReplica(lim, 1)
		testChannel(r, "ch")
		large := partOf("ch", make([]byte, 11), wire.PartID{Origin: 101, Seq: 1}, 0, 0)
		receivePart(t, r, large, wire.RouteStream, start)
		if p := r.roster.get(101); p.asked == nil || len(r.out.Gaps) != 0 {
			t.Errorf("asked %v, reported %v", p.asked, r.out.Gaps)
		}
		told(t, r, next, 1, start)
		receivePart(t, r, large, wire.RouteStream, start)
		if len(r.out.Gaps) != want {
			t.Errorf("owed from %d on: reported %v, want %d", next, r.out.Gaps, want)
		}
	}
}
