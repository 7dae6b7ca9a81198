package starling

import (
	"time"

	"github.com/starling-go/starling/starlingpb"
)

type ask struct {
	at     time.Time
	tries  int
	stream bool // packets do not seem to get through
}

// owes reports whether an origin is or was a member here, or sent us something: others may be owed parts of one that
// never was.
func (r *replica) owes(origin uint64) bool {
	_, live := r.peerByID(origin)
	_, met := r.rep.met[origin]
	_, heard := r.windows[origin]
	_, known := r.tops[origin]
	return live || met || heard || known
}

// askBaseline asks an origin, again and again while it lives, from where on it owes us its parts.
func (r *replica) askBaseline(origin uint64, stream bool, now time.Time) {
	if r.rep.asks[origin] != nil {
		return
	}
	if _, live := r.peerByID(origin); live {
		r.rep.asks[origin] = &ask{stream: stream || r.rep.failures[origin] > 0}
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
	r.active = true // to ask again
	a.at = now.Add(askEvery << min(a.tries, 5))
	if a.tries++; a.tries == 2 {
		r.rep.failures[origin] = max(r.rep.failures[origin], 1)
	}
	r.tell(m, bodyAsk, &starlingpb.BaselineAsk{}, false)
	if a.stream {
		// Beside the packet, not instead: the stream waits behind all large messages to that member.
		r.tell(m, bodyAsk, &starlingpb.BaselineAsk{Stream: true}, true)
	}
	a.stream = true
}

// baseline returns from which seq on we owe a member our parts.
func (r *replica) baseline(to Member) uint64 {
	if base, ok := r.rep.bases[to.ID]; ok {
		return base
	}
	return r.seq + 1
}

// based reports whether it is known from where on an origin owes us its parts.
func (r *replica) based(origin uint64) bool {
	w := r.windows[origin]
	return w != nil && w.based
}

// tellBaseline answers a member's question, and puts right what others may have told it of us.
func (r *replica) tellBaseline(to Member, stream bool) {
	r.tell(to, bodyBaseline, &starlingpb.Baseline{Next: r.baseline(to), Top: r.seq}, stream)
}

// told takes from an origin what it owes us and what it has sent.
func (r *replica) told(origin, next, top uint64, now time.Time) {
	delete(r.rep.asks, origin)
	if next == 0 || top == 0 && r.windows[origin] == nil {
		return // it never sent anything: that needs no record
	}
	w := r.window(origin, now)
	if w == nil {
		return
	}
	if !w.based {
		w.setBaseline(next, now)
		r.reportLate(origin, next)
		r.unspare(origin, w, now)
	}
	for _, lost := range w.recall(next) {
		r.report(origin, lost.lo, lost.hi)
	}
	r.active = true // what is missing now has to be pulled
	w.announce(top, now)
	w.retract(top)
	r.releaseOrdered(origin, now)
	r.pullHoles(now)
}
