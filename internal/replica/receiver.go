package replica

import (
	"time"

	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// receiver takes parts that arrive, whatever way they came.
type receiver struct {
	out       *output
	roster    *roster
	channels  *channelSet
	intake    *intake
	digests   *digests
	baselines *baselines

	message int // the largest that is taken
}

// receive takes a part that arrived alone, or with others in a batch of repair. frame belongs to the caller.
func (rc *receiver) receive(p wire.Part, frame []byte, via wire.Route, now time.Time) {
	if p.ID.Origin != 0 {
		rc.hold(p, frame, via, now)
		return
	}
	ch := rc.channels.byKey[string(p.Key)]
	switch {
	case len(p.Data) > rc.message:
		rc.out.dropOn(DropTooLarge, string(p.Key))
	case ch == nil:
		rc.out.dropOn(DropUnknownKey, string(p.Key))
	default:
		// Of a foreign member. Nobody can tell it from another one: it is delivered as it comes, and kept by nobody.
		ch.Counters.Received++
		rc.intake.deliver(ch, Delivery{Data: append([]byte(nil), p.Data...), Born: now, Route: via}, now)
	}
}

// hold takes a part with an identity. It returns the part as it is kept, nil if it is not kept or was here before; and
// whether its sender need not send it again: it is here, or was here. A part that breaks our limits is not.
func (rc *receiver) hold(p wire.Part, frame []byte, via wire.Route, now time.Time) (it *store.Item, held bool) {
	ch := rc.channels.byKey[string(p.Key)]
	switch {
	case p.ID.Origin == rc.roster.self.ID:
		ch.duplicate()
		return nil, true
	case max(len(p.Data), int(p.Chunk.Total)) > rc.message:
		rc.refuse(p, DropTooLarge, via, now)
		return nil, false
	case p.Age >= rc.intake.age:
		rc.refuse(p, DropTooOld, via, now)
		return nil, false
	}
	a := rc.intake.take(ch, p, frame, via, now)
	if a.doubtful {
		rc.baselines.ask(rc.roster.get(p.ID.Origin), via == wire.RouteStream, now)
	}
	if a.item != nil {
		rc.digests.news(now)
		if !a.based {
			rc.baselines.ask(rc.roster.get(p.ID.Origin), via == wire.RouteStream, now)
		}
	}
	return a.item, a.held
}

// refuse gives up a part that breaks our limits.
func (rc *receiver) refuse(p wire.Part, why Drop, via wire.Route, now time.Time) {
	if rc.intake.refuse(&p, why, now) {
		rc.baselines.ask(rc.roster.get(p.ID.Origin), via == wire.RouteStream, now)
	}
}

// passOn takes a part of a batch that may have to be served to others. It returns what is to be passed on, even if it was here
// before: those behind us may lack it all the same.
func (rc *receiver) passOn(frame []byte, via wire.Route, serves bool, now time.Time) (it *store.Item, held bool) {
	p, err := wire.ParsePart(frame)
	if err != nil || len(p.Key) == 0 || p.ID.Origin == 0 {
		rc.out.drop(DropMalformed)
		return nil, true
	}
	if it, held = rc.hold(p, frame, via, now); it == nil && held && serves {
		if it = rc.intake.history.Get(p.ID); it == nil {
			it = newItem(rc.channels.byKey[string(p.Key)], p, frame, now)
		}
	}
	return it, held
}
