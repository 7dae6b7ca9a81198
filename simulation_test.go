package starling

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/script"
)

// simulation is a world of bare replicas: one loop over events in the order of their time, one source of randomness, no
// goroutine and no clock. The same script gives the same run, event for event.
type simulation struct {
	rng    *rand.Rand
	model  *script.Model
	retain Retention
	now    time.Duration
	events eventHeap
	count  int // of all events, which orders those of one instant

	members [script.MaxMembers]*simMember // nil: down
	runs    uint64                        // of members, which numbers them
	loss    float64
	side    [script.MaxMembers]int
	mute    [script.MaxMembers][script.MaxMembers]bool
	digest  uint64 // of all that was sent, to tell runs apart
}

// simMember is what surrounds one node.
type simMember struct {
	*node
	number  int
	views   [script.MaxMembers]Member // by number; zero: not seen
	lanes   [script.MaxMembers]simLane
	ticking bool
	pumpAt  time.Time                  // when it asked to be pumped again; zero: it did not
	busy    [len(script.Channels)]bool // the handler runs
	stalls  [len(script.Channels)]time.Duration
}

// simLane carries streams to one member, one after the other.
type simLane struct {
	waiting []parcel
	running bool
}

const (
	simLatency    = time.Millisecond
	simJitter     = 500 * time.Microsecond
	simDuplicate  = 0.03
	simRetransmit = 200 * time.Millisecond
	simRedial     = 250 * time.Millisecond
	simDialTime   = 10 * time.Second
	simGossip     = 200 * time.Millisecond
	simFanout     = 3
)

func newSimulation(s script.Script, m *script.Model) *simulation {
	sim := &simulation{
		rng: rand.New(rand.NewPCG(s.Seed, 1)), model: m,
		retain: Retention{Bytes: s.Keep, Age: s.Retain},
	}
	if s.Keep == 0 {
		sim.retain.Bytes = DefaultRetentionBytes
	}
	return sim
}

var simEpoch = time.Unix(1_700_000_000, 0)

func (sim *simulation) clock() time.Time { return simEpoch.Add(sim.now) }

// event is something that happens at its time.
type event struct {
	at    time.Duration
	order int
	do    func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(e any)   { *h = append(*h, e.(event)) }
func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}

func (sim *simulation) after(d time.Duration, do func()) {
	sim.count++
	heap.Push(&sim.events, event{sim.now + d, sim.count, do})
}

// during is after for something of a member that does not happen once the member is down.
func (sim *simulation) during(m *simMember, d time.Duration, do func()) {
	sim.after(d, func() {
		if sim.members[m.number] == m {
			do()
			sim.follow(m)
		}
	})
}

// Now, Wait and the rest are script.World.
func (sim *simulation) Now() time.Duration { return sim.now }

func (sim *simulation) Wait(d time.Duration) {
	until := sim.now + d
	for len(sim.events) > 0 && sim.events[0].at <= until {
		e := heap.Pop(&sim.events).(event)
		sim.now = e.at
		e.do()
	}
	sim.now = until
}

func (sim *simulation) Broadcast(member, channel int, data []byte) bool {
	m := sim.members[member]
	ok := m.broadcast(channel, data, sim.clock())
	sim.follow(m)
	return ok
}

func (sim *simulation) Loss(rate float64) { sim.loss = rate }

func (sim *simulation) Cut(group []int) {
	sim.side = [script.MaxMembers]int{}
	for _, i := range group {
		sim.side[i] = 1
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

func (sim *simulation) Clear() { sim.mute = [script.MaxMembers][script.MaxMembers]bool{} }

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
	m := &simMember{number: member, node: newNode(member, sim.runs<<32|sim.rng.Uint64()>>32, sim.retain, sim.clock())}
	sim.members[member] = m
	sim.model.Up(member, m.member.ID, sim.now)
	var gossip func()
	gossip = func() {
		sim.gossip(m)
		sim.during(m, simGossip, gossip)
	}
	sim.during(m, sim.between(0, simGossip), gossip)
	sim.review()
	sim.follow(m)
}

func (sim *simulation) Stall(member, channel int, d time.Duration) {
	if m := sim.members[member]; m != nil {
		m.stalls[channel] += d
	}
}

func (sim *simulation) Settled() time.Duration { return sim.retain.Age/4 + simDialTime }

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
			delay := sim.between(0, sim.retain.Age/16)
			if sim.members[b] == nil || !sim.reach(a, b) {
				delay = sim.between(sim.retain.Age/16, sim.retain.Age/4)
			}
			sim.during(m, delay, func() { sim.look(m, b) })
		}
	}
}

