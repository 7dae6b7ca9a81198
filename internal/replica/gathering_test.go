package replica

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// directPieces cuts a message for this member alone into pieces.
func directPieces(series, id uint64, data []byte, size int) (ms []*starlingpb.Direct) {
	c := wire.Chunk{Total: uint32(len(data)), Size: uint32(size)}
	for i := range c.Count() {
		c.Index = uint32(i)
		ms = append(ms, &starlingpb.Direct{
			To: 1, Key: "ch", Series: series, Id: id, Data: data[i*size:][:c.Len()], Total: c.Total, Size: c.Size, Index: c.Index,
		})
	}
	return ms
}

// asking is a piece without its data.
func asking(m *starlingpb.Direct) *starlingpb.Direct {
	return &starlingpb.Direct{To: m.To, Key: m.Key, Series: m.Series, Id: m.Id, Floor: m.Floor, Total: m.Total, Size: m.Size, Index: m.Index}
}

// tellDirect lets a member send a message, or a piece of one, and returns the answer; nil: there was none.
func tellDirect(t *testing.T, r *Replica, from int, m *starlingpb.Direct, now time.Time) *starlingpb.DirectAck {
	t.Helper()
	receiveControl(t, r, testPeer(from), wire.BodyDirect, m, now)
	told := takeTold(t, r, wire.BodyDirectAck, now)
	if len(told) == 0 {
		return nil
	}
	var ack starlingpb.DirectAck
	told[0].decode(t, &ack)
	return &ack
}

const (
	directAccepted = starlingpb.DirectAck_ACCEPTED
	directKept     = starlingpb.DirectAck_KEPT
	directLacking  = starlingpb.DirectAck_LACKING
	directBusy     = starlingpb.DirectAck_BUSY
	directStale    = starlingpb.DirectAck_STALE
)

// holdsNothing fails the test if anything is left of messages in pieces.
func holdsNothing(t *testing.T, r *Replica) {
	t.Helper()
	if gs := r.Calls.gatherings; len(gs.all) > 0 || gs.bytes != 0 || len(gs.of) > 0 {
		t.Errorf("%d messages are gathered, %d bytes, of %d senders", len(gs.all), gs.bytes, len(gs.of))
	}
}

// TestGathering: pieces that come in any order, and again, become the message once, byte for byte. What comes after that, when the last answer was
// lost, is accepted again and handled no more.
func TestGathering(t *testing.T) {
	for seed := range uint64(20) {
		r := testReplica(testLimits(), 1)
		ch := testChannel(r, "ch")
		rng := rand.New(rand.NewPCG(seed, 1))
		data := someData(wire.MinDirectChunk*rng.IntN(6) + wire.MinDirectChunk + 1 + rng.IntN(wire.MinDirectChunk))
		ms := directPieces(7, 1, data, wire.MinDirectChunk)
		ms[0].TraceContext = []byte("trace")
		here := map[uint32]bool{}
		for len(here) < len(ms) {
			m := ms[rng.IntN(len(ms))]
			want := directLacking
			if here[m.Index] {
				want = directKept
			}
			if ack := tellDirect(t, r, 1, asking(m), start); ack.GetVerdict() != want || ack.GetGathering() != 1 || ack.GetIndex() != m.Index {
				t.Errorf("asked about %d: %v, want %v", m.Index, ack, want)
			}
			here[m.Index] = true
			if want = directKept; len(here) == len(ms) {
				want = directAccepted
			}
			if ack := tellDirect(t, r, 1, m, start); ack.GetVerdict() != want || ack.GetIndex() != m.Index {
				t.Errorf("piece %d: %v, want %v", m.Index, ack, want)
			}
		}
		for _, m := range ms {
			for _, m := range []*starlingpb.Direct{m, asking(m)} {
				if ack := tellDirect(t, r, 1, m, start); ack.GetVerdict() != directAccepted {
					t.Errorf("again: %v", ack)
				}
			}
		}
		ds := handleAll(r, ch, start)
		if len(ds) != 1 || !bytes.Equal(ds[0].Payload(), data) || string(ds[0].Trace()) != "trace" || ds[0].Origin != 101 || ds[0].Route != wire.RouteDirect {
			t.Errorf("seed %d: handled %d messages", seed, len(ds))
		}
		if ch.Counters.Received != 1 || ch.inbox.bytes != 0 {
			t.Errorf("counters %+v, %d bytes in the inbox", ch.Counters, ch.inbox.bytes)
		}
		holdsNothing(t, r)
	}
}

