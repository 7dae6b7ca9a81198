package starling

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// packetBacklog is how many packets may wait for memberlist. The reader blocks when they do, so the backlog drops
	// nothing: what does not fit stays in the socket buffer. It absorbs bursts where the system caps that buffer: with
	// 208 KiB, bursts of 400 packets and 10 µs of work for each, 43 % were lost without a backlog, 34 % with 256 and
	// with 1,024. It saves no CPU. Its worst case, every packet of the largest size, is 16 MiB.
	packetBacklog = 256

	// defaultStreamTimeout is memberlist's own TCPTimeout for a LAN.
	defaultStreamTimeout = 10 * time.Second

	firstPause, lastPause = 5 * time.Millisecond, time.Second
)

// transportOptions is what a transport needs to know.
type transportOptions struct {
	// bind is where own sockets listen. Port 0 lets the system choose; 0.0.0.0 is IPv4 only, :: is both families.
	bind netip.AddrPort
	// allowed are the networks that packets may come from and streams may be accepted from; empty means all.
	allowed []netip.Prefix
	// streamTimeout is the absolute deadline put on every stream, dialled or accepted, at its start; 0 means 10 s.
	// memberlist may set another later.
	streamTimeout time.Duration
	// logger may be nil, which is silent.
	logger *slog.Logger
	// user takes the user messages that pass memberlist by, on the goroutine that reads: it must copy what it keeps, and neither
	// wait nor write a packet. nil: none do.
	user func(message []byte)
}

// medium is what actually carries the bytes: our own sockets, or the transport that the user brought.
type medium interface {
	send(b []byte, a memberlist.Address) (time.Time, error)
	sendTo(b []byte, to Member) error
	keeps() bool // whether it may hold on to the bytes that it was given to send
	dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error)
	advertise(ip string, port int) (net.IP, int, error)
	bound() netip.AddrPort

	// close ends the goroutines that listen or wrap started, or makes them end soon.
	close() error
}

// transport stands between memberlist and a medium. It refuses strangers before memberlist sees a byte of them, bounds
// every stream in time, counts, and takes everything down with it.
//
// All methods may be called concurrently. Bytes given to WriteTo belong to the caller again when it returns (with own
// sockets; a wrapped transport has its own rule); the bytes of a received packet belong to whoever receives it. After
// Shutdown, writing and dialling return an error that wraps net.ErrClosed. The channels are never closed, because
// memberlist would take the zero value from a closed channel for a packet and crash.
type transport struct {
	medium        medium
	allowed       []netip.Prefix
	streamTimeout time.Duration
	log           *slog.Logger
	user          func(message []byte)
	count         counters

	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx      context.Context // ends when Shutdown begins
	cancel   context.CancelFunc
	shutdown func() error
	wg       sync.WaitGroup

	mu sync.Mutex
	// open holds the streams that nobody has closed yet. Invariant: open == nil from the moment Shutdown begins.
	open map[*stream]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(m medium, o transportOptions) *transport {
	t := &transport{
		medium:        m,
		allowed:       make([]netip.Prefix, len(o.allowed)),
		streamTimeout: o.streamTimeout,
		log:           o.logger,
		user:          o.user,
		packets:       make(chan *memberlist.Packet, packetBacklog),
		streams:       make(chan net.Conn),
		open:          make(map[*stream]struct{}),
	}
	for i, p := range o.allowed {
		t.allowed[i] = unmapPrefix(p)
	}
	if t.streamTimeout <= 0 {
		t.streamTimeout = defaultStreamTimeout
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.shutdown = sync.OnceValue(t.tearDown)
	return t
}

// bound returns the address that own sockets are bound to, and the zero AddrPort for a wrapped transport.
func (t *transport) bound() netip.AddrPort { return t.medium.bound() }

// traffic returns the counters as they stand now.
func (t *transport) traffic() Traffic { return t.count.snapshot() }

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return t.medium.advertise(ip, port)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. The time it returns is taken right after the write.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.closing() {
		return time.Time{}, fmt.Errorf("write packet to %s: %w", a.Addr, net.ErrClosed)
	}
	at, err := t.medium.send(b, a)
	t.count.sent(len(b), err)
	return at, err
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport. A timeout of 0 means the stream timeout, because a dial
// without any bound would outlive Leave.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if timeout == 0 {
		timeout = t.streamTimeout
	}
	var s *stream
	err := net.ErrClosed
	if !t.closing() {
		var conn net.Conn
		if conn, err = t.medium.dial(t.ctx, a, timeout); err == nil {
			s, err = t.adopt(conn)
		}
	}
	switch {
	case err == nil:
		t.count.streamsDialed.Add(1)
		return s, nil
	case t.closing():
		// Whatever the medium called it: the cause is that we are going down.
		return nil, fmt.Errorf("dial %s: %w", a.Addr, net.ErrClosed)
	default:
		t.count.streamErrors.Add(1)
		return nil, err
	}
}

