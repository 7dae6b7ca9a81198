package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// coming is parts of an origin that are likely on their way: the other pieces of a message of which one has come, and what its origin did
// not give when it was asked, since it is sending it. To ask for them would have them sent twice.
type coming []comingSpan

type comingSpan struct {
	seqset.Span
	at    time.Time // when a part of them came last
	until time.Time
}

const (
	// comingFor is how long after one piece the others are waited for; or comingGaps times as long as that piece came after the one before
	// it, but comingMost at most: links may be slow.
	comingFor  = time.Second
	comingGaps = 3
	comingMost = 15 * time.Second
	// comingSoon is how long what its origin is sending is waited for.
	comingSoon = 200 * time.Millisecond
	// maxComing bounds the spans that are remembered.
	maxComing = 64
)

// expect notes that parts are on their way.
func (c *coming) expect(lo, hi uint64, until, now time.Time) {
	*c = slices.DeleteFunc(*c, func(s comingSpan) bool { return s.Lo == lo && s.Hi == hi || now.After(s.until) })
	if len(*c) < maxComing {
		*c = append(*c, comingSpan{Span: seqset.Span{Lo: lo, Hi: hi}, until: until})
	}
}

// came notes that one of parts that travel together has come.
func (c *coming) came(lo, hi uint64, now time.Time) {
	wait := comingFor
	if i := slices.IndexFunc(*c, func(s comingSpan) bool { return s.Lo == lo && s.Hi == hi && !s.at.IsZero() }); i >= 0 {
		if gap := now.Sub((*c)[i].at); gap <= comingMost {
			wait = min(max(wait, comingGaps*gap), comingMost)
		}
		*c = slices.Delete(*c, i, i+1)
	}
	c.expect(lo, hi, now.Add(wait), now)
	if last := len(*c) - 1; last >= 0 && (*c)[last].Lo == lo && (*c)[last].Hi == hi {
		(*c)[last].at = now
	}
}

// without takes what is on its way out of spans.
func (c coming) without(spans []seqset.Span, now time.Time) []seqset.Span {
	if len(c) == 0 || len(spans) == 0 {
		return spans
	}
	var set seqset.Set
	for _, s := range spans {
		set.AddRange(s.Lo, s.Hi)
	}
	for _, s := range c {
		if !now.After(s.until) {
			set.RemoveRange(s.Lo, s.Hi)
		}
	}
	return set.All()
}
