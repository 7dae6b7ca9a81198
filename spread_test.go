package starling

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// flight is a cluster of spreads without a network: what one sends, the other has at once; time passes only where all wait.
type flight struct {
	now     time.Time
	members []Member
	spreads map[uint64]*spread
	down    map[uint64]bool
	deaf    map[uint64]time.Time // until then, who is sent nothing that arrives
	got     map[uint64]int       // frames with parts, by member
	sends   int
}

func bird(i int) Member { return Member{Name: fmt.Sprintf("bird-%d", i), ID: uint64(1000 + i)} }

// newFlight makes n spreads; each knows of the others whom knows says.
func newFlight(n int, knows func(who, whom int) bool) *flight {
	f := &flight{now: dawn, spreads: map[uint64]*spread{}, down: map[uint64]bool{}, deaf: map[uint64]time.Time{}, got: map[uint64]int{}}
	for i := range n {
		f.members = append(f.members, bird(i))
	}
	all := newRing(f.members[0], f.members[1:])
	for i, self := range f.members {
		s := newSpread(self.ID, 1390)
		s.ring = &ring{}
		for _, p := range all.places {
			if p.member.ID == self.ID {
				s.ring.self = len(s.ring.places)
			} else if knows != nil && !knows(i, int(p.member.ID-1000)) {
				continue
			}
			s.ring.places = append(s.ring.places, p)
		}
		f.spreads[self.ID] = &s
	}
	return f
}

var someParts = []*item{{id: partID{1000, 1}, frame: make([]byte, 200)}}

// root is the first member's spread.
func (f *flight) root() *spread { return f.spreads[f.members[0].ID] }

