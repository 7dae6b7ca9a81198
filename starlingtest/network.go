package starlingtest

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Network connects members in memory. Make one with [NewNetwork], and end it with [Network.Close]. A member is known by its name,
// over all its runs. Methods may be called concurrently, and none of them waits for a member.
type Network struct {
	taps taps

	// mu guards everything below, every host, transport and stream. One lock is enough: it is held for about a
	// microsecond per packet, and never while anything waits.
	mu         sync.Mutex
	hosts      hosts
	links      links
	partitions partitions
	transit    transit
	changed    signal // who reaches whom, or who is up
	dials      uint64 // begun so far
	streams    uint64 // numbered from 1
	closed     bool
}

// NewNetwork returns a network without members, with perfect links. All random decisions are drawn from seed; [Seed] returns
// one that is printed when a test fails.
func NewNetwork(seed uint64) *Network {
	n := &Network{hosts: hosts{byName: make(map[string]*host), byAddr: make(map[string]*host)}, links: links{seed: seed}}
	n.transit.net = n
	return n
}

// Seed returns the seed given to [NewNetwork].
func (n *Network) Seed() uint64 { return n.links.seed }

// Transport starts the member of that name and returns its transport. A new name gets the next address of 10.0.0.0/8, port
// 7946; a name whose transport has crashed or was shut down restarts at the address it had. An empty name, a name that is
// running, or a closed network is an error.
func (n *Network) Transport(name string) (*Transport, error) {
	return n.attach(name, netip.AddrPort{})
}

// TransportAt is [Network.Transport] at a given address. After a member has moved there, nobody has its old address. It is an
// error too if the address is invalid, unspecified, without a port, or another member's.
func (n *Network) TransportAt(name string, addr netip.AddrPort) (*Transport, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.IsValid() || addr.Addr().IsUnspecified() || addr.Addr().Zone() != "" || addr.Port() == 0 {
		return nil, fmt.Errorf("starlingtest: %q cannot have the address %v", name, addr)
	}
	return n.attach(name, addr)
}

func (n *Network) attach(name string, addr netip.AddrPort) (*Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("starlingtest: the network is closed: %w", net.ErrClosed)
	}
	h, err := n.hosts.admit(name, addr)
	if err != nil {
		return nil, err
	}
	h.running, h.crashed = newTransport(n, h), false
	n.changed.raise() // whoever dials it may go on
	return h.running, nil
}

// Addr returns the address of a member, running or not. Unknown names are an error.
func (n *Network) Addr(name string) (netip.AddrPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.hosts.named(name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return h.addr, nil
}

// Close shuts every transport down and drops what is on its way. It returns when the network's goroutine has ended. Afterwards no
// member can start. It may be called twice.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	for _, h := range n.hosts.byName {
		if h.running != nil {
			h.running.stop(shutDown)
		}
	}
	n.transit.drop()
	n.mu.Unlock()
	n.transit.delivery.Wait()
}
