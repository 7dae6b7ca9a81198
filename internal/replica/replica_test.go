package replica

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// FuzzFrames gives frames to a member that knows one other: whatever comes, it does not panic, keeps within its bounds, and hands
// on nothing that it does not keep. To a member that knows nobody, everyone is a stranger: it answers nothing.
func FuzzFrames(f *testing.F) {
	for _, frame := range seedFrames() {
		f.Add(frame)
	}
	lim := testLimits()
	lim.Bytes = 1 << 20
	r, alone := testReplica(lim, 1), testReplica(lim, 0)
	ch := testChannel(r, "ch")
	testChannel(alone, "ch")
	r.Observer.Watch(ch, true)
	now := start
	f.Fuzz(func(t *testing.T, frame []byte) {
		now = now.Add(tickEvery)
		for _, r := range []*Replica{r, alone} {
			reused := bytes.Clone(frame)
			receiveFrame(r, reused)
			clear(reused) // memberlist reuses it
		}
		if len(alone.out.Packets) > 0 || len(alone.out.Streams) > 0 {
			t.Errorf("answered a stranger: %+v", alone.out.Effects)
		}
		r.Sender.Pump(now)
		r.Tick(now)
		checkRoster(t, r.roster)
		if r.intake.history.Bytes() > lim.Bytes || ch.inbox.messages > testInbox.Messages || len(r.spreader.spread.Batches) > spread.MaxBatches || len(r.out.Packets) > maxPackets || len(r.Observer.arriving) > maxArriving {
			t.Errorf("%d bytes kept, inbox of %d, %d batches, %d packets", r.intake.history.Bytes(), ch.inbox.messages, len(r.spreader.spread.Batches), len(r.out.Packets))
		}
		if gs := r.Calls.gatherings; gs.bytes > gs.most || gs.of[101] > gs.each {
			t.Errorf("%d bytes claimed of messages in pieces", gs.bytes)
		}
		for d, ok := r.Take(ch, start); ok; d, ok = r.Take(ch, start) {
			if d.Item != nil && !d.Item.Kept() {
				t.Error("delivered what is not kept")
			}
		}
		*r.Effects(), *alone.Effects() = Effects{}, Effects{}
	})
}

// receiveFrame gives a frame to a replica, if it is one of those that reach a replica.
func receiveFrame(r *Replica, frame []byte) {
	p, err := wire.ParsePart(frame)
	if err != nil {
		return
	}
	if len(p.Key) > 0 {
		r.Receive(p, frame, wire.RouteGossip, start)
		return
	}
	if c, err := wire.ParseControl(p.Control); err == nil && c.From.ID != r.roster.self.ID {
		_ = r.Control(c, start)
	}
}

// TestStats: what is accepted and not done, how old the oldest of it is, what is kept and what was dropped.
func TestStats(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	now := start.Add(time.Minute)
	if s := r.Stats(now); s != (Stats{}) {
		t.Errorf("at first %+v", s)
	}
	sayAt(r, ch, "", make([]byte, 10), start.Add(10*time.Second))
	if s := r.Stats(now); s.QueueMessages != 1 || s.QueueBytes < 10 || s.Oldest != 50*time.Second || s.KeptMessages != 0 {
		t.Errorf("before it leaves %+v", s)
	}
	r.Sender.Pump(start.Add(20 * time.Second))
	sayAt(r, ch, "", nil, start.Add(30*time.Second))
	if s := r.Stats(now); s.QueueMessages != 2 || s.Oldest != 50*time.Second || s.KeptMessages != 1 || s.KeptBytes < 10 {
		t.Errorf("on its way %+v", s)
	}
	confirmAll(r, now)
	receivePart(t, r, partOf("who", nil, wire.PartID{Origin: 101, Seq: 1}, 0, 0), wire.RouteGossip, now)
	if s := r.Stats(now); s.QueueMessages != 0 || s.QueueBytes != 0 || s.Oldest != 0 || s.KeptMessages != 3 || s.Drops != only(DropUnknownKey) {
		t.Errorf("in the end %+v", s)
	}
}

// TestSetAddr: a member signs with the address that it is reached at now.
func TestSetAddr(t *testing.T) {
	r := testReplica(testLimits(), 1)
	addr := netip.MustParseAddrPort("10.1.2.3:4")
	r.Membership.SetAddr(addr)
	say(r, testChannel(r, "ch"), "", nil)
	confirmAll(r, start)
	receiveControl(t, r, testPeer(1), wire.BodyAsk, &starlingpb.BaselineAsk{}, start)
	if told := takeTold(t, r, wire.BodyBaseline, start); len(told) != 1 || told[0].control.From.Addr != addr {
		t.Errorf("told %+v", told)
	}
	receiveControl(t, r, testPeer(1), wire.BodyPull, &starlingpb.Pull{Id: 1}, start)
	if told := takeTold(t, r, wire.BodyBatch, start); len(told) != 1 || told[0].control.From.Addr != addr {
		t.Errorf("told %+v", told)
	}
}

// TestRestamp: memberlist's gossip carries a part of ours with the age that it has by then.
func TestRestamp(t *testing.T) {
	r := testReplica(testLimits(), 1)
	m, _, _ := sayAt(r, testChannel(r, "ch"), "", []byte("data"), start)
	r.Sender.Pump(start)
	for _, age := range []time.Duration{0, time.Second, time.Hour} { // after an hour it is not kept: then its age is not known
		r.Tick(start.Add(age))
		frame := r.Restamp(m.Frame(), start.Add(age))
		p, err := wire.ParsePart(frame)
		if want := age % time.Hour; err != nil || p.ID.Seq != 1 || string(p.Data) != "data" || p.Age != want {
			t.Errorf("after %v: %+v, %v", age, p, err)
		}
		clear(frame) // it is the caller's
	}
}