// Shutdown implements memberlist.Transport. It returns when every goroutine of the transport has ended and every socket
// and stream is closed; later and concurrent calls wait for the same and return the same error.
func (t *transport) Shutdown() error { return t.shutdown() }

func (t *transport) tearDown() error {
	t.cancel()

	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for s := range open {
		// An error here would only say that the peer or memberlist was faster.
		_ = s.Conn.Close()
	}

	err := t.medium.close()
	t.wg.Wait()

	// Nobody fills the backlog any more; empty it, so that nothing is delivered after Shutdown.
	for {
		select {
		case <-t.packets:
			t.count.packetsDropped.Add(1)
		default:
			return err
		}
	}
}

func (t *transport) closing() bool {
	select {
	case <-t.ctx.Done():
		return true
	default:
		return false
	}
}

// pause waits after an error that may pass by itself: 5 ms at first, then twice the last time up to 1 s. It returns
// false when the transport is going down.
func (t *transport) pause(last *time.Duration) bool {
	*last = min(max(*last*2, firstPause), lastPause)
	timer := time.NewTimer(*last)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// admits reports whether source may talk to us. The zero Addr, a source that is not known, may only where all may.
func (t *transport) admits(source netip.Addr) bool {
	if len(t.allowed) == 0 {
		return true
	}
	// Prefixes carry no zone and hold no mapped addresses, so neither may the address.
	source = source.Unmap().WithZone("")
	return slices.ContainsFunc(t.allowed, func(p netip.Prefix) bool { return p.Contains(source) })
}

// logRefused tells of the first stranger of a kind. The others are only counted: a stranger must not be able to fill a
// disk.
func (t *transport) logRefused(kind string, source any) {
	t.log.Warn("refused a "+kind+" from outside the allowed networks; further ones are only counted",
		"source", fmt.Sprint(source))
}

// deliver hands an admitted packet to memberlist, and takes its time doing so: see packetBacklog.
func (t *transport) deliver(p *memberlist.Packet) {
	t.count.packetsReceived.Add(1)
	t.count.packetBytesReceived.Add(uint64(len(p.Buf)))
	if len(p.Buf) == 0 {
		t.count.packetsDropped.Add(1)
		return
	}
	select {
	case t.packets <- p:
	case <-t.ctx.Done():
		t.count.packetsDropped.Add(1)
	}
}

// accept hands a new stream of a peer to memberlist, or closes it.
func (t *transport) accept(conn net.Conn) {
	if !t.admits(sourceOf(conn.RemoteAddr())) {
		if t.count.streamsRefused.Add(1) == 1 {
			t.logRefused("stream", conn.RemoteAddr())
		}
		_ = conn.Close()
		return
	}
	s, err := t.adopt(conn)
	if err != nil {
		t.count.streamErrors.Add(1)
		return
	}
	t.count.streamsAccepted.Add(1)
	select {
	case t.streams <- s:
	case <-t.ctx.Done():
		_ = s.Close()
	}
}

// adopt puts the deadline on a stream and remembers it until it is closed. On error it has closed conn: a stream
// without a deadline may block its user for ever.
func (t *transport) adopt(conn net.Conn) (*stream, error) {
	if err := conn.SetDeadline(time.Now().Add(t.streamTimeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := &stream{Conn: conn, t: t}

	t.mu.Lock()
	shut := t.open == nil
	if !shut {
		t.open[s] = struct{}{}
	}
	t.mu.Unlock()

	if shut {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return s, nil
}

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8, since sources are compared unmapped.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// sourceOf finds the IP address in a net.Addr, and returns the zero Addr where there is none.
func sourceOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case nil:
		return netip.Addr{}
	case interface{ AddrPort() netip.AddrPort }:
		return a.AddrPort().Addr()
	default:
		ap, _ := netip.ParseAddrPort(a.String())
		return ap.Addr()
	}
}

// stream is a connection that counts its bytes and that Shutdown can find.
type stream struct {
	net.Conn
	t *transport
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.t.count.streamBytesReceived.Add(uint64(n))
	return n, err
}

// Write closes the stream when it fails, since half a message is on the way and nothing sensible can follow. memberlist
// forgets a dialled stream whose label header could not be written; without this it would stay open until Shutdown.
func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.t.count.streamBytesSent.Add(uint64(n))
	if err != nil {
		_ = s.Close()
	}
	return n, err
}

func (s *stream) Close() error {
	s.t.mu.Lock()
	delete(s.t.open, s)
	s.t.mu.Unlock()
	return s.Conn.Close()
}