// run lets all be said, and time pass, until the root's batch is finished.
func (f *flight) run(t *testing.T) *batch {
	t.Helper()
	root := f.root()
	for range 10_000 {
		for moved := true; moved; {
			moved = false
			for _, m := range f.members {
				moved = f.step(m) || moved
			}
		}
		if len(root.finished) > 0 {
			b := root.finished[0]
			root.finished = nil
			return b
		}
		var next time.Time
		for id, s := range f.spreads {
			if at, ok := s.next(); ok && !f.down[id] && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		f.now = next
		for id, s := range f.spreads {
			if !f.down[id] {
				s.tick(f.now)
			}
		}
	}
	t.Fatal("the batch is never finished")
	return nil
}

// step delivers what one member has to say.
func (f *flight) step(from Member) bool {
	s := f.spreads[from.ID]
	sends, reports := s.sends, s.reports
	s.sends, s.reports = nil, nil
	for _, send := range sends {
		f.sends++
		to := send.leg.to.ID
		if f.down[from.ID] || f.down[to] || f.now.Before(f.deaf[to]) {
			continue
		}
		if !send.query {
			f.got[to]++
		}
		f.spreads[to].receive(offerOf(from, send), f.now)
	}
	for _, rep := range reports {
		if !f.down[from.ID] && !f.down[rep.to.ID] {
			f.spreads[rep.to.ID].report(from.ID, rep.report, f.now)
		}
	}
	return len(sends)+len(reports) > 0
}

// offerOf is what a sending is to who receives it.
func offerOf(from Member, send spreadSend) offer {
	o := offer{
		from: from, id: send.leg.batch.id, end: send.leg.end, items: send.leg.batch.items,
		list: send.list, stream: send.stream, try: uint64(len(send.leg.sent)),
	}
	if send.query {
		o.items = nil
	}
	if send.stream {
		o.try = 0
	}
	return o
}

// TestPositions: the wire depends on where a name stands.
func TestPositions(t *testing.T) {
	for name, want := range map[string]uint64{"": 0x2180a92350d49cce, "a": 0x55e22b8ccbb1816f, "starling-1": 0xea9648fdcb0a6d28} {
		if got := position(name); got != want {
			t.Errorf("%q stands at %#x, want %#x", name, got, want)
		}
	}
}

// TestSlicesCover: where all see the same, everybody gets the batch exactly once, nobody is asked again, and the root
// knows that all have it.
func TestSlicesCover(t *testing.T) {
	for n := 1; n <= 200; n++ {
		f := newFlight(n, nil)
		f.root().start(someParts, 200, false, f.now)
		if b := f.run(t); len(b.gone) > 0 || f.sends != n-1 || !f.now.Equal(dawn) {
			t.Errorf("%d members: %d sends, %d given up, %v", n, f.sends, len(b.gone), f.now.Sub(dawn))
		}
		for _, m := range f.members[1:] {
			if f.got[m.ID] != 1 {
				t.Errorf("%d members: %s got it %d times", n, m.Name, f.got[m.ID])
			}
		}
	}
}

// TestSlicesOfOtherViews: whomever the root sees gets it, whomever the others see; at a bounded cost.
func TestSlicesOfOtherViews(t *testing.T) {
	rng := seeded(t)
	for n := 1; n <= 200; n++ {
		unknown := map[[2]int]bool{}
		for range n {
			unknown[[2]int{rng.IntN(n), rng.IntN(n)}] = true
		}
		f := newFlight(n, func(who, whom int) bool { return who == 0 || !unknown[[2]int{who, whom}] })
		f.root().start(someParts, 200, false, f.now)
		if b := f.run(t); len(b.gone) > 0 || f.sends > 5*n {
			t.Errorf("%d members: %d sends, %d given up", n, f.sends, len(b.gone))
		}
		for _, m := range f.members[1:] {
			if f.got[m.ID] == 0 {
				t.Errorf("%d members: %s never got it", n, m.Name)
			}
		}
	}
}

// TestTakeOver: the slice of a silent head goes to the next in it, the silent one alone is given up, and heads nothing
// for a while.
func TestTakeOver(t *testing.T) {
	f := newFlight(50, nil)
	root := f.root()
	head := root.ring.at(1)
	f.down[head.member.ID] = true
	root.start(someParts, 200, false, f.now)
	b := f.run(t)
	if !slices.Equal(b.gone, []uint64{head.pos}) {
		t.Errorf("given up: %x, want %x", b.gone, head.pos)
	}
	if took := f.now.Sub(dawn); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, m := range f.members[1:] {
		if got := f.got[m.ID]; got == 0 && m.ID != head.member.ID {
			t.Errorf("%s never got it", m.Name)
		}
	}
	root.start(someParts, 200, false, f.now)
	for _, l := range root.batches[batchID{root.self, 2}].legs {
		if l.to.ID == head.member.ID && l.view.len() > 1 {
			t.Error("the silent one heads a slice again")
		}
	}
	f.down = map[uint64]bool{}
	f.run(t)
}

// TestHandOn: the slice of a head that has bad luck goes to the next in it soon, and the head gets the batch all the same.
func TestHandOn(t *testing.T) {
	f := newFlight(50, nil)
	root := f.root()
	head, second := root.ring.at(1).member, root.ring.at(2).member
	f.deaf[head.ID] = dawn.Add(500 * time.Millisecond)
	root.start(someParts, 200, false, f.now)
	for len(root.finished) == 0 && f.got[second.ID] == 0 {
		for _, m := range f.members {
			f.step(m)
		}
		f.now, _ = root.next()
		root.tick(f.now)
	}
	if took := f.now.Sub(dawn); took > 300*time.Millisecond {
		t.Errorf("the next of the slice got it after %v", took)
	}
	if b := f.run(t); len(b.gone) > 0 || f.got[head.ID] == 0 {
		t.Errorf("given up: %x; the head got it %d times", b.gone, f.got[head.ID])
	}
	for _, m := range f.members[1:] {
		if f.got[m.ID] == 0 {
			t.Errorf("%s never got it", m.Name)
		}
	}
}

// TestHandOnAll: those behind a dead head wait for it once, not once in each batch, and the window does not wait at all for what
// is tried for the dead one alone.
func TestHandOnAll(t *testing.T) {
	const batches = 10
	f := newFlight(25, nil) // eight slices of three
	root := f.root()
	dead := root.ring.at(1).member.ID
	f.down[dead] = true
	for range batches {
		root.start(someParts, 200, false, f.now)
	}
	served := func() bool {
		return f.got[root.ring.at(2).member.ID] >= batches && f.got[root.ring.at(3).member.ID] >= batches
	}
	for range 10_000 {
		for moved := true; moved; {
			moved = false
			for _, m := range f.members {
				moved = f.step(m) || moved
			}
		}
		if served() && root.flow.sent == 0 {
			break
		}
		f.now, _ = root.next()
		root.tick(f.now)
	}
	if took := f.now.Sub(dawn); !served() || root.flow.sent > 0 || took > 400*time.Millisecond || len(root.batches) != batches {
		t.Errorf("after %v: those behind a dead head have all: %v; %d bytes in the window of %d batches",
			took, served(), root.flow.sent, len(root.batches))
	}
	f.run(t)
}

// TestSpurious: an answer to an earlier try gives the window back what the time-out took; one to the last does not.
func TestSpurious(t *testing.T) {
	for try, want := range map[uint64]int{1: flowFirst, 2: flowFirst / 2} {
		f := newFlight(2, nil)
		root := f.root()
		b := root.start(someParts, 200, false, f.now)
		f.now, _ = root.next()
		root.tick(f.now)
		if got := root.flow.window; got != flowFirst/2*1390 {
			t.Fatalf("a window of %d bytes after the time-out", got)
		}
		own := position(f.members[1].Name)
		root.report(f.members[1].ID, report{id: b.id, done: true, count: 1, sum: own, try: try}, f.now)
		if got := root.flow.window / 1390; got != want {
			t.Errorf("an answer to try %d leaves a window of %d packets, want %d", try, got, want)
		}
	}
}

// TestLostHead: a head that is gone from the membership is taken over at once.
func TestLostHead(t *testing.T) {
	f := newFlight(50, nil)
	root := f.root()
	head := root.ring.at(1).member
	f.down[head.ID] = true
	root.start(someParts, 200, false, f.now)
	f.step(f.members[0])
	root.lost(head.ID, f.now)
	if f.run(t); !f.now.Equal(dawn) {
		t.Errorf("it took %v", f.now.Sub(dawn))
	}
}

// TestLies: whatever members report of their slices, the batch ends, in bounded time and with bounded sends.
func TestLies(t *testing.T) {
	const n = 20
	endless := make([]uint64, maxListed)
	for i := range endless {
		endless[i] = uint64(i)
	}
	for name, lie := range map[string]func(l *leg, r *report){
		"count":         func(_ *leg, r *report) { r.count++ },
		"sum":           func(_ *leg, r *report) { r.sum++ },
		"nobody has it": func(_ *leg, r *report) { r.count, r.sum = 0, 0 },
		"others gone":   func(_ *leg, r *report) { r.gone = []uint64{1, 2, 3} },
		"others gone, and it adds up": func(_ *leg, r *report) {
			r.gone, r.count = endless, r.count-maxListed
			for _, pos := range endless {
				r.sum ^= pos
			}
		},
		"more":          func(_ *leg, r *report) { r.more = true },
		"endless list":  func(_ *leg, r *report) { r.count, r.list = 0, endless },
		"empty list":    func(_ *leg, r *report) { r.count, r.list = 0, []uint64{} },
		"endless gone":  func(_ *leg, r *report) { r.gone, r.list = endless, endless },
		"held for ever": func(_ *leg, r *report) { *r = report{id: r.id} },
	} {
		f := newFlight(n, nil)
		root := f.root()
		b := root.start(someParts, 200, false, f.now)
		sends := 0
		for root.finished == nil && f.now.Sub(dawn) < 5*time.Minute {
			for pending := root.sends; len(pending) > 0; pending = root.sends {
				sends += len(pending)
				root.sends = nil
				for _, s := range pending {
					r := honest(s.leg)
					lie(s.leg, &r)
					root.report(s.leg.to.ID, r, f.now)
				}
			}
			next, again := root.next()
			if !again {
				break
			}
			f.now = next
			root.tick(f.now)
		}
		if root.finished == nil {
			t.Errorf("%s: never finished", name)
		}
		// Who holds, and is never done, is asked now and then.
		asked := fanOut * int(f.now.Sub(dawn)/(patience*rtoMin))
		if sends > 20*n+asked || len(b.legs) > 3*n || len(b.gone) > n*maxListed {
			t.Errorf("%s: %d sends, %d legs, %d given up", name, sends, len(b.legs), len(b.gone))
		}
		if root.flow.sent != 0 {
			t.Errorf("%s: %d bytes are on their way for ever", name, root.flow.sent)
		}
		t.Logf("%s: %d sends, %d legs, after %v", name, sends, len(b.legs), f.now.Sub(dawn))
	}
}

// TestReportOfUnknownBatch: it changes nothing.
func TestReportOfUnknownBatch(t *testing.T) {
	f := newFlight(20, nil)
	root := f.root()
	root.start(someParts, 200, false, f.now)
	sends := len(root.sends)
	for _, id := range []batchID{{root.self, 2}, {root.self, 0}, {1001, 1}, {7, 7}} {
		for _, m := range f.members[1:] {
			root.report(m.ID, report{id: id, done: true, count: 1, list: []uint64{1}}, f.now)
		}
	}
	// Nor does that of somebody who was not asked.
	root.report(4711, report{id: batchID{root.self, 1}, done: true, count: 19}, f.now)
	if len(root.sends) != sends || len(root.batches) != 1 || root.finished != nil {
		t.Errorf("%d sends, %d batches, finished %v", len(root.sends), len(root.batches), root.finished)
	}
}

// TestBatchesBounded: what a member serves for others is bounded, for each root and in all, and is forgotten when done.
func TestBatchesBounded(t *testing.T) {
	f := newFlight(20, nil)
	s := f.spreads[1001]
	end := s.ring.places[s.ring.self].pos // the whole circle
	serve := func(root, n uint64, now time.Time) {
		s.receive(offer{from: f.members[0], id: batchID{root, n}, end: end, items: someParts}, now)
		s.sends, s.reports = nil, nil
	}
	for n := range uint64(2 * maxServed) {
		serve(1000, n+1, f.now)
	}
	if len(s.batches) != maxServed || s.served[1000] != maxServed {
		t.Errorf("%d batches of one root", len(s.batches))
	}
	for root := range uint64(20) {
		for n := range uint64(maxServed) {
			serve(2000+root, n+1, f.now)
		}
	}
	if len(s.batches) != maxBatches {
		t.Errorf("%d batches in all, limit %d", len(s.batches), maxBatches)
	}
	// Nobody answers: all is given up.
	for range 200_000 {
		next, again := s.next()
		if !again {
			break
		}
		f.now = next
		s.tick(f.now)
		s.sends, s.reports = nil, nil
	}
	if len(s.served) != 0 || len(s.old) != maxBatches {
		t.Errorf("%d roots are still served, %d batches are done", len(s.served), len(s.old))
	}
	f.now = f.now.Add(keepDone + time.Second)
	serve(1000, 1<<40, f.now)
	if len(s.batches) != 1 {
		t.Errorf("%d batches are remembered", len(s.batches))
	}
}

// TestFlow: the window grows with what is done, halves at most once per time-out, keeps its bounds, and reopens.
func TestFlow(t *testing.T) {
	const packet = 1000
	f := newFlow(packet)
	for f.open() {
		f.add(packet)
	}
	if f.sent != flowFirst*packet {
		t.Errorf("%d bytes fill the first window", f.sent)
	}
	if f.done(packet); !f.open() || f.window <= flowFirst*packet {
		t.Errorf("it does not reopen, or not grow: %+v", f)
	}
	for range 100_000 {
		f.add(packet)
		f.done(packet)
	}
	if f.window != flowMax*packet {
		t.Errorf("it grew to %d packets", f.window/packet)
	}
	f.late(dawn, time.Second)
	f.late(dawn.Add(999*time.Millisecond), time.Second)
	if f.window != flowMax*packet/2 {
		t.Errorf("%d packets after one time-out", f.window/packet)
	}
	if f.spurious(); f.window != flowMax*packet {
		t.Errorf("%d packets when the time-out turned out to be none", f.window/packet)
	}
	if f.spurious(); f.window != flowMax*packet {
		t.Errorf("%d packets when it did so twice", f.window/packet)
	}
	for i := range 3 {
		f.late(dawn.Add(time.Duration(i+1)*time.Second), time.Second)
	}
	if f.spurious(); f.window != flowMax*packet/4 {
		t.Errorf("%d packets when one of three time-outs was none", f.window/packet)
	}
	for i := range 100 {
		f.late(dawn.Add(time.Duration(i+1)*time.Second), time.Second)
	}
	if f.window != flowMin*packet {
		t.Errorf("it shrank to %d packets", f.window/packet)
	}
	f.add(100 * packet)
	if f.done(100 * packet); f.sent != flowFirst*packet-packet {
		t.Errorf("%d bytes are on their way", f.sent)
	}
	f.sent = 0
	if f.add(1 << 30); f.open() {
		t.Error("a second batch beyond the window")
	}
	if f.done(1 << 30); !f.open() {
		t.Error("one batch may always leave")
	}
}

// spreadContent is a Spread with parts that are already encoded as its fields.
func spreadContent(id batchID, end, flags uint64, parts []byte) []byte {
	return append(appendSpread(nil, id, end, flags), parts...)
}

// fuzzedReplica has a batch of its own on its way among twelve members.
func fuzzedReplica(tb testing.TB) *replica {
	lim := testLimits()
	lim.retention.Bytes = 1 << 20
	r := testReplica(lim, 12)
	ch := testChannel(r, "ch")
	tb.Cleanup(ch.cancel)
	ch.say(r, "", []byte("ours"))
	r.pump(dawn)
	return r
}

// settle lets time pass until nothing is on its way, and holds the replica against its bounds.
func (r *replica) settle(t *testing.T) {
	t.Helper()
	now, sent := dawn, 0
	for steps := 0; ; steps++ {
		next, again := r.pump(now)
		sent += len(r.packets) + len(r.streams)
		r.packets, r.streams = nil, nil
		if !again {
			break
		}
		if now = next; steps > 20_000 {
			t.Fatal("it never comes to rest")
		}
	}
	if sent > 2000 {
		t.Errorf("%d frames were sent", sent)
	}
	if r.room.messages != 0 || r.spread.flow.sent != 0 || len(r.spread.served) != 0 || r.history.bytes() > 1<<20 {
		t.Errorf("room %+v, %d bytes on their way, %d roots served", r.room, r.spread.flow.sent, len(r.spread.served))
	}
}

// FuzzSpread: whatever comes as a batch, the replica comes to rest.
func FuzzSpread(f *testing.F) {
	part := appendIdentity(appendBody(nil, "ch", []byte("data")), partID{101, 2}, 1, time.Second)
	for _, end := range []uint64{0, 1, position("p3"), position("self"), 1<<64 - 1} {
		for _, flags := range []uint64{0, flagList, flagStream, flagList | flagStream} {
			f.Add(spreadContent(batchID{101, 1}, end, flags, appendParts(nil, []*item{{frame: part}}, dawn)))
		}
	}
	f.Add(spreadContent(batchID{101, 1}, 7, 0, nil))
	f.Add(spreadContent(batchID{1, 1}, 7, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := parseSpread(b)
		if err != nil {
			return
		}
		r := fuzzedReplica(t)
		for i := range 3 { // and the same from others
			from := testPeer(i + 1)
			again := frame
			r.receiveSpread(from, again, dawn)
		}
		r.settle(t)
	})
}

// FuzzReports: whatever members report, and however often, the batch ends.
func FuzzReports(f *testing.F) {
	f.Add(appendReport(appendReport(nil, report{id: batchID{1, 1}}), report{
		id: batchID{1, 1}, done: true, count: 2, sum: 3, gone: []uint64{4}, more: true, list: []uint64{5, 6},
	}))
	f.Add(appendReport(nil, report{id: batchID{1, 1}, done: true, count: 1, sum: position("p1")}))
	f.Add(appendReport(nil, report{id: batchID{1, 1}, done: true, list: []uint64{position("p1"), position("p2")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := fuzzedReplica(t)
		for range 3 {
			for i := range 12 {
				for rep := range reportsIn(b) {
					r.spread.report(uint64(101+i), rep, dawn)
				}
			}
			r.pump(dawn)
		}
		r.settle(t)
	})
}
