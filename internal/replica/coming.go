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
	until time.Time
}

const (
	// comingFor is how long after one piece the others are waited for.
	comingFor = time.Second
	// comingSoon is how long what its origin is sending is waited for.
	comingSoon = 200 * time.Millisecond
	// maxComing bounds the spans that are remembered.
	maxComing = 64
)

// expect notes that parts are on their way.
func (c *coming) expect(lo, hi uint64, until, now time.Time) {
	*c = slices.DeleteFunc(*c, func(s comingSpan) bool { return s.Lo == lo && s.Hi == hi || now.After(s.until) })
	if len(*c) < maxComing {
		*c = append(*c, comingSpan{seqset.Span{Lo: lo, Hi: hi}, until})
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
