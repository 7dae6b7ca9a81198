package starling

import (
	"time"

	"github.com/starling-go/starling/starlingpb"
)

type ask struct {
	at    time.Time
	tries int
}

// askBaseline asks an origin, again and again while it lives, from where on it owes us its parts.
func (r *replica) askBaseline(origin uint64, now time.Time) {
	if r.rep.asks[origin] != nil {
		return
	}
	if _, live := r.peerByID(origin); live {
		r.rep.asks[origin] = &ask{}
		r.ask(origin, now)
	}
}

func (r *replica) ask(origin uint64, now time.Time) {
	a := r.rep.asks[origin]
	m, live := r.peerByID(origin)
	if !live {
		delete(r.rep.asks, origin)
		return
	}
	a.at = now.Add(askEvery << min(a.tries, 3))
	a.tries++
	r.tell(m, bodyAsk, &starlingpb.BaselineAsk{}, a.tries > 2)
}

// baseline returns from which seq on we owe a member our parts.
func (r *replica) baseline(to Member) uint64 {
	if base, ok := r.rep.bases[to.ID]; ok {
		return base
	}
	return r.seq + 1
}

// told takes an origin's answer to our question.
func (r *replica) told(origin, next uint64, now time.Time) {
	if r.rep.asks[origin] == nil {
		return
	}
	delete(r.rep.asks, origin)
	w := r.window(origin, now)
	if w == nil || next == 0 {
		return
	}
	w.setBaseline(next, now)
	r.releaseOrdered(origin, now)
	r.pullHoles(now)
}
