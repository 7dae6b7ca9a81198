package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// stateSync gives a channel with state the state of others: as a newcomer, when it is opened late, and when members come that it
// may have to be merged with.
type stateSync struct {
	out      *output
	roster   *roster
	channels *channelSet
	intake   *intake

	message int    // the largest item that is taken
	last    uint64 // the number of the last question
}

const (
	syncAfter   = 500 * time.Millisecond // after a membership change, so that several make one
	syncTimeout = 3 * time.Second        // without any frame of the answer, before somebody else is asked
	syncTries   = 4                      // members asked, until the channel goes on without
	syncCrowd   = 16                     // beyond so many members, one newcomer is asked for its state by about so many

	maxSyncKeys = 16 // of one question: we ask for one at a time

	// SyncBytes bounds the state of one channel, in memory.
	SyncBytes = 64 << 20
	// SyncFrame is about the size of the frames that items are sent in.
	SyncFrame = 256 << 10
)

// syncState is what a channel with state knows of the state of others. The zero value has none to sync.
type syncState struct {
	done  bool      // the state of the cluster is here, or nobody has it
	since time.Time // when that became so
	at    time.Time // when to ask; zero: nothing to do
	from  []uint64  // whom to ask, the rest is at random; may be gone

	asked    map[uint64]bool // who was asked in this round
	donor    uint64          // who is being asked; 0: nobody
	id       uint64
	until    time.Time
	next     uint32 // index of the frame that is handled next
	early    map[uint32]*starlingpb.Sync
	bytes    int
	deferred []Delivery // what must wait until the state is here

	// covered is what the first state contains already, by origin; it is dropped at coveredUntil.
	covered      map[uint64][]receipt.Digest
	coveredUntil time.Time
}

// first reports whether the channel still waits for its first state.
func (s *syncState) first() bool { return !s.done && !s.at.IsZero() }

// covers reports whether a state that came contains the part.
func (s *syncState) covers(id wire.PartID) bool {
	for i := range s.covered[id.Origin] {
		if d := &s.covered[id.Origin][i]; id.Seq <= d.Floor || d.Holds(id.Seq) {
			return true
		}
	}
	return false
}

// want makes a channel ask for state soon, of one of the given members or of anybody.
func (y *stateSync) want(ch *Channel, from []uint64, after time.Duration, now time.Time) {
	if !ch.State {
		return
	}
	s := &ch.sync
	s.from = append(s.from, from...)
	if s.at.IsZero() {
		s.at, s.donor, s.asked = now.Add(after), 0, map[uint64]bool{}
	}
}

// meet makes the channels ask a member that came for its state. In a crowd only some do.
func (y *stateSync) meet(p *peer, now time.Time) {
	for _, ch := range y.channels.sorted() {
		n := y.roster.count()
		if !ch.sync.done || n <= syncCrowd || y.roster.rng.IntN(n) < syncCrowd {
			y.want(ch, []uint64{p.ID}, syncAfter, now)
		}
	}
}

// busy reports whether some channel waits for state.
func (y *stateSync) busy() bool {
	for _, ch := range y.channels.byKey {
		if !ch.sync.at.IsZero() {
			return true
		}
	}
	return false
}

// tick asks for state where that is due.
func (y *stateSync) tick(now time.Time) {
	for _, ch := range y.channels.sorted() {
		s := &ch.sync
		switch {
		case !s.coveredUntil.IsZero() && now.After(s.coveredUntil):
			s.covered, s.coveredUntil = nil, time.Time{}
		case s.at.IsZero() || now.Before(s.at):
		case s.donor == 0 || now.After(s.until):
			y.ask(ch, now)
		}
	}
}

// ask asks the next member for a channel's state, or gives up when enough were asked.
func (y *stateSync) ask(ch *Channel, now time.Time) {
	s := &ch.sync
	to := y.donor(s)
	if to == nil || len(s.asked) >= syncTries {
		y.end(ch, now)
		return
	}
	y.last++
	s.asked[to.ID] = true
	s.donor, s.id, s.until = to.ID, y.last, now.Add(syncTimeout)
	s.next, s.early, s.bytes = 0, map[uint32]*starlingpb.Sync{}, 0
	y.question(ch, to)
}

func (y *stateSync) question(ch *Channel, to *peer) {
	y.out.tell(to.Peer, wire.BodySyncAsk, &starlingpb.SyncAsk{Id: ch.sync.id, Keys: []string{ch.Key}, Proof: to.proofOf}, true)
}

// donor chooses a member that was not asked yet: one that the channel was told to ask, or anybody.
func (y *stateSync) donor(s *syncState) *peer {
	for len(s.from) > 0 {
		at := y.roster.rng.IntN(len(s.from))
		p, live := y.roster.member(s.from[at])
		s.from = slices.Delete(s.from, at, at+1)
		if live && !s.asked[p.ID] {
			return p
		}
	}
	return y.roster.random(func(p *peer) bool { return !s.asked[p.ID] })
}

