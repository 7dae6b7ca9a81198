package replica

import (
	"testing"

	"github.com/starling-go/starling/internal/wire"
)

// TestRefused: the latest are remembered, and no more than so many.
func TestRefused(t *testing.T) {
	var r refused
	for seq := range uint64(3 * maxRefused) {
		r.add(wire.PartID{Origin: 1, Seq: seq})
	}
	if len(r.set) != maxRefused || len(r.order) != maxRefused || !r.has(wire.PartID{Origin: 1, Seq: 3*maxRefused - 1}) || r.has(wire.PartID{Origin: 1, Seq: maxRefused}) {
		t.Errorf("%d are remembered, %d in order", len(r.set), len(r.order))
	}
}
