package spread

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// hopState says what the child has answered to a hop, and whether the hop counts in the send window. While one hop of a batch
// of ours counts there, the batch's bytes are on their way. A hop is released from the window when its child was tried so
// often that our next batches shall not wait for it any longer.
//
// The table has, for each event in each state, the state that follows and what the parent does; "-" where the event cannot come.
// The states are short: A asked, H held, L listed; a, h and l are the same ones, released from the window; E ended.
//
//	event              A                  H               L               a               h               l               E
//	reportHeld         H askLater         H askLater      L nothing       h askLater      h askLater      l nothing       -
//	reportAgrees       E finish           E finish        E finish        E finish        E finish        E finish        -
//	reportDiffers      L askList          L askList       E serveUnnamed  l askList       l askList       E serveUnnamed  -
//	reportLists        E serveUnnamed     E serveUnnamed  E serveUnnamed  E serveUnnamed  E serveUnnamed  E serveUnnamed  -
//	dueBehind          A postpone         H postpone      L postpone      a postpone      h postpone      l postpone      -
//	dueBehindReleased  a postponeHandOn   h postpone      l postpone      a postpone      h postpone      l postpone      -
//	dueRetry           A retry            H retry         L retry         a retry         h retry         l retry         -
//	dueRetryReleased   a retry            h retry         l retry         a retry         h retry         l retry         -
//	dueSpent           a handOn           h handOn        l handOn        -               h handOn        l handOn        -
//	dueGiveUp          E giveUp           E giveUp        E giveUp        E giveUp        E giveUp        E giveUp        -
//	peerLost           E takeOver         E takeOver      E takeOver      E takeOver      E takeOver      E takeOver      -
//
// Nothing finds an ended hop: see Batch.hopTo, dueHops.pop and Spread.Lost. And a hop in state a has no members behind its child
// that could be handed on: whatever releases an asked hop has handed them on, or there were none.
type hopState uint8

const (
	hopAsked  hopState = iota // no answer yet
	hopHeld                   // the child holds the batch; not all of its slice does
	hopListed                 // the same, and the child was asked for the list of holders
	hopAskedReleased
	hopHeldReleased
	hopListedReleased
	hopEnded // done, taken over or given up
	hopStates
)

// held reports whether the child has said that it holds the batch.
func (st hopState) held() bool {
	return st == hopHeld || st == hopListed || st == hopHeldReleased || st == hopListedReleased
}

// listed reports whether the child is asked for the list of holders.
func (st hopState) listed() bool { return st == hopListed || st == hopListedReleased }

// inWindow reports whether the hop counts in the send window.
func (st hopState) inWindow() bool { return st < hopAskedReleased }

// hopEvent is what can come to a hop.
type hopEvent uint8

const (
	reportHeld        hopEvent = iota // the child holds the batch; not all of its slice does
	reportAgrees                      // the slice is done, and the report agrees with our view of it
	reportDiffers                     // the slice is done; the report differs from our view and has no list of holders
	reportLists                       // the slice is done; the report differs from our view and has the list
	dueBehind                         // the hop is due, but another hop is retried to the member, which counts in the window
	dueBehindReleased                 // the same, but the other hop was released from the window
	dueRetry                          // the hop is due, and has tries left
	dueRetryReleased                  // the hop is due, and has tries left, but none that the window waits for
	dueSpent                          // the hop is due, its tries are spent, and there are members behind the child
	dueGiveUp                         // the hop is due, and another try makes no sense: see Hop.timeoutEvent
	peerLost                          // the child has left the membership
	hopEvents
)

// hopAction is what an event makes the parent do. Spread.step has the code.
type hopAction uint8

const (
	impossible hopAction = iota // and counted, if it happens all the same
	nothing
	askLater       // ask in a while whether the slice is done
	askList        // ask for the list of holders, now
	finish         // note whom the child has given up
	serveUnnamed   // send the batch to those of the slice that the child does not name
	postpone       // look again when the other hop has been tried
	postponeHandOn // postpone, and give the rest of the slice, if there is any, to the next member in it
	retry          // send again
	handOn         // give the rest of the slice to the next member in it, and send again, for the child alone
	giveUp         // take over, and note that the member does not answer
	takeOver       // note that the child lacks the batch, and give the rest of the slice to the next member in it
)

type transition struct {
	to hopState
	do hopAction
}

