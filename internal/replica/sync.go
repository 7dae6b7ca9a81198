package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// stateSync gives a channel with state the state of others: the first one as a newcomer, or when it is opened late; and those of members
// whose states contain what this one's does not, as comparisons finds.
type stateSync struct {
	out       *output
	roster    *roster
	types     *types
	channels  *channelSet
	intake    *intake
	baselines *baselines
	coverages *coverages
	compares  *comparisons

	message int    // the largest item that is taken
	last    uint64 // the number of the last question
}

const (
	syncAfter   = 500 * time.Millisecond // after a membership change, so that several make one
	syncTimeout = 3 * time.Second        // without any frame of the answer, before somebody else is asked
	syncWait    = 6 * time.Second        // the same of a member that has said that its handler is busy
	syncFirst   = 100 * time.Millisecond // the first pause between two rounds of questions; it doubles
	syncLongest = time.Minute            // and never gets longer than that; 5 s while the first state is waited for
	syncLonging = 5 * time.Second
	syncBare    = 8 // members without a state that are asked for the first one, until it is clear that nobody has one

	// SyncBytes bounds the state of one channel, as it is encoded.
	SyncBytes = 256 << 20
	// SyncFrame is about the size of the frames that items are sent in.
	SyncFrame = 256 << 10
	// syncWindow is how many frames are sent until more are asked for.
	syncWindow = 16
	// syncAhead bounds the bytes of a state that wait for the handler while more of it is asked for.
	syncAhead = 16 << 20
)

// syncState is what a channel with state knows of the state of others. The zero value has none to sync.
type syncState struct {
	past

	done   bool      // its handler need not wait for a first state
	synced bool      // it has had its first state, or nobody had one
	since  time.Time // when the first state began to be waited for
	at     time.Time // when to ask; zero: nothing to do
	pause  time.Duration
	from   []uint64          // whom to ask first for the first state; may be gone
	differ map[uint64]bool   // members whose state is not ours
	tried  map[uint64]bool   // who was asked in this round
	bare   int               // of those, who had nothing to give
	gave   map[uint64]bool   // who gave what it has while it waited for its own first state
	asked  map[uint64]uint64 // the last question to each member: an answer may be late
	donor  uint64            // who is being asked; 0: nobody
	until  time.Time
	again  int  // how often the donor was asked to go on
	told   bool // that a state, or an item of one, is too large
	weigh  bool // it is to be told whether the state has anything in it before any other comes

	taking   taking
	arrived  uint64 // items of states that were given to the inbox
	digested uint64 // of those, how many the handler has returned from
	unmerged []contained
	deferred []Delivery // what must wait until the state is here
	awaiting awaiting

	// covered is what the first state contains already; it is dropped at coveredUntil.
	covered      coverage
	coveredUntil time.Time
}

// first reports whether the channel still waits for its first state.
func (s *syncState) first() bool { return !s.done && !s.since.IsZero() }

// covers reports whether the first state contains the part.
func (s *syncState) covers(id wire.PartID) bool { return s.covered.covers(id) }

// wantFirst makes a channel ask for its first state soon.
func (y *stateSync) wantFirst(ch *Channel, from []uint64, after time.Duration, now time.Time) {
	s := &ch.sync
	if !ch.State || s.synced {
		return
	}
	s.from = append(s.from, from...)
	if s.since.IsZero() {
		s.since, s.weigh = now, true
		y.out.wake(ch)
	}
	if s.at.IsZero() {
		y.begin(s, now.Add(after))
	}
}

// begin begins a round of questions.
func (y *stateSync) begin(s *syncState, at time.Time) {
	s.at, s.tried, s.bare, s.donor = at, map[uint64]bool{}, 0, 0
	if s.asked == nil {
		s.asked = map[uint64]uint64{}
	}
}

// wantOf makes a channel ask a member whose state differs.
func (y *stateSync) wantOf(ch *Channel, p *peer, now time.Time) {
	s := &ch.sync
	if s.differ == nil {
		s.differ = map[uint64]bool{}
	}
	s.differ[p.ID] = true
	if s.at.IsZero() {
		y.begin(s, now.Add(s.pause))
	}
	y.out.stir()
}

