package transport

import (
	"net"
	"net/netip"
)

// routeAddr returns the address that this machine would send from to the first of the given addresses that it has a route to, and
// else to the outside. Nothing is sent: connecting a UDP socket only looks the route up. The zero Addr means that there is no
// route.
func routeAddr(to []netip.Addr, only4 bool) netip.Addr {
	// Addresses of documentation networks (RFC 5737, RFC 3849) stand for the outside: they are routed like any.
	to = append(to[:len(to):len(to)], netip.MustParseAddr("192.0.2.1"))
	if !only4 {
		to = append(to, netip.MustParseAddr("2001:db8::1"))
	}
	for _, a := range to {
		if a.IsLoopback() || only4 && !a.Unmap().Is4() {
			continue
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
		if err != nil {
			continue
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		_ = conn.Close()
		if local.IsValid() && !local.IsLoopback() && !local.IsLinkLocalUnicast() {
			return local.WithZone("")
		}
	}
	return netip.Addr{}
}