// look brings a member's view of another up to date.
func (sim *simulation) look(m *simMember, b int) {
	var is Member
	if other := sim.members[b]; other != nil && sim.reach(m.number, b) {
		is = other.member
	}
	was := m.views[b]
	if was.ID == is.ID {
		return
	}
	m.views[b] = is
	if was.ID != 0 {
		m.lanes[b].waiting = nil
		m.change(was, Member{}, sim.clock())
		sim.model.Sees(m.member.ID, was.ID, false, sim.now)
	}
	if is.ID != 0 {
		m.change(Member{}, is, sim.clock())
		sim.model.Sees(m.member.ID, is.ID, true, sim.now)
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

// follow carries out what a member wants done.
func (sim *simulation) follow(m *simMember) {
	next, again := m.pump(sim.clock())
	packets, streams := m.outputs()
	for _, p := range packets {
		sim.packet(m, number(p.to.Name), [][]byte{p.frame()})
	}
	for _, p := range streams {
		to := number(p.to.Name)
		m.lanes[to].waiting = append(m.lanes[to].waiting, p)
		if !m.lanes[to].running {
			m.lanes[to].running = true
			sim.dial(m, to, sim.now+simDialTime)
		}
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
		sim.model.Gap(m.member.ID, g.origin, g.lo, g.hi)
	}
	if m.ticking = busy; busy {
		sim.during(m, tickEvery, func() { sim.tick(m) })
	}
}

// handle runs a channel's handler once, if there is anything to handle.
func (sim *simulation) handle(m *simMember, k int) {
	d, ok := m.take(k)
	if m.busy[k] = ok; !ok {
		return
	}
	sim.model.Handled(m.member.ID, d.origin, d.seq, k, d.data)
	takes := m.stalls[k] + 10*time.Microsecond
	m.stalls[k] = 0
	sim.during(m, takes, func() {
		m.handled(d, sim.clock())
		sim.handle(m, k)
	})
}

// packet sends frames in one packet, which may get lost, come twice, or be overtaken.
func (sim *simulation) packet(m *simMember, to int, frames [][]byte) {
	for _, f := range frames {
		sim.note(f)
	}
	copies := 1
	if sim.rng.Float64() < simDuplicate {
		copies = 2
	}
	for range copies {
		delay, lost := sim.between(simLatency-simJitter, simLatency+simJitter), sim.rng.Float64() < sim.loss
		if lost || sim.mute[m.number][to] || !sim.reach(m.number, to) {
			continue
		}
		sim.after(delay, func() { sim.arrive(m.number, to, frames) })
	}
}

// arrive hands frames to whoever is there now.
func (sim *simulation) arrive(from, to int, frames [][]byte) bool {
	m := sim.members[to]
	if m == nil || !sim.reach(from, to) {
		return false
	}
	for _, f := range frames {
		// The receiver may write to what it gets once it has returned: memberlist reuses its buffers.
		f = slices.Clone(f)
		_ = m.receive(f, sim.clock())
		clear(f)
	}
	sim.follow(m)
	return true
}

// dial sends what waits in a lane first, as soon as its member can be reached.
func (sim *simulation) dial(m *simMember, to int, deadline time.Duration) {
	lane := &m.lanes[to]
	if len(lane.waiting) == 0 {
		lane.running = false
		return
	}
	if sim.members[to] == nil || !sim.reach(m.number, to) {
		if sim.now < deadline {
			sim.during(m, simRedial, func() { sim.dial(m, to, deadline) })
			return
		}
		sim.next(m, to)
		return
	}
	frame := lane.waiting[0].frame(sim.clock())
	sim.note(frame)
	delay := sim.between(simLatency-simJitter, simLatency+simJitter)
	for again := simRetransmit; again < 2*time.Second && sim.rng.Float64() < sim.loss; again *= 2 {
		delay += again
	}
	lane.waiting = lane.waiting[1:]
	sim.after(delay, func() {
		sim.arrive(m.number, to, [][]byte{frame})
		if sim.members[m.number] == m {
			sim.dial(m, to, sim.now+simDialTime)
			sim.follow(m)
		}
	})
}

// next gives up what waits in a lane first.
func (sim *simulation) next(m *simMember, to int) {
	lane := &m.lanes[to]
	lane.waiting = lane.waiting[1:]
	sim.dial(m, to, sim.now+simDialTime)
}

// note mixes a frame into the digest of the run.
func (sim *simulation) note(frame []byte) {
	h := sim.digest ^ uint64(sim.now) ^ uint64(len(frame))<<48
	for _, b := range frame {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	sim.digest = h
}

func number(name string) int { return int(name[1] - '0') }
