package starling

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/starlingpb"
)

// seedFrames gives a fuzzer frames of every kind to start from.
func seedFrames(f *testing.F) {
	from := sender{id: 101, name: "p1", addr: netip.MustParseAddrPort("127.0.0.1:1")}
	part := appendIdentity(appendBody(nil, "ch", []byte("data")), partID{101, 2}, 1, time.Second)
	f.Add([]byte(nil))
	f.Add(part)
	f.Add(appendBody(nil, "ch", []byte("foreign")))
	f.Add(encodeControl(from, bodyGoodbye, &starlingpb.Goodbye{}))
	f.Add(encodeControl(sender{id: 999, name: "s", addr: from.addr}, bodyGoodbye, &starlingpb.Goodbye{})) // of a stranger
	f.Add(encodeControl(from, bodyGoodbyeAck, &starlingpb.GoodbyeAck{}))
	f.Add(encodeControl(from, bodyDirect, &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 3, Floor: 2}))
	f.Add(encodeControl(from, bodyDirectAck, &starlingpb.DirectAck{Id: 1, Verdict: starlingpb.DirectAck_BUSY}))
	f.Add(encodeBatch(from, starlingpb.Batch_STREAM, part, part[:5], appendBody(nil, "who", nil)))
	f.Add(frameControl(from, bodySpread, spreadContent(batchID{101, 1}, 7, flagList, appendParts(nil, []*item{{frame: part}}, dawn))))
	f.Add(frameControl(from, bodyReports, appendReport(appendReport(nil, report{id: batchID{1, 1}}), report{
		id: batchID{1, 1}, done: true, count: 2, sum: 3, gone: []uint64{4}, more: true, list: []uint64{5, 6},
	})))
	brief := sender{id: 101}
	f.Add(frameControl(brief, bodySpread, spreadContent(batchID{101, 2}, 7, 1<<tryShift, appendParts(nil, []*item{{frame: part}, {frame: part}}, dawn))))
	f.Add(frameControl(brief, bodyReports, appendReport(nil, report{id: batchID{1, 1}, done: true, count: 1, sum: 3, try: 1, list: make([]uint64, 40)})))
	f.Add(encodeControl(brief, bodyGoodbye, &starlingpb.Goodbye{}))
	f.Add(encodeControl(brief, bodyDirect, &starlingpb.Direct{Key: "ch", Data: []byte("data"), Id: 4}))
	f.Add(encodeBundle(from, [][]byte{frameControl(brief, bodyReports, appendReport(nil, report{id: batchID{1, 1}}))}))
	f.Add(encodeControl(from, bodyHeldAsk, &starlingpb.HeldAsk{Seq: 1, Key: "ch"}))
	f.Add(encodeBundle(from, [][]byte{encodeControl(from, bodyGoodbyeAck, &starlingpb.GoodbyeAck{}), part}))
	f.Add([]byte("\n\x0200\x12\x040000\x100")) // the data's field again, in another type
	f.Add(appendFullState(appendFullState(nil, "a", []byte("1")), "b", nil))
}

// FuzzPart: we accept nothing that the generated code refuses, and both read the same; what was kept can be restamped.
func FuzzPart(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := parsePart(frame)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(p.key) > maxKeySize || len(p.key) == 0 && p.control == nil || p.prev != 0 && p.prev >= p.id.seq {
			t.Fatalf("beyond the limits: %+v", p)
		}
		var pb starlingpb.Part
		// The generated code also refuses what we do not look at: text that is no UTF-8, and the insides of control.
		if proto.Unmarshal(frame, &pb) == nil {
			same := pb.GetKey() == string(p.key) && bytes.Equal(pb.GetData(), p.data) && pb.GetOrigin() == p.id.origin &&
				pb.GetSeq() == p.id.seq && pb.GetPrev() == p.prev && time.Duration(pb.GetAgeMs())*time.Millisecond == p.age
			if !same {
				t.Fatalf("we read %+v, the generated code %v", p, &pb)
			}
		}
		if len(p.key) == 0 {
			return
		}
		it := newItem(nil, p, frame, dawn)
		again, err := parsePart(appendRestamped(nil, it.frame, time.Minute))
		if err != nil || again.age != time.Minute || again.id != p.id || !bytes.Equal(again.key, p.key) || !bytes.Equal(again.data, p.data) || !bytes.Equal(it.data, p.data) {
			t.Fatalf("restamped %+v (%v), was %+v", again, err, p)
		}
	})
}

