package starling

import (
	"errors"
	"testing"
)

// TestBeforeMemberlist: memberlist calls us while it is being made. What is to be sent then is lost, and nothing panics.
func TestBeforeMemberlist(t *testing.T) {
	c := new(Cluster)
	if err := c.sendParcels([]parcel{rawParcel(testPeer(1), []byte("large"))}); !errors.Is(err, errNotMade) {
		t.Errorf("a stream: %v", err)
	}
	c.packetRoom = 100
	c.packet(testPeer(1), []byte("small"))
}
