package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/credentials"
	"github.com/starling-go/starling/internal/wire"
)

const (
	// shakeTime bounds an accepted connection until it is known who has dialled, and the dial of a link.
	shakeTime = 5 * time.Second

	// shakesOfOne and shakesInAll bound the connections that are not known yet, of one source and in all. One holds about 50 KiB. A
	// whole cluster on one host that comes back at once needs two for each member.
	shakesOfOne, shakesInAll = 128, 512

	// lingerTime is how long somebody who was refused has to read why, before the connection is closed: unread bytes of his would
	// take it from him.
	lingerTime = time.Second
)

// What the side that dials says first, in one byte, before the port that it advertises in two. The other side answers with welcome,
// and so says that it accepts the certificate too: in TLS 1.3 a client's handshake ends before the server has seen it.
const (
	greetPackets = 1
	greetStream  = 2
	greetingSize = 3
	welcome      = 1
)

// secure is a medium that carries everything over TLS connections, which are streams of the medium below: a stream is a connection
// of its own, and all packets to a member travel on one that is kept, a link. No packet of the medium below is sent or taken.
type secure struct {
	medium
	t     *Transport
	creds *credentials.Credentials
	port  atomic.Uint32 // that others reach this member at; 0: not known yet

	shaking *crowd // accepted, and not known yet who it is
	serving *crowd // links that others have dialled
	names   Names
	told    refusals

	mu    sync.Mutex
	links map[netip.AddrPort]*link // that we dial. Invariant: len(links) ≤ mostLinks
	dials gate
}

func newSecure(t *Transport, below medium, conf *tls.Config) *secure {
	return &secure{
		medium: below, t: t, creds: credentials.New(conf),
		shaking: newCrowd(shakesOfOne, shakesInAll), serving: newCrowd(linksOfOne, mostLinks),
		names: Names{of: map[netip.AddrPort]shownNames{}}, told: refusals{log: t.log, kinds: map[string]*refusalKind{}},
		links: map[netip.AddrPort]*link{}, dials: newGate(),
	}
}

func (s *secure) send(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("write packet to %s: %w", a.Addr, err)
	}
	return time.Now(), s.put(b, to)
}

func (s *secure) sendTo(b []byte, to wire.Peer) error { return s.put(b, to.Addr) }

// retains returns false: a packet that waits is copied.
func (s *secure) retains() bool { return false }

// advertise notes the port that the member advertises, for its greetings.
func (s *secure) advertise(ip string, port int) (net.IP, int, error) {
	addr, at, err := s.medium.advertise(ip, port)
	if err == nil {
		s.port.Store(uint32(at))
	}
	return addr, at, err
}

// dial opens a stream.
func (s *secure) dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, _, err := s.open(ctx, a, timeout, greetStream)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// open dials a member, shakes hands, and returns when each side has accepted the other's certificate.
func (s *secure) open(ctx context.Context, a memberlist.Address, timeout time.Duration, greeting byte) (secured, *credentials.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := s.medium.dial(ctx, a, timeout)
	if err != nil {
		return secured{}, nil, err
	}
	c, peer, err := s.creds.Dial(raw, a.Addr)
	if err == nil {
		err = s.greet(ctx, secured{c, raw}, greeting)
	}
	if err != nil {
		_ = raw.Close()
		s.refused("to", a.Addr, err)
		return secured{}, nil, fmt.Errorf("no TLS connection to %s: %s (%w)", a.Addr, credentials.Why(err), err)
	}
	if at, err := netip.ParseAddrPort(a.Addr); err == nil {
		s.names.note(unmap(at), peer)
	}
	return secured{c, raw}, peer, nil
}

