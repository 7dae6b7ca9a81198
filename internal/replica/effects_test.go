package replica

import (
	"bytes"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestPost: a frame that fits one goes in a packet, a larger one by stream; and no more than so many packets wait.
func TestPost(t *testing.T) {
	part := partOf("ch", nil, wire.PartID{Origin: 1, Seq: 1}, 0, 0)
	for name, test := range map[string]struct {
		packet  wire.Packet
		waiting int
		posted  bool
		streams int
		drops   uint64
	}{
		"empty":               {packet: wire.Packet{}, posted: true},
		"fits":                {packet: wire.Packet{Head: make([]byte, 50), Tail: make([]byte, 50)}, posted: true},
		"too large":           {packet: wire.Packet{Head: bytes.Repeat([]byte{1}, 50), Tail: bytes.Repeat([]byte{2}, 51)}, streams: 1},
		"a part with its age": {packet: wire.Packet{Head: part, Age: time.Second}, posted: true},
		"the last":            {packet: wire.Packet{Head: []byte{1}}, waiting: maxPackets - 1, posted: true},
		"one too many":        {packet: wire.Packet{Head: []byte{1}}, waiting: maxPackets, drops: 1},
		"large, one too many": {packet: wire.Packet{Head: make([]byte, 101)}, waiting: maxPackets, streams: 1},
	} {
		o := &output{packet: 100}
		o.Packets = make([]wire.Packet, test.waiting)
		test.packet.To = testPeer(1)
		o.post(test.packet)
		if posted := len(o.Packets) > test.waiting; posted != test.posted || len(o.Packets) > maxPackets || len(o.Streams) != test.streams || o.drops[DropPacketFailed] != test.drops {
			t.Errorf("%s: posted: %v, %d streams, drops %v", name, posted, len(o.Streams), o.drops)
		}
		for _, s := range o.Streams {
			if frame := s.Encode(start); s.To != testPeer(1) || !bytes.Equal(frame, test.packet.Frame()) || s.Size != len(frame) {
				t.Errorf("%s: a stream of %d bytes for %+v", name, len(frame), s.To)
			}
		}
	}
}

// TestTell: a control frame goes in a packet if it may and fits one, and is signed.
func TestTell(t *testing.T) {
	self := testPeer(9)
	size := func(key int) int {
		return len(wire.EncodeControl(self, wire.BodySync, &starlingpb.Sync{Key: string(make([]byte, key))}))
	}
	for _, test := range []struct {
		key            int
		stream, packet bool
	}{{0, false, true}, {100, false, true}, {101, false, false}, {0, true, false}} {
		o := &output{packet: size(100), self: self}
		o.tell(testPeer(1), wire.BodySync, &starlingpb.Sync{Key: string(make([]byte, test.key))}, test.stream)
		var frame []byte
		switch {
		case test.packet && len(o.Packets) == 1 && len(o.Streams) == 0 && o.Packets[0].To == testPeer(1):
			frame = o.Packets[0].Frame()
		case !test.packet && len(o.Packets) == 0 && len(o.Streams) == 1 && o.Streams[0].To == testPeer(1):
			frame = o.Streams[0].Encode(start)
		default:
			t.Errorf("%+v: %d packets, %d streams", test, len(o.Packets), len(o.Streams))
			continue
		}
		p, err := wire.ParsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := wire.ParseControl(p.Control); err != nil || c.From.ID != self.ID || c.From.Name != self.Name || c.From.Addr != self.Addr || c.Body != wire.BodySync || len(frame) != size(test.key) {
			t.Errorf("%+v: %+v, %v", test, c, err)
		}
	}
}

// TestTellWhenFull: a control frame that no packet is left for is dropped and counted.
func TestTellWhenFull(t *testing.T) {
	o := &output{packet: 1000, self: testPeer(9)}
	o.Packets = make([]wire.Packet, maxPackets)
	o.tell(testPeer(1), wire.BodySync, &starlingpb.Sync{}, false)
	if len(o.Packets) != maxPackets || len(o.Streams) != 0 || o.drops != only(DropPacketFailed) {
		t.Errorf("%d packets, %d streams, drops %v", len(o.Packets), len(o.Streams), o.drops)
	}
}

// TestWake: a channel is woken for whatever comes for its handler, and once until the handler has looked.
func TestWake(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := openChannel(r, Channel{Key: "ch", State: true, Echo: true})
	r.sync.firstDone(ch, start) // there is no state to wait for
	r.Take(ch, start)           // and the handler has looked
	other := testChannel(r, "other")
	seq := uint64(0)
	for name, comes := range map[string]func(){
		"a part": func() {
			seq++
			receivePart(t, r, partOf("ch", nil, wire.PartID{Origin: 101, Seq: seq}, 0, 0), wire.RouteGossip, start)
		},
		"a foreign part": func() { receivePart(t, r, wire.AppendBody(nil, "ch", nil), wire.RouteGossip, start) },
		"an own part": func() {
			say(r, ch, "", nil)
			r.Sender.Pump(start)
		},
		"a direct message": func() {
			seq++
			receiveControl(t, r, testPeer(1), wire.BodyDirect, &starlingpb.Direct{To: 1, Key: "ch", Id: seq}, start)
		},
		"one to itself":                func() { r.Calls.ToSelf(ch, &starlingpb.Direct{}, start) },
		"one that no replica has sent": func() { r.Deliver(ch, Delivery{Born: start}) },
		"a question for the state": func() {
			receiveControl(t, r, testPeer(1), wire.BodySyncAsk, &starlingpb.SyncAsk{Id: 1, Key: "ch", First: true, Proof: proofOf(r, 101)}, start)
		},
	} {
		r.out.Wake = nil
		comes()
		comes()
		if len(r.out.Wake) != 1 || r.out.Wake[0] != ch {
			t.Errorf("%s: %d are woken", name, len(r.out.Wake))
		}
		// The handler looks: what comes then wakes it again, whether it found all or not.
		r.out.Wake = nil
		r.Take(ch, start)
		r.Take(other, start)
		if comes(); len(r.out.Wake) != 1 || r.out.Wake[0] != ch {
			t.Errorf("%s, after a look: %d are woken", name, len(r.out.Wake))
		}
		handleAll(r, ch, start)
		r.States.Asked(ch)
	}
}
