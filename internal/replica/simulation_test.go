package replica

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/internal/timeheap"
	"github.com/starling-go/starling/internal/wire"
)

// simulation is a world of bare replicas: one loop over events in the order of their time, one source of randomness, no
// goroutine and no clock. The same script gives the same run, event for event.
type simulation struct {
	later  *rand.Rand // not nil: every frame arrives as of a later version
	rng    *rand.Rand
	model  *script.Model
	retain bounds
	now    time.Duration
	events timeheap.Heap[event]
	count  int // of all events, which orders those of one instant

	members [script.MaxMembers]*simMember // nil: down
	script  script.Script
	sent    map[sentMessage]*Message // that were accepted
	runs    uint64                   // of members, which numbers them
	loss    float64
	width   int // of a link, in bytes a second; 0: without bound
	side    [script.MaxMembers]int
	mute    [script.MaxMembers][script.MaxMembers]bool
	blocked [script.MaxMembers][script.MaxMembers]bool // from, to
	digest  uint64                                     // of all that was sent, to tell runs apart
}

// simMember is what surrounds one node.
type simMember struct {
	*node
	number  int
	views   [script.MaxMembers]wire.Peer // by number; zero: not seen
	streams [script.MaxMembers]simStreamQueue
	ticking bool
	asks    bool                             // it asks whom it meets what it is owed: not every one has joined us
	thaw    time.Duration                    // it stands still until then
	flapped [script.MaxMembers]time.Duration // whom it takes for failed until when
	leaving bool                             // it accepts nothing any more
	pumpAt  time.Time                        // when it asked to be pumped again; zero: it did not
	busy    [len(script.Channels)]bool       // the handler runs
	stalls  [len(script.Channels)]time.Duration
}

const (
	simGossip = 200 * time.Millisecond
	simFanout = 3
)

func newSimulation(s script.Script, m *script.Model) *simulation {
	sim := &simulation{
		script: s, sent: map[sentMessage]*Message{}, events: newEvents(), rng: rand.New(rand.NewPCG(s.Seed, 1)), model: m,
		retain: bounds{bytes: s.Keep, age: s.Retain},
	}
	if s.Keep == 0 {
		sim.retain.bytes = 64 << 20
	}
	return sim
}

func (sim *simulation) clock() time.Time { return start.Add(sim.now) }

// event is something that happens at its time.
type event struct {
	order int
	do    func()
}

// newEvents returns an empty queue of events; those of one time happen in the order in which they were made.
func newEvents() timeheap.Heap[event] {
	return timeheap.Heap[event]{Before: func(a, b event) bool { return a.order < b.order }}
}

func (sim *simulation) after(d time.Duration, do func()) {
	sim.count++
	sim.events.Push(sim.now+d, event{sim.count, do})
}

// during is after for something of a member that does not happen once the member is down.
func (sim *simulation) during(m *simMember, d time.Duration, do func()) {
	sim.after(d, func() {
		if sim.members[m.number] == m {
			sim.unfrozen(m, func() {
				do()
				sim.follow(m)
			})
		}
	})
}

// unfrozen does something of a member, or when it goes on, if it stands still. What was put off is done in order.
func (sim *simulation) unfrozen(m *simMember, do func()) {
	if sim.now >= m.thaw {
		do()
		return
	}
	sim.during(m, m.thaw-sim.now, do)
}

// Now, Wait and the rest are script.World.
func (sim *simulation) Now() time.Duration { return sim.now }

func (sim *simulation) Wait(d time.Duration) {
	until := sim.now + d
	for sim.events.Len() > 0 {
		if at, _ := sim.events.First(); at > until {
			break
		}
		at, e := sim.events.Pop()
		sim.now = at
		e.do()
	}
	sim.now = until
}

func (sim *simulation) Broadcast(member, channel int, name string, data []byte) script.Accepted {
	m := sim.members[member]
	defer sim.follow(m)
	msg, superseded, ok := m.broadcast(channel, name, data, sim.clock())
	id := sentMessage{m.member.ID, script.Number(data)}
	switch {
	case !ok:
		return script.Refused
	case superseded != nil:
		sim.sent[id] = superseded
		return script.Superseded
	}
	sim.sent[id] = msg
	return script.Taken
}

// sentMessage names a message by the process that has broadcast it and the number that it carries.
type sentMessage struct{ process, number uint64 }

func (sim *simulation) Span(process, number uint64) (first, last uint64) {
	return sim.sent[sentMessage{process, number}].Span()
}