// greet is the client's part of a handshake.
func (s *secure) greet(ctx context.Context, c secured, greeting byte) error {
	return within(ctx, c, func() error {
		port := s.port.Load()
		if _, err := c.Write([]byte{greeting, byte(port >> 8), byte(port)}); err != nil {
			return whyWriteFailed(c, err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(c.Conn, answer[:]); err != nil {
			return err
		}
		if answer[0] != welcome {
			return credentials.ErrGreeting
		}
		return nil
	})
}

// whyWriteFailed returns what the other side says, where it has refused us before we have written.
func whyWriteFailed(c secured, err error) error {
	if _, said := c.Conn.Read(make([]byte, 1)); said != nil {
		return said
	}
	return err
}

// within shakes hands and calls f. What waits there fails when ctx ends.
func within(ctx context.Context, c secured, f func() error) error {
	err := c.HandshakeContext(ctx)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		if err = f(); !stop() {
			err = ctx.Err()
		}
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // whatever the closed connection calls it
	}
	return err
}

// accept takes a connection that somebody has dialled. It waits for nobody.
func (s *secure) accept(raw net.Conn) {
	source := sourceOf(raw.RemoteAddr()).Unmap().WithZone("")
	leave, ok := s.shaking.enter(source, raw)
	if !ok {
		s.refused("from", addrOf(raw), credentials.ErrCrowd)
		_ = raw.Close()
		return
	}
	if !s.t.begin(func() { s.receive(raw, source, leave) }) {
		leave()
		_ = raw.Close()
	}
}

// receive finds out who has dialled and what for, and serves that.
func (s *secure) receive(raw net.Conn, source netip.Addr, known func()) {
	stop := context.AfterFunc(s.t.ctx, func() { _ = raw.Close() })
	defer stop()
	conn, peer := s.creds.Accept(raw, addrOf(raw))
	c := secured{conn, raw}
	greeting, from, err := s.greeted(c, source)
	if err != nil {
		s.refused("from", addrOf(raw), err)
		linger(raw)
		_ = raw.Close()
	}
	known()
	if err != nil {
		return
	}
	if from.Port() != 0 {
		s.names.note(from, peer)
	}
	if greeting == greetPackets {
		s.serve(c, source, from, peer)
		return
	}
	hand(s.t, c)
}

// greeted is the server's part of a handshake. It returns what a member wants, and the address that it says to advertise.
func (s *secure) greeted(c secured, source netip.Addr) (greeting byte, from netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(s.t.ctx, shakeTime)
	defer cancel()
	err = within(ctx, c, func() error {
		var said [greetingSize]byte
		if _, err := io.ReadFull(c.Conn, said[:]); err != nil {
			return err
		}
		greeting, from = said[0], netip.AddrPortFrom(source, uint16(said[1])<<8|uint16(said[2]))
		if c.ConnectionState().NegotiatedProtocol == "" || greeting != greetPackets && greeting != greetStream {
			return credentials.ErrGreeting
		}
		_, err := c.Write([]byte{welcome})
		return err
	})
	return greeting, from, err
}

// addrOf is whom a connection is with; a user's transport may not say.
func addrOf(conn net.Conn) string {
	if a := conn.RemoteAddr(); a != nil {
		return a.String()
	}
	return "unknown"
}

// linger reads what somebody still writes who was refused.
func linger(raw net.Conn) {
	if raw.SetDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, raw, readBuffer)
	}
}

// refused counts a connection that came to nothing, and logs it. direction is "from" or "to".
func (s *secure) refused(direction, addr string, err error) {
	if s.t.closing() || errors.Is(err, context.Canceled) {
		return
	}
	s.t.count.tlsRefused.Add(1)
	s.told.tell(direction, addr, err)
}

// secured is a TLS connection that is closed without ceremony: the alert that says goodbye could wait 5 s for a peer that does not
// read. Frames carry their length, so none is cut short unnoticed.
type secured struct {
	*tls.Conn
	raw net.Conn
}

// Close closes the connection.
func (c secured) Close() error { return c.raw.Close() }

// Read returns io.EOF where the peer has closed its connection in the same way.
func (c secured) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
