package starling

import (
	"math"
	"time"
)

// maxRanges bounds what a window records above its floor.
const maxRanges = 4096

// admission is a window's verdict on a part.
type admission uint8

const (
	admitRefused   admission = iota // no valid seq, or no room to remember it: as if it had never come
	admitDuplicate                  // was here before, or came too late to count
	admitFresh                      // is held from now on
)

// window is what this member has had of one origin: the receiver's record,
// which tells new from seen, and knows what is missing since when.
//
// Every seq of an origin is in one of these states:
//
//	pre-baseline  older than what this member is owed
//	missing       known to exist, not here
//	held          here, and its handler has not run (pending), or has (handled)
//	lost          missing until it was given up: a gap
//
// A seq is done when it is pre-baseline, handled or lost. The floor passes done
// ones only; so parts that wait for a slow handler keep it down. That is why the
// record tells pending parts, not done ones: between the parts of a channel
// whose handler hangs, those of all other channels of the origin are done, one
// range each, and a bounded record of them would close the origin's other
// channels. A pending range however consists of parts in the history, which
// bounds and charges them.
//
// It takes no lock and reads no clock: its owner serialises all calls.
type window struct {
	// Invariant: floor never falls; every seq <= floor is done, but for what
	// was pending when a baseline was told above it.
	floor uint64

	// top is the highest seq known to exist. Invariant: floor <= top.
	top uint64

	// first is where the record begins: the lowest seq seen, until a baseline
	// is told; 0 = nothing seen yet.
	// Invariant: if first > 0, [max(first, floor+1), top] is the disjoint union
	// of held, lost and missing; else all three are empty.
	first uint64

	based bool // a baseline was told or assumed: what is missing is owed

	// oldest is the lowest seq seen of what was broadcast clearly after this member met the origin; 0 =
	// none yet. It is the baseline to assume where none can be told any more.
	oldest uint64

	// waived is what was below an assumed baseline and never handled. A baseline that is told after all may say that it was owed.
	waived intervals

	// spared is what is pending and was not given to a handler, for it seems to be older than this member's meeting with the
	// origin. A baseline may tell that it is owed all the same. Invariant: spared is a subset of pending, and empty once there
	// is a baseline.
	spared intervals

	// held is what was admitted above the floor and not unheld since.
	// Invariant: held.count() <= limit + 1, the one more beginning at floor+1.
	held intervals

	// pending is what is held and not handled, with what was below a baseline.
	// Invariant: each pending part is in the history, if its owner reports
	// every eviction; so pending.count() <= the origin's unhandled parts there.
	pending intervals

	// lost is what was given up above the floor.
	// Invariant: lost.count() <= held.count() + len(missing.list) + 1, since
	// one of these lies between any two of its ranges.
	lost intervals

	// holes are the missing ones.
	// Invariant: len(holes.list) <= limit + 1, the one more being what lies
	// between a baseline and the first part seen.
	holes holes

	limit    int       // maxRanges, outside tests
	lastSeen time.Time // when a part of the origin last came, or sight was last called
}

// newWindow returns the record of an origin of which nothing is known.
func newWindow(now time.Time) *window {
	return &window{limit: maxRanges, holes: holes{epoch: now}, lastSeen: now}
}

// admit says what the part with this seq is, and holds it if it is fresh: then
// the caller must keep it, and report either its handling or its eviction. A
// refused part leaves no trace: it is missing for whoever asks next.
func (w *window) admit(seq uint64, now time.Time) admission {
	if seq == 0 {
		return admitRefused
	}
	w.sight(now)
	switch {
	case w.seen(seq):
		return admitDuplicate
	case !w.fits(seq):
		return admitRefused
	}
	w.reach(seq, now)
	w.held.add(seq)
	w.pending.add(seq)
	return admitFresh
}

// seen reports whether admit would call the part a duplicate.
func (w *window) seen(seq uint64) bool {
	return seq <= w.floor || w.held.contains(seq) || w.lost.contains(seq)
}

