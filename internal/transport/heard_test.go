package transport

import (
	"net/netip"
	"testing"
	"time"
)

// TestHeardBounded: strangers' addresses take no more room than there is, and whom we hear is not forgotten for them.
func TestHeardBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	var h Heard
	address := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	}
	friend := netip.MustParseAddrPort("192.0.2.1:7946")
	h.note(friend, now)
	for i := range 3 * maxHeard {
		h.note(address(i), now)
	}
	if len(h.at) != maxHeard || h.at[friend] == nil {
		t.Errorf("%d addresses", len(h.at))
	}
	now = now.Add(2 * heardLong)
	h.note(friend, now)
	h.note(address(maxHeard+7), now)
	if len(h.at) != 2 || h.at[friend].Load() != now.UnixNano() {
		t.Errorf("two minutes later: %d addresses", len(h.at))
	}
	if n := testing.AllocsPerRun(100, func() { h.note(friend, now) }); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

func BenchmarkHeard(b *testing.B) {
	var h Heard
	friend, now := netip.MustParseAddrPort("192.0.2.1:7946"), time.Now()
	for b.Loop() {
		h.note(friend, now)
	}
}