// TestGatheringWaitsForInbox: a message that is complete waits for room in the inbox, and a question is enough to have it taken then.
func TestGatheringWaitsForInbox(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 1, Bytes: 16 << 20}})
	directOf(r, r.roster.get(101), 7, 1, 0, "ch")
	ms := directPieces(7, 2, someData(100_000), wire.MinDirectChunk)
	tellDirect(t, r, 1, ms[0], start)
	for range 2 {
		if ack := tellDirect(t, r, 1, ms[1], start); ack.GetVerdict() != directBusy {
			t.Errorf("while the inbox is full: %v", ack)
		}
	}
	r.Take(ch, start)
	if ack := tellDirect(t, r, 1, asking(ms[0]), start); ack.GetVerdict() != directAccepted {
		t.Errorf("when there is room: %v", ack)
	}
	if ds := handleAll(r, ch, start); len(ds) != 1 || len(ds[0].Payload()) != 100_000 {
		t.Errorf("handled %d", len(ds))
	}
	holdsNothing(t, r)
}

// TestGatheringVerdicts: what will not be taken is refused at its first piece, and begins nothing.
func TestGatheringVerdicts(t *testing.T) {
	lim := testLimits()
	lim.Message = 200_000
	for name, test := range map[string]struct {
		change func(m *starlingpb.Direct)
		want   starlingpb.DirectAck_Verdict
	}{
		"other run":          {func(m *starlingpb.Direct) { m.To = 2 }, starlingpb.DirectAck_OTHER_RUN},
		"no channel":         {func(m *starlingpb.Direct) { m.Key = "who" }, starlingpb.DirectAck_NO_CHANNEL},
		"too large":          {func(m *starlingpb.Direct) { m.Total = 200_001 }, starlingpb.DirectAck_TOO_LARGE},
		"as large as may be": {func(m *starlingpb.Direct) { m.Total = 200_000 }, directKept},
	} {
		r := testReplica(lim, 1)
		testChannel(r, "ch")
		m := directPieces(7, 1, someData(150_000), wire.MinDirectChunk)[0]
		test.change(m)
		if ack := tellDirect(t, r, 1, m, start); ack.GetVerdict() != test.want || ack.GetIndex() != 0 || ack.GetId() != 1 || ack.GetSeries() != 7 {
			t.Errorf("%s: %v", name, ack)
		}
		if (len(r.Calls.gatherings.all) > 0) != (test.want == directKept) {
			t.Errorf("%s: %d messages are gathered", name, len(r.Calls.gatherings.all))
		}
	}
}

// TestGatheringMalformed: pieces that cannot be are counted and not answered, and cost nothing; those of another message under the same number
// harm the one that has begun not at all.
func TestGatheringMalformed(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	data := someData(3 * wire.MinDirectChunk)
	ms := directPieces(7, 1, data, wire.MinDirectChunk)
	tellDirect(t, r, 1, ms[0], start)
	claimed, n := r.Calls.gatherings.bytes, uint64(0)
	for name, change := range map[string]func(m *starlingpb.Direct){
		"size zero":             func(m *starlingpb.Direct) { m.Size = 0 },
		"size zero, asked":      func(m *starlingpb.Direct) { m.Size, m.Data = 0, nil },
		"pieces too small":      func(m *starlingpb.Direct) { m.Size = wire.MinDirectChunk - 1 },
		"one piece":             func(m *starlingpb.Direct) { m.Total = m.Size },
		"no total":              func(m *starlingpb.Direct) { m.Total = 0 },
		"beyond the end":        func(m *starlingpb.Direct) { m.Index = 3 },
		"far beyond the end":    func(m *starlingpb.Direct) { m.Index = 1<<32 - 1 },
		"asked beyond the end":  func(m *starlingpb.Direct) { m.Index, m.Data = 3, nil },
		"too short":             func(m *starlingpb.Direct) { m.Data = m.Data[1:] },
		"too long":              func(m *starlingpb.Direct) { m.Data = append(bytes.Clone(m.Data), 1) },
		"another total":         func(m *starlingpb.Direct) { m.Total++ },
		"another size":          func(m *starlingpb.Direct) { m.Size++; m.Data = append(bytes.Clone(m.Data), 1) },
		"the size of the whole": func(m *starlingpb.Direct) { m.Total = m.Size + 1 },
	} {
		m := directPieces(7, 1, data, wire.MinDirectChunk)[1]
		change(m)
		if ack := tellDirect(t, r, 1, m, start); ack != nil {
			t.Errorf("%s: %v", name, ack)
		}
		if n++; r.out.drops[DropMalformed] != n || r.Calls.gatherings.bytes != claimed {
			t.Errorf("%s: %d drops, want %d; %d bytes claimed, want %d", name, r.out.drops[DropMalformed], n, r.Calls.gatherings.bytes, claimed)
		}
	}
	other := directPieces(7, 1, data, wire.MinDirectChunk)[1]
	other.Key = "other"
	testChannel(r, "other")
	if ack := tellDirect(t, r, 1, other, start); ack != nil {
		t.Errorf("of another channel: %v", ack)
	}
	tellDirect(t, r, 1, ms[1], start)
	tellDirect(t, r, 1, ms[2], start)
	if ds := handleAll(r, ch, start); len(ds) != 1 || !bytes.Equal(ds[0].Payload(), data) {
		t.Errorf("handled %d", len(ds))
	}
}

