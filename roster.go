package starling

import (
	"net/netip"
	"slices"
	"time"
)

// alone reports whether there is nobody to send to.
func (r *replica) alone() bool { return len(r.peers) == 0 }

// change follows the membership.
func (r *replica) change(was, is Member, now time.Time) {
	wasAlone := r.alone()
	if was.Name != "" {
		r.drop(was, was.ID != is.ID, now)
	}
	if is.Name != "" {
		if wasAlone {
			r.rep.aloneTo = r.seq
		}
		r.peers[is.Name] = is
		if is.Foreign() {
			r.foreign = append(r.foreign, is)
		} else {
			r.byID[is.ID] = is
			r.ours = append(r.ours, is)
			if was.ID != is.ID {
				r.meet(is, now)
			}
		}
	}
	if r.alone() && !wasAlone {
		r.rep.aloneFrom = r.seq + 1
		r.local.clear()
	}
	r.active, r.turned = true, true
}

// drop takes out a member; gone tells that it is not only changed.
func (r *replica) drop(was Member, gone bool, now time.Time) {
	delete(r.peers, was.Name)
	if was.Foreign() {
		r.foreign = slices.DeleteFunc(r.foreign, func(m Member) bool { return m.Name == was.Name })
		return
	}
	delete(r.byID, was.ID)
	r.ours = slices.DeleteFunc(r.ours, func(m Member) bool { return m.ID == was.ID })
	if !gone {
		return
	}
	delete(r.calls, was.ID)
	delete(r.directs, was.ID)
	delete(r.rep.pulls, was.ID)
	delete(r.rep.failures, was.ID)
	delete(r.rep.silent, was.ID)
	delete(r.rep.buckets, was.ID)
	if w := r.windows[was.ID]; w != nil {
		w.sight(now)
	}
	r.spread.lost(was.ID, now)
}

// meet notes from where on we owe a member our parts, and that it may have state of its own.
func (r *replica) meet(m Member, now time.Time) {
	if _, met := r.rep.met[m.ID]; !met && len(r.rep.met) < maxWindows {
		r.rep.met[m.ID] = now
	}
	if _, owed := r.rep.bases[m.ID]; !owed && len(r.rep.bases) < maxTops {
		r.rep.bases[m.ID] = r.baseOf(now)
	} else if owed {
		// It comes back, and may have sent what nobody keeps any more: only it can tell.
		r.askBaseline(m.ID, false, now)
	}
	r.news(now)
	for _, ch := range sorted(r.channels) {
		if !ch.sync.done || len(r.peers) <= syncCrowd || r.rep.rng.IntN(len(r.peers)) < syncCrowd {
			r.wantSync(ch, []uint64{m.ID}, syncAfter, now)
		}
	}
}

// baseOf returns from where on we owe our parts to whom we meet now: what was broadcast while we were alone is owed too, as
// far as it is kept, but for what would be gone before it were asked for.
func (r *replica) baseOf(now time.Time) uint64 {
	age := r.lim.retention.Age
	for it := range r.history.ascend(r.id, r.rep.aloneFrom, r.rep.aloneTo) {
		if now.Sub(it.born) < age-min(age/4, 5*time.Second) {
			return it.id.seq
		}
	}
	return r.seq + 1
}

// peerByID finds a live member of ours.
func (r *replica) peerByID(id uint64) (Member, bool) {
	m, ok := r.byID[id]
	return m, ok
}

// randomPeer returns a random live member of ours that fits, if there is one.
func (r *replica) randomPeer(fits func(Member) bool) (Member, bool) {
	if len(r.ours) == 0 {
		return Member{}, false
	}
	at := r.rep.rng.IntN(len(r.ours))
	for i := range r.ours {
		if m := r.ours[(at+i)%len(r.ours)]; fits == nil || fits(m) {
			return m, true
		}
	}
	return Member{}, false
}

// refreshRing makes the ring of the members that are there now.
func (r *replica) refreshRing() {
	if r.turned {
		r.turned = false
		r.spread.ring = newRing(Member{Name: r.self.name, ID: r.id}, r.ours)
	}
}

// setAddr tells the replica where it is reached.
func (r *replica) setAddr(addr netip.AddrPort) {
	r.self.addr = addr
}

// gone reports whether an origin was a member here and is none any more.
func (r *replica) gone(origin uint64) bool {
	_, live := r.peerByID(origin)
	_, met := r.rep.met[origin]
	return met && !live
}
