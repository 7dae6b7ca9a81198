package replica

import (
	"time"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// taking is the answer that comes in.
type taking struct {
	next     uint32                      // index of the frame that is handled next
	granted  uint32                      // the frame up to which was asked for
	early    map[uint32]*starlingpb.Sync // Invariant: at most syncWindow, of at most 2 × SyncFrame each
	bytes    int                         // of all items so far; at most SyncBytes
	half     []byte                      // the first part of an item that goes on
	contains coverage
	less     bool // an item was too large
}

// contained is what a state contains whose last item is yet to be handled.
type contained struct {
	less     bool   // an item of it was refused here
	mark     uint64 // when so many items were handled
	from     uint64
	contains coverage
	covers   bool // its parts that were known need no handler of their own: see cover
}

// goOn asks for more of the state when its handler has taken what was asked for.
func (y *stateSync) goOn(ch *Channel, now time.Time) {
	s := &ch.sync
	if s.taking.next+syncWindow/2 < s.taking.granted {
		return
	}
	if s.taking.next > 0 && ch.inbox.bytes > syncAhead {
		s.until = now.Add(syncTimeout)
		return
	}
	if s.taking.next > 0 {
		y.more(ch, false, now)
	}
}

// more asks the donor to go on.
func (y *stateSync) more(ch *Channel, again bool, now time.Time) {
	s := &ch.sync
	p, live := y.roster.member(s.donor)
	if !live {
		s.until = time.Time{}
		return
	}
	s.until = now.Add(syncTimeout)
	s.taking.granted = s.taking.next + syncWindow
	y.question(ch, p, s.taking.next, again)
}

// frame takes a frame of a state, and those that it lets through.
func (y *stateSync) frame(ch *Channel, from *peer, m *starlingpb.Sync, now time.Time) {
	t := &ch.sync.taking
	size := 0
	for _, item := range m.GetItems() {
		size += len(item)
	}
	if m.GetIndex() < t.next || m.GetIndex() >= t.granted || size > 2*SyncFrame {
		return
	}
	ch.sync.until = now.Add(syncTimeout)
	t.early[m.GetIndex()] = m
	for next := t.early[t.next]; next != nil; next = t.early[t.next] {
		delete(t.early, t.next)
		t.next++
		if !y.take(ch, from, next, now) {
			y.refused(ch, from, &starlingpb.Sync{Verdict: starlingpb.Sync_TOO_LARGE, Size: uint64(t.bytes)}, now)
			return
		}
		if next.GetLast() {
			y.complete(ch, from, next.GetPartial(), now)
			return
		}
	}
	y.goOn(ch, now)
}

// take hands the items of one frame to the handler, before all that waits. It reports false if the state is too large.
func (y *stateSync) take(ch *Channel, from *peer, m *starlingpb.Sync, now time.Time) bool {
	t := &ch.sync.taking
	if len(t.contains) > 2*maxPast || !t.contains.decode(m.GetContains()) {
		y.out.dropOn(DropMalformed, ch.Key)
	}
	for i, data := range m.GetItems() {
		if t.bytes += len(data) + store.ItemOverhead; t.bytes > SyncBytes {
			return false
		}
		if t.half != nil {
			data, t.half = append(t.half, data...), nil
		}
		if m.GetSplit() && i == len(m.GetItems())-1 {
			t.half = data
			break
		}
		if len(data) > y.message && !ch.Whole {
			y.out.dropOn(DropTooLarge, ch.Key)
			t.less = true
			if !ch.sync.told {
				ch.sync.told = true
				y.out.States = append(y.out.States, StateEvent{Channel: ch, Kind: StateItemTooLarge, From: from.Peer, Size: uint64(len(data))})
			}
			continue
		}
		ch.Counters.Received++
		ch.sync.arrived++
		ch.inbox.force(Delivery{Data: data, Origin: ch.sync.donor, Born: now, Route: wire.RouteSync, state: true})
		y.out.wake(ch)
	}
	return true
}

// complete notes that a state is here. What it contains is ours when the handler has had its last item.
func (y *stateSync) complete(ch *Channel, from *peer, partial bool, now time.Time) {
	s := &ch.sync
	contains, less := s.taking.contains, s.taking.less
	s.taking = taking{}
	s.donor = 0
	delete(s.asked, from.ID)
	s.unmerged = append(s.unmerged, contained{mark: s.arrived, from: from.ID, contains: contains, less: less})
	switch {
	case s.synced:
		clear(s.differ)
		y.begin(s, now.Add(y.nextPause(s)))
	case partial:
		s.bare++
		if s.gave == nil {
			s.gave = map[uint64]bool{}
		}
		s.gave[from.ID] = true
	default:
		if !s.done { // only what no handler has had may be kept from it: one that went on without must still get what it lacks
			y.cover(s, contains, now)
			s.unmerged[len(s.unmerged)-1].covers = true
		}
		y.firstDone(ch, now)
		clear(s.asked)
	}
	y.absorb(ch, now)
}

// absorb takes over what states contain of which the handler has had every item.
func (y *stateSync) absorb(ch *Channel, now time.Time) {
	s := &ch.sync
	for len(s.unmerged) > 0 && s.digested >= s.unmerged[0].mark {
		c := s.unmerged[0]
		s.unmerged = s.unmerged[1:]
		if c.less {
			y.coverages.resign(ch, c.contains)
		} else {
			for _, p := range y.coverages.merge(ch, c.contains) {
				y.baselines.ask(p, false, now) // it is a member, and has not told what it has sent
			}
		}
		y.compares.merged(ch, c.from, now)
		y.out.stir()
	}
	if len(s.unmerged) == 0 && s.synced && len(s.differ) == 0 && s.donor == 0 {
		s.at = time.Time{}
	}
}

// handled notes that the handler has returned from an item of a state.
func (y *stateSync) handled(ch *Channel, refused bool, now time.Time) {
	s := &ch.sync
	s.digested++
	if refused && len(s.unmerged) > 0 {
		s.unmerged[0].less = true
	} else if refused {
		s.taking.less = true
	}
	y.absorb(ch, now)
}

// cover notes what the first state of a channel contains of the parts that are known here. What is not known yet may be handled
// once more; a donor that lies can hide nothing that is yet to come.
func (y *stateSync) cover(s *syncState, contains coverage, now time.Time) {
	s.covered = coverage{}
	for origin, set := range contains {
		if log := y.intake.logged(origin); log != nil {
			var known seqset.Set
			for _, sp := range set.All() {
				known.AddRange(sp.Lo, min(sp.Hi, log.Top()))
			}
			s.covered[origin] = known
		}
	}
	s.coveredUntil = now.Add(2 * y.intake.age)
}