// TestGatheringBounded: whoever begins thousands and ends none has its share, which others do not need. It gives way after ten seconds
// to those that find no room, and is let go of after two minutes.
func TestGatheringBounded(t *testing.T) {
	lim := testLimits()
	lim.Message = 1 << 20
	r := testReplica(lim, 4)
	ch := testChannel(r, "ch")
	gs := r.Calls.gatherings
	begin := func(from int, id uint64, now time.Time) starlingpb.DirectAck_Verdict {
		m := directPieces(7, id, make([]byte, 1<<20), wire.MinDirectChunk)[0]
		if id%2 == 0 {
			m = asking(m)
		}
		v := tellDirect(t, r, from, m, now).GetVerdict()
		if gs.bytes > 4*(1<<20+2000) || gs.of[uint64(100+from)] > 2*(1<<20+2000) {
			t.Fatalf("%d bytes claimed, %d by one", gs.bytes, gs.of[uint64(100+from)])
		}
		return v
	}
	busy := 0
	for id := range uint64(3000) {
		if begin(1, id+1, start) == directBusy {
			busy++
		}
	}
	if len(gs.all) != gatherEach || busy != 3000-gatherEach {
		t.Errorf("of one sender %d are gathered, %d were refused", len(gs.all), busy)
	}
	begin(2, 1, start)
	begin(2, 2, start)
	if v := begin(3, 1, start.Add(gatherYields-1)); v != directBusy || len(gs.all) != gatherAll {
		t.Errorf("one more: %v with %d", v, len(gs.all))
	}
	now := start.Add(gatherYields)
	for i, m := range directPieces(7, 3, someData(1<<20), wire.MinDirectChunk) {
		if v := tellDirect(t, r, 3, m, now).GetVerdict(); v == directBusy {
			t.Fatalf("piece %d of an honest one, ten seconds later: %v", i, v)
		}
	}
	if ds := handleAll(r, ch, now); len(ds) != 1 || len(gs.all) != gatherAll-1 {
		t.Errorf("handled %d, %d are gathered", len(ds), len(gs.all))
	}
	gs.sweep(start.Add(gatherLasts - 1))
	if len(gs.all) != gatherAll-1 {
		t.Errorf("%d are gathered before their time is over", len(gs.all))
	}
	if !r.Busy() {
		t.Error("nothing is to be done about them")
	}
	for now := start.Add(gatherLasts); now.Before(start.Add(gatherLasts + 2*sweepEvery)); now = now.Add(tickEvery) {
		r.Tick(now)
	}
	holdsNothing(t, r)
}

