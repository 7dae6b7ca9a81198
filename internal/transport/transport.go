// Package transport carries the packets and streams of one member: over UDP and TCP sockets of its own ([Listen]) or over a
// memberlist.Transport that the user brought ([Wrap]). memberlist uses it as its transport. Around either of them it keeps out
// sources from outside the allowed networks, puts a deadline on every stream, and counts.
//
// Where memberlist would put nothing around a user message ([FastPath]), such messages pass memberlist by: [Transport.Post]
// sends them, and Options.User receives them. [StreamQueues] send frames that do not fit a packet, on two lanes to each member:
// what is small does not wait behind what is large. Between members of Starling their connections are kept (kept.go).
package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

const (
	// packetBacklog is how many packets may wait until memberlist takes them. When it is full, the goroutine that reads the
	// socket blocks, so the backlog itself drops nothing: further packets stay in the socket buffer. It absorbs bursts where
	// the system caps that buffer: at 208 KiB, and 10 µs of work for each packet, bursts of 400 packets lost 43 % without a
	// backlog, 34 % with 256 and with 1,024. It saves no CPU. Its worst case, every packet of the largest size, is 16 MiB.
	packetBacklog = 256

	// defaultStreamTimeout is memberlist's own TCPTimeout for a LAN.
	defaultStreamTimeout = 10 * time.Second
)

// Options says how a [Transport] is made. The zero value of each field but Bind is usable.
type Options struct {
	// Bind is where [Listen] binds its sockets. Port 0 lets the system choose; 0.0.0.0 is IPv4 only, :: is both families.
	// [Wrap] ignores it.
	Bind netip.AddrPort
	// Allowed are the networks that packets may come from and streams may be accepted from; empty means all.
	Allowed []netip.Prefix
	// MaxPacket is the largest packet that is taken, in bytes; 0: any. What waits for memberlist is bounded in packets, and so in
	// bytes.
	MaxPacket int
	// Seeds are the addresses of members to come, as far as they are known. Own sockets that listen on all addresses advertise
	// the address of the route to them.
	Seeds []netip.Addr
	// StreamTimeout bounds a dial, and the silence of a stream, dialled or accepted: it ends when fewer than 16 KiB have passed
	// for that long. 0 means 10 s. It is set as the deadline of the connection, which memberlist may replace by a shorter one.
	StreamTimeout time.Duration
	// Logger gets warnings. nil discards them.
	Logger *slog.Logger
	// User receives the user messages that pass memberlist by (see [FastPath]). The goroutine that reads packets calls it, and
	// reuses the bytes of message afterwards: User copies what it keeps, and neither waits nor writes a packet. With TLS several
	// goroutines read packets. With nil, user messages go to memberlist like all other packets.
	User func(message []byte)
	// TLS, if set, carries packets and streams over TLS connections, and nothing without; credentials.Faults has none of it.
	TLS *tls.Config
}

// medium carries the bytes for a Transport: our own sockets, or the transport that the user brought.
type medium interface {
	send(b []byte, a memberlist.Address) (time.Time, error)
	sendTo(b []byte, to wire.Peer) error
	// retains reports whether the medium may use the bytes of a packet after send or sendTo has returned.
	retains() bool
	dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error)
	advertise(ip string, port int) (net.IP, int, error)
	bound() netip.AddrPort

	// close ends the goroutines that Listen or Wrap started. They may end shortly after it has returned.
	close() error
}

