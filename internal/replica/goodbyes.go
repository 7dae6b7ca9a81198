package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// goodbyes passes on what members said that have left: to those that may not have heard it, and can no longer ask them what they have
// sent.
type goodbyes struct {
	out    *output
	roster *roster

	met []acquaintance // those that were met a moment ago
}

// acquaintance is a member that was met a moment ago.
type acquaintance struct {
	*peer
	at   time.Time // when it was met
	told int       // how often it was told of goodbyes since, or need not be
}

// asks reports whether the member has asked us since we met it, or just before. So it knows what goodbyes we know.
func (a *acquaintance) asks() bool { return a.goodbyesTold.After(a.at.Add(-askedWithin)) }

// newcomer reports whether the member has become one just before we met it, as far as it has said. So it knows no goodbyes that we do not.
func (a *acquaintance) newcomer() bool { return a.at.Sub(a.member) < onTheWay+askedWithin }

const (
	// goodbyesEvery is how often a member that asks again and again is told of goodbyes.
	goodbyesEvery = time.Second
	// askedWithin is how soon a newcomer asks what it is owed. Whoever has not asked by then was a member before we met it.
	askedWithin = time.Second
	// tellMet is how often one is told that has not asked us: after 1, 4 and 16 s.
	tellMet = 3
	// unknownFor is for how long a member must have been one before whoever leaves has met it.
	unknownFor = 10 * time.Second
	// maxOwed bounds what is kept of who is owed what by a member that has left.
	maxOwed = 1024
)

// goodbye is what an origin owes to whom, as it said when it left.
type goodbye struct {
	at        time.Time
	next, top uint64
	owed      map[uint64]uint64 // by member, where it is not next
}

func newGoodbye(m *starlingpb.Goodbye, now time.Time) *goodbye {
	g := &goodbye{at: now, next: m.GetNext(), top: m.GetTop(), owed: map[uint64]uint64{}}
	for _, o := range m.GetOwed()[:min(len(m.GetOwed()), maxOwed)] {
		g.owed[o.GetMember()] = o.GetNext()
	}
	return g
}

// owedTo returns the first part that the origin owed a member when it left. age is how long the member had been one by then, negative
// if it came later. known is false if the goodbye does not name it, and it was so young that the origin may not have met it.
func (g *goodbye) owedTo(member uint64, age time.Duration) (next uint64, known bool) {
	if next, known = g.owed[member]; known {
		return next, true
	}
	if age < 0 {
		return g.top + 1, true
	}
	return g.next, age >= unknownFor
}

// passOn tells p of the members that have left since p became one, if it has said when that was. It may have missed their goodbyes.
func (gs *goodbyes) passOn(p *peer, now time.Time) {
	left := func(o *peer) bool {
		return o != p && o.goodbye != nil && o.goodbye.top > 0 && o.goodbye.at.After(p.member)
	}
	for _, o := range gs.roster.sorted(left) {
		gs.out.tell(p.Peer, wire.BodyBaseline, &starlingpb.Baseline{
			Origin: o.ID, Next: o.goodbye.next, Top: o.goodbye.top, Gone: true, Unasked: true, Stream: true,
		}, true)
	}
}

// asked passes goodbyes on to a member that asks what it is owed, which says since when it is one.
func (gs *goodbyes) asked(p *peer, now time.Time) {
	if now.Sub(p.goodbyesTold) > goodbyesEvery {
		p.goodbyesTold = now
		gs.passOn(p, now)
	}
}

// meet has goodbyes passed on to a member that is met, for the first time or again: it may have been cut off from those that have left. It may not
// have met us yet, and heeds nothing that we say then: so it is told more than once, unless it asks us.
func (gs *goodbyes) meet(p *peer, now time.Time) {
	gs.met = slices.DeleteFunc(gs.met, func(a acquaintance) bool { return a.peer == p })
	gs.met = append(gs.met, acquaintance{peer: p, at: now})
	gs.out.stir()
}

// tick passes goodbyes on to those that were met a moment ago and have not asked us. It returns those that are to be asked, since they are no
// newcomers and have answered nothing: what they know of goodbyes they may have told us before we had met them, when we did not heed it.
func (gs *goodbyes) tick(now time.Time) (strange []*peer) {
	gs.met = slices.DeleteFunc(gs.met, func(a acquaintance) bool { return !a.live() || a.told == tellMet || a.told > 0 && a.asks() })
	for i := range gs.met {
		a := &gs.met[i]
		if now.Sub(a.at) <= askedWithin<<(2*a.told) {
			continue
		}
		if a.told++; a.told == 1 && !a.newcomer() && a.answered.Before(a.at) {
			strange = append(strange, a.peer)
		}
		if !a.asks() {
			gs.passOn(a.peer, now)
		}
	}
	return strange
}