// TestGatheringCompleteGivesWay: a message that waits for an inbox whose handler hangs makes room for one of another channel, and its sender is told
// by the number of the next gathering that all has to come again.
func TestGatheringCompleteGivesWay(t *testing.T) {
	lim := testLimits()
	lim.Message = 1 << 20
	r := testReplica(lim, 3)
	openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 1, Bytes: 1 << 20}})
	open := testChannel(r, "open")
	directOf(r, r.roster.get(101), 9, 1, 0, "ch")
	var last *starlingpb.DirectAck
	for from := 1; from <= 2; from++ {
		for id := uint64(1); id <= 2; id++ {
			for _, m := range directPieces(7, id, someData(1<<20), 1<<19) {
				last = tellDirect(t, r, from, m, start)
			}
		}
	}
	if len(r.Calls.gatherings.all) != gatherAll || last.GetVerdict() != directBusy {
		t.Errorf("%d are gathered, the last one: %v", len(r.Calls.gatherings.all), last)
	}
	for _, m := range directPieces(7, 1, someData(1<<20), 1<<19) {
		m.Key = "open"
		last = tellDirect(t, r, 3, m, start)
	}
	if ds := handleAll(r, open, start); len(ds) != 1 || last.GetVerdict() != directAccepted {
		t.Errorf("on another channel: %v, handled %d", last, len(ds))
	}
	m := directPieces(7, 1, someData(1<<20), 1<<19)[1]
	if ack := tellDirect(t, r, 1, asking(m), start); ack.GetVerdict() != directLacking || ack.GetGathering() != gatherAll+2 {
		t.Errorf("the one that gave way: %v", ack)
	}
}

// TestGatheringEnds: what its sender has ended, and what is for a channel that closes, is let go of at once.
func TestGatheringEnds(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	data := someData(100_000)
	begin := func(from int, id, floor uint64) {
		m := directPieces(7, id, data, wire.MinDirectChunk)[0]
		m.Floor = floor
		tellDirect(t, r, from, m, start)
	}
	begin(1, 1, 0)
	begin(1, 2, 0)
	begin(2, 1, 0)
	begin(1, 3, 2)
	if gs := r.Calls.gatherings; len(gs.all) != 2 || gs.all[gatheringKey{101, 7, 3}] == nil || gs.all[gatheringKey{102, 7, 1}] == nil {
		t.Errorf("%d are gathered", len(gs.all))
	}
	if ack := tellDirect(t, r, 1, directPieces(7, 2, data, wire.MinDirectChunk)[1], start); ack.GetVerdict() != directStale {
		t.Errorf("of one that has ended: %v", ack)
	}
	r.Close(ch, start)
	holdsNothing(t, r)
}

// TestGatheringAcrossFlap: what came before the receiver lost the sender counts when they meet again.
func TestGatheringAcrossFlap(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	ms := directPieces(7, 1, someData(100_000), wire.MinDirectChunk)
	tellDirect(t, r, 1, ms[0], start)
	r.Change(testPeer(1), wire.Peer{}, start)
	if ack := tellDirect(t, r, 1, ms[1], start); ack != nil {
		t.Errorf("of who is no member: %v", ack)
	}
	r.Change(wire.Peer{}, testPeer(1), start)
	if ack := tellDirect(t, r, 1, ms[1], start); ack.GetVerdict() != directAccepted || len(handleAll(r, ch, start)) != 1 {
		t.Errorf("when it is back: %v", ack)
	}
}

// TestGatheringProgress: who watches the channel is told of what comes, and how it ends.
func TestGatheringProgress(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	data := someData(3 * wire.MinDirectChunk)
	told := func(text string) {
		t.Helper()
		got := ""
		for _, p := range r.out.Progress {
			got += fmt.Sprint(p.From.Name, p.Member.Name, p.Send, ":", p.Done/wire.MinDirectChunk, "/", p.Total/wire.MinDirectChunk, "-", p.State, " ")
		}
		if r.out.Progress = nil; got != text {
			t.Errorf("told %q, want %q", got, text)
		}
	}
	for _, m := range directPieces(7, 1, data, wire.MinDirectChunk) {
		tellDirect(t, r, 1, m, start)
	}
	told("") // nobody watches
	r.Observer.Watch(ch, true)
	for _, m := range directPieces(7, 2, data, wire.MinDirectChunk) {
		tellDirect(t, r, 1, m, start)
	}
	told("p1self2:1/3-0 p1self2:2/3-0 p1self2:3/3-0 p1self2:3/3-1 ")
	tellDirect(t, r, 1, directPieces(7, 3, data, wire.MinDirectChunk)[0], start)
	r.Calls.gatherings.sweep(start.Add(gatherLasts))
	told("p1self3:1/3-0 p1self3:1/3-4 ")
}

