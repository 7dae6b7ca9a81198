package starling

import (
	"slices"
	"testing"
)

// TestDigestCutShort: what does not fit is neither claimed nor denied.
func TestDigestCutShort(t *testing.T) {
	w := basedWindow()
	for _, seq := range []uint64{1, 3, 4, 8, 11, 12} {
		w.admit(seq, genesis)
	}
	w.setHandled(1, genesis)
	w.lose(9, 9)
	for limit := -1; limit < 5; limit++ {
		d := w.digest(limit)
		if len(d.held) > max(limit, 0) || d.floor != 1 || d.top != 12 {
			t.Fatalf("digest(%d) = %v", limit, d)
		}
		for seq := uint64(0); seq <= 20; seq++ {
			if d.holds(seq) && !w.held.contains(seq) {
				t.Errorf("digest(%d) claims %d", limit, seq)
			}
			if d.lacks(seq) && (w.held.contains(seq) || seq <= w.floor || seq > w.top) {
				t.Errorf("digest(%d) denies %d", limit, seq)
			}
		}
	}
	if d := w.digest(1); d.known != 7 || !d.lacks(7) || d.lacks(8) || d.holds(8) {
		t.Errorf("digest(1) = %v", d)
	}
	if d := w.digest(3); d.known != d.top || !d.lacks(9) || !d.holds(12) {
		t.Errorf("digest(3) = %v", d)
	}
	w.setHandled(4, genesis)
	if d := w.handledDigest(9); !slices.Equal(d.held, []span{{4, 4}}) {
		t.Errorf("handled: %v", d.held)
	}
}