// meet makes the channels that have no state yet ask a member that came.
func (y *stateSync) meet(p *peer, now time.Time) {
	for _, ch := range y.channels.sorted() {
		if ch.State && !ch.sync.synced {
			y.wantFirst(ch, []uint64{p.ID}, syncAfter, now)
		}
		ch.sync.pause = 0
		if w := &ch.sync.awaiting; ch.State && !w.told && !w.open {
			y.compares.await(ch, false, now)
		}
	}
	y.compares.meet(p, now)
}

// leave forgets a member that is gone.
func (y *stateSync) leave(p *peer) {
	for _, ch := range y.channels.byKey {
		s := &ch.sync
		delete(s.differ, p.ID)
		delete(s.asked, p.ID)
		delete(s.awaiting.members, p.ID)
		if s.donor == p.ID {
			s.until = time.Time{}
		}
	}
}

// busy reports whether some channel has something to do.
func (y *stateSync) busy() bool {
	if !y.compares.next.IsZero() || !y.compares.sweep.IsZero() {
		return true
	}
	for _, ch := range y.channels.byKey {
		if s := &ch.sync; !s.at.IsZero() || len(s.unmerged) > 0 || s.awaiting.open {
			return true
		}
	}
	return false
}

// tick asks for state where that is due.
func (y *stateSync) tick(now time.Time) {
	y.compares.tick(now)
	for _, ch := range y.channels.sorted() {
		s := &ch.sync
		if !s.coveredUntil.IsZero() && now.After(s.coveredUntil) {
			s.covered, s.coveredUntil = nil, time.Time{}
		}
		if !ch.State {
			continue
		}
		if s.first() && now.Sub(s.since) > y.intake.age/2 {
			y.open(ch, now) // or what waits would be too old
		}
		switch {
		case s.at.IsZero() || now.Before(s.at) || len(s.unmerged) > 0:
		case s.donor != 0 && now.Before(s.until):
			y.goOn(ch, now)
		case s.donor != 0 && s.taking.next > 0 && s.again < 2:
			s.again++
			y.more(ch, true, now)
		default:
			y.ask(ch, now)
		}
		y.compares.awaited(ch, now)
	}
}

// ask asks the next member for a channel's state, or ends the round.
func (y *stateSync) ask(ch *Channel, now time.Time) {
	s := &ch.sync
	to := y.donor(s)
	if to == nil || !s.synced && s.bare >= syncBare {
		y.endRound(ch, now)
		return
	}
	y.last++
	s.tried[to.ID] = true
	s.asked[to.ID] = y.last
	y.from(s, to, now)
	y.question(ch, to, 0, false)
}

// from makes a member the one whose answer is taken.
func (y *stateSync) from(s *syncState, p *peer, now time.Time) {
	s.donor, s.until, s.again = p.ID, now.Add(syncTimeout), 0
	s.taking = taking{granted: syncWindow, early: map[uint32]*starlingpb.Sync{}, contains: coverage{}}
}

func (y *stateSync) question(ch *Channel, to *peer, next uint32, again bool) {
	m := &starlingpb.SyncAsk{
		Id: ch.sync.asked[to.ID], Key: ch.Key, Proof: to.proofOf, First: !ch.sync.synced && !ch.sync.gave[to.ID], Next: next, Again: again,
		Types: y.types.untold(to),
	}
	if next == 0 {
		m.Have = y.coverages.have(ch).encode(wire.MaxBody / 2)
	}
	y.out.tell(to.Peer, wire.BodySyncAsk, m, true)
}

// donor chooses a member that was not asked yet: one that the channel was told to ask, or, for a first state, anybody.
func (y *stateSync) donor(s *syncState) *peer {
	if s.synced {
		return y.roster.random(func(p *peer) bool { return s.differ[p.ID] && !s.tried[p.ID] })
	}
	for len(s.from) > 0 {
		at := y.roster.rng.IntN(len(s.from))
		p, live := y.roster.member(s.from[at])
		s.from[at] = s.from[len(s.from)-1]
		s.from = s.from[:len(s.from)-1]
		if live && !s.tried[p.ID] {
			return p
		}
	}
	return y.roster.random(func(p *peer) bool { return !s.tried[p.ID] })
}

