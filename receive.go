package starling

import (
	"slices"
	"time"
)

// receive takes a part that arrived. frame belongs to the caller.
func (r *replica) receive(p part, frame []byte, via Via, now time.Time) {
	ch := r.channels[string(p.key)]
	switch {
	case len(p.data) > r.lim.message:
		r.drops.add(DropTooLarge)
	case p.id.origin == 0:
		r.receiveForeign(ch, p, via, now)
	case p.id.origin == r.id:
		r.duplicate(ch)
	case p.age >= r.lim.retention.Age:
		r.drops.add(DropTooOld)
	default:
		r.receiveOwned(ch, p, frame, via, now)
	}
}

// receiveForeign delivers a part that nobody can tell from another: as it comes, kept by nobody.
func (r *replica) receiveForeign(ch *channel, p part, via Via, now time.Time) {
	if ch == nil {
		r.drops.add(DropUnknownKey)
		return
	}
	ch.stats.Received++
	data := append([]byte(nil), p.data...)
	r.deliver(ch, delivery{data: data, born: now, via: via}, now)
}

// receiveOwned takes a part with an identity, once. It returns the part as it is kept, nil if it was here before, and
// whether this member has it, or has had it, or need not have it.
func (r *replica) receiveOwned(ch *channel, p part, frame []byte, via Via, now time.Time) (it *item, held bool) {
	w := r.window(p.id.origin, now)
	if w == nil {
		r.drops.add(DropTooManyOrigins)
		return nil, false
	}
	switch w.admit(p.id.seq, now) {
	case admitDuplicate:
		r.duplicate(ch)
		return nil, true
	case admitRefused:
		r.drops.add(DropTooManyHoles)
		return nil, false
	}
	it = newItem(ch, p, frame, now)
	it.via = via
	r.keep(it, now)
	r.news(now)
	if !w.based {
		r.askBaseline(p.id.origin, via == Stream, now)
		if met, ok := r.rep.met[it.id.origin]; ok && it.born.Sub(met) >= oweAfter {
			w.owe(it.id.seq)
		}
	}
	switch {
	case ch == nil:
		r.drops.add(DropUnknownKey)
		r.markHandled(it, now)
	case r.spares(w, it):
		w.spare(it.id.seq)
	default:
		ch.stats.Received++
		r.deliver(ch, it.delivery(), now)
	}
	// Whatever it was, it may be what others waited for.
	r.releaseOrdered(p.id.origin, now)
	return it, true
}

// oweAfter is how long after we met its origin a part must have been broadcast for us to be sure of it: what it took to get here
// makes it look younger than it is, and streams take long where packets are lost.
const oweAfter = 5 * time.Second

// spares reports whether a part is from before we met its origin, which is gone and can no longer tell our baseline.
func (r *replica) spares(w *window, it *item) bool {
	return !w.based && r.gone(it.id.origin) && it.born.Before(r.rep.met[it.id.origin])
}

// unspare gives to their handlers, or lets go, the parts of an origin that waited for its baseline.
func (r *replica) unspare(origin uint64, w *window, now time.Time) {
	for _, s := range w.unspare() {
		for _, it := range slices.Collect(r.history.ascend(origin, s.lo, s.hi)) {
			if ch := r.channels[it.key]; ch != nil && it.id.seq > w.floor {
				ch.stats.Received++
				r.deliver(ch, it.delivery(), now)
			} else {
				r.markHandled(it, now)
			}
		}
	}
}

func (r *replica) duplicate(ch *channel) {
	if ch != nil {
		ch.stats.Duplicates++
	}
}

// window returns the record of an origin, or nil when there are too many.
func (r *replica) window(origin uint64, now time.Time) *window {
	w, ok := r.windows[origin]
	if !ok {
		if _, live := r.peerByID(origin); !live && len(r.windows) >= maxWindows {
			return nil
		}
		w = newWindow(now)
		if top, ok := r.tops[origin]; ok {
			w.setBaseline(top+1, now)
			delete(r.tops, origin)
		}
		r.windows[origin] = w
	}
	return w
}

// newItem copies an arrived part into one that can be kept and passed on: its age is its last field. ch may be nil. Each part
// has memory of its own: what it came with may be gone long before it.
func newItem(ch *channel, p part, frame []byte, now time.Time) *item {
	it := &item{id: p.id, prev: p.prev, born: now.Add(-p.age)}
	if ch != nil {
		it.key = ch.key
	} else {
		it.key = string(p.key)
	}
	size := len(frame)
	if !p.agedEnd {
		size += ageFieldSize
	}
	it.frame = append(make([]byte, 0, size), frame...)
	if !p.agedEnd {
		it.frame = appendAge(it.frame, p.age)
	}
	// The data lies in the copy where it lay in the original.
	if len(p.data) > 0 {
		end := p.dataAt + len(p.data)
		it.data = it.frame[p.dataAt:end:end]
	}
	return it
}

// take returns what the channel's handler is to do next.
func (r *replica) take(ch *channel) (delivery, bool) {
	for {
		d, ok := ch.inbox.pop()
		if !ok || d.item == nil {
			return d, ok
		}
		if d.item.kept() {
			d.item.taken = true
			return d, true
		}
		// Evicted before its turn: it is missing again, and may come back.
	}
}

// markHandled notes that a part needs no handler any more.
func (r *replica) markHandled(it *item, now time.Time) {
	r.history.setHandled(it)
	if w := r.windows[it.id.origin]; w != nil {
		w.setHandled(it.id.seq, now)
	}
}

// handled notes that the handler has returned from a delivery.
func (r *replica) handled(d delivery, now time.Time) {
	if d.item != nil {
		r.markHandled(d.item, now)
	}
}
