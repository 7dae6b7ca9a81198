package transport

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Heard knows when the last packet came from the addresses that it follows, which are those of the members: strangers make it no larger. Safe
// for concurrent use.
type Heard struct {
	mu sync.RWMutex
	at map[netip.AddrPort]*followed
}

// followed is an address.
type followed struct {
	last  atomic.Int64 // when its last packet came, nanoseconds of Unix; 0: none did
	times int          // by how many Follow is ahead of Unfollow: for a moment a member and its successor may have one address
}

// Follow begins to follow an address, or does so once more.
func (h *Heard) Follow(a netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at = map[netip.AddrPort]*followed{}
	}
	if h.at[a] == nil {
		h.at[a] = new(followed)
	}
	h.at[a].times++
}

// Unfollow takes back one Follow.
func (h *Heard) Unfollow(a netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.at[a]; f != nil {
		if f.times--; f.times == 0 {
			delete(h.at, a)
		}
	}
}

// note is called for each packet. It allocates nothing.
func (h *Heard) note(from netip.AddrPort, now time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if f := h.at[from]; f != nil {
		f.last.Store(now.UnixNano())
	}
}

// At returns when the last packet came from an address; the zero time: none did since it is followed.
func (h *Heard) At(from netip.AddrPort) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	f := h.at[from]
	if f == nil || f.last.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, f.last.Load())
}
