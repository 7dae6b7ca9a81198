package replica

import (
	"bytes"
	"testing"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// traced lets a message with the context of a trace be accepted.
func traced(r *Replica, ch *Channel, name string, data, trace []byte) {
	m := new(Message)
	m.Init(ch, name, data, trace, 4)
	if _, ok := r.Sender.Accept(m, start); !ok {
		panic("no room")
	}
}

// TestTraceOfParts: a message has its context in its first part alone, copied, which counts as bytes of it, and is what Echo gives the handler.
func TestTraceOfParts(t *testing.T) {
	for _, size := range []int{0, 10, 5000, 2 * wholeMost} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", Echo: true, Inbox: InboxLimits{Messages: 9, Bytes: 1 << 20}})
		want := string(bytes.Repeat([]byte("t"), wire.MaxTraceSize))
		trace := []byte(want)
		traced(r, ch, "", make([]byte, size), trace)
		trace[0] = 'X'
		for range 100 {
			confirmAll(r, start)
			r.Sender.Pump(start)
		}
		parts, first := 0, 0
		for it := range r.intake.history.Ascend(r.roster.self.ID, 1, 1000) {
			if p, err := wire.ParsePart(it.Frame); err != nil || len(it.Data) > 0 && &it.Frame[p.DataAt] != &it.Data[0] {
				t.Errorf("%d bytes: the data is not a piece of the frame (%v)", size, err)
			}
			if parts++; string(it.Trace()) == want {
				first++
			}
		}
		ds := handleAll(r, ch, start)
		if first != 1 || len(ds) != 1 || string(ds[0].Trace()) != want || len(ds[0].Payload()) != size {
			t.Errorf("%d bytes: %d of %d parts have it, %d deliveries", size, first, parts, len(ds))
		}
	}
}

// TestTraceSuperseded: the newer content goes with the newer context, or with none.
func TestTraceSuperseded(t *testing.T) {
	for _, newer := range []string{"", "newer"} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", Echo: true, Inbox: InboxLimits{Messages: 9, Bytes: 1 << 20}})
		traced(r, ch, "x", []byte("old"), []byte("older"))
		traced(r, ch, "x", []byte("new"), []byte(newer))
		r.Sender.Pump(start)
		if ds := handleAll(r, ch, start); len(ds) != 1 || string(ds[0].Payload()) != "new" || string(ds[0].Trace()) != newer {
			t.Errorf("%q: %d deliveries", newer, len(ds))
		}
	}
}

// TestTraceTooLong: a context that breaks the limit is counted and not given to the handler. Its message is, and is passed on as it came, once.
func TestTraceTooLong(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	long := bytes.Repeat([]byte("t"), wire.MaxTraceSize+1)
	id := wire.PartID{Origin: 101, Seq: 1}
	frame := wire.AppendIdentity(wire.AppendTrace(wire.AppendBody(nil, "ch", []byte("data")), long), id, 0, 0)
	receivePart(t, r, frame, wire.RouteGossip, start)
	receivePart(t, r, frame, wire.RouteGossip, start)
	m := &starlingpb.Direct{To: r.roster.self.ID, Series: 5, Key: "ch", Data: []byte("direct"), Id: 1, TraceContext: long}
	var ack starlingpb.DirectAck
	if r.Calls.take(r.roster.get(101), m, wire.Chunk{}, &ack, start); ack.GetVerdict() != starlingpb.DirectAck_ACCEPTED {
		t.Error(&ack)
	}
	ds := handleAll(r, ch, start)
	if len(ds) != 2 || ds[0].Trace() != nil || ds[1].Trace() != nil || string(ds[0].Payload())+string(ds[1].Payload()) != "datadirect" {
		t.Errorf("handled %+v", ds)
	}
	if n := ch.Counters.Drops[DropMalformed]; n != 2 {
		t.Errorf("%d drops", n)
	}
	if it := r.intake.history.Get(id); !bytes.Equal(it.Frame, frame) {
		t.Error("it is passed on as something else")
	}
}