// fits reports whether a part not seen yet can be recorded. The one just above
// the floor always can: however full the record, it gets emptier from below.
func (w *window) fits(seq uint64) bool {
	if seq-1 == w.floor && w.first != 0 {
		return true
	}
	if w.held.count() >= w.limit && !w.held.joins(seq) {
		return false
	}
	if len(w.holes.list) < w.limit {
		return true
	}
	switch {
	case seq > w.top:
		return seq-1 == w.top
	case seq < w.first:
		return seq+1 == w.first
	}
	return !w.holes.splits(seq, seq)
}

// reach stretches the record to seq, which has come: what lies between is
// missing from now on, and seq itself no longer.
func (w *window) reach(seq uint64, now time.Time) {
	switch {
	case w.first == 0:
		if w.first = seq; seq < w.top {
			w.holes.insert(seq+1, w.top, now)
		}
		w.top = max(w.top, seq)
	case seq > w.top:
		if seq-1 > w.top {
			w.holes.insert(w.top+1, seq-1, now)
		}
		w.top = seq
	case seq < w.first:
		if seq+1 < w.first {
			w.holes.insert(seq+1, w.first-1, now)
		}
		w.first = seq
	default:
		w.holes.cut(seq, seq)
	}
}

// announce says that the origin has sent all up to top, and reports whether
// that is recorded: false if there is no room for another hole. The number may
// be any; it costs nothing. It is no sight of the origin: members that tell each
// other of one that is gone would remember it for ever.
func (w *window) announce(top uint64, now time.Time) bool {
	switch {
	case top <= w.top:
		return true
	case w.first == 0: // nothing seen: nothing is missing yet
	case len(w.holes.list) >= w.limit:
		return false
	default:
		w.holes.insert(w.top+1, top, now)
	}
	w.top = top
	return true
}

// setBaseline says that nothing below next is owed: it will neither be asked
// for nor admitted. What was delivered of it stays delivered; what is pending
// of it stays pending. A later baseline counts if it is higher.
func (w *window) setBaseline(next uint64, now time.Time) {
	next = max(next, 1)
	if !w.based && next < w.first {
		w.holes.insert(next, w.first-1, now)
		w.first = next
	}
	w.based = true
	if next-1 > w.floor {
		w.floor = next - 1
		w.held.trim(w.floor)
		w.lost.trim(w.floor)
		w.holes.cut(0, w.floor)
	}
	if w.first == 0 {
		w.first = next
		if w.top >= next {
			w.holes.insert(next, w.top, now)
		}
	}
	w.top = max(w.top, w.floor)
	w.advance()
}

// owe notes a part that was broadcast after this member met its origin: then so was what came after it.
func (w *window) owe(seq uint64) {
	if w.oldest == 0 || seq < w.oldest {
		w.oldest = seq
	}
}

// spare notes a pending part that no handler is given until a baseline tells whether it is owed.
func (w *window) spare(seq uint64) { w.spared.add(seq) }

// unspare returns what was spared, and forgets it.
func (w *window) unspare() []span {
	spans := w.spared.spans
	w.spared = intervals{}
	return spans
}

// assumeBaseline takes as the baseline the oldest part seen that was owed, for an origin that can no longer be asked. It
// reports false while there is none.
func (w *window) assumeBaseline() bool {
	if w.based || w.oldest == 0 {
		return w.based
	}
	w.waived.addRange(1, w.first-1)
	for _, h := range w.holes.list {
		w.waived.addRange(h.lo, h.hi)
	}
	for lo, hi := range w.spared.ranges() {
		w.waived.addRange(lo, hi)
	}
	w.waived.removeRange(w.oldest, math.MaxUint64)
	w.setBaseline(w.oldest, time.Time{})
	return true
}

// recall takes a baseline that is told after one was assumed, and returns what was owed of what was waived.
func (w *window) recall(next uint64) []span {
	w.waived.trim(next - 1)
	owed := w.waived.spans
	w.waived = intervals{}
	return owed
}

// setHandled says that the part needs no handler any more. It reports false,
// and remembers nothing, in one case only: the part was evicted while its
// handler ran, and there is no room left to record that it was here.
func (w *window) setHandled(seq uint64, now time.Time) bool {
	if !w.seen(seq) && w.admit(seq, now) != admitFresh {
		return false
	}
	w.pending.remove(seq)
	w.spared.remove(seq)
	w.advance()
	return true
}

