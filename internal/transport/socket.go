package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

const (
	// maxDatagram is what one UDP packet over IPv4 can carry: 65,535 bytes less 20 for IP and 8 for UDP. IPv6 carries
	// 20 more, but what a member may send must not depend on the family that its peers happen to use.
	maxDatagram = 65_535 - 20 - 8

	// readBuffer is larger than any datagram, so that the system never cuts one off silently.
	readBuffer = 64 << 10

	// largestSocketBuffer and smallestSocketBuffer bound what the system is asked to buffer for the UDP socket.
	largestSocketBuffer, smallestSocketBuffer = 4 << 20, 64 << 10

	// bindAttempts bounds the search for a port that is free for both TCP and UDP.
	bindAttempts = 10

	// firstPause and lastPause bound the pauses between attempts to read or accept while the system refuses.
	firstPause, lastPause = 5 * time.Millisecond, time.Second
)

// Listen opens a UDP and a TCP socket on one port, with TLS the latter alone, and returns a transport that reads from them until its
// Shutdown. Its error
// names the address and wraps the system's: syscall.EADDRINUSE for a port that is taken.
func Listen(o Options) (*Transport, error) {
	listenUDP := net.ListenUDP
	if o.TLS != nil {
		listenUDP = nil
	}
	s, err := openSockets(o.Bind, listenUDP)
	if err != nil {
		return nil, err
	}
	s.seeds = o.Seeds
	t := newTransport(s, o)
	if s.udp != nil {
		t.wg.Go(func() { t.readPackets(s.udp) })
	}
	t.wg.Go(func() { t.acceptStreams(s.tcp) })
	return t, nil
}

// sockets is the medium of our own: one UDP and one TCP socket on the same address and port.
type sockets struct {
	tcp    *net.TCPListener
	udp    *net.UDPConn // nil with TLS
	family string       // "4" or "": what follows tcp and udp in the name of the network
	addr   netip.AddrPort
	seeds  []netip.Addr // whom the advertised address must be able to reach
}

// openSockets binds TCP first, and then UDP on the port that TCP got. Where the system chose the port, another process may have
// the same one for UDP: then openSockets tries another port. listenUDP is net.ListenUDP, but for tests; with nil there is no UDP.
func openSockets(bind netip.AddrPort, listenUDP func(string, *net.UDPAddr) (*net.UDPConn, error)) (*sockets, error) {
	if !bind.IsValid() {
		return nil, errors.New("no address to bind to")
	}
	bind = unmap(bind)
	// To Go, "tcp" on 0.0.0.0 means both families. Whoever configures 0.0.0.0 means IPv4.
	s := &sockets{}
	if bind.Addr().Is4() {
		s.family = "4"
	}
	attempts := 1
	if bind.Port() == 0 {
		attempts = bindAttempts
	}

	var err error
	for range attempts {
		s.tcp, err = net.ListenTCP("tcp"+s.family, net.TCPAddrFromAddrPort(bind))
		if err != nil {
			return nil, err
		}
		port := s.tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		s.addr = netip.AddrPortFrom(bind.Addr(), port)
		if listenUDP == nil {
			return s, nil
		}
		s.udp, err = listenUDP("udp"+s.family, net.UDPAddrFromAddrPort(s.addr))
		if err == nil {
			growSocketBuffer(s.udp)
			return s, nil
		}
		// Closed only when we return, so that the system does not choose the same port again.
		defer s.tcp.Close()
	}
	return nil, err
}

// growSocketBuffer asks the system for the largest receive buffer that it grants, so that a burst of packets is not lost. Some
// systems refuse a size above their limit, others cap it silently. A member works with either, so no error is returned.
func growSocketBuffer(udp *net.UDPConn) {
	for size := largestSocketBuffer; size >= smallestSocketBuffer; size /= 2 {
		if udp.SetReadBuffer(size) == nil {
			return
		}
	}
}

func (s *sockets) bound() netip.AddrPort { return s.addr }

func (s *sockets) close() error {
	if s.udp == nil {
		return s.tcp.Close()
	}
	return errors.Join(s.tcp.Close(), s.udp.Close())
}

func (s *sockets) send(b []byte, a memberlist.Address) (time.Time, error) {
	if len(b) > maxDatagram {
		return time.Time{}, fmt.Errorf("packet of %d bytes to %s: UDP carries at most %d", len(b), a.Addr, maxDatagram)
	}
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		// A host name. memberlist itself writes to IP addresses only.
		named, err := net.ResolveUDPAddr("udp"+s.family, a.Addr)
		if err != nil {
			return time.Time{}, err
		}
		to = named.AddrPort()
	}
	_, err = s.udp.WriteToUDPAddrPort(b, unmap(to))
	return time.Now(), err
}