// endRound ends a round in which all that may be asked were asked, and begins the next after a pause, if there is anything to ask for.
func (y *stateSync) endRound(ch *Channel, now time.Time) {
	s := &ch.sync
	s.donor = 0
	if !s.synced && s.bare >= min(len(y.roster.ours), syncBare) {
		y.firstDone(ch, now) // nobody has one
	}
	if s.synced && len(s.differ) == 0 {
		s.at = time.Time{}
		return
	}
	y.begin(s, now.Add(y.nextPause(s)))
}

// nextPause returns the pause before the next round, and lets it grow.
func (y *stateSync) nextPause(s *syncState) time.Duration {
	s.pause = min(max(2*s.pause, syncFirst), syncLongest)
	switch {
	case !s.synced:
		s.pause = min(s.pause, syncLonging)
	case s.awaiting.open:
		s.pause = min(s.pause, awaitLongest)
	}
	return s.pause*3/4 + time.Duration(y.roster.rng.Int64N(int64(s.pause)/2+1))
}

// open lets the handler of a channel go on.
func (y *stateSync) open(ch *Channel, now time.Time) {
	s := &ch.sync
	s.done = true
	deferred := s.deferred
	s.deferred = nil
	for _, d := range deferred {
		y.intake.deliver(ch, d, now)
	}
}

// firstDone notes that the channel has its first state, or that nobody has one.
func (y *stateSync) firstDone(ch *Channel, now time.Time) {
	s := &ch.sync
	s.synced, s.from, s.gave, s.pause = true, nil, nil, 0
	y.open(ch, now)
	for _, p := range y.roster.ours {
		if s.awaiting.members[p.ID] || !p.compare.at.IsZero() {
			p.compare.pause = 0
			y.compares.soon(p, compareFirst/2, now)
		}
	}
}

// receive takes a frame of an answer that is waited for.
func (y *stateSync) receive(from *peer, m *starlingpb.Sync, now time.Time) {
	ch := y.channels.byKey[m.GetKey()]
	if ch == nil || m.GetId() == 0 || ch.sync.asked[from.ID] != m.GetId() || ch.sync.at.IsZero() {
		return // of a question that is settled
	}
	s := &ch.sync
	switch {
	case m.GetProof() != 0:
		if from.proofOf != m.GetProof() { // else it would ask for ever
			from.proofOf = m.GetProof()
			y.question(ch, from, 0, false)
		}
		return
	case m.GetVerdict() == starlingpb.Sync_WAIT:
		if s.donor == from.ID {
			s.until = now.Add(syncWait)
		}
		return
	case m.GetVerdict() != starlingpb.Sync_GIVEN:
		y.refused(ch, from, m, now)
		return
	case s.donor != from.ID && s.donor != 0 && s.taking.next > 0:
		return // late, and another one is giving its state
	case s.donor != from.ID:
		y.from(s, from, now)
	}
	y.frame(ch, from, m, now)
}

// refused notes that a member gives nothing, and asks the next one.
func (y *stateSync) refused(ch *Channel, from *peer, m *starlingpb.Sync, now time.Time) {
	s := &ch.sync
	if starlingpb.Sync_Verdict_name[int32(m.GetVerdict())] == "" {
		y.out.drop(DropLaterVersion)
	}
	switch m.GetVerdict() {
	case starlingpb.Sync_NOTHING, starlingpb.Sync_NO_CHANNEL:
		s.bare++
		delete(s.differ, from.ID)
		y.compares.agreed(ch, from)
	case starlingpb.Sync_TOO_LARGE:
		s.bare++ // the handler need not wait for it
		if !s.told {
			s.told = true
			y.out.States = append(y.out.States, StateEvent{Channel: ch, Kind: StateTooLarge, From: from.Peer, Size: m.GetSize()})
			y.out.stir()
		}
	}
	delete(s.asked, from.ID)
	if s.donor == from.ID {
		y.ask(ch, now)
	}
}
