package starling

import (
	"errors"
	"log/slog"
	"testing"
)

// TestBeforeMemberlist: memberlist calls us while it is being made. What is to be sent then is lost, and nothing panics.
func TestBeforeMemberlist(t *testing.T) {
	c := &Cluster{log: slog.New(slog.DiscardHandler), packetRoom: 100}
	if err := c.sendParcels([]parcel{rawParcel(testPeer(1), []byte("large"))}); !errors.Is(err, errNotMade) {
		t.Errorf("a stream: %v", err)
	}
	c.packet(testPeer(1), []byte("small"))
	if n := c.drops[DropPacketFailed].Load(); n != 1 {
		t.Errorf("%d packets counted", n)
	}
}
