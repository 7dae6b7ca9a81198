package transport

import (
	"net/netip"
	"testing"
	"time"
)

// TestHeard: of strangers nothing is kept, whom we follow is heard whatever they send, and a member and its successor at one address are both
// followed until both are gone.
func TestHeard(t *testing.T) {
	now := time.Unix(1000, 0)
	var h Heard
	expect := func(when string, at time.Time) {
		t.Helper()
		if got := h.At(friend); !got.Equal(at) {
			t.Errorf("%s: %v, want %v", when, got, at)
		}
	}
	h.note(friend, now)
	expect("before it is followed", time.Time{})
	h.Follow(friend)
	expect("before its first packet", time.Time{})
	for i := range 10_000 {
		h.note(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1), now)
	}
	h.note(friend, now)
	expect("beside strangers", now)
	if len(h.at) != 1 {
		t.Errorf("%d addresses", len(h.at))
	}
	h.Follow(friend)
	h.Unfollow(friend)
	h.note(friend, now.Add(1))
	expect("of two of one address one is gone", now.Add(1))
	if n := testing.AllocsPerRun(100, func() { h.note(friend, now) }); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
	h.Unfollow(friend)
	expect("both are gone", time.Time{})
	h.Unfollow(friend) // once too often
	if len(h.at) != 0 {
		t.Errorf("%d addresses", len(h.at))
	}
}

var friend = netip.MustParseAddrPort("192.0.2.1:7946")

func BenchmarkHeard(b *testing.B) {
	var h Heard
	h.Follow(friend)
	now := time.Now()
	for b.Loop() {
		h.note(friend, now)
	}
}