// Confirm only broadcasts: who waits for answers is the shell.
func (sim *simulation) Confirm(member, channel int, name string, data []byte, confirmed func(error)) script.Accepted {
	confirmed(errNotAsked)
	return sim.Broadcast(member, channel, name, data)
}

var errNotAsked = errors.New("a bare replica asks nobody")

func (sim *simulation) Loss(rate float64) { sim.loss = rate }
func (sim *simulation) Narrow(width int)  { sim.width = width }

func (sim *simulation) Cut(groups [][]int) {
	sim.side = [script.MaxMembers]int{}
	for g, group := range groups {
		for _, i := range group {
			sim.side[i] = g + 1
		}
	}
	sim.review()
}

func (sim *simulation) Mute(a, b int) {
	for i := range sim.mute {
		if i == b || b == script.Everybody {
			sim.mute[a][i], sim.mute[i][a] = true, true
		}
	}
}

func (sim *simulation) Block(from, to int) { sim.blocked[from][to] = true }

func (sim *simulation) Clear() {
	sim.mute = [script.MaxMembers][script.MaxMembers]bool{}
	sim.blocked = [script.MaxMembers][script.MaxMembers]bool{}
}

func (sim *simulation) Freeze(member int, d time.Duration) {
	m := sim.members[member]
	if m == nil {
		return
	}
	m.thaw = max(m.thaw, sim.now+d)
	sim.review()
	sim.after(m.thaw-sim.now, func() {
		if sim.members[member] == m && sim.now >= m.thaw {
			sim.model.Thawed(sim.now)
			sim.review()
		}
	})
}

func (sim *simulation) Flap(member, other int, d time.Duration) {
	m := sim.members[member]
	if m == nil || sim.now < m.thaw {
		return
	}
	m.flapped[other] = sim.now + d
	sim.look(m, other)
	sim.follow(m)
	sim.during(m, d, func() { sim.look(m, other) })
}

func (sim *simulation) Crash(member int) {
	if sim.members[member] == nil {
		return
	}
	sim.members[member] = nil
	sim.model.Down(member, sim.now)
	sim.review()
}

func (sim *simulation) Start(member int) {
	if sim.members[member] != nil {
		return
	}
	sim.runs++
	keep := sim.retain
	keep.message = sim.script.MessageLimit(member)
	m := &simMember{number: member, node: newNode(member, sim.runs<<32|sim.rng.Uint64()>>32, keep, sim.clock())}
	m.asks = sim.rng.IntN(2) == 0
	m.later = sim.later
	sim.members[member] = m
	sim.model.Up(member, m.member.ID, sim.now)
	sim.model.TakenIn(m.member.ID, sim.now) // newNode says that it joined
	var gossip func()
	gossip = func() {
		sim.gossip(m)
		sim.during(m, simGossip, gossip)
	}
	sim.during(m, sim.between(0, simGossip), gossip)
	var pushPull func()
	pushPull = func() {
		sim.pushPull(m)
		sim.during(m, sim.retain.age/2, pushPull)
	}
	sim.during(m, sim.between(0, sim.retain.age/2), pushPull)
	sim.review()
	sim.follow(m)
}

func (sim *simulation) Stall(member, channel int, d time.Duration) {
	if m := sim.members[member]; m != nil {
		m.stalls[channel] += d
	}
}

func (sim *simulation) Settled() time.Duration { return sim.retain.age/4 + simDialTime }

func (sim *simulation) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(sim.rng.Int64N(int64(hi-lo)+1))
}

// reach reports whether anything gets from one member to another.
func (sim *simulation) reach(a, b int) bool { return sim.side[a] == sim.side[b] }

// review lets every member find out, sooner or later, whom it can reach now.
func (sim *simulation) review() {
	for a, m := range sim.members {
		if m == nil {
			continue
		}
		for b := range sim.members {
			if a == b {
				continue
			}
			delay := sim.between(0, sim.retain.age/16)
			if !sim.alive(a, b) {
				delay = sim.between(sim.retain.age/16, sim.retain.age/4)
			}
			sim.during(m, delay, func() { sim.look(m, b) })
		}
	}
}

// alive reports whether a member finds, if it looks, that another one runs. A pair that is blocked is told so by the others.
func (sim *simulation) alive(a, b int) bool {
	m, other := sim.members[a], sim.members[b]
	return other != nil && sim.reach(a, b) && sim.now >= other.thaw && sim.now >= m.flapped[b]
}