func (s *sockets) sendTo(b []byte, to wire.Peer) error {
	_, err := s.udp.WriteToUDPAddrPort(b, unmap(to.Addr))
	return err
}

func (s *sockets) retains() bool { return false }

func (s *sockets) dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", a.Addr)
}

// advertise decides under which address others reach us: the one given, else the one bound to, else one that this
// machine has. A port without an address is ignored, because memberlist's default configuration always carries one.
func (s *sockets) advertise(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		addr := s.addr.Addr()
		if addr.IsUnspecified() {
			only4 := addr.Is4()
			if addr = routeAddr(s.seeds, only4); !addr.IsValid() {
				local, err := interfaceAddrs()
				if err != nil {
					return nil, 0, fmt.Errorf("choose an address to advertise: %w", err)
				}
				if addr = bestAddr(local, only4); !addr.IsValid() {
					return nil, 0, errors.New("choose an address to advertise: this machine has none")
				}
			}
		}
		return addr.AsSlice(), int(s.addr.Port()), nil
	}

	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("advertise address %q: %w", ip, err)
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		return nil, 0, fmt.Errorf("advertise address %q: others cannot reach a member there", ip)
	}
	if port < 0 || port > 65_535 {
		return nil, 0, fmt.Errorf("advertise port %d of %q: not a port", port, ip)
	}
	if port == 0 {
		port = int(s.addr.Port())
	}
	return addr.Unmap().AsSlice(), port, nil
}

// bestAddr chooses the address that other members most likely reach: private before public, and loopback only for a
// machine that has nothing else, such as a laptop without a network. A socket bound to :: receives IPv4 too, so for it an
// IPv4 address is better than loopback. Of equally good addresses the first is taken; the zero Addr means that there is none.
func bestAddr(local []netip.Addr, only4 bool) netip.Addr {
	families := []bool{false, true} // IPv6 first; true is IPv4
	if only4 {
		families = []bool{true}
	}
	type kind = func(netip.Addr) bool
	for _, kinds := range [][]kind{{netip.Addr.IsPrivate, netip.Addr.IsGlobalUnicast}, {netip.Addr.IsLoopback}} {
		for _, is4 := range families {
			for _, is := range kinds {
				i := slices.IndexFunc(local, func(a netip.Addr) bool { return a.Is4() == is4 && is(a) })
				if i >= 0 {
					return local[i]
				}
			}
		}
	}
	return netip.Addr{}
}

// interfaceAddrs lists the addresses of this machine.
func interfaceAddrs() ([]netip.Addr, error) {
	local, err := net.InterfaceAddrs()
	addrs := make([]netip.Addr, 0, len(local))
	for _, l := range local {
		if prefix, err := netip.ParsePrefix(l.String()); err == nil {
			addrs = append(addrs, prefix.Addr().Unmap())
		}
	}
	return addrs, err
}

// datagram is a packet and its source, in one allocation.
type datagram struct {
	memberlist.Packet
	source source
}

// source is the net.Addr of a packet. Its text is made when somebody asks for it, which memberlist does for few packets.
type source netip.AddrPort

func (s *source) Network() string          { return "udp" }
func (s *source) String() string           { return netip.AddrPort(*s).String() }
func (s *source) AddrPort() netip.AddrPort { return netip.AddrPort(*s) }

// acceptStreams accepts connections until the listener is closed.
func (t *Transport) acceptStreams(tcp *net.TCPListener) {
	var last time.Duration
	for {
		conn, err := tcp.AcceptTCP()
		if err != nil {
			if !t.retry(err, "accept streams", &t.count.streamErrors, &last) {
				return
			}
			continue
		}
		last = 0
		t.accept(conn)
	}
}

// retry reports whether to read or accept again after an error: not if the socket is closed. Any other error, such as too many
// open files, is counted, the first in a row is logged, and retry waits, for it may pass: firstPause at first, then twice as long
// as last time, up to lastPause. It returns false as soon as Shutdown begins.
func (t *Transport) retry(err error, what string, errs *atomic.Uint64, last *time.Duration) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	errs.Add(1)
	if *last == 0 {
		t.log.Warn("cannot "+what+"; trying again", "err", err)
	}
	*last = min(max(*last*2, firstPause), lastPause)
	select {
	case <-time.After(*last):
		return true
	case <-t.ctx.Done():
		return false
	}
}

// unmap turns ::ffff:10.0.0.1 into 10.0.0.1, so that each address has one form.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
