package transport

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// crowd bounds the connections that others have dialled, of one source and in all. Where there are too many in all, a source that has
// more than the newcomer's loses its oldest: who opens many takes no place from who opens one.
type crowd struct {
	ofOne, inAll int

	mu   sync.Mutex
	size int // Invariant: size = Σ len(of[x]) ≤ inAll
	of   map[netip.Addr][]net.Conn
}

func newCrowd(ofOne, inAll int) *crowd {
	return &crowd{ofOne: ofOne, inAll: inAll, of: map[netip.Addr][]net.Conn{}}
}

// enter takes a connection in, if there is room, and returns what to call when it has ended. The connections of other sources may be
// closed for that.
func (c *crowd) enter(source netip.Addr, conn net.Conn) (leave func(), ok bool) {
	if source.Is6() {
		// Who has one address of IPv6 has a network of them.
		if p, err := source.Prefix(64); err == nil {
			source = p.Addr()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.of[source]) >= c.ofOne {
		return nil, false
	}
	if c.size >= c.inAll {
		most := source
		for s, conns := range c.of {
			if len(conns) > len(c.of[most]) {
				most = s
			}
		}
		if len(c.of[most]) < len(c.of[source])+2 {
			return nil, false
		}
		oldest := c.of[most][0]
		c.remove(most, oldest)
		_ = oldest.Close()
	}
	c.of[source] = append(c.of[source], conn)
	c.size++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remove(source, conn)
	}, true
}

// remove forgets a connection, if it is there.
func (c *crowd) remove(source netip.Addr, conn net.Conn) {
	conns := c.of[source]
	i := slices.Index(conns, conn)
	if i < 0 {
		return
	}
	c.size--
	if c.of[source] = slices.Delete(conns, i, i+1); len(conns) == 1 {
		delete(c.of, source)
	}
}
