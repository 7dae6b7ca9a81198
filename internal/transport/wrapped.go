package transport

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// Wrap returns a transport that carries its packets and streams over inner, which the user brought: a memberlist.Transport, node
// aware or not. The result owns inner: its Shutdown shuts inner down. Options.Bind is ignored.
func Wrap(inner memberlist.Transport, o Options) *Transport {
	w := &wrapped{Transport: inner, down: make(chan struct{})}
	w.nodeAware, _ = inner.(memberlist.NodeAwareTransport)
	w.t = newTransport(w, o)
	w.t.wg.Go(w.pumpPackets)
	w.t.wg.Go(w.pumpStreams)
	return w.t
}

// wrapped is the medium made of a user's memberlist.Transport.
type wrapped struct {
	memberlist.Transport
	t         *Transport                    // whose medium it is
	nodeAware memberlist.NodeAwareTransport // the same transport if it is node aware, else nil
	down      chan struct{}                 // closed when the user's Shutdown has returned
}

func (w *wrapped) send(b []byte, a memberlist.Address) (time.Time, error) {
	if w.nodeAware == nil {
		return w.WriteTo(b, a.Addr)
	}
	return w.nodeAware.WriteToAddress(b, a)
}

func (w *wrapped) sendTo(b []byte, to wire.Peer) error {
	_, err := w.send(b, memberlist.Address{Addr: to.Addr.String(), Name: to.Name})
	return err
}

// retains returns true, because nothing forbids a user's transport to send the bytes later.
func (w *wrapped) retains() bool { return true }

// dial returns as soon as ctx ends, of which the user's transport knows nothing. A connection that comes later is closed at once.
func (w *wrapped) dial(ctx context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan outcome)
	if !w.t.begin(func() {
		conn, err := w.dialUser(a, timeout)
		select {
		case dialled <- outcome{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	}) {
		return nil, net.ErrClosed
	}
	select {
	case o := <-dialled:
		return o.conn, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *wrapped) dialUser(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if w.nodeAware == nil {
		return w.DialTimeout(a.Addr, timeout)
	}
	return w.nodeAware.DialAddressTimeout(a, timeout)
}

func (w *wrapped) advertise(ip string, port int) (net.IP, int, error) {
	return w.FinalAdvertiseAddr(ip, port)
}

func (w *wrapped) bound() netip.AddrPort { return netip.AddrPort{} }

func (w *wrapped) close() error {
	err := w.Shutdown()
	close(w.down)
	return err
}

// pumpPackets hands on the packets of the user's transport until that is shut down or closes its channel. It does not end when
// our Shutdown begins, because the user's transport may be blocked on a send to the channel, and its own Shutdown may wait for
// that send. deliverPacket drops what comes after our Shutdown has begun.
func (w *wrapped) pumpPackets() {
	t := w.t
	for {
		select {
		case p, ok := <-w.PacketCh():
			switch {
			case !ok:
				return
			case p == nil:
				continue
			case t.secure != nil:
				t.count.packetsRefused.Add(1) // whoever has sent it has shown no certificate
				continue
			case !t.admits(sourceOf(p.From)):
				if t.count.packetsRefused.Add(1) == 1 {
					t.logRefused("packet", p.From)
				}
				continue
			}
			t.Heard.note(unmap(addrPortOf(p.From)), time.Now())
			if !t.deliverUserMessage(p.Buf) {
				t.deliverPacket(p)
			}
		case <-w.down:
			return
		}
	}
}

// pumpStreams is pumpPackets for streams. accept closes those that come after our Shutdown has begun.
func (w *wrapped) pumpStreams() {
	for {
		select {
		case conn, ok := <-w.StreamCh():
			if !ok {
				return
			}
			if conn != nil {
				w.t.accept(conn)
			}
		case <-w.down:
			return
		}
	}
}
