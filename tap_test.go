package starling

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// tap is a memberlist.Transport in memory that keeps what is written to it. Taps reach each other by connect.
type tap struct {
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	largest atomic.Int64 // bytes of the largest packet written, but to member
	member  string       // the address of one whose packets are not looked at

	mu      sync.Mutex
	peers   map[string]*tap
	written [][]byte // packets, if record is set
	record  bool
}

func newTap(addr string) *tap {
	return &tap{
		addr: netip.MustParseAddrPort(addr), packets: make(chan *memberlist.Packet, 10_000), streams: make(chan net.Conn),
		peers: map[string]*tap{},
	}
}

func connect(a, b *tap) {
	a.peers[b.addr.String()], b.peers[a.addr.String()] = b, a
}

func (t *tap) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

func (t *tap) WriteTo(b []byte, addr string) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr != t.member {
		t.largest.Store(max(t.largest.Load(), int64(len(b))))
	}
	if t.record {
		t.written = append(t.written, slices.Clone(b))
	}
	if peer, ok := t.peers[addr]; ok {
		select {
		case peer.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: net.UDPAddrFromAddrPort(t.addr), Timestamp: time.Now()}:
		default:
		}
	}
	return time.Now(), nil
}

func (t *tap) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *tap) StreamCh() <-chan net.Conn           { return t.streams }
func (t *tap) Shutdown() error                     { return nil }

func (t *tap) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	t.mu.Lock()
	peer, ok := t.peers[addr]
	t.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nobody at %s", addr)
	}
	near, far := net.Pipe()
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	select {
	case peer.streams <- far:
		return near, nil
	case <-expired.C:
		return nil, fmt.Errorf("%s does not accept", addr)
	}
}
