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
	if c.begun = m.r.Calls.Begin(&c.call, run, sim.clock()); !c.begun {
		sent(errors.New("no member"))
		return
	}
	if len(data) <= wire.MinDirectChunk {
		c.try(0)
	} else {
		m.r.Calls.Cut(&c.call, m.r.Channel(script.Channels[script.DirectChannel].Key), len(data), wire.MinDirectChunk)
		c.ship()
	}
	sim.follow(m)
}

// ship sends what leaves now of a message in pieces.
func (c *simCall) ship() {
	if c.ended {
		return
	}
	if c.waits(c.ship) {
		return
	}
	frames, again := c.m.r.Calls.Ship(&c.call, c.sim.clock())
	for _, f := range frames {
		f.Key = script.Channels[script.DirectChannel].Key
		if !f.Asks {
			f.Data = c.data[int(f.Chunk.Index)*int(f.Chunk.Size):][:f.Chunk.Len()]
		}
		switch frame := wire.EncodeControl(c.m.member, wire.BodyDirect, f.Direct); {
		case f.Asks && !f.Stream:
			c.sim.packet(c.m, c.to, [][]byte{frame})
		case f.Asks:
			c.m.stream(c.sim, wire.RawStream(c.call.to.Peer, frame))
		default:
			s := wire.RawStream(c.call.to.Peer, frame)
			s.Written = func(ok bool, now time.Time) {
				c.m.r.Calls.Written(&c.call, f.Chunk, ok, now)
				c.sim.during(c.m, 0, c.ship)
			}
			c.m.stream(c.sim, s)
		}
	}
	wait := c.until - c.sim.now
	if !again.IsZero() {
		wait = min(wait, again.Sub(c.sim.clock()))
	}
	c.sim.during(c.m, max(wait, time.Millisecond), c.ship)
}

// try sends the frame for the n-th time, from 0.
func (c *simCall) try(n int) {
	if c.ended {
		return
	}
	if c.waits(func() { c.try(n) }) {
		return
	}
	stream := n >= 2
	frame := c.frame(stream)
	switch {
	case !stream && len(frame) <= c.m.lim.Packet:
		c.sim.packet(c.m, c.to, [][]byte{frame})
	default:
		c.m.stream(c.sim, wire.RawStream(c.call.to.Peer, frame))
	}
	again := min(50*time.Millisecond<<min(n, 10), 5*time.Second)
	c.sim.during(c.m, min(again, max(c.until-c.sim.now, time.Millisecond)), func() { c.try(n + 1) })
}

// waits reports whether nothing may be sent now: because the call is over, or its receiver has yet to show where it is.
func (c *simCall) waits(then func()) bool {
	_, there, placed := c.m.r.Calls.Reaches(&c.call, c.sim.clock())
	switch {
	case !c.begun || c.sim.now >= c.until || !there:
		c.end(errors.New("no answer"))
	case !placed:
		c.sim.during(c.m, 10*time.Millisecond, then)
	default:
		return false
	}
	return true
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
		c.begun = c.m.r.Calls.Renumber(&c.call, c.sim.clock())
		if len(c.data) > wire.MinDirectChunk {
			c.sim.during(c.m, 0, c.ship)
		}
	case starlingpb.DirectAck_KEPT, starlingpb.DirectAck_LACKING:
		c.sim.during(c.m, 0, c.ship)
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
