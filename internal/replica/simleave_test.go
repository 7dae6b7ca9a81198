package replica

import (
	"errors"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

const (
	simDrain    = 10 * time.Second
	simGoodbyes = 7 // to each member, in the second that a goodbye takes
)

// Leave drains what was accepted, says goodbye and goes.
func (sim *simulation) Leave(member int) {
	m := sim.members[member]
	if m == nil || sim.now < m.thaw || m.leaving {
		return
	}
	m.leaving = true
	sim.model.Leaving(member)
	until := sim.now + simDrain
	var drain func()
	drain = func() {
		if (m.r.Outstanding() > 0 || m.r.Membership.AwaitsNewcomer(sim.clock())) && sim.now < until {
			sim.during(m, 10*time.Millisecond, drain)
			return
		}
		sim.goodbye(m, wire.EncodeControl(m.member, wire.BodyGoodbye, m.r.Membership.Goodbye()), simGoodbyes)
	}
	drain()
}

// goodbye says goodbye so many times, and then the member is gone.
func (sim *simulation) goodbye(m *simMember, frame []byte, again int) {
	heard, members := 0, m.r.Membership.Placed(sim.clock())
	for _, other := range sim.members {
		if other != nil && other.r.roster.get(m.member.ID) != nil && other.r.roster.get(m.member.ID).goodbye != nil {
			heard++
		}
	}
	if again > 0 && heard < len(members) {
		for _, to := range members {
			if again%3 == 0 {
				m.stream(sim, wire.RawStream(to, frame))
			}
			sim.packet(m, number(to.Name), [][]byte{frame})
		}
		sim.during(m, 150*time.Millisecond, func() { sim.goodbye(m, frame, again-1) })
		return
	}
	var err error
	if m.r.Outstanding() > 0 || heard == 0 && len(members) > 0 {
		err = errors.New("not heard")
	}
	sim.members[m.number] = nil
	sim.model.Left(m.member.ID, err, sim.now)
	sim.review()
}
