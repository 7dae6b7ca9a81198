package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// States is what the owner of a replica does about the states of its channels.
type States struct {
	out       *output
	roster    *roster
	channels  *channelSet
	types     *types
	coverages *coverages
	compares  *comparisons
	offers    *offers
}

// Snapshot says what a state that is taken now contains.
type Snapshot struct {
	partial  bool     // the channel still waits for its own first state
	contains coverage // what handlers have seen
}

// Takes reports whether a state that memberlist's push/pull has brought is for the channel of its key. sum is that of the types of who has
// sent it, 0 if that is not told. Of a member whose types are not known yet it is not: it is compared with soon.
func (s *States) Takes(ch *Channel, sum uint64) bool {
	if sum == 0 {
		return true
	}
	table := s.types.find(sum)
	return table != nil && sameType(ch.Type, table.of[ch.Key])
}

// Weigh reports whether Weighed is to be called, before the handler of a channel gets anything.
func (s *States) Weigh(ch *Channel) bool { return ch.sync.weigh }

// Weighed says whether the state of a channel has anything in it that is there before other members are met. Nobody has broadcast
// that, as far as is known: so it counts as a part of an origin of its own, which the others lack until they have merged the state.
func (s *States) Weighed(ch *Channel, something bool) {
	if ch.sync.weigh = false; something {
		s.coverages.merge(ch, coverage{s.roster.rng.Uint64() | 1: spanOf(1, 1)})
	}
}

// Asked returns who has asked for the state of a channel since the last call, and what a state contains that is taken now, before the
// channel's handler is called again.
func (s *States) Asked(ch *Channel) (who []SnapshotRequest, snap Snapshot) {
	who, ch.snapshots = ch.snapshots, nil
	return who, Snapshot{contains: s.coverages.handled(ch), partial: ch.sync.first()}
}

// Give gives a state that was taken to those who have asked for it. The items belong to the replica then.
func (s *States) Give(ch *Channel, who []SnapshotRequest, snap Snapshot, items [][]byte, now time.Time) {
	s.offers.give(ch, who, snap, items, now)
}

// GiveNone tells those who have asked for a state that there is none to give: because it is too large, and then size is its size as
// far as it was counted, or because it could not be taken.
func (s *States) GiveNone(ch *Channel, who []SnapshotRequest, size int) {
	verdict := starlingpb.Sync_FAILED
	if size > 0 {
		verdict = starlingpb.Sync_TOO_LARGE
	}
	for _, to := range who {
		s.offers.refuse(ch.Key, to, verdict, uint64(size))
	}
}

// Digest returns the frame that tells another member what our states contain, nil if we have none.
func (s *States) Digest() []byte {
	if !s.compares.stateful() {
		return nil
	}
	return wire.EncodeControl(s.out.self, wire.BodyStates, s.compares.describe(true))
}

// Await makes this member not ready until the states of its channels are those of all members that are here now.
func (s *States) Await(now time.Time) {
	for _, ch := range s.channels.sorted() {
		s.compares.await(ch, true, now)
	}
}

// Unequal is a channel whose state is not yet known to be that of the members that were there when this one joined.
type Unequal struct {
	*Channel
	First   bool        // it waits for its first state
	Members []wire.Peer // whose state may contain what its does not
}

// Unequal returns the channels that this member is not ready without. It waits for the handlers of the others, too: a channel without
// members has what they had, and its handler has not taken all of it.
func (s *States) Unequal() (list []Unequal) {
	for _, ch := range s.channels.sorted() {
		w := &ch.sync.awaiting
		if !ch.State || !w.open || !w.blocks {
			continue
		}
		u := Unequal{Channel: ch, First: ch.sync.first()}
		for _, p := range s.roster.sorted(func(p *peer) bool { return w.members[p.ID] }) {
			u.Members = append(u.Members, p.Peer)
		}
		list = append(list, u)
	}
	return list
}
