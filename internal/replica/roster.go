package replica

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// roster is who is there, and what is kept of all who ever were.
type roster struct {
	self wire.Peer
	rng  *rand.Rand

	names   map[string]wire.Peer // live members but ourselves, foreign ones too
	ours    []*peer              // of those, who speak Starling, in no order
	foreign []wire.Peer          // the others, in no order

	// peers are found by id. Invariant: at most maxPeers of them are not live.
	peers   map[uint64]*peer
	absent  int // how many of them are not live
	evicted int // how many were forgotten before their time

	// forgotten is what remains of others. Invariant: len(forgotten) = len(forgottenIDs) ≤ maxRemains; the ids are in the order in
	// which they were forgotten.
	forgotten    map[uint64]remains
	forgottenIDs []uint64

	folds   func(id uint64) // told of each peer that is about to be forgotten
	forgets func(id uint64) // told of each peer that is forgotten
	ring    *spread.Ring
	changed bool // the ring is to be made anew
}

func newRoster(self wire.Peer) *roster {
	return &roster{
		self: self, rng: rand.New(rand.NewPCG(self.ID, self.ID>>1)), changed: true, forgets: func(uint64) {}, folds: func(uint64) {},
		names: map[string]wire.Peer{}, peers: map[uint64]*peer{}, forgotten: map[uint64]remains{},
	}
}

// alone reports whether there is nobody to send to.
func (ro *roster) alone() bool { return len(ro.names) == 0 }

// count returns how many live members there are, ourselves not counted.
func (ro *roster) count() int { return len(ro.names) }

// get returns the peer of that id, or nil.
func (ro *roster) get(id uint64) *peer { return ro.peers[id] }

// member finds a live member of ours.
func (ro *roster) member(id uint64) (*peer, bool) {
	p := ro.peers[id]
	return p, p.live()
}

// replaced reports whether a member's address is ours: it has run there before us, and is gone, though nobody has noticed yet.
func (ro *roster) replaced(p *peer) bool { return ro.self.Addr.IsValid() && p.Addr == ro.self.Addr }

// hear returns the peer of that id, which may be none that was met.
func (ro *roster) hear(id uint64, now time.Time) *peer {
	p := ro.peers[id]
	if p == nil {
		ro.makeRoom()
		ro.absent++
		p = ro.add(id, now)
	}
	return p
}

// makeRoom forgets the peer that was seen longest ago, if there are as many as may be that are no members.
func (ro *roster) makeRoom() {
	if ro.absent < maxPeers {
		return
	}
	var oldest *peer
	for _, p := range ro.peers {
		if !p.live() && (oldest == nil || p.since.Before(oldest.since) || p.since.Equal(oldest.since) && p.ID < oldest.ID) {
			oldest = p
		}
	}
	ro.evicted++
	ro.forget(oldest)
}

func (ro *roster) add(id uint64, now time.Time) *peer {
	p := &peer{Peer: wire.Peer{ID: id}, since: now}
	if r, ok := ro.forgotten[id]; ok {
		p.owed, p.fixed, p.met = r.owed, r.owed != 0, r.met
		if r.owed > 0 {
			p.state = peerGone
		}
		if r.last > 0 {
			p.log = receipt.New(now)
			p.log.SetBaseline(r.last+1, now)
		}
		delete(ro.forgotten, id)
		at := slices.Index(ro.forgottenIDs, id)
		ro.forgottenIDs = slices.Delete(ro.forgottenIDs, at, at+1)
	}
	ro.peers[id] = p
	return p
}

// joins notes that a member is there, or has changed its address. It returns the peer if it was not there before.
func (ro *roster) joins(m wire.Peer, now time.Time) (joined *peer) {
	ro.changed = true
	ro.names[m.Name] = m
	if m.Foreign() {
		ro.foreign = append(ro.foreign, m)
		return nil
	}
	p := ro.peers[m.ID]
	switch {
	case p == nil:
		p = ro.add(m.ID, now)
	case p.live():
		p.Peer = m
		return nil
	default:
		ro.absent--
	}
	if p.Addr != m.Addr {
		p.unplace()
	}
	p.Peer, p.state = m, peerAlive
	if p.met.IsZero() {
		p.met = now
	}
	ro.ours = append(ro.ours, p)
	return p
}

// introduce notes that somebody is about to be a member.
func (ro *roster) introduce(m wire.Peer, now time.Time) *peer {
	p := ro.hear(m.ID, now)
	if p.live() || p.gone() && (!p.met.IsZero() || p.goodbye != nil) {
		return p
	}
	if p.Addr != m.Addr {
		p.unplace()
	}
	if p.came.IsZero() {
		p.came = now
	}
	p.Peer, p.state, p.since = m, peerIntroduced, now
	return p
}

// unheardBy returns those of whom p may not have heard yet, some of them if they are many: those about to be members that have introduced
// themselves here, and those that became one a moment ago. Nobody passes on a rumour.
func (ro *roster) unheardBy(p *peer, now time.Time) (ns []*starlingpb.Sender) {
	ps := ro.sorted(func(o *peer) bool {
		if o.live() {
			return o != p && now.Sub(o.met) < newFor
		}
		return o != p && o.state == peerIntroduced && o.awaited(now) && (o.shown || !o.named)
	})
	ro.rng.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	for _, o := range ps[:min(len(ps), maxNewcomers)] {
		ns = append(ns, &starlingpb.Sender{Origin: o.ID, Name: o.Name, Addr: wire.EncodeAddr(o.Addr)})
	}
	return ns
}

