package spread

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// Hop is one slice of a batch on its way from this member, the parent, to the slice's head, the child.
type Hop struct {
	Batch *Batch
	To    wire.Peer
	View  Arc         // the slice as this member sees it, the child first
	End   uint64      // the position where the slice ends
	Sent  []time.Time // when each try left

	// Of a large batch:
	flying    bool          // its stream is not written yet
	failed    bool          // the last one could not be
	written   time.Time     // when it was, or turned out not to be; or when more of it was read
	readAt    time.Time     // when more of it was read; zero: that was not told
	muteAfter time.Duration // how long the child may answer nothing at all

	lacks      bool // the child has said that it could not keep the batch; asked again it may not know of it any more
	state      hopState
	unanswered int       // tries since the child's last report
	questions  int       // tries since the child has said that it holds the batch
	due        time.Time // when to look at it again
}

// Flying reports whether the hop waits to be told that its stream was written: see Spread.Written.
func (h *Hop) Flying() bool { return h.flying }

// carries reports whether what is on its way is the large batch itself, by stream: not a small batch, and not a question.
func (h *Hop) carries() bool { return h.Batch.large && !h.state.held() }

// sentAt returns when a try left, if there was such a try.
func (h *Hop) sentAt(try uint64) (time.Time, bool) {
	if try == 0 || try > uint64(len(h.Sent)) {
		return time.Time{}, false
	}
	return h.Sent[try-1], true
}

// tries returns how many times in a row the hop is sent without an answer.
func (h *Hop) tries() int {
	switch {
	case h.carries():
		return largeTries
	case h.View.Len() > 1:
		return headTries
	}
	return leafTries
}

// reportEvent tells what a report of the child means to the hop.
func (h *Hop) reportEvent(r wire.Report) hopEvent {
	switch {
	case !r.Done:
		return reportHeld
	case h.agrees(r):
		return reportAgrees
	case r.List == nil:
		return reportDiffers
	}
	return reportLists
}

// agrees reports whether a report names all members of our view of the slice, as holders or as given up.
func (h *Hop) agrees(r wire.Report) bool {
	if r.More {
		return false
	}
	count, sum := uint64(h.View.Len()), h.View.Sum()
	for _, pos := range r.Gone {
		count--
		sum ^= pos
	}
	return r.Count == count && r.Sum == sum
}

// timeoutEvent tells what it means that the hop is due.
func (h *Hop) timeoutEvent(p *Peer, now time.Time) hopEvent {
	if r := p.retried; r != nil && r != h && r.state != hopEnded && !h.Batch.large {
		// A member that does not answer is asked one question at a time: it may be slow, and has all the others before it.
		if r.state.inWindow() {
			return dueBehind
		}
		return dueBehindReleased
	}
	if h.carries() && !h.failed {
		return h.largeEvent(p, now)
	}
	most, mute := heldMost, p.overdue(now)
	if h.Batch.large {
		most, mute = heldLong, h.mute(p, now)
	}
	stuck := h.state.held() && now.Sub(h.Sent[0]) >= most
	left := h.Sent[len(h.Sent)-1]
	switch {
	case stuck, mute, !left.After(p.gaveUpAt): // the child holds for ever, or answers nothing, or did not a moment ago
		return dueGiveUp
	case h.unanswered < min(h.tries(), headTries):
		return dueRetry
	case h.unanswered < h.tries():
		return dueRetryReleased
	case h.View.Len() > 1:
		return dueSpent
	}
	return dueGiveUp
}

// largeEvent is timeoutEvent of a large batch whose stream is being written, or was. The child may hang, or its link be slow: others are
// given its slice, and it is waited for alone.
func (h *Hop) largeEvent(p *Peer, now time.Time) hopEvent {
	left := h.Sent[len(h.Sent)-1]
	switch {
	case h.mute(p, now), !h.flying && !left.After(p.gaveUpAt), p.deafSince(left, now):
		return dueGiveUp
	case h.View.Len() > 1:
		return dueSpent
	case h.flying, now.Sub(h.answerable()) < heardMutes*h.muteAfter:
		return dueRetryReleased
	case h.unanswered < h.tries():
		return dueRetry
	}
	return dueGiveUp
}

