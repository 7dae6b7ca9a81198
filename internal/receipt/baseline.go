package receipt

import (
	"math"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// SetBaseline makes next the baseline: what is below it will be neither asked for nor admitted. What was delivered of it
// stays delivered, and what is pending of it stays pending. Once there is a baseline it can only be raised.
func (l *Log) SetBaseline(next uint64, now time.Time) {
	next = max(next, 1)
	if !l.based && next < l.first {
		l.holes.Insert(next, l.first-1, now)
		l.first = next
	}
	l.based, l.base = true, max(l.base, next)
	if next-1 > l.floor {
		l.floor = next - 1
		l.held.Trim(l.floor)
		l.givenUp.Trim(l.floor)
		l.holes.Cut(0, l.floor)
	}
	if l.first == 0 {
		l.first = next
		if l.top >= next {
			l.holes.Insert(next, l.top, now)
		}
	}
	l.top = max(l.top, l.floor)
	l.advance()
}

// ProposeBaseline notes a part that the origin broadcast after it met this member. An origin numbers its parts in order: so
// all later ones were broadcast after the meeting too, and must be delivered. AssumeBaseline takes the lowest proposal.
func (l *Log) ProposeBaseline(seq uint64) {
	if l.proposed == 0 || seq < l.proposed {
		l.proposed = seq
	}
}

// AssumeBaseline takes the lowest proposal as the baseline of an origin that can no longer tell one. It reports whether there
// is a baseline now.
func (l *Log) AssumeBaseline() bool {
	if l.based || l.proposed == 0 {
		return l.based
	}
	l.skipped.AddRange(1, l.first-1)
	for h := range l.holes.From(0) {
		l.skipped.AddRange(h.Lo, h.Hi)
	}
	for _, s := range l.tentative.All() {
		l.skipped.AddRange(s.Lo, s.Hi)
	}
	l.skipped.RemoveRange(l.proposed, math.MaxUint64)
	l.SetBaseline(l.proposed, time.Time{})
	return true
}

// CorrectBaseline takes the baseline that an origin tells after one was assumed. It returns what was skipped and is not below
// that baseline: parts that should have been delivered, and no longer can be. It returns them once.
func (l *Log) CorrectBaseline(next uint64) []seqset.Span {
	l.skipped.Trim(next - 1)
	missed := l.skipped.All()
	l.skipped = seqset.Set{}
	return missed
}

// MarkTentative notes that a pending part is kept from its handler until there is a baseline: it seems to have been broadcast
// before the origin met this member, and may be below the baseline.
func (l *Log) MarkTentative(seq uint64) { l.tentative.Add(seq) }

// IsTentative reports whether that is so.
func (l *Log) IsTentative(seq uint64) bool { return l.tentative.Contains(seq) }

// TakeTentative returns the tentative parts, which are tentative no longer: the caller delivers what is above the floor, and
// reports the others as handled.
func (l *Log) TakeTentative() []seqset.Span {
	spans := l.tentative.All()
	l.tentative = seqset.Set{}
	return spans
}
