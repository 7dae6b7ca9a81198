package receipt

import (
	"slices"
	"testing"

	"github.com/starling-go/starling/internal/seqset"
)

// TestDigestCutShort: what does not fit is neither claimed nor denied.
func TestDigestCutShort(t *testing.T) {
	l := basedLog()
	for _, seq := range []uint64{1, 3, 4, 8, 11, 12} {
		l.Admit(seq, start)
	}
	l.SetHandled(1, start)
	l.GiveUp(9, 9)
	for limit := -1; limit < 5; limit++ {
		d := l.Digest(limit)
		if len(d.Held) > max(limit, 0) || d.Floor != 1 || d.Top != 12 {
			t.Fatalf("digest(%d) = %v", limit, d)
		}
		for seq := uint64(0); seq <= 20; seq++ {
			if d.Holds(seq) && !l.held.Contains(seq) {
				t.Errorf("digest(%d) claims %d", limit, seq)
			}
			if d.lacks(seq) && (l.held.Contains(seq) || seq <= l.floor || seq > l.top) {
				t.Errorf("digest(%d) denies %d", limit, seq)
			}
		}
	}
	if d := l.Digest(1); d.Known != 7 || !d.lacks(7) || d.lacks(8) || d.Holds(8) {
		t.Errorf("digest(1) = %v", d)
	}
	if d := l.Digest(3); d.Known != d.Top || !d.lacks(9) || !d.Holds(12) {
		t.Errorf("digest(3) = %v", d)
	}
	l.SetHandled(4, start)
	if d := l.HandledDigest(9); !slices.Equal(d.Held, []seqset.Span{{Lo: 4, Hi: 4}}) {
		t.Errorf("handled: %v", d.Held)
	}
}
