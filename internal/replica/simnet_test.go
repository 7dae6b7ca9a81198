package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

const (
	simLatency    = time.Millisecond
	simJitter     = 500 * time.Microsecond
	simDuplicate  = 0.03
	simRetransmit = 200 * time.Millisecond
	simRedial     = 250 * time.Millisecond
	simDialTime   = 10 * time.Second
)

// simStreamQueue carries streams to one member, one after the other.
type simStreamQueue struct {
	waiting []wire.Stream
	running bool
}

// stream sends a stream when those before it to the same member have been sent.
func (m *simMember) stream(sim *simulation, s wire.Stream) {
	to := number(s.To.Name)
	m.streams[to].waiting = append(m.streams[to].waiting, s)
	if !m.streams[to].running {
		m.streams[to].running = true
		sim.dial(m, to, sim.now+simDialTime)
	}
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
		if lost || sim.mute[m.number][to] || sim.blocked[m.number][to] || !sim.reach(m.number, to) {
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
	sim.unfrozen(m, func() {
		for _, f := range frames {
			// The receiver may write to what it gets once it has returned: memberlist reuses its buffers.
			f = slices.Clone(f)
			_ = m.receive(f, sim.clock())
			clear(f)
		}
		sim.follow(m)
	})
	return true
}

// dial sends what waits first for a member, as soon as its member can be reached.
func (sim *simulation) dial(m *simMember, to int, deadline time.Duration) {
	queue := &m.streams[to]
	if len(queue.waiting) == 0 {
		queue.running = false
		return
	}
	if sim.members[to] == nil || !sim.reach(m.number, to) || sim.blocked[m.number][to] || sim.blocked[to][m.number] {
		if sim.now < deadline {
			sim.during(m, simRedial, func() { sim.dial(m, to, deadline) })
			return
		}
		sim.next(m, to)
		return
	}
	written := queue.waiting[0]
	frame := written.Encode(sim.clock())
	sim.note(frame)
	delay := sim.between(simLatency-simJitter, simLatency+simJitter)
	for again := simRetransmit; again < 2*time.Second && sim.rng.Float64() < sim.loss; again *= 2 {
		delay += again
	}
	if sim.width > 0 {
		delay += time.Duration(len(frame)) * time.Second / time.Duration(sim.width)
	}
	queue.waiting = queue.waiting[1:]
	sim.after(delay, func() {
		sim.arrive(m.number, to, [][]byte{frame})
		if sim.members[m.number] == m {
			wasWritten(written, true, sim.clock())
			sim.dial(m, to, sim.now+simDialTime)
			sim.follow(m)
		}
	})
}

// next gives up what waits first for a member.
func (sim *simulation) next(m *simMember, to int) {
	queue := &m.streams[to]
	wasWritten(queue.waiting[0], false, sim.clock())
	queue.waiting = queue.waiting[1:]
	sim.dial(m, to, sim.now+simDialTime)
}
