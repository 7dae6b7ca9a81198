package starling

import (
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// maintenance lets the replica do what time brings, and tells of what it finds.
type maintenance struct {
	c       *Cluster
	stirred chan struct{} // holds a token when loop has to wake up
	asleep  bool          // loop waits for stirred; the cluster's mu guards it
	looked  time.Time     // when it looked for handlers that hang; the loop's own
	types   lineKinds     // lines about types; the loop's own
}

// maintainEvery is how often the replica is ticked while it is busy.
const maintainEvery = 25 * time.Millisecond

// loop ticks the replica while it is busy, and sleeps when it is not.
func (m *maintenance) loop() {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-m.stirred:
			ticker.Reset(maintainEvery)
		case <-m.c.ctx.Done():
			return
		}
		var gaps []replica.Gap
		var first []replica.FirstDrop
		var states []replica.StateEvent
		var types []replica.TypeEvent
		var strange []wire.Peer
		var hangs []hangingHandler
		m.c.do(func(r *replica.Replica, now time.Time) {
			r.Tick(now)
			e := r.Effects()
			gaps, e.Gaps = e.Gaps, nil
			states, e.States = e.States, nil
			types, e.Types = e.Types, nil
			first, e.FirstDrops = e.FirstDrops, nil
			strange, e.Strange = e.Strange, nil
			hangs = m.hanging(r, now)
			if m.asleep = !e.Stirred; m.asleep {
				ticker.Stop()
			}
		})
		for _, g := range gaps {
			m.reportGap(g)
		}
		for _, s := range states {
			m.reportState(s)
		}
		for _, e := range types {
			m.reportType(e)
		}
		for _, d := range first {
			m.c.drops.tell(replicaDrops[d.Drop], d.Key, d.From, nil)
		}
		for _, p := range strange {
			m.c.discovery.rejoin(p.Name, p.Addr)
		}
		for _, h := range hangs {
			m.c.log.Warn("a handler has not returned, and messages wait for it: broadcasts are lost when they are older than Retention.Age",
				"channel", h.key, "running", h.running, "waiting", h.waiting)
		}
	}
}

// hangingHandler is a handler that has not returned for long, and what waits for it.
type hangingHandler struct {
	key     string
	running time.Duration
	waiting int
}

// hanging returns the handlers that have run for half of the retention while messages wait, once for each call of a handler. It looks
// now and then only. Call it under do.
func (m *maintenance) hanging(r *replica.Replica, now time.Time) (found []hangingHandler) {
	age := m.c.cfg.Retention.Age
	if now.Sub(m.looked) < min(age/20, time.Second) {
		return nil
	}
	m.looked = now
	for _, core := range r.Channels() {
		ch := core.Owner.(*channel)
		if ch.stuck || ch.busySince.IsZero() || now.Sub(ch.busySince) < age/2 {
			continue
		}
		if waiting, _ := core.Unhandled(); waiting > 0 && ch.stuckTold.take(now) {
			ch.stuck = true
			found = append(found, hangingHandler{core.Key, now.Sub(ch.busySince).Round(time.Millisecond), waiting})
		}
	}
	return found
}

// reportGap tells that messages of an origin are lost to this member.
func (m *maintenance) reportGap(g replica.Gap) {
	origin := runOf(m.c, g.Origin)
	m.c.log.Warn("gap: messages are lost to this member", "origin", origin.Name, "id", g.Origin, "first", g.First, "last", g.Last)
	m.c.table.gap(Gap{Origin: origin, First: g.First, Last: g.Last})
}

// reportState tells what has become of the state of a channel.
func (m *maintenance) reportState(s replica.StateEvent) {
	if s.Kind == replica.StateSynced {
		m.c.log.Debug("the state of a channel is that of the members that were there", "channel", s.Key)
		m.c.table.state(Event{Kind: EventSynced, Member: m.c.Self(), Channel: s.Key})
		return
	}
	from := runOf(m.c, s.From.ID)
	err := &StateTooLargeError{Channel: s.Key, Member: from.Name, Size: int(s.Size), Limit: MaxStateSize}
	if err.Item = s.Kind == replica.StateItemTooLarge; err.Item {
		err.Limit = m.c.cfg.MaxMessageSize
	}
	m.c.log.Warn("a state is too large for this member, whose own lacks what it contains", "channel", s.Key, "from", from.Name, "error", err)
	m.c.table.state(Event{Kind: EventStateTooLarge, Member: from, Channel: s.Key, Err: err})
}

// reportType tells of a member whose channel carries another type.
func (m *maintenance) reportType(e replica.TypeEvent) {
	from := runOf(m.c, e.From.ID)
	err := &OtherTypeError{Channel: e.Key, OfMap: e.Owner.(*channel).ofMap, Type: e.Type, Member: from.Name, Other: e.Theirs}
	if more, ok := m.types.pass(e.Key+" "+e.Theirs, time.Now()); ok {
		m.c.log.Warn("a member's channel of the same key carries another type: neither is given the other's messages",
			append([]any{"channel", e.Key, "type", e.Type, "from", from.Name, "other", e.Theirs}, more...)...)
	}
	m.c.table.state(Event{Kind: EventOtherType, Member: from, Channel: e.Key, Err: err})
}