// unhold says that a pending part was evicted. It is missing again from now on;
// unless true is returned: then it is lost at once, either because there is no
// room to record the hole or because it was older than the baseline. A part that
// is not pending stays as it is.
func (w *window) unhold(seq uint64, now time.Time) (lost bool) {
	if !w.pending.remove(seq) {
		return false
	}
	w.spared.remove(seq)
	full := len(w.holes.list) >= w.limit || w.held.count() >= w.limit && w.held.splits(seq)
	if seq <= w.floor || full {
		w.advance()
		return true
	}
	w.held.remove(seq)
	w.holes.insert(seq, seq, now)
	return false
}

// lose gives up what is missing of [lo, hi] and returns how many that were: a
// gap, or, without one, what a snapshot already contains. They are never
// admitted again. Call it with whole holes: a part out of the middle of one
// stays missing while there is no room to record both sides.
func (w *window) lose(lo, hi uint64) (n uint64) {
	if lo > hi || len(w.holes.list) >= w.limit && w.holes.splits(lo, hi) {
		return 0
	}
	for _, h := range w.holes.list[w.holes.search(lo):] {
		if h.lo > hi {
			break
		}
		from, to := max(lo, h.lo), min(hi, h.hi)
		w.lost.addRange(from, to)
		n += to - from + 1
	}
	w.holes.cut(lo, hi)
	w.advance()
	return n
}

// advance raises the floor to just below the first seq that is not done.
func (w *window) advance() {
	if w.first == 0 || w.first-1 > w.floor || w.floor == math.MaxUint64 {
		return // what lies between floor and record may yet be owed
	}
	floor := w.top
	if len(w.holes.list) > 0 {
		floor = min(floor, w.holes.list[0].lo-1)
	}
	if seq, ok := w.pending.next(w.floor + 1); ok {
		floor = min(floor, seq-1)
	}
	if floor > w.floor {
		w.floor = floor
		w.held.trim(floor)
		w.lost.trim(floor)
	}
}

// last returns the highest seq that is known to exist, or, as long as nothing is
// owed, that was here; 0 if there is none.
func (w *window) last() uint64 {
	if w.based {
		return w.top
	}
	last, _ := w.held.max()
	return max(last, w.floor)
}

// isDone reports whether nothing need wait for the part any more: it was
// handled, lost, or older than the baseline and not pending. Seq 0, the
// predecessor of a channel's first part, is done.
func (w *window) isDone(seq uint64) bool {
	return w.seen(seq) && !w.pending.contains(seq)
}

// missing returns the lowest holes, at most limit of them.
func (w *window) missing(limit int) []hole {
	n := min(max(limit, 0), len(w.holes.list))
	return append([]hole(nil), w.holes.list[:n]...)
}

// overdue returns the holes that have been known for at least age. Until there
// is a baseline nothing is owed, and nothing overdue.
func (w *window) overdue(now time.Time, age time.Duration) []hole {
	if !w.based {
		return nil
	}
	var due []hole
	for _, h := range w.holes.list {
		if now.Sub(h.since) >= age {
			due = append(due, h)
		}
	}
	return due
}

// sight says that the origin was there just now.
func (w *window) sight(now time.Time) { w.lastSeen = later(now, w.lastSeen) }

// idle returns how long ago the origin was last seen.
func (w *window) idle(now time.Time) time.Duration { return now.Sub(w.lastSeen) }

// retract says that the origin itself has sent nothing above top yet: where others told of more, and nothing came of it,
// there is none. Else any member's lie would become a gap, in which the origin's own parts vanish.
func (w *window) retract(top uint64) {
	if w.first == 0 {
		w.top = min(w.top, max(top, w.floor))
		return
	}
	for n := len(w.holes.list); n > 0 && w.top > top; n = len(w.holes.list) {
		last := w.holes.list[n-1]
		if last.hi != w.top {
			break
		}
		from := max(last.lo, top+1)
		w.holes.cut(from, last.hi)
		w.top = from - 1
	}
	w.advance()
}