// Transport stands between memberlist and a medium. It drops what comes from outside the allowed networks before memberlist
// sees a byte of it, puts a deadline on every stream, and counts. Its Shutdown ends everything that it has started or opened. Where
// a wrapped transport neither ends a dial at its own Shutdown nor heeds the dial's time-out, ours waits for that dial.
//
// All methods may be called concurrently. Bytes given to WriteTo belong to the caller again when it returns (with own
// sockets; a wrapped transport has its own rule); the bytes of a received packet belong to whoever receives it. After
// Shutdown, writing and dialling return an error that wraps net.ErrClosed. The channels are never closed, because
// memberlist would take the zero value from a closed channel for a packet and crash.
type Transport struct {
	// User is Options.User. Nobody changes it.
	User func(message []byte)
	// Names knows who has shown which certificate; nil without TLS. Nobody changes it.
	Names *Names
	// Heard knows whose packets come.
	Heard Heard
	// Kept are the connections that are kept. Nobody changes it.
	Kept *KeptConns

	medium        medium
	secure        *secure // the medium, if that is it; else nil
	allowed       []netip.Prefix
	streamTimeout time.Duration
	log           *slog.Logger
	maxPacket     int
	count         counters

	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx      context.Context // ends when Shutdown begins
	cancel   context.CancelFunc
	shutdown func() error
	wg       sync.WaitGroup

	mu sync.Mutex
	// open holds the streams that nobody has closed yet. Invariant: open == nil as soon as Shutdown has begun.
	open map[*stream]struct{}
	// prepared holds the streams that memberlist is about to write to, by what it will dial: see Prepare.
	prepared map[memberlist.Address]net.Conn
	aliases  uint64 // how many there have been

	incoming atomic.Int64 // kept connections that members have dialled and no stream is on
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

func newTransport(m medium, o Options) *Transport {
	t := &Transport{
		medium:        m,
		allowed:       make([]netip.Prefix, len(o.Allowed)),
		streamTimeout: o.StreamTimeout,
		log:           o.Logger,
		User:          o.User,
		maxPacket:     o.MaxPacket,
		packets:       make(chan *memberlist.Packet, packetBacklog),
		streams:       make(chan net.Conn),
		open:          make(map[*stream]struct{}),
		prepared:      make(map[memberlist.Address]net.Conn),
		Kept:          &KeptConns{free: make(map[memberlist.Address][]*kept)},
	}
	for i, p := range o.Allowed {
		t.allowed[i] = unmapPrefix(p)
	}
	if t.streamTimeout <= 0 {
		t.streamTimeout = defaultStreamTimeout
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.Kept.t = t
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.shutdown = sync.OnceValue(t.tearDown)
	if o.TLS != nil {
		t.secure = newSecure(t, m, o.TLS)
		t.medium, t.Names = t.secure, &t.secure.names
	}
	return t
}

// Bound returns the address that own sockets are bound to, and the zero AddrPort for a wrapped transport.
func (t *Transport) Bound() netip.AddrPort { return t.medium.bound() }

// Traffic returns what the transport has counted since it was made. The counters are read one after the other: a packet that
// is being counted may be in one and not yet in another.
func (t *Transport) Traffic() Counts { return t.count.snapshot() }

// FinalAdvertiseAddr implements memberlist.Transport: it returns the address under which others reach this member. With own
// sockets ip is that address if it is given; else it is the one that they are bound to, or one of this machine's.
func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return t.medium.advertise(ip, port)
}

// PacketCh implements memberlist.Transport: it yields the packets that memberlist has to read.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport: it yields the streams that others have dialled. The receiver closes them.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport: it is WriteToAddress to an address alone.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport: it sends one packet. Own sockets return the time right after the
// write; a wrapped transport returns its own.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.closing() {
		return time.Time{}, fmt.Errorf("write packet to %s: %w", a.Addr, net.ErrClosed)
	}
	at, err := t.medium.send(b, a)
	t.count.sent(len(b), err)
	return at, err
}

// DialTimeout implements memberlist.Transport: it is DialAddressTimeout to an address alone.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport: it opens a stream, which the caller closes, or returns the one
// that Prepare has opened. A timeout of 0 stands for Options.StreamTimeout, because a dial without any bound would outlive the
// cluster's Leave.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	t.mu.Lock()
	s, ok := t.prepared[a]
	t.mu.Unlock()
	if ok {
		return s, nil
	}
	if timeout == 0 {
		timeout = t.streamTimeout
	}
	s, err := t.dial(t.ctx, a, timeout)
	if err != nil {
		return nil, err // and not s, which as a net.Conn would not be nil
	}
	return s, nil
}

