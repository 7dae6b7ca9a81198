// Package receipt records which parts of an origin this member has received. Log is the record of one origin; Digest is what
// members tell each other of their records.
//
// What goes in: which parts arrived, were handled, were evicted or were given up, and what the origin says of itself. What
// comes out: whether a part is new, what is missing and since when, what is done. A log holds sequence numbers only; the
// parts themselves are in package store.
//
// A log holds a bounded number of ranges. A part that would need one more is refused and leaves no trace, so that an origin
// that leaves out parts on purpose harms itself alone.
//
// The package is pure: the time is always an argument, and there are no locks.
package receipt

import (
	"math"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// MaxRanges bounds the ranges of held parts and those of missing parts that a log records. Whatever else it records is bounded
// by these two and by the history: see the invariants of Log.
const MaxRanges = 4096

// Admission is a log's verdict on a part that arrived.
type Admission uint8

// The verdicts.
const (
	Refused   Admission = iota // no valid seq, or no room to record it: as if it had never come
	Duplicate                  // was here before, or came too late to count
	Fresh                      // is held from now on
)

// Log is what this member knows of the parts of one origin: which are new, which it has seen, which are missing since when.
//
// Every seq of the origin is in one of these states:
//
//	pre-baseline  below the baseline: need not be delivered here
//	missing       known to exist, not here
//	held          here, and its handler has not run (pending), or has (handled)
//	given up      was missing until it was given up: a gap
//
// The baseline is the seq from which on the origin's parts must be delivered here. The origin tells it: which one that is, is
// decided in package replica (baselines). Until it is told, parts are admitted, and nothing is overdue. If the origin is gone
// and can no longer tell, a baseline is assumed.
//
// A seq is done when it is pre-baseline, handled or given up. The floor passes only seqs that are done; so parts that wait
// for a slow handler keep it down. That is why the log records which parts are pending, and not which are done: while the
// handler of one channel hangs, the parts of the origin's other channels are done, and the hung channel's parts between them
// would make one range of each. A bounded record of done parts would be full soon, and then refuse the parts of all
// channels. The ranges of pending parts need no such bound, because each pending part is in the history, which is bounded.
//
// It takes no lock: its owner serialises all calls.
type Log struct{ record }

// New returns the log of an origin of which nothing is known.
func New(now time.Time) *Log {
	return &Log{record{limit: MaxRanges, holes: seqset.NewHoles(now), lastSeen: now}}
}

// Admit decides on a part that arrived, and records it as held and pending if it is fresh. Of a fresh part the caller must
// report that it was handled or that it was evicted. A refused part leaves no trace: it is still missing.
func (l *Log) Admit(seq uint64, now time.Time) Admission {
	if seq == 0 {
		return Refused
	}
	l.Sight(now)
	switch {
	case l.Seen(seq):
		return Duplicate
	case !l.fits(seq):
		return Refused
	}
	l.reach(seq, now)
	l.held.Add(seq)
	l.pending.Add(seq)
	return Fresh
}

// reach extends the record to a part that arrived: it is no longer missing, and what lies between it and the record is.
func (l *Log) reach(seq uint64, now time.Time) {
	switch {
	case l.first == 0:
		if l.first = seq; seq < l.top {
			l.holes.Insert(seq+1, l.top, now)
		}
		l.top = max(l.top, seq)
	case seq > l.top:
		if seq-1 > l.top {
			l.holes.Insert(l.top+1, seq-1, now)
		}
		l.top = seq
	case seq < l.first:
		if seq+1 < l.first {
			l.holes.Insert(seq+1, l.first-1, now)
		}
		l.first = seq
	default:
		l.holes.Cut(seq, seq)
	}
}

// Announce records that the origin has sent all parts up to top. It reports false if there is no room for another hole. Any
// number may be announced: it costs one hole. Announce does not count as a sight of the origin: otherwise members that tell
// each other of an origin that is gone would remember it for ever.
func (l *Log) Announce(top uint64, now time.Time) bool {
	switch {
	case top <= l.top:
		return true
	case l.first == 0: // nothing seen: nothing is missing yet
	case l.holes.Count() >= l.limit:
		return false
	default:
		l.holes.Insert(l.top+1, top, now)
	}
	l.top = top
	return true
}

// Retract records that the origin itself has sent nothing above top yet: what is missing there was announced by others, and
// does not exist. Otherwise one member's false announcement would become a gap, and the parts that the origin really sends
// later would be dropped as given up.
func (l *Log) Retract(top uint64) {
	if l.first == 0 {
		l.top = min(l.top, max(top, l.floor))
		return
	}
	for n := l.holes.Count(); n > 0 && l.top > top; n = l.holes.Count() {
		last := l.holes.Highest()
		if last.Hi != l.top {
			break
		}
		from := max(last.Lo, top+1)
		l.holes.Cut(from, last.Hi)
		l.top = from - 1
	}
	l.advance()
}

// SetHandled records that the part needs no handler any more. It reports false, and records nothing, in one case only: the
// part was evicted while its handler ran, and there is no room left to record that it was here.
func (l *Log) SetHandled(seq uint64, now time.Time) bool {
	if !l.Seen(seq) && l.Admit(seq, now) != Fresh {
		return false
	}
	l.pending.Remove(seq)
	l.tentative.Remove(seq)
	l.advance()
	return true
}

// Evicted records that a part was evicted from the history. A pending part is missing from now on, unless Evicted reports
// true: then it is given up at once, because it is below the baseline or because there is no room for another hole. A part
// that is not pending stays as it is.
func (l *Log) Evicted(seq uint64, now time.Time) (givenUp bool) {
	if !l.pending.Remove(seq) {
		return false
	}
	l.tentative.Remove(seq)
	full := l.holes.Count() >= l.limit || l.held.Count() >= l.limit && l.held.Splits(seq)
	if seq <= l.floor || full {
		l.advance()
		return true
	}
	l.held.Remove(seq)
	l.holes.Insert(seq, seq, now)
	return false
}

// GiveUp gives up what is missing of [lo, hi], and returns how many parts that were. They are never admitted again. It is for
// a gap, and for parts that a snapshot contains. Call it with whole holes: if there is no room to record what is left on
// both sides of [lo, hi], nothing is given up.
func (l *Log) GiveUp(lo, hi uint64) (n uint64) {
	if lo > hi || l.holes.Count() >= l.limit && l.holes.Splits(lo, hi) {
		return 0
	}
	for h := range l.holes.From(lo) {
		if h.Lo > hi {
			break
		}
		from, to := max(lo, h.Lo), min(hi, h.Hi)
		l.givenUp.AddRange(from, to)
		n += to - from + 1
	}
	l.holes.Cut(lo, hi)
	l.advance()
	return n
}

// advance raises the floor to just below the first seq that is not done.
func (l *Log) advance() {
	if l.first == 0 || l.first-1 > l.floor || l.floor == math.MaxUint64 {
		return // the baseline may turn out to be between the floor and the record
	}
	floor := l.top
	if l.holes.Count() > 0 {
		floor = min(floor, l.holes.Lowest().Lo-1)
	}
	if seq, ok := l.pending.Next(l.floor + 1); ok {
		floor = min(floor, seq-1)
	}
	if floor > l.floor {
		l.floor = floor
		l.held.Trim(floor)
		l.givenUp.Trim(floor)
	}
}

// Sight records that the origin was seen.
func (l *Log) Sight(now time.Time) {
	if now.After(l.lastSeen) {
		l.lastSeen = now
	}
}
