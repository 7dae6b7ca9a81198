package transport

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/credentials"
)

// mostNames bounds the addresses whose names are known.
const mostNames = 4096

// Names knows what the certificate said that was shown last at an address: on a connection that we dialled there, or on one from
// that IP address by a member that says to advertise that port.
type Names struct {
	mu sync.Mutex
	of map[netip.AddrPort]shownNames // Invariant: len(of) ≤ mostNames
}

type shownNames struct {
	names []string
	until time.Time
}

func (n *Names) note(a netip.AddrPort, p *credentials.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.Names == nil {
		delete(n.of, a)
		return
	}
	if _, known := n.of[a]; !known && len(n.of) >= mostNames {
		for some := range n.of {
			delete(n.of, some)
			break
		}
	}
	shown := shownNames{names: p.Names}
	if p.Left > 0 {
		shown.until = time.Now().Add(p.Left)
	}
	n.of[a] = shown
}

// At returns the DNS names, IP addresses and URIs that were shown at an address, while their certificate is valid. The caller owns the
// slice. A nil *Names knows nothing.
func (n *Names) At(a netip.AddrPort) []string {
	if n == nil {
		return nil
	}
	a = unmap(a)
	n.mu.Lock()
	defer n.mu.Unlock()
	shown, ok := n.of[a]
	if ok && !shown.until.IsZero() && time.Now().After(shown.until) {
		delete(n.of, a)
		return nil
	}
	return slices.Clone(shown.names)
}