// dial opens a stream. ctx must end when Shutdown begins.
func (t *Transport) dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (*stream, error) {
	var s *stream
	err := net.ErrClosed
	if !t.closing() {
		var conn net.Conn
		if conn, err = t.medium.dial(ctx, a, timeout); err == nil {
			s, err = t.adopt(conn)
		}
	}
	switch {
	case err == nil:
		t.count.streamsDialed.Add(1)
		return s, nil
	case t.closing():
		// The medium may have called it something else, but the cause is Shutdown.
		return nil, fmt.Errorf("dial %s: %w", a.Addr, net.ErrClosed)
	default:
		t.count.streamErrors.Add(1)
		return nil, err
	}
}

// Shutdown implements memberlist.Transport. It returns when every goroutine of the transport has ended and every socket
// and stream is closed; later and concurrent calls wait for the same and return the same error.
func (t *Transport) Shutdown() error { return t.shutdown() }

func (t *Transport) tearDown() error {
	t.cancel()

	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for s := range open {
		// An error would only say that the peer or memberlist has closed it first.
		_ = s.Conn.Close()
	}

	err := t.medium.close()
	t.wg.Wait()

	// No goroutine fills the backlog any more. Emptied now, it delivers nothing after Shutdown.
	for {
		select {
		case <-t.packets:
			t.count.packetsDropped.Add(1)
		default:
			return err
		}
	}
}

// begin runs f on a goroutine that Shutdown waits for, unless Shutdown has begun.
func (t *Transport) begin(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		return false
	}
	t.wg.Go(f)
	return true
}

// closing reports whether Shutdown has begun.
func (t *Transport) closing() bool {
	select {
	case <-t.ctx.Done():
		return true
	default:
		return false
	}
}

// admits reports whether source may talk to us. The zero Addr stands for a source that is not known: it may only where all
// networks are allowed.
func (t *Transport) admits(source netip.Addr) bool {
	if len(t.allowed) == 0 {
		return true
	}
	// Prefixes carry no zone and hold no mapped addresses, so neither may the address.
	source = source.Unmap().WithZone("")
	return slices.ContainsFunc(t.allowed, func(p netip.Prefix) bool { return p.Contains(source) })
}

// logRefused logs the first packet, and the first stream, from outside the allowed networks. Further ones are only counted, or
// somebody outside could fill the disk.
func (t *Transport) logRefused(kind string, source any) {
	t.log.Warn("refused a "+kind+" from outside the allowed networks; further ones are only counted",
		"source", fmt.Sprint(source))
}

// accept takes a connection that a peer has dialled, or closes it if its source is not allowed.
func (t *Transport) accept(conn net.Conn) {
	if !t.admits(sourceOf(conn.RemoteAddr())) {
		if t.count.streamsRefused.Add(1) == 1 {
			t.logRefused("stream", conn.RemoteAddr())
		}
		_ = conn.Close()
		return
	}
	if t.secure != nil {
		t.secure.accept(conn)
		return
	}
	hand(t, conn)
}

// hand hands a stream to memberlist, which closes it.
func hand(t *Transport, conn net.Conn) {
	s, err := t.adopt(conn)
	if err != nil {
		t.count.streamErrors.Add(1)
		return
	}
	t.count.streamsAccepted.Add(1)
	(&incoming{stream: s, born: time.Now()}).hand()
}

// adopt puts the deadline on a connection, and remembers it until it is closed, so that Shutdown can close it. When adopt
// returns an error it has closed conn, because a stream without a deadline could block its user for ever.
func (t *Transport) adopt(conn net.Conn) (*stream, error) {
	s := &stream{Conn: conn, t: t}
	if err := s.SetDeadline(time.Now().Add(t.streamTimeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}

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

// sourceOf returns the IP address in a net.Addr, or the zero Addr if there is none.
func sourceOf(a net.Addr) netip.Addr { return addrPortOf(a).Addr() }

// addrPortOf is sourceOf with the port.
func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case nil:
		return netip.AddrPort{}
	case interface{ AddrPort() netip.AddrPort }:
		return a.AddrPort()
	default:
		ap, _ := netip.ParseAddrPort(a.String())
		return ap
	}
}
