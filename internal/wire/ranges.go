package wire

import (
	"math"

	"github.com/starling-go/starling/internal/seqset"
)

const (
	// maxSpans bounds the ranges of one origin that are read from a frame.
	maxSpans = 1024

	// maxSpansSize bounds the bytes of those ranges: two varints each, of seldom more than eight bytes.
	maxSpansSize = 16 * maxSpans
)

// PullSpans bounds the ranges of one origin that are asked for at once.
const PullSpans = 256

// AppendSpans encodes ascending ranges above base as pairs: the distance from the end of the range before, and the range's
// length less one.
func AppendSpans(dst []uint64, base uint64, spans []seqset.Span) []uint64 {
	for _, s := range spans {
		dst = append(dst, s.Lo-base, s.Hi-s.Lo)
		base = s.Hi
	}
	return dst
}

// ReadSpans decodes ranges above base. It reports false for what AppendSpans cannot have written, and for too many.
func ReadSpans(src []uint64, base uint64) ([]seqset.Span, bool) {
	if len(src)%2 != 0 || len(src) > 2*maxSpans {
		return nil, false
	}
	var spans []seqset.Span
	for i := 0; i < len(src); i += 2 {
		if src[i] == 0 || src[i] > math.MaxUint64-base {
			return nil, false
		}
		lo := base + src[i]
		if src[i+1] > math.MaxUint64-lo {
			return nil, false
		}
		base = lo + src[i+1]
		spans = append(spans, seqset.Span{Lo: lo, Hi: base})
	}
	return spans, true
}