// FuzzControl: who wrote a frame is known, or it is refused.
func FuzzControl(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePart(b); err == nil && p.control != nil {
			b = p.control // the seeds are whole frames
		}
		ctl, err := parseControl(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			return
		}
		brief := ctl.from == sender{id: ctl.from.id} && (ctl.body == bodySpread || ctl.body == bodyReports || ctl.body == 0)
		if ctl.from.id == 0 || !brief && ctl.from.name == "" || len(ctl.from.name) > maxNameSize || !brief && !ctl.from.addr.Addr().IsValid() || ctl.body > bodyLast {
			t.Fatalf("accepted %+v", ctl)
		}
		p, err := parsePart(frameControl(ctl.from, ctl.body, ctl.content))
		if err != nil {
			t.Fatal(err)
		}
		if ctl.body == 0 {
			return
		}
		if again, err := parseControl(p.control); err != nil || again.from != ctl.from || again.body != ctl.body || !bytes.Equal(again.content, ctl.content) {
			t.Fatalf("encoded again: %+v (%v), was %+v", again, err, ctl)
		}
	})
}

// FuzzFullState: an end comes, and all that is yielded was there.
func FuzzFullState(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		for p, err := range fullState(b) {
			size += len(p.key) + len(p.data) + len(p.control)
			if err != nil && !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes came out of %d", size, len(b))
		}
	})
}

// FuzzBatch: an end comes, and all that is yielded was there.
func FuzzBatch(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		for frame, via := range batchParts(b) {
			size += len(frame)
			if via != Gossip && via != Stream && via != Repair {
				t.Fatalf("via %v", via)
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes came out of %d", size, len(b))
		}
	})
}

// FuzzNotifyMsg feeds the delegate of a live member, which knows one other: whatever comes, it does not panic, counts what
// is malformed, answers nobody at more length than it was asked by a stranger, and keeps within its bounds.
func FuzzNotifyMsg(f *testing.F) {
	seedFrames(f)
	tap := newTap("10.0.0.1:7946")
	tap.member = "127.0.0.1:1" // p1 gets digests and answers at any time
	c, err := New(Config{Name: "self", Transport: tap, Logger: slog.New(slog.DiscardHandler), Retention: Retention{Bytes: 1 << 20}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	ch := testChannel(c.replica, "ch")
	ch.cancel() // there is no loop
	c.table.NotifyJoin(testNode("p1", 101, 1, ""))
	f.Fuzz(func(t *testing.T, frame []byte) {
		malformed := c.drops[DropMalformed].Load()
		tap.largest.Store(0)
		p, err := parsePart(frame)
		var ctl control
		if err == nil && len(p.key) == 0 {
			ctl, err = parseControl(p.control)
		}
		reused := bytes.Clone(frame)
		c.delegate.NotifyMsg(reused)
		c.delegate.MergeRemoteState(reused, true)
		clear(reused) // memberlist reuses it
		if err != nil && c.drops[DropMalformed].Load() == malformed {
			t.Errorf("malformed, and not counted: %v", err)
		}
		// memberlist puts one byte before an answer.
		if answer := int(tap.largest.Load()) - 1; answer > len(frame) && !c.table.knows(ctl.from.id) {
			t.Errorf("answered a stranger's %d bytes by %d", len(frame), answer)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.replica.windows) > maxWindows || c.replica.history.bytes() > 1<<20 || ch.inbox.messages > DefaultInboxMessages || len(c.replica.spread.batches) > maxBatches || len(c.replica.packets) > maxPackets {
			t.Errorf("%d windows, %d bytes kept, inbox of %d, %d batches", len(c.replica.windows), c.replica.history.bytes(), ch.inbox.messages, len(c.replica.spread.batches))
		}
		for d, ok := c.replica.take(ch); ok; d, ok = c.replica.take(ch) {
			if d.item != nil && !d.item.kept() {
				t.Error("delivered what is not kept")
			}
		}
	})
}

// TestDirectOfStranger: a message for us alone from somebody who is no member is counted, and neither handled nor answered.
func TestDirectOfStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := newTap("10.0.0.1:7946")
		c, err := New(Config{Name: "self", Transport: tap, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ch := testChannel(c.replica, "ch")
		from := sender{id: 101, name: strings.Repeat("n", maxNameSize), addr: netip.MustParseAddrPort("127.0.0.1:1")}
		frame := encodeControl(from, bodyDirect, &starlingpb.Direct{Key: "ch", Id: 1})
		c.delegate.NotifyMsg(frame)
		synctest.Wait()
		if c.drops[DropStranger].Load() != 1 || ch.inbox.len() != 0 || tap.largest.Load() != 0 {
			t.Errorf("drops %v, inbox of %d, answer of %d bytes", c.drops.snapshot(), ch.inbox.len(), tap.largest.Load())
		}
		c.table.NotifyJoin(testNode(from.name, 101, 1, ""))
		c.delegate.NotifyMsg(frame)
		synctest.Wait()
		if ch.inbox.len() != 1 || tap.largest.Load() == 0 {
			t.Errorf("of a member: inbox of %d, answer of %d bytes", ch.inbox.len(), tap.largest.Load())
		}
	})
}
