package starling_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// unbuffered is a user's transport that hands each packet to its receiver itself, and waits until it is taken.
type unbuffered struct {
	addr    netip.AddrPort
	others  *sync.Map // by address
	packets chan *memberlist.Packet
	streams chan net.Conn
	down    chan struct{}
	once    sync.Once
}

func newUnbuffered(others *sync.Map, number int) *unbuffered {
	u := &unbuffered{
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), 7946), others: others,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), down: make(chan struct{}),
	}
	others.Store(u.addr.String(), u)
	return u
}

func (u *unbuffered) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return u.addr.Addr().AsSlice(), int(u.addr.Port()), nil
}

func (u *unbuffered) WriteTo(b []byte, addr string) (time.Time, error) {
	if other, ok := u.others.Load(addr); ok {
		to := other.(*unbuffered)
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(u.addr), Timestamp: time.Now()}:
		case <-to.down:
		case <-u.down:
		}
	}
	return time.Now(), nil
}

func (u *unbuffered) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	near, far := net.Pipe()
	if other, ok := u.others.Load(addr); ok {
		to := other.(*unbuffered)
		select {
		case to.streams <- far:
			return near, nil
		case <-to.down:
		case <-u.down:
		case <-time.After(timeout):
		}
	}
	return nil, fmt.Errorf("%s does not accept", addr)
}

func (u *unbuffered) PacketCh() <-chan *memberlist.Packet { return u.packets }
func (u *unbuffered) StreamCh() <-chan net.Conn           { return u.streams }
func (u *unbuffered) Shutdown() error                     { u.once.Do(func() { close(u.down) }); return nil }

// TestLeaveTogetherUnbuffered: members leave at the same time, so that each gets goodbyes while it sends its own. Over a
// transport that buffers nothing, the goroutine that reads packets must not write one, or two members wait for each other for
// ever.
func TestLeaveTogetherUnbuffered(t *testing.T) {
	var others sync.Map
	members := startMembers(t, 6, func(i int, c *starling.Config) { c.Transport, c.BindAddr = newUnbuffered(&others, i+1), "" })
	join(t, members...)
	var all sync.WaitGroup
	for _, c := range members {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_ = c.Leave(ctx) // that it returns is all that is asked
		})
	}
	left := make(chan struct{})
	go func() { all.Wait(); close(left) }()
	select {
	case <-left:
	case <-time.After(2 * patience):
		t.Fatal("members that leave at the same time wait for each other")
	}
}

// A message that Broadcast accepted just before Leave reaches all, small or large, lossy network or not.
func TestBroadcastJustBeforeLeave(t *testing.T) {
	t.Parallel()
	for _, loss := range []float64{0, 0.3} {
		t.Run(fmt.Sprintf("loss=%v", loss), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := append([]*node(nil), l.members(10)...)
				k := labLink
				k.Loss = loss
				l.links(k)
				origin, rest := nodes[9], nodes[:9]
				ids := append(l.sendMany(origin, 3, 200), l.sendMany(origin, 3, 3000)...)
				l.gone(origin)
				if err := origin.Leave(context.Background()); err != nil {
					t.Log(err) // memberlist's own leave may time out where packets get lost
				}
				t.Log("delivered after", l.delivered(20*time.Second, ids, origin, rest...))
				time.Sleep(2 * time.Minute)
				l.once(rest...)
			})
		})
	}
}
