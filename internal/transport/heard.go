package transport

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHeard  = 4096        // addresses that are remembered
	heardLong = time.Minute // when there are so many, those are forgotten that sent nothing for so long

	sweepEvery = time.Second
)

// Heard knows when the last packet of an address came. Safe for concurrent use.
type Heard struct {
	mu sync.RWMutex
	at map[netip.AddrPort]*atomic.Int64 // nanoseconds of Unix; Invariant: at most maxHeard. A packet of an address that finds no room is not noted

	swept time.Time // when room was last made: a flood of strangers must not have that done for each packet
}

// note is called for each packet. It allocates only for the first one of an address.
func (h *Heard) note(from netip.AddrPort, now time.Time) {
	h.mu.RLock()
	last := h.at[from]
	h.mu.RUnlock()
	if last == nil {
		if last = h.add(from, now); last == nil {
			return
		}
	}
	last.Store(now.UnixNano())
}

func (h *Heard) add(from netip.AddrPort, now time.Time) *atomic.Int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := h.at[from]; last != nil {
		return last
	}
	if len(h.at) >= maxHeard && now.Sub(h.swept) >= sweepEvery {
		h.swept = now
		for a, last := range h.at {
			if now.UnixNano()-last.Load() > int64(heardLong) {
				delete(h.at, a)
			}
		}
	}
	if len(h.at) >= maxHeard {
		return nil
	}
	if h.at == nil {
		h.at = map[netip.AddrPort]*atomic.Int64{}
	}
	h.at[from] = new(atomic.Int64)
	return h.at[from]
}

// At returns when the last packet of an address came; the zero time: none did, or it found no room.
func (h *Heard) At(from netip.AddrPort) time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if last := h.at[from]; last != nil {
		return time.Unix(0, last.Load())
	}
	return time.Time{}
}
