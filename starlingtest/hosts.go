package starlingtest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
)

// hosts is the members that ever were, by name and by address. Network.mu guards it.
type hosts struct {
	byName   map[string]*host
	byAddr   map[string]*host // by address, as memberlist writes it
	assigned uint32           // addresses given out so far
}

// host is a name, for ever; its transports come and go.
type host struct {
	name      string
	hash      uint64
	addr      netip.AddrPort
	udp       *net.UDPAddr
	running   *Transport // nil while crashed or shut down
	crashed   bool       // silent, where a host that was shut down refuses
	paths     map[*host]*path
	up, down  rate
	inTransit int // packets on their way to this host. Invariant: 0 ≤ inTransit ≤ maxInTransit
	counters  Counters
}

// admit returns the host of that name, which is about to run: at the given address, or, if that is the zero AddrPort, where it
// was before, or at the next free one.
func (hs *hosts) admit(name string, addr netip.AddrPort) (*host, error) {
	if name == "" {
		return nil, errors.New("starlingtest: a member needs a name")
	}
	h := hs.byName[name]
	if h != nil && h.running != nil {
		return nil, fmt.Errorf("starlingtest: member %q is running at %v", name, h.addr)
	}
	if owner := hs.byAddr[addr.String()]; owner != nil && owner != h {
		return nil, fmt.Errorf("starlingtest: %v belongs to member %q", addr, owner.name)
	}
	if h == nil {
		hash := fnv.New64a()
		hash.Write([]byte(name))
		h = &host{name: name, hash: hash.Sum64(), paths: make(map[*host]*path)}
		hs.byName[name] = h
	}
	if !addr.IsValid() {
		addr = h.addr
	}
	if !addr.IsValid() {
		addr = hs.nextAddr()
	}
	hs.move(h, addr)
	return h, nil
}

// nextAddr returns an address that nobody has taken by TransportAt.
func (hs *hosts) nextAddr() netip.AddrPort {
	for {
		hs.assigned++
		i := hs.assigned
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 7946)
		if hs.byAddr[addr.String()] == nil {
			return addr
		}
	}
}

func (hs *hosts) move(h *host, addr netip.AddrPort) {
	if h.addr == addr {
		return
	}
	delete(hs.byAddr, h.addr.String())
	hs.byAddr[addr.String()] = h
	h.addr, h.udp = addr, net.UDPAddrFromAddrPort(addr)
}

// named finds a member by name.
func (hs *hosts) named(name string) (*host, error) {
	h := hs.byName[name]
	if h == nil {
		return nil, fmt.Errorf("starlingtest: no member is called %q", name)
	}
	return h, nil
}

// pair finds two members, and says of both who is unknown.
func (hs *hosts) pair(from, to string) (a, b *host, err error) {
	a, errA := hs.named(from)
	b, errB := hs.named(to)
	if from == to {
		errB = fmt.Errorf("starlingtest: a link needs two members, not %q twice", from)
	}
	return a, b, errors.Join(errA, errB)
}

// running returns the transport of a member that runs.
func (hs *hosts) running(name string) (*Transport, error) {
	h, err := hs.named(name)
	if err != nil {
		return nil, err
	}
	if h.running == nil {
		return nil, fmt.Errorf("starlingtest: member %q is not running", name)
	}
	return h.running, nil
}

// at finds the host at an address. memberlist writes addresses in the canonical form, so parsing is the exception.
func (hs *hosts) at(addr string) *host {
	if h := hs.byAddr[addr]; h != nil {
		return h
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	return hs.byAddr[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()]
}

// groups returns the group of each host that is named, or all that is wrong with the groups.
func (hs *hosts) groups(names [][]string) (map[*host]int, error) {
	var errs []error
	if len(names) < 2 {
		errs = append(errs, fmt.Errorf("starlingtest: a partition needs at least two groups, not %d", len(names)))
	}
	group := make(map[*host]int)
	for i, members := range names {
		if len(members) == 0 {
			errs = append(errs, fmt.Errorf("starlingtest: group %d of the partition names nobody", i))
		}
		for _, name := range members {
			h, err := hs.named(name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if before, ok := group[h]; ok && before != i {
				errs = append(errs, fmt.Errorf("starlingtest: member %q is in two groups of the partition", name))
			}
			group[h] = i
		}
	}
	return group, errors.Join(errs...)
}
