package starlingtest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// PacketBuffer is how many packets are buffered for a member that does not read them. Further ones are dropped and counted.
	PacketBuffer = 1024

	// StreamBacklog is how many streams wait until a member accepts them. Further dials try again every second.
	StreamBacklog = 128
)

// state is how far a transport has come; it only grows.
type state int

const (
	running  state = iota
	crashed        // cut off without a goodbye, not yet shut down by its owner
	shutDown       // by its owner
)

// Transport is one run of one member on the network: from [Network.Transport] to Shutdown or [Network.Crash]. It implements
// memberlist.NodeAwareTransport. It has no goroutine. Its methods may be called concurrently. Of them only the dials wait, and
// they wait for the network, never for the other member to read.
type Transport struct {
	net     *Network
	host    *host
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn

	// The rest is guarded by net.mu.
	state  state
	conns  map[*conn]struct{} // this member's ends that are not closed
	frozen bool
	held   []*memberlist.Packet // Invariant: len(held) + len(packets) ≤ PacketBuffer
	queued []*conn              // Invariant: len(queued) + len(streams) ≤ StreamBacklog
	ports  uint16               // ephemeral ports used so far
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

func newTransport(n *Network, h *host) *Transport {
	return &Transport{
		net: n, host: h, addr: h.addr,
		packets: make(chan *memberlist.Packet, PacketBuffer),
		streams: make(chan net.Conn, StreamBacklog),
		conns:   make(map[*conn]struct{}),
	}
}

// Addr returns the member's address: what another member joins.
func (t *Transport) Addr() netip.AddrPort { return t.addr }

// FinalAdvertiseAddr returns the member's address. The port is ignored, since memberlist always gives one; an ip other than
// the member's own is an error, since nobody would find the member there.
func (t *Transport) FinalAdvertiseAddr(ip string, _ int) (net.IP, int, error) {
	if ip != "" {
		if want, err := netip.ParseAddr(ip); err != nil || want.Unmap() != t.addr.Addr() {
			return nil, 0, fmt.Errorf("starlingtest: member %q has the address %v, it cannot advertise %q", t.host.name, t.addr, ip)
		}
	}
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo sends a copy of b in one packet to whoever has that address, and returns the time at which it did. A packet that is
// dropped on its way is no error. Errors are a *net.OpError, for: net.ErrClosed after Shutdown; EMSGSIZE above 65,507 bytes; an
// address that is not ip:port.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	n := t.net
	if len(b) > maxPacket {
		return time.Time{}, t.packetError(os.NewSyscallError("sendto", syscall.EMSGSIZE))
	}
	t.show(Event{To: addr, Data: b})
	payload := slices.Clone(b)
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := t.send(payload, addr, now); err != nil {
		return time.Time{}, t.packetError(err)
	}
	return now, nil
}

func (t *Transport) packetError(err error) error {
	return &net.OpError{Op: "write", Net: "udp", Source: net.UDPAddrFromAddrPort(t.addr), Err: err}
}

// WriteToAddress is WriteTo; the name is ignored.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh returns the channel of packets that have arrived. The receiver owns each of them. The channel is never closed.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the channel of streams that others have dialled. The receiver owns each of them, and closes it. The channel is
// never closed.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown ends this run of the member. Its streams are closed, so that their peers read what was written and then EOF. From now
// on dials to the member are refused, until the name is started again. After a crash Shutdown only ends the calls that wait in
// the transport. It always returns nil, and may be called twice.
func (t *Transport) Shutdown() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	t.stop(shutDown)
	return nil
}

// stop takes the member off the network, and drops what nobody will read any more. n.mu is held.
func (t *Transport) stop(s state) {
	if t.state >= s {
		return
	}
	t.state = s
	if t.host.running == t {
		t.host.running, t.host.crashed = nil, s == crashed
	}
	for c := range t.conns {
		if s == crashed {
			c.reset(false)
		} else {
			c.close()
		}
	}
	if s == crashed {
		t.host.up.dropPackets()
	}
	t.frozen, t.held, t.queued = false, nil, nil
	for {
		select {
		case <-t.packets:
		case <-t.streams:
		default:
			t.net.changed.raise()
			return
		}
	}
}

// full reports whether there is no room for another packet.
func (t *Transport) full() bool { return len(t.held)+len(t.packets) >= PacketBuffer }

// buffer keeps a packet for the member, which is not full: only the network fills the buffer, so it cannot have become so.
func (t *Transport) buffer(p *memberlist.Packet) {
	if t.frozen {
		t.held = append(t.held, p)
		return
	}
	t.packets <- p
}

// offer queues a stream to be accepted, or says that the backlog is full.
func (t *Transport) offer(c *conn) bool {
	if t.frozen {
		if len(t.queued)+len(t.streams) >= StreamBacklog {
			return false
		}
		t.queued = append(t.queued, c)
		return true
	}
	select {
	case t.streams <- c:
		return true
	default:
		return false
	}
}