// replaces returns the runs that have introduced themselves and are no more, since p runs in their place, and notes that they are gone: those of its
// name, if memberlist says so, or at its address too, if only p itself does.
func (ro *roster) replaces(p *peer, now time.Time) []*peer {
	old := ro.sorted(func(o *peer) bool {
		return o != p && o.state == peerIntroduced && o.Name == p.Name && (p.live() || o.Addr == p.Addr && !o.came.After(p.came))
	})
	for _, o := range old {
		o.state, o.since = peerGone, now
	}
	return old
}

// says notes the goodbye of a peer. One that memberlist never told of is gone with it.
func (ro *roster) says(p *peer, now time.Time) {
	if p.state == peerIntroduced {
		p.state, p.since = peerGone, now
	}
}

// newcomers returns those that are about to be members, but p.
func (ro *roster) newcomers(p *peer, now time.Time) []*peer {
	return ro.sorted(func(o *peer) bool { return o != p && o.state == peerIntroduced && o.reachable(now) })
}

// leaves notes that a member is gone, or, of a foreign one, that it has changed. It returns the peer, nil for a foreign one.
func (ro *roster) leaves(m wire.Peer, now time.Time) (left *peer) {
	ro.changed = true
	delete(ro.names, m.Name)
	if m.Foreign() {
		ro.foreign = slices.DeleteFunc(ro.foreign, func(f wire.Peer) bool { return f.Name == m.Name })
		return nil
	}
	p := ro.peers[m.ID]
	if !p.live() {
		return nil
	}
	ro.makeRoom()
	p.state, p.since = peerGone, now
	p.spread, p.bucket, p.failures, p.deaf = spread.Peer{}, bucket{}, 0, false
	ro.ours = slices.DeleteFunc(ro.ours, func(o *peer) bool { return o == p })
	ro.absent++
	return p
}

// failedSince returns how many members have gone since a time without saying goodbye.
func (ro *roster) failedSince(since time.Time) (n int) {
	for _, p := range ro.peers {
		if p.gone() && p.goodbye == nil && p.since.After(since) {
			n++
		}
	}
	return n
}

// forget drops a peer that is no member, but for its remains, and what others keep of it.
func (ro *roster) forget(p *peer) {
	defer ro.forgets(p.ID)
	if p.live() || ro.peers[p.ID] != p {
		return
	}
	ro.folds(p.ID)
	delete(ro.peers, p.ID)
	ro.absent--
	r := remains{owed: p.owed}
	if !p.fixed {
		r.owed = p.sure // it will not say any more since when it was a member
	}
	if p.log != nil {
		r.last = p.log.Last()
	}
	if r.last == 0 {
		r.met = p.met
	}
	if r == (remains{}) {
		return
	}
	if len(ro.forgottenIDs) >= maxRemains {
		delete(ro.forgotten, ro.forgottenIDs[0])
		ro.forgottenIDs = ro.forgottenIDs[1:]
	}
	ro.forgotten[p.ID] = r
	ro.forgottenIDs = append(ro.forgottenIDs, p.ID)
}

// prove returns what a peer must repeat to be answered at length.
func (ro *roster) prove(p *peer) uint64 {
	if p.proof == 0 {
		p.proof = ro.rng.Uint64() | 1
	}
	return p.proof
}

// proven reports whether a question repeats what our last answer to that member gave: so it is where it says it is.
func (ro *roster) proven(p *peer, proof uint64) bool { return ro.prove(p) == proof }

// random returns a random live member of ours that fits, if there is one. A nil fits takes any.
func (ro *roster) random(fits func(*peer) bool) *peer {
	if len(ro.ours) == 0 {
		return nil
	}
	at := ro.rng.IntN(len(ro.ours))
	for i := range ro.ours {
		if p := ro.ours[(at+i)%len(ro.ours)]; fits == nil || fits(p) {
			return p
		}
	}
	return nil
}

// refresh returns the ring of the members that are there now.
func (ro *roster) refresh() *spread.Ring {
	if ro.changed {
		ro.changed = false
		others := make([]wire.Peer, len(ro.ours))
		for i, p := range ro.ours {
			others[i] = p.Peer
		}
		ro.ring = spread.NewRing(ro.self, others)
	}
	return ro.ring
}

// sorted returns the peers that fit, in the order of their ids, so that the same calls always have the same effects.
func (ro *roster) sorted(fits func(*peer) bool) []*peer {
	var ps []*peer
	for _, p := range ro.peers {
		if fits(p) {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *peer) int { return cmp.Compare(a.ID, b.ID) })
	return ps
}

// spreadPeer returns what the spread keeps of a member.
func (ro *roster) spreadPeer(id uint64) *spread.Peer {
	if p := ro.peers[id]; p != nil {
		return &p.spread
	}
	return new(spread.Peer) // of a member that is on an old ring alone: nothing is kept
}
