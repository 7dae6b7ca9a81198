package starlingtest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Network connects members in memory. Make one with [NewNetwork].
type Network struct {
	seed     uint64
	tap      atomic.Pointer[func(Event)]
	arrivals atomic.Pointer[func(Event)]

	// mu guards everything below, every host, transport and stream. One lock is enough: it is held for about a
	// microsecond per packet, and never while anything waits.
	mu         sync.Mutex
	hosts      map[string]*host
	routes     map[string]*host // by address, as memberlist writes it
	assigned   uint32           // addresses given out so far
	link       Link             // of every path that has none of its own
	loopback   Link             // of a member with itself: perfect
	partitions []map[*host]int  // the group of each host that is named
	changed    signal           // who reaches whom, or who is up
	flight     flight
	dials      uint64 // begun so far
	streams    uint64 // numbered from 1
	closed     bool
}

// host is a name, for ever; its transports come and go.
type host struct {
	name     string
	hash     uint64
	addr     netip.AddrPort
	udp      *net.UDPAddr
	running  *Transport // nil while crashed or shut down
	crashed  bool       // silent, where a host that was shut down refuses
	paths    map[*host]*path
	inFlight int // Invariant: 0 ≤ inFlight ≤ maxInFlight
	counters Counters
}

// path is what the network remembers about one direction between two hosts.
type path struct {
	dice    dice
	link    *Link     // nil: the network's default
	idle    time.Time // when all that queues for its bandwidth has left
	blocked bool
}

// NewNetwork returns a network without members, with perfect links. Faults are drawn from seed; [Seed] gives one that is
// printed when a test fails.
func NewNetwork(seed uint64) *Network {
	return &Network{seed: seed, hosts: make(map[string]*host), routes: make(map[string]*host)}
}

// Seed returns the seed given to [NewNetwork].
func (n *Network) Seed() uint64 { return n.seed }

// Transport starts the member of that name and returns its transport. A new name gets the next address of 10.0.0.0/8, port
// 7946; a name whose transport has crashed or was shut down restarts at the address it had. An empty name, a name that is
// running, or a closed network is an error.
func (n *Network) Transport(name string) (*Transport, error) {
	return n.attach(name, netip.AddrPort{})
}

// TransportAt is [Network.Transport] at a given address; a member that restarts there leaves its old address to nobody. An
// address that is not valid, unspecified, without port or another member's is an error.
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
	if name == "" {
		return nil, errors.New("starlingtest: a member needs a name")
	}
	h := n.hosts[name]
	if h != nil && h.running != nil {
		return nil, fmt.Errorf("starlingtest: member %q is running at %v", name, h.addr)
	}
	if owner := n.routes[addr.String()]; owner != nil && owner != h {
		return nil, fmt.Errorf("starlingtest: %v belongs to member %q", addr, owner.name)
	}
	if h == nil {
		hash := fnv.New64a()
		hash.Write([]byte(name))
		h = &host{name: name, hash: hash.Sum64(), paths: make(map[*host]*path)}
		n.hosts[name] = h
	}
	if !addr.IsValid() {
		addr = h.addr
	}
	if !addr.IsValid() {
		addr = n.nextAddr()
	}
	n.move(h, addr)
	h.running, h.crashed = newTransport(n, h), false
	n.changed.raise() // whoever dials it may go on
	return h.running, nil
}

// nextAddr returns an address that nobody has taken by TransportAt.
func (n *Network) nextAddr() netip.AddrPort {
	for {
		n.assigned++
		i := n.assigned
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 7946)
		if n.routes[addr.String()] == nil {
			return addr
		}
	}
}

func (n *Network) move(h *host, addr netip.AddrPort) {
	if h.addr == addr {
		return
	}
	delete(n.routes, h.addr.String())
	n.routes[addr.String()] = h
	h.addr, h.udp = addr, net.UDPAddrFromAddrPort(addr)
}

// Addr returns the address of a member, running or not. Unknown names are an error.
func (n *Network) Addr(name string) (netip.AddrPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.host(name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return h.addr, nil
}

// SetDefault sets the faults of every link that [Network.SetLink] has not set. A bad l is an error that lists all its faults.
func (n *Network) SetDefault(l Link) error {
	if err := l.validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
	return nil
}

// SetLink sets the faults from one member to another, in that direction alone, over restarts too. Packets on their way keep
// the fate they had. Unknown names and a bad l are errors.
func (n *Network) SetLink(from, to string, l Link) error {
	if err := l.validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.between(from, to)
	if err != nil {
		return err
	}
	p.link = &l
	return nil
}

// Link returns the faults from one member to another as they are now, to change one of them. Unknown names are an error.
func (n *Network) Link(from, to string) (Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b, err := n.pair(from, to)
	if err != nil {
		return Link{}, err
	}
	return *n.linkOf(a, b), nil
}

// Close shuts every transport down and returns when the network's goroutine is gone. What is on its way is dropped. It may
// be called twice.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	for _, h := range n.hosts {
		if h.running != nil {
			h.running.stop(shutDown)
		}
	}
	n.abandonFlight()
	n.mu.Unlock()
	n.flight.landing.Wait()
}

// host finds a member by name. n.mu is held, as in all that follow.
func (n *Network) host(name string) (*host, error) {
	h := n.hosts[name]
	if h == nil {
		return nil, fmt.Errorf("starlingtest: no member is called %q", name)
	}
	return h, nil
}

// pair finds two members, and says of both who is unknown.
func (n *Network) pair(from, to string) (a, b *host, err error) {
	a, errA := n.host(from)
	b, errB := n.host(to)
	if from == to {
		errB = fmt.Errorf("starlingtest: a link needs two members, not %q twice", from)
	}
	return a, b, errors.Join(errA, errB)
}

func (n *Network) between(from, to string) (*path, error) {
	a, b, err := n.pair(from, to)
	if err != nil {
		return nil, err
	}
	return n.path(a, b), nil
}

// path returns what is remembered about a link, and begins to remember.
func (n *Network) path(from, to *host) *path {
	p := from.paths[to]
	if p == nil {
		p = &path{dice: newDice(n.seed, from, to, 0)}
		from.paths[to] = p
	}
	return p
}

// linkOf returns the faults of a link without beginning to remember anything.
func (n *Network) linkOf(from, to *host) *Link {
	if from == to {
		return &n.loopback
	}
	if p := from.paths[to]; p != nil && p.link != nil {
		return p.link
	}
	return &n.link
}

// route finds the host at an address. memberlist writes addresses in the canonical form, so parsing is the exception.
func (n *Network) route(addr string) *host {
	if h := n.routes[addr]; h != nil {
		return h
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	return n.routes[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()]
}
