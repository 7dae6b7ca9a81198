package starling

import (
	"testing"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// TestProgressReaderIsBounded: a reader that never reads costs a bounded number of values; those that have waited longest go, and are
// counted once.
func TestProgressReaderIsBounded(t *testing.T) {
	r := &progressReader{wake: make(chan struct{}, 1), latest: map[progressKey]replica.Progress{}}
	const count = maxReaderProgress + 100
	for seq := range uint64(count) {
		for done := range 3 {
			r.put(replica.Progress{From: wire.Peer{ID: 1}, Seq: seq, Member: wire.Peer{ID: 2}, Done: done})
		}
	}
	if len(r.queue) != maxReaderProgress || len(r.latest) != maxReaderProgress {
		t.Errorf("%d wait, %d values", len(r.queue), len(r.latest))
	}
	for i := range maxReaderProgress {
		p, skipped, ok := r.next()
		want := 0
		if i == 0 {
			want = 100
		}
		if !ok || p.Seq != uint64(i+100) || p.Done != 2 || skipped != want {
			t.Fatalf("value %d: %+v, %d skipped", i, p, skipped)
		}
	}
	if _, _, ok := r.next(); ok || len(r.latest) > 0 {
		t.Error("something is left")
	}
}
