package starling

import (
	"errors"
	"testing"

	"github.com/starling-go/starling/internal/wire"
)

// TestBeforeMemberlist: memberlist calls us while it is being made. What is to be sent then is lost, and nothing panics.
func TestBeforeMemberlist(t *testing.T) {
	c := unstarted(t, Config{})
	if _, err := c.outlet.sendStreams(t.Context(), []wire.Stream{wire.RawStream(testPeer(1), []byte("large"))}, nil); !errors.Is(err, errNotMade) {
		t.Errorf("a stream: %v", err)
	}
	c.outlet.packet(testPeer(1), []byte("small"))
	if n := c.drops.counts[DropPacketFailed].Load(); n != 1 {
		t.Errorf("%d packets counted", n)
	}
}