// look brings a member's view of another up to date.
func (sim *simulation) look(m *simMember, b int) {
	var is wire.Peer
	if sim.alive(m.number, b) {
		is = sim.members[b].member
	}
	was := m.views[b]
	if was.ID == is.ID {
		return
	}
	m.views[b] = is
	if was.ID != 0 {
		cancelled := m.streams[b].waiting
		m.streams[b].waiting = nil
		for _, s := range cancelled {
			wasWritten(s, false, sim.clock())
		}
		m.change(was, wire.Peer{}, sim.clock())
		sim.model.Sees(m.member.ID, was.ID, false, sim.now)
	}
	if is.ID != 0 {
		m.change(wire.Peer{}, is, sim.clock())
		sim.model.Sees(m.member.ID, is.ID, true, sim.now)
		if m.asks {
			m.join(sim.clock())
		}
	}
}

// gossip is what memberlist does on its own clock.
func (sim *simulation) gossip(m *simMember) {
	var peers []int
	for b := range m.views {
		if m.views[b].ID != 0 {
			peers = append(peers, b)
		}
	}
	for _, i := range sim.rng.Perm(len(peers))[:min(simFanout, len(peers))] {
		if frames := m.gossip(sim.clock()); len(frames) > 0 {
			sim.packet(m, peers[i], frames)
		}
	}
}

// pushPull is what memberlist does on its own clock, too: two members tell each other what their states contain.
func (sim *simulation) pushPull(m *simMember) {
	b := sim.rng.IntN(len(m.views))
	for i := range m.views {
		if o := (b + i) % len(m.views); m.views[o].ID != 0 {
			other := sim.members[o]
			if other != nil && sim.reach(m.number, o) && !sim.blocked[m.number][o] && !sim.blocked[o][m.number] && sim.now >= other.thaw {
				sim.exchange(m, other)
				sim.exchange(other, m)
			}
			return
		}
	}
}

func (sim *simulation) exchange(from, to *simMember) {
	frame := from.r.States.Digest()
	sim.note(frame)
	sim.after(sim.between(simLatency-simJitter, simLatency+simJitter), func() { sim.arrive(from.number, to.number, [][]byte{frame}) })
}

// follow carries out what a member wants done.
func (sim *simulation) follow(m *simMember) {
	next, again := m.pump(sim.clock())
	packets, streams := m.outputs()
	for _, p := range packets {
		sim.packet(m, number(p.To.Name), [][]byte{p.Frame()})
	}
	for _, s := range streams {
		m.stream(sim, s)
	}
	for _, v := range m.verdicts() {
		v.Call.Owner.(*simCall).judge(v.Verdict)
	}
	if again && (m.pumpAt.IsZero() || next.Before(m.pumpAt)) {
		m.pumpAt = next
		sim.during(m, max(next.Sub(sim.clock()), 0), func() { m.pumpAt = time.Time{} })
	}
	if m.stirred() && !m.ticking {
		m.ticking = true
		sim.during(m, 0, func() { sim.tick(m) })
	}
	for k := range m.channels {
		if !m.busy[k] {
			sim.handle(m, k)
		}
	}
}

func (sim *simulation) tick(m *simMember) {
	gaps, busy := m.tick(sim.clock())
	for _, g := range gaps {
		sim.model.Gap(m.member.ID, g.Origin, g.First, g.Last)
	}
	if m.ticking = busy; busy {
		sim.during(m, tickEvery, func() { sim.tick(m) })
	}
}

// handle runs a channel's handler once, if there is anything to handle.
func (sim *simulation) handle(m *simMember, k int) {
	m.weigh(k, func() [][]byte { return sim.model.States.Of(m.member.ID, k) })
	if m.asked(k) {
		m.give(k, sim.model.States.Of(m.member.ID, k), sim.rng.IntN(16) == 0, sim.clock())
		sim.after(0, func() { sim.follow(m) })
	}
	d, ok := m.take(k, sim.clock())
	if m.busy[k] = ok; !ok {
		return
	}
	switch d.Route {
	case wire.RouteDirect:
		sim.model.HandledDirect(m.member.ID, d.Payload())
	case wire.RouteSync:
		sim.model.States.Merged(m.member.ID, k, d.Data)
	default:
		sim.model.Handled(m.member.ID, d.Origin, d.Seq, k, d.Payload())
	}
	takes := m.stalls[k] + 10*time.Microsecond
	m.stalls[k] = 0
	sim.during(m, takes, func() {
		m.handled(k, d, sim.clock())
		sim.handle(m, k)
	})
}

// note mixes a frame into the digest of the run.
func (sim *simulation) note(frame []byte) {
	h := sim.digest ^ uint64(sim.now) ^ uint64(len(frame))<<48
	for _, b := range frame {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	sim.digest = h
}

func number(name string) int {
	n, err := strconv.Atoi(name[1:])
	if err != nil {
		panic(err)
	}
	return n
}
