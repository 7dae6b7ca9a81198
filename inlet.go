package starling

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// inlet takes the frames that reach this member.
type inlet struct {
	c          *Cluster
	gossipRoom int // the size rule
}

// receive takes a frame, from memberlist or past it. It copies what it keeps.
func (in *inlet) receive(frame []byte) {
	p, err := wire.ParsePart(frame)
	if err != nil {
		in.c.drops.note(DropMalformed, err)
		return
	}
	if len(p.Key) == 0 {
		in.receiveControl(p, frame, true)
		return
	}
	via := wire.RouteGossip
	if len(frame) > in.gossipRoom {
		via = wire.RouteStream // the size rule leaves no other way
	}
	in.c.do(func(r *replica.Replica, now time.Time) { r.Receive(p, frame, via, now) })
}

// receiveControl takes a control frame, and those in a bundle, of which none may be a bundle.
func (in *inlet) receiveControl(p wire.Part, frame []byte, mayBundle bool) {
	ctl, err := wire.ParseControl(p.Control)
	if err != nil || ctl.Body == wire.BodyBundle && !mayBundle {
		in.c.drops.note(DropMalformed, err)
		return
	}
	if ctl.Body != wire.BodyBundle {
		in.control(ctl, frame)
		return
	}
	for frame := range wire.Bundled(ctl.Content) {
		p, err := wire.ParsePart(frame)
		if err == nil && len(p.Key) > 0 {
			err = wire.ErrMalformed
		}
		if err != nil {
			in.c.drops.note(DropMalformed, err)
			continue
		}
		in.receiveControl(p, frame, false)
	}
}

// control acts on a control frame: on the goodbyes itself, the rest is the replica's.
func (in *inlet) control(ctl wire.Control, frame []byte) {
	switch {
	case ctl.From.ID == in.c.id:
	case ctl.Body == wire.BodyGoodbye:
		in.goodbye(ctl, frame)
	case ctl.Body == wire.BodyAsk:
		in.question(ctl, frame)
	case ctl.Body == wire.BodyGoodbyeAck:
		in.c.do(func(*replica.Replica, time.Time) { in.c.leave.acks.acked(ctl.From.ID) })
	default:
		in.replicaControl(ctl)
	}
}

func (in *inlet) replicaControl(ctl wire.Control) {
	var err error
	in.c.do(func(r *replica.Replica, now time.Time) { err = r.Control(ctl, now) })
	if err != nil {
		in.c.drops.note(DropMalformed, err)
	}
}

// goodbye takes the goodbye of a member, or of one to come, and acknowledges it. Of one to come anybody may say that: what is not heeded is not
// acknowledged.
func (in *inlet) goodbye(ctl wire.Control, frame []byte) {
	var toCome, left bool
	in.c.do(func(r *replica.Replica, _ time.Time) { toCome, _ = r.Membership.Going(ctl.From.ID) })
	in.c.table.goodbye(ctl.From.ID, false)
	in.replicaControl(ctl)
	in.c.do(func(r *replica.Replica, _ time.Time) { _, left = r.Membership.Going(ctl.From.ID) })
	if toCome && !left {
		return
	}
	if toCome {
		in.c.table.goodbye(ctl.From.ID, true)
	}
	in.acknowledge(ctl.From, frame)
}

// question answers a member, or a newcomer, that asks from where on we owe it our parts.
func (in *inlet) question(ctl wire.Control, frame []byte) {
	var m starlingpb.BaselineAsk
	if err := proto.Unmarshal(ctl.Content, &m); err != nil || len(m.GetMeta()) > memberlist.MetaMaxSize || len(m.GetName()) > wire.MaxNameSize {
		in.c.drops.note(DropMalformed, err)
		return
	}
	newcomer, known := ctl.From, in.c.table.knows(ctl.From.ID)
	if id := m.GetMember(); id != 0 {
		addr, ok := wire.DecodeAddr(m.GetAddr())
		if newcomer = (wire.Peer{ID: id, Name: m.GetName(), Addr: addr}); !ok || newcomer.Name == "" {
			in.c.drops.note(DropMalformed, nil)
			return
		}
		if !known {
			in.c.do(func(r *replica.Replica, now time.Time) { r.Membership.CountStranger(ctl.From, now) })
			return
		}
	}
	aboutUs := m.GetOrigin() == 0 || m.GetOrigin() == in.c.id
	if newcomer.ID == in.c.id || !aboutUs || in.c.table.knows(newcomer.ID) {
		in.replicaControl(ctl)
		return
	}
	room := 0
	if !known {
		room = len(frame)
	}
	refusal := in.refuses(newcomer, m.GetMeta())
	in.c.do(func(r *replica.Replica, now time.Time) {
		r.Membership.Introduce(newcomer, ctl.From, &m, refusal, room, now)
	})
}

// maxRefusal bounds the reason that a newcomer is told, in bytes.
const maxRefusal = 128

// refuses returns why memberlist or the user will not let a newcomer in; "" if they will.
func (in *inlet) refuses(newcomer wire.Peer, meta []byte) (why string) {
	if holder, held := in.c.table.lookup(newcomer.Name); held && holder.ID != newcomer.ID {
		why = fmt.Sprintf("the name %s is that of the member at %v", newcomer.Name, holder.Addr)
	} else if in.c.discovery.lost.has(newcomer.Name) {
		why = "a member of its name has failed, and memberlist has not given the name away yet"
	} else if in.c.cfg.Admit != nil {
		m := told(newcomer.Name, newcomer.Addr, meta)
		m.VerifiedNames = in.c.transport.Names.At(m.Addr)
		if err := in.c.cfg.Admit(m); err != nil {
			why = "it is not admitted: " + err.Error()
		}
	}
	return strings.ToValidUTF8(why[:min(len(why), maxRefusal)], "")
}

// acknowledge acknowledges a goodbye. To somebody who is not in view the answer is never larger than the goodbye, so that nobody
// can make us shout at a third.
func (in *inlet) acknowledge(to wire.Peer, goodbye []byte) {
	frame := wire.EncodeControl(in.c.sender(), wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{})
	if len(frame) > len(goodbye) && !in.c.table.knows(to.ID) || len(frame) > in.c.outlet.packetRoom {
		return
	}
	// By the outlet's loop: whoever reads packets must not wait for one to be written, or two of them wait for each other.
	in.c.do(func(r *replica.Replica, _ time.Time) { r.Post(wire.Packet{To: to, Head: frame}) })
}