// TestGatheringKeepsItsChannel: a message that waits for its inbox does not give way to one that would wait for the same, unless its sender asks no more.
func TestGatheringKeepsItsChannel(t *testing.T) {
	lim := testLimits()
	lim.Message = 1 << 20
	r := testReplica(lim, 1)
	openChannel(r, Channel{Key: "ch", Inbox: InboxLimits{Messages: 1, Bytes: 1 << 20}})
	directOf(r, r.roster.get(101), 9, 1, 0, "ch")
	var ms [3][]*starlingpb.Direct
	for i := range ms {
		ms[i] = directPieces(7, uint64(i)+1, someData(1<<20), 1<<19)
	}
	for _, m := range append(ms[0], ms[1]...) {
		tellDirect(t, r, 1, m, start)
	}
	now := start.Add(2 * gatherYields)
	tellDirect(t, r, 1, asking(ms[0][0]), now)
	tellDirect(t, r, 1, asking(ms[1][0]), now)
	if ack := tellDirect(t, r, 1, ms[2][0], now.Add(gatherYields-1)); ack.GetVerdict() != directBusy {
		t.Errorf("one more: %v", ack)
	}
	tellDirect(t, r, 1, asking(ms[1][0]), now.Add(gatherYields-1))
	if ack := tellDirect(t, r, 1, ms[2][0], now.Add(gatherYields)); ack.GetVerdict() != directKept {
		t.Errorf("when one was asked about no more: %v", ack)
	}
	if gs := r.Calls.gatherings; len(gs.all) != gatherEach || gs.all[gatheringKey{101, 7, 2}] == nil {
		t.Errorf("%d are gathered", len(gs.all))
	}
}

// TestGatheringOfLostSender: what a sender has begun that is no member any more gives way after a second, and not after ten.
func TestGatheringOfLostSender(t *testing.T) {
	lim := testLimits()
	lim.Message = 1 << 20
	r := testReplica(lim, gatherAll/gatherEach+1)
	openChannel(r, Channel{Key: "ch"})
	const last = gatherAll/gatherEach + 1
	now := start
	for from := 1; from < last; from++ {
		for id := range uint64(gatherEach) {
			m := directPieces(7, id+1, someData(1<<20), 1<<19)[0]
			if ack := tellDirect(t, r, from, m, now); ack.GetVerdict() != directKept {
				t.Fatalf("sender %d: %v", from, ack)
			}
		}
	}
	try := func(at time.Time, want starlingpb.DirectAck_Verdict) {
		t.Helper()
		if ack := tellDirect(t, r, last, directPieces(7, 1, someData(1<<20), 1<<19)[0], at); ack.GetVerdict() != want {
			t.Errorf("after %v: %v, want %v", at.Sub(now), ack, want)
		}
	}
	try(now.Add(gatherYields-1), directBusy)
	r.Change(testPeer(1), wire.Peer{}, now)
	try(now.Add(gatherOrphan-1), directBusy)
	try(now.Add(gatherOrphan), directKept)
}

// TestDirectOldest: a message that lasts holds the floor. However many were refused beside it, and left a hole each, it is taken, and then all others are.
func TestDirectOldest(t *testing.T) {
	r := testReplica(testLimits(), 1)
	ch := testChannel(r, "ch")
	ms := directPieces(7, 1, someData(100_000), wire.MinDirectChunk)
	tellDirect(t, r, 1, ms[0], start)
	last := uint64(2 * receipt.MaxRanges)
	for id := uint64(2); id <= last; id += 2 {
		m := &starlingpb.Direct{To: 1, Key: "ch", Series: 7, Id: id, Data: []byte("small")}
		if ack := tellDirect(t, r, 1, m, start); ack.GetVerdict() != directAccepted {
			t.Fatalf("number %d: %v", id, ack)
		}
		handleAll(r, ch, start)
	}
	small := &starlingpb.Direct{To: 1, Key: "ch", Series: 7, Id: last + 2, Data: []byte("small")}
	if ack := tellDirect(t, r, 1, small, start); ack.GetVerdict() != directBusy {
		t.Errorf("beyond the bound: %v", ack)
	}
	if ack := tellDirect(t, r, 1, ms[1], start); ack.GetVerdict() != directAccepted {
		t.Errorf("the oldest: %v", ack)
	}
	small.Floor = last
	if ack := tellDirect(t, r, 1, small, start); ack.GetVerdict() != directAccepted {
		t.Errorf("when the floor has risen: %v", ack)
	}
	holdsNothing(t, r)
}
