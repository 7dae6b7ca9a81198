package replica

import (
	"errors"
	"time"

	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// simCall is what a shell does for a caller of Send: it sends the frame again and again until there is a verdict.
type simCall struct {
	sim   *simulation
	m     *simMember
	to    int
	call  Call
	begun bool
	data  []byte
	until time.Duration
	sent  func(error)
	ended bool
}

func (sim *simulation) Direct(member, other int, run uint64, data []byte, patience time.Duration, sent func(error)) {
	m := sim.members[member]
	c := &simCall{sim: sim, m: m, to: other, data: data, until: sim.now + patience, sent: sent}
	c.call.Owner = c
	if c.begun = m.r.Calls.Begin(&c.call, run); !c.begun {
		sent(errors.New("no member"))
		return
	}
	c.try(0)
	sim.follow(m)
}

// try sends the frame for the n-th time, from 0.
func (c *simCall) try(n int) {
	if c.ended {
		return
	}
	stream := n >= 2
	frame := c.frame(stream)
	switch {
	case !c.begun || c.sim.now >= c.until || !c.call.to.live():
		c.end(errors.New("no answer"))
		return
	case !stream && len(frame) <= c.m.lim.Packet:
		c.sim.packet(c.m, c.to, [][]byte{frame})
	default:
		c.m.stream(c.sim, wire.RawStream(c.call.to.Peer, frame))
	}
	again := min(50*time.Millisecond<<min(n, 10), 5*time.Second)
	c.sim.during(c.m, min(again, max(c.until-c.sim.now, time.Millisecond)), func() { c.try(n + 1) })
}

func (c *simCall) frame(stream bool) []byte {
	m := c.m.r.Calls.Try(&c.call, stream)
	m.Key, m.Data = script.Channels[script.DirectChannel].Key, c.data
	return wire.EncodeControl(c.m.member, wire.BodyDirect, m)
}

func (c *simCall) judge(v starlingpb.DirectAck_Verdict) {
	switch v {
	case starlingpb.DirectAck_ACCEPTED:
		c.end(nil)
	case starlingpb.DirectAck_STALE:
		c.begun = c.m.r.Calls.Renumber(&c.call)
	case starlingpb.DirectAck_BUSY:
	default:
		c.end(errors.New(v.String()))
	}
}

func (c *simCall) end(err error) {
	if !c.ended {
		c.ended = true
		c.m.r.Calls.End(&c.call, ProgressHeld)
		c.sent(err)
	}
}