// wait returns how long the next try waits for an answer.
func (h *Hop) wait(rto time.Duration) time.Duration {
	wait := rto
	if h.unanswered >= flatTries {
		wait = min(rto<<min(h.unanswered-flatTries+1, doublings), RTOMax)
	}
	if h.state.held() {
		wait = max(heldRTOs*rto, wait)
	}
	return wait
}

// pause returns how long a child that holds the batch is not asked whether its slice is done. It says so unasked; only if that gets lost does
// the question bring it. A large message has many batches, each of which may wait for slow links or for members that hang: the pause doubles.
func (h *Hop) pause(rto time.Duration) time.Duration {
	pause := heldRTOs * rto
	if h.Batch.large {
		pause = max(pause, min(pause<<min(h.questions, 16), heldPause))
	}
	return pause
}

// takeOver gives up the child, and gives the rest of its slice to the next member in it.
func (s *Spread) takeOver(h *Hop, now time.Time) {
	h.Batch.giveUp(h.View.first().Pos)
	s.spreadOut(h.Batch, h.View.rest(), h.End, now)
}

// handOn gives the rest of a hop's slice to the next member in it. The hop is for the child alone from then on.
func (s *Spread) handOn(h *Hop, now time.Time) {
	rest, end := h.View.rest(), h.End
	h.View, h.End = h.View.leaf(), rest.first().Pos
	s.spreadOut(h.Batch, rest, end, now)
}

// spreadOut gives a slice whose head did not answer to others: to the next member in it, or that of a large batch to several at once, for
// many may hang at the same time, and each is waited for for long.
func (s *Spread) spreadOut(b *Batch, slice Arc, end uint64, now time.Time) {
	if !b.large {
		s.assign(b, slice, end, now)
		return
	}
	s.serve(b, slice.cut(fanOut), end, now)
}

// serveUnnamed sends the batch to those of a slice that the child's report does not name: its view of the slice is another one.
func (s *Spread) serveUnnamed(h *Hop, r wire.Report, now time.Time) {
	holders, givenUp := setOf(r.List), setOf(r.Gone)
	for n := h.View.from; n < h.View.to; n++ {
		p := h.View.ring.at(n)
		switch {
		case p.Member.ID == h.Batch.ID.Root: // it has it, whatever the child thinks of it
		case givenUp[p.Pos], p.Member.ID == h.To.ID && h.lacks:
			h.Batch.giveUp(p.Pos)
		case holders[p.Pos]:
		case p.Member.ID == h.To.ID && !r.More: // it says of itself what it lacks
		case r.More || s.peer(p.Member.ID).silent:
			h.Batch.giveUp(p.Pos)
		default:
			s.startHop(h.Batch, p.Member, Arc{h.View.ring, n, n + 1}, p.Pos+1, now)
		}
	}
}

func setOf(positions []uint64) map[uint64]bool {
	set := make(map[uint64]bool, len(positions))
	for _, pos := range positions {
		set[pos] = true
	}
	return set
}

// patient reports whether the child of a large batch is to be waited for, and sets until when: it answers others of our frames, so what
// we have written is on its way. No link is too slow for that.
func (h *Hop) patient(p *Peer, now time.Time) bool {
	if h.flying || h.failed || now.Sub(p.heardAt) >= largeWait || now.Sub(h.written) >= largePatience {
		return false
	}
	h.due = now.Add(largeWait)
	return true
}

// flight is how long the stream of a large batch may take to be written before it is taken for hanging.
func (h *Hop) flight() time.Duration { return flyFor + time.Duration(h.Batch.Size)*time.Second/flyRate }

// mute reports whether the child of a large batch answers nothing: for long, since what was written may wait long in the buffers of the
// system.
func (h *Hop) mute(p *Peer, now time.Time) bool {
	return !h.flying && now.Sub(h.answerable()) >= h.muteAfter && now.Sub(p.heardAt) >= h.muteAfter
}

// answerable returns since when the child of a large batch may answer what it was sent last: since a stream was written, be that long after
// it was to be sent.
func (h *Hop) answerable() time.Time {
	left := h.Sent[len(h.Sent)-1]
	if h.written.After(left) {
		return h.written
	}
	return left
}
