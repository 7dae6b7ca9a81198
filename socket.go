package starling

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxDatagram is what one UDP packet over IPv4 can carry: 65,535 bytes less 20 for IP and 8 for UDP. IPv6 carries
	// 20 more, but a member must not depend on the family its peers happen to use.
	maxDatagram = 65_535 - 20 - 8

	// readBuffer is larger than any datagram, so that none is cut off unseen.
	readBuffer = 64 << 10

	largestSocketBuffer, smallestSocketBuffer = 4 << 20, 64 << 10

	// bindAttempts bounds the search for a port that is free for TCP and UDP alike.
	bindAttempts = 10
)

// listen opens our own UDP and TCP sockets on one port. Its error wraps the system's (syscall.EADDRINUSE for a port that
// is taken) and names the address.
func listen(o transportOptions) (*transport, error) {
	s, err := openSockets(o.bind, net.ListenUDP)
	if err != nil {
		return nil, err
	}
	t := newTransport(s, o)
	t.wg.Go(func() { t.readPackets(s.udp) })
	t.wg.Go(func() { t.acceptStreams(s.tcp) })
	return t, nil
}

// sockets is one UDP and one TCP socket on the same address and port.
type sockets struct {
	tcp    *net.TCPListener
	udp    *net.UDPConn
	family string // "4" or "": what follows tcp and udp in the name of the network
	addr   netip.AddrPort
}

// openSockets binds TCP first and UDP on the port that TCP got. Where the system chose the port, UDP's may be taken by
// somebody else: then it tries another. listenUDP is net.ListenUDP.
func openSockets(bind netip.AddrPort, listenUDP func(string, *net.UDPAddr) (*net.UDPConn, error)) (*sockets, error) {
	if !bind.IsValid() {
		return nil, errors.New("no address to bind to")
	}
	bind = unmap(bind)
	// To Go, "tcp" on 0.0.0.0 means both families; who writes 0.0.0.0 means one.
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
		s.udp, err = listenUDP("udp"+s.family, net.UDPAddrFromAddrPort(s.addr))
		if err == nil {
			growSocketBuffer(s.udp)
			return s, nil
		}
		// Kept until we return, so that the system does not choose the same port again.
		defer s.tcp.Close()
	}
	return nil, err
}

// growSocketBuffer asks for room to survive a burst. Some systems refuse what is above their limit, others cap it
// silently; neither is worth failing for.
func growSocketBuffer(udp *net.UDPConn) {
	for size := largestSocketBuffer; size >= smallestSocketBuffer; size /= 2 {
		if udp.SetReadBuffer(size) == nil {
			return
		}
	}
}

func (s *sockets) bound() netip.AddrPort { return s.addr }

func (s *sockets) close() error { return errors.Join(s.tcp.Close(), s.udp.Close()) }

func (s *sockets) send(b []byte, a memberlist.Address) (time.Time, error) {
	if len(b) > maxDatagram {
		return time.Time{}, fmt.Errorf("packet of %d bytes to %s: UDP carries at most %d", len(b), a.Addr, maxDatagram)
	}
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		// Not a literal: a name, which memberlist itself never sends to.
		named, err := net.ResolveUDPAddr("udp"+s.family, a.Addr)
		if err != nil {
			return time.Time{}, err
		}
		to = named.AddrPort()
	}
	_, err = s.udp.WriteToUDPAddrPort(b, unmap(to))
	return time.Now(), err
}

func (s *sockets) sendTo(b []byte, to Member) error {
	_, err := s.udp.WriteToUDPAddrPort(b, unmap(to.Addr))
	return err
}

func (s *sockets) keeps() bool { return false }

func (s *sockets) dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", a.Addr)
}

// advertise decides under which address others reach us: the one given, else the one bound to, else one that this
// machine has. A port without an address is not heeded, since memberlist's default configuration always carries one.
func (s *sockets) advertise(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		addr := s.addr.Addr()
		if addr.IsUnspecified() {
			local, err := interfaceAddrs()
			if err != nil {
				return nil, 0, fmt.Errorf("choose an address to advertise: %w", err)
			}
			if addr = bestAddr(local, addr.Is4()); !addr.IsValid() {
				return nil, 0, errors.New("choose an address to advertise: this machine has none")
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
// machine that has nothing else, be it a laptop without a network or a container. A socket bound to :: hears IPv4 too,
// so there IPv4 is better than loopback. Among equals the first wins; the zero Addr means there is none.
func bestAddr(local []netip.Addr, only4 bool) netip.Addr {
	families := []bool{false, true} // whether it is IPv4
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

// datagram is a packet and its source in one allocation.
type datagram struct {
	memberlist.Packet
	source source
}

// source is the net.Addr of a packet. Its text is made only when somebody asks, which memberlist does for few packets.
type source netip.AddrPort

func (s *source) Network() string          { return "udp" }
func (s *source) String() string           { return netip.AddrPort(*s).String() }
func (s *source) AddrPort() netip.AddrPort { return netip.AddrPort(*s) }

// readPackets reads into one buffer. User messages are taken from it as they are; a packet for memberlist gets a slice of its
// exact size, since memberlist keeps packets in a queue, and a slice of the buffer would keep 64 KiB with each.
func (t *transport) readPackets(udp *net.UDPConn) {
	buf := make([]byte, readBuffer)
	var last time.Duration
	for {
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t.count.packetErrors.Add(1)
			if last == 0 {
				t.log.Warn("cannot read packets; trying again", "err", err)
			}
			if !t.pause(&last) {
				return
			}
			continue
		}
		last = 0

		from = unmap(from)
		if !t.admits(from.Addr()) {
			if t.count.packetsRefused.Add(1) == 1 {
				t.logRefused("packet", from)
			}
			continue
		}
		if t.passes(buf[:n]) {
			continue
		}
		d := &datagram{source: source(from)}
		d.Packet = memberlist.Packet{Buf: make([]byte, n), From: &d.source, Timestamp: now}
		copy(d.Buf, buf)
		t.deliver(&d.Packet)
	}
}

// acceptStreams takes new connections until the listener is closed. An error, such as too many open files, may pass.
func (t *transport) acceptStreams(tcp *net.TCPListener) {
	var last time.Duration
	for {
		conn, err := tcp.AcceptTCP()
		if err == nil {
			last = 0
			t.accept(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		t.count.streamErrors.Add(1)
		if last == 0 {
			t.log.Warn("cannot accept streams; trying again", "err", err)
		}
		if !t.pause(&last) {
			return
		}
	}
}

// unmap turns ::ffff:10.0.0.1 into 10.0.0.1, so that one address has one spelling.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
