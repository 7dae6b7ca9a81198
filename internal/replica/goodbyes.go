package replica

import (
	"math"
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

	met []acquaintance // those that were met a moment ago, for the first time
}

// acquaintance is a member that was met for the first time.
type acquaintance struct {
	*peer
	told int // how often it was told of goodbyes
}

const (
	// goodbyesEvery is how often a member that asks again and again is told of goodbyes.
	goodbyesEvery = time.Second
	// askedWithin is how soon a newcomer asks what it is owed. Whoever has not asked by then was a member before we met it.
	askedWithin = time.Second
	// tellMet is how often one is told that has not asked: after 1, 4 and 16 s.
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

// passOn tells p of the members that have left since p became one, age ago. It may have missed their goodbyes.
func (gs *goodbyes) passOn(p *peer, age time.Duration, now time.Time) {
	left := func(o *peer) bool {
		return o != p && o.goodbye != nil && o.goodbye.top > 0 && now.Sub(o.goodbye.at) < age
	}
	for _, o := range gs.roster.sorted(left) {
		gs.out.tell(p.Peer, wire.BodyBaseline, &starlingpb.Baseline{
			Origin: o.ID, Next: o.goodbye.next, Top: o.goodbye.top, Gone: true, Unasked: true, Stream: true,
		}, true)
	}
}

// asked passes goodbyes on to a member that says since when it is one.
func (gs *goodbyes) asked(p *peer, age time.Duration, now time.Time) {
	if now.Sub(p.goodbyesTold) > goodbyesEvery {
		p.goodbyesTold = now
		gs.passOn(p, age, now)
	}
}

// meet notes that a member is met for the first time. It may be a newcomer, whom those that have left owe nothing; or we are, and it
// was cut off from those whose goodbyes we have heard. A newcomer soon says that it is one.
func (gs *goodbyes) meet(p *peer) {
	gs.met = append(gs.met, acquaintance{peer: p})
	gs.out.stir()
}

// tick passes goodbyes on to those that are no newcomers: several times, since they may not have met us yet.
func (gs *goodbyes) tick(now time.Time) {
	gs.met = slices.DeleteFunc(gs.met, func(a acquaintance) bool { return !a.live() || a.fixed || a.told == tellMet })
	for i := range gs.met {
		if a := &gs.met[i]; now.Sub(a.met) > askedWithin<<(2*a.told) {
			a.told++
			gs.passOn(a.peer, math.MaxInt64, now)
		}
	}
}