// hopTable is the table of hopState, in its order: seven states for each event.
var hopTable = [hopEvents][hopStates]transition{
	reportHeld: {
		{hopHeld, askLater}, {hopHeld, askLater}, {hopListed, nothing},
		{hopHeldReleased, askLater}, {hopHeldReleased, askLater}, {hopListedReleased, nothing}, {},
	},
	reportAgrees: {
		{hopEnded, finish}, {hopEnded, finish}, {hopEnded, finish},
		{hopEnded, finish}, {hopEnded, finish}, {hopEnded, finish}, {},
	},
	reportDiffers: {
		{hopListed, askList}, {hopListed, askList}, {hopEnded, serveUnnamed},
		{hopListedReleased, askList}, {hopListedReleased, askList}, {hopEnded, serveUnnamed}, {},
	},
	reportLists: {
		{hopEnded, serveUnnamed}, {hopEnded, serveUnnamed}, {hopEnded, serveUnnamed},
		{hopEnded, serveUnnamed}, {hopEnded, serveUnnamed}, {hopEnded, serveUnnamed}, {},
	},
	dueBehind: {
		{hopAsked, postpone}, {hopHeld, postpone}, {hopListed, postpone},
		{hopAskedReleased, postpone}, {hopHeldReleased, postpone}, {hopListedReleased, postpone}, {},
	},
	dueBehindReleased: {
		{hopAskedReleased, postponeHandOn}, {hopHeldReleased, postpone}, {hopListedReleased, postpone},
		{hopAskedReleased, postpone}, {hopHeldReleased, postpone}, {hopListedReleased, postpone}, {},
	},
	dueRetry: {
		{hopAsked, retry}, {hopHeld, retry}, {hopListed, retry},
		{hopAskedReleased, retry}, {hopHeldReleased, retry}, {hopListedReleased, retry}, {},
	},
	dueRetryReleased: {
		{hopAskedReleased, retry}, {hopHeldReleased, retry}, {hopListedReleased, retry},
		{hopAskedReleased, retry}, {hopHeldReleased, retry}, {hopListedReleased, retry}, {},
	},
	dueSpent: {
		{hopAskedReleased, handOn}, {hopHeldReleased, handOn}, {hopListedReleased, handOn},
		{}, {hopHeldReleased, handOn}, {hopListedReleased, handOn}, {},
	},
	dueGiveUp: {
		{hopEnded, giveUp}, {hopEnded, giveUp}, {hopEnded, giveUp},
		{hopEnded, giveUp}, {hopEnded, giveUp}, {hopEnded, giveUp}, {},
	},
	peerLost: {
		{hopEnded, takeOver}, {hopEnded, takeOver}, {hopEnded, takeOver},
		{hopEnded, takeOver}, {hopEnded, takeOver}, {hopEnded, takeOver}, {},
	},
}

// step gives a hop an event; r is the report, if it is one. The caller concludes the batch afterwards.
func (s *Spread) step(h *Hop, ev hopEvent, r wire.Report, now time.Time) {
	next := hopTable[ev][h.state]
	if next.do == impossible {
		s.Impossible++
		return
	}
	h.Batch.moved(h.state, next.to)
	s.note(h.Batch)
	if h.state == hopAsked && next.to != hopAsked && h.Batch.large && h.Batch.ours() {
		s.Ahead.add(-1, -h.Batch.Size)
	}
	carried := h.carries()
	h.state = next.to
	switch next.do {
	case askLater:
		h.due = now.Add(h.pause(s.peer(h.To.ID).RTO()))
		s.due.push(h)
	case askList:
		s.try(h, now)
	case finish:
		h.Batch.giveUp(r.Gone...)
	case serveUnnamed:
		s.serveUnnamed(h, r, now)
	case postpone, postponeHandOn:
		p := s.peer(h.To.ID)
		h.due = now.Add(max(p.retried.due.Sub(now), p.RTO()))
		s.due.push(h)
		if next.do == postponeHandOn && h.View.Len() > 1 {
			s.handOn(h, now)
		}
	case retry:
		if !h.Batch.large {
			s.peer(h.To.ID).retried = h
		}
		s.again(h, now)
	case handOn:
		s.peer(h.To.ID).demote(now)
		s.handOn(h, now)
		s.again(h, now)
	case giveUp:
		p := s.peer(h.To.ID)
		p.gaveUp(h.Batch.large && (h.failed || h.mute(p, now)), carried, now)
		s.takeOver(h, now)
	case takeOver: // the owner has dropped the Peer: it is not asked for
		s.takeOver(h, now)
	}
}

// again sends a hop again. What was written to a stream is on its way, and may be for long: that is only waited for again, unless it has
// failed or been waited for too long.
func (s *Spread) again(h *Hop, now time.Time) {
	if h.carries() && !h.failed && (h.flying || now.Sub(h.written) < largePatience) {
		h.unanswered++
		h.due = now.Add(max(silentAfter(s.peer(h.To.ID).RTO()), h.flight()))
		s.due.push(h)
		return
	}
	s.try(h, now)
}