// end lets a channel go on: with the state, or without when nobody gave it.
func (y *stateSync) end(ch *Channel, now time.Time) {
	s := &ch.sync
	if !s.done {
		s.done, s.since = true, now
	}
	s.at, s.donor, s.asked, s.from, s.early = time.Time{}, 0, nil, nil, nil
	deferred := s.deferred
	s.deferred = nil
	for _, d := range deferred {
		y.intake.deliver(ch, d, now)
	}
}

// receive takes a frame of the answer that is being waited for.
func (y *stateSync) receive(from *peer, m *starlingpb.Sync, now time.Time) {
	ch := y.channels.byKey[m.GetKey()]
	if ch == nil || ch.sync.donor != from.ID || ch.sync.id != m.GetId() || m.GetIndex() < ch.sync.next {
		return // of a question that is settled
	}
	s := &ch.sync
	if m.GetProof() != 0 {
		if from.proofOf != m.GetProof() { // else it would ask for ever
			from.proofOf = m.GetProof()
			y.question(ch, from)
		}
		return
	}
	for _, item := range m.GetItems() {
		s.bytes += len(item) + store.ItemOverhead
	}
	if s.bytes > SyncBytes || len(s.early) > SyncBytes/SyncFrame {
		y.out.dropOn(DropTooLarge, ch.Key)
		y.end(ch, now)
		return
	}
	s.until = now.Add(syncTimeout)
	s.early[m.GetIndex()] = m
	for {
		next, ok := s.early[s.next]
		if !ok {
			return
		}
		delete(s.early, s.next)
		s.next++
		y.take(ch, next, now)
		if next.GetLast() {
			y.complete(ch, next.GetPartial(), now)
			return
		}
	}
}

// take hands the items of one frame to the handler, before all that waits.
func (y *stateSync) take(ch *Channel, m *starlingpb.Sync, now time.Time) {
	s := &ch.sync
	if !s.done { // only the first state may mark parts as covered: a member with state must still receive what it lacks
		y.cover(s, m.GetHandled(), now)
	}
	for _, data := range m.GetItems() {
		if len(data) > y.message {
			y.out.dropOn(DropTooLarge, ch.Key)
			continue
		}
		ch.Counters.Received++
		ch.inbox.force(Delivery{Data: data, Origin: s.donor, Born: now, Route: wire.RouteSync})
		y.out.wake(ch)
	}
}

// complete ends a sync, unless the donor was waiting for the state itself: then another one is asked too.
func (y *stateSync) complete(ch *Channel, partial bool, now time.Time) {
	if partial && !ch.sync.done {
		y.ask(ch, now)
		return
	}
	y.end(ch, now)
}

// cover notes what the first state of a channel contains of the parts that are known here. What is not known yet may be handled
// once more; a donor that lies can hide nothing that is yet to come.
func (y *stateSync) cover(s *syncState, handled []*starlingpb.OriginDigest, now time.Time) {
	if s.covered == nil {
		s.covered = map[uint64][]receipt.Digest{}
	}
	for _, o := range handled {
		log := y.intake.logged(o.GetOrigin())
		if d, ok := receipt.DecodeDigest(o); ok && log != nil {
			d.Floor, d.Held = min(d.Floor, log.Top()), upTo(d.Held, log.Top())
			s.covered[o.GetOrigin()] = append(s.covered[o.GetOrigin()], d)
		}
	}
	s.coveredUntil = now.Add(2 * y.intake.age)
}

// asked passes the question for states on to the channels' handlers. Whoever has not proven where it is gets one small answer,
// whatever it asks: what is to be proven. By stream, since packets may not reach it.
func (y *stateSync) asked(from *peer, m *starlingpb.SyncAsk) {
	keys := m.GetKeys()[:min(len(m.GetKeys()), maxSyncKeys)]
	if len(keys) > 0 && !y.roster.proven(from, m.GetProof()) {
		y.out.tell(from.Peer, wire.BodySync, &starlingpb.Sync{Id: m.GetId(), Key: keys[0], Proof: from.proof}, from.live())
		return
	}
	for _, key := range keys {
		ch := y.channels.byKey[key]
		if ch != nil && ch.request(SnapshotRequest{From: from.Peer, ID: m.GetId()}) {
			y.out.wake(ch)
			continue
		}
		y.out.tell(from.Peer, wire.BodySync, &starlingpb.Sync{Id: m.GetId(), Key: key, Last: true, Partial: true}, true)
	}
}

// describe describes what a state taken now contains, as far as handlers have seen it: whether it contains what we broadcast is
// up to the user. A member that came lately says nothing: what is older than its baselines counts as handled and is not, and may
// be on its way to others still.
func (y *stateSync) describe(ch *Channel, now time.Time) []*starlingpb.OriginDigest {
	if now.Sub(ch.sync.since) < y.intake.age {
		return nil
	}
	var out []*starlingpb.OriginDigest
	for _, p := range y.roster.sorted(func(p *peer) bool { return p.log != nil }) {
		out = append(out, receipt.EncodeDigest(p.ID, p.log.HandledDigest(digestSpans)))
	}
	return out
}
