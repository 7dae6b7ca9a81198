package starling

import "time"

// busy reports whether there is anything to mend or to tell.
func (r *replica) busy() bool {
	return len(r.gaps) > 0 || r.history.len() > 0 || len(r.rep.pulls) > 0 || len(r.rep.asks) > 0 || r.holes() || r.syncing()
}

func (r *replica) holes() bool {
	for _, w := range r.windows {
		if len(w.holes.list) > 0 {
			return true
		}
	}
	return false
}

// tick does what is due. Call it every few tens of milliseconds while busy reports true.
func (r *replica) tick(now time.Time) {
	r.evicted(r.history.expire(now), now)
	for origin, a := range sorted(r.rep.asks) {
		if now.After(a.at) {
			r.ask(origin, now)
		}
	}
	r.sendDigest(now)
	r.pullHoles(now)
	r.overrule(now)
	r.syncTick(now)
	if !now.Before(r.rep.sweepAt) {
		r.rep.sweepAt = now.Add(sweepEvery)
		r.sweep(now)
		r.forget(now)
	}
}

// sweep gives up what has been missing for too long.
func (r *replica) sweep(now time.Time) {
	lacking := map[uint64]*window{}
	for origin, w := range r.windows {
		if len(w.holes.list) == 0 {
			delete(r.rep.denied, origin)
		} else {
			lacking[origin] = w
		}
	}
	for origin, w := range sorted(lacking) {
		if _, live := r.peerByID(origin); !live && now.Sub(w.holes.oldest()) >= r.lim.retention.Age && w.assumeBaseline() {
			r.unspare(origin, w, now) // who could have told is gone, and what is missing is too
		}
		for _, h := range w.overdue(now, r.lim.retention.Age) {
			r.gap(origin, w, h.lo, h.hi, now)
		}
	}
}

// forget drops the records of origins that are gone for twice the retention. What remains of one is the last seq seen, so
// that an origin that comes back still owes what is newer.
func (r *replica) forget(now time.Time) {
	for origin, w := range r.windows {
		if _, live := r.peerByID(origin); live || w.idle(now) < 2*r.lim.retention.Age {
			continue
		}
		if w.based && len(w.holes.list) > 0 {
			continue // what is owed of it has yet to come, or to be reported lost
		}
		delete(r.windows, origin)
		delete(r.rep.denied, origin)
		delete(r.rep.met, origin)
		for _, ch := range r.channels {
			ch.order.forget(origin)
		}
		if last := w.last(); last > 0 && len(r.tops) < maxTops {
			r.tops[origin] = last
		}
	}
}

// maxTops bounds how many forgotten origins keep their last seq: 16 bytes each.
const maxTops = 1 << 16
