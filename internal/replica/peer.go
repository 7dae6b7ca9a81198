package replica

import (
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
)

// peer is all that this member keeps for one run of another one. There is one for each run that is known at all, found by its id.
//
//	state       meaning                                                next
//	heard       parts of it came, it was never a member here           introduced (introduce), alive (joins), forgotten (forget)
//	introduced  it has told us that it joins, memberlist has not yet   alive (joins), gone (says), forgotten (forget)
//	alive       it is a member                                         silent (the spread notices), gone (leaves)
//	silent      it is a member, and has answered nothing for long      alive (is heard), gone (leaves)
//	gone        it was a member, or said goodbye before it was one     alive (joins), forgotten (forget)
//
// Forgotten is the end: remains is all that is left. A run of which something remains is gone when it is heard of again if it
// was a member, and heard if not. The spread alone moves a peer between alive and silent, so that is kept in its record.
// introduce, joins, says (its goodbye), leaves and forget are the other transitions; each is one method of roster (roster.go),
// and does nothing to a peer in another state.
type peer struct {
	wire.Peer // of a peer that was only heard of: nothing but the id

	state peerState
	met   time.Time // when it entered the membership first; zero: never
	since time.Time // when it was seen last: as a member, or by a part of its own

	log          *receipt.Log // what came of its parts; nil: nothing
	lost         boundedSet   // its parts that were reported lost, or never will be here
	refused      boundedSet   // of those, the ones that break our limits
	next         uint64       // its first part that we are owed; 0: we were not told
	top          uint64       // the last part that it has said it sent
	types        peerTypes    // what its channels carry
	refusal      string       // why it does not take us in; empty: it does, or has not answered
	asked        *question    // about next; nil: nothing is asked
	answered     time.Time    // when it has answered such a question itself
	untold       bool         // nobody can tell next: it is gone
	goodbye      *goodbye     // what it said when it left; nil: nothing
	owed         uint64       // our first part that it is owed; 0: not met
	sure         uint64       // our first part that it is owed however short it has been a member: sent since we met it, or alone
	fixed        bool         // it has said since when it is a member
	member       time.Time    // since when that is; zero: it has not said it, or that was forgotten
	named        bool         // a member has named it as one to come
	goodbyesTold time.Time    // when it was told last who has left
	reminded     *reminder    // it is told unasked what we have sent; nil: it need not be

	spread spread.Peer
	calls  calls // messages to it alone; kept until it is forgotten, and so is taken
	taken  taken // messages from it alone

	compare  comparison            // of our states with its
	coming   coming                // its parts that are likely on their way: not asked for
	pull     *pull                 // what it is asked for; nil: nothing
	late     *pull                 // what it was asked for before, and has not answered in time; nil: nothing
	proof    uint64                // what its questions must repeat to be answered at length: it is where it says it is; 0: not drawn yet
	proofOf  uint64                // what our questions to it must repeat
	came     time.Time             // when it introduced itself first; zero: it has not
	meta     []byte                // what it said of itself then
	shown    bool                  // it has repeated what was sent to its address since it introduced itself with that
	doubted  int                   // how many questions it was sent on its word alone
	bucket   bucket                // what it may still ask for
	denied   map[uint64]seqset.Set // our holes of its parts, by the id of the member that said it lacks them; see maxDenied
	deniedAt time.Time             // since when denied holds
	failures int                   // questions in a row that it has not answered
	deaf     bool                  // it has not answered our last digest: packets may not get through to it at all

	unanswered time.Time // since when it has not answered what only a member may ask; zero: it has
	queried    time.Time // when it was asked that last
	strange    time.Time // when it was said last that it may not know of us
}

type peerState uint8

const (
	peerHeard peerState = iota
	peerIntroduced
	peerAlive
	peerGone
)

// live reports whether the peer is a member.
func (p *peer) live() bool { return p != nil && p.state == peerAlive }

// reachable reports whether control frames may be exchanged with the peer: it is a member, or has told us a moment ago that
// it is to be one.
func (p *peer) reachable(now time.Time) bool {
	return p.live() || p != nil && p.state == peerIntroduced && now.Sub(p.since) < introducedFor
}

// awaited reports whether the peer is a member, or has said that it is to be one so short a time ago that it is one, perhaps, and memberlist has
// not told of it yet. It does not count again, and not for long where it has not shown where it is: anybody may say that.
func (p *peer) awaited(now time.Time) bool {
	most := shownWithin
	if p != nil && p.shown {
		most = introducedFor
	}
	return p.live() || p.reachable(now) && now.Sub(p.came) < most
}

// placed reports whether the peer is where it says it is: it is a member, or to be one, and has shown that it gets what is sent there. To
// others little is sent: they may be anybody, anywhere.
func (p *peer) placed() bool { return p.live() || p != nil && p.shown }

// unplace forgets what the peer has shown: that was at another address.
func (p *peer) unplace() { p.proof, p.shown, p.doubted = 0, false, 0 }

// gone reports whether the peer was a member, and is none any more.
func (p *peer) gone() bool { return p != nil && p.state == peerGone }

// silent reports whether the peer is a member that has answered nothing for long.
func (p *peer) silent() bool { return p.live() && p.spread.Silent() }

// answers reports whether the peer has answered lately what it was asked, as far as it was asked.
func (p *peer) answers() bool { return p.failures < 2 }

// based reports whether it is known from where on the peer owes us its parts.
func (p *peer) based() bool { return p != nil && p.log != nil && p.log.Based() }

// lacksForGood reports whether one of its parts from lo to hi was given up, or is not owed to us.
func (p *peer) lacksForGood(lo, hi uint64) bool {
	return p.lost.any(lo, hi) || p.next > lo
}

// known is the last part that the peer is known to have sent.
func (p *peer) known() uint64 {
	if p.log == nil {
		return p.top
	}
	return max(p.top, p.log.Top())
}

// remains is what is kept of a forgotten peer: if the same run comes back after a long partition, it still owes what is newer,
// and is still owed what it missed.
type remains struct {
	last uint64    // its last seq that was seen; 0: none
	owed uint64    // our first part that it is owed; 0: not met
	met  time.Time // when it was met, if nothing came of it: then nothing else tells what of its parts is newer
}

// boundedSet is a set of seqs that keeps its latest ranges only, at most receipt.MaxRanges of them.
type boundedSet struct{ seqset.Set }

// any reports whether the set has any seq from lo to hi.
func (s *boundedSet) any(lo, hi uint64) bool {
	seq, ok := s.Next(lo)
	return ok && seq <= hi
}

func (s *boundedSet) add(lo, hi uint64) {
	s.AddRange(lo, hi)
	if s.Count() > receipt.MaxRanges {
		s.Trim(s.All()[0].Hi)
	}
}

const (
	// maxPeers bounds the peers that are not members: while there are so many, no further one is heard of. Each has a log of at
	// most receipt.MaxRanges ranges of each kind.
	maxPeers = 4096
	// maxRemains bounds the forgotten peers that are remembered, at 56 bytes each and the map's overhead: 8 MiB in all.
	maxRemains = 1 << 16
)

// idle returns how long ago a peer that is no member was seen last.
func (p *peer) idle(now time.Time) time.Duration {
	idle := now.Sub(p.since)
	if p.log != nil {
		idle = min(idle, p.log.Idle(now))
	}
	return idle
}
