package starling

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// wrap puts the guard of a transport around one that the user brought, node-aware or plain. The result owns inner: its
// Shutdown shuts inner down. Options that concern own sockets are not heeded.
func wrap(inner memberlist.Transport, o transportOptions) *transport {
	w := &wrapped{Transport: inner, down: make(chan struct{})}
	w.aware, _ = inner.(memberlist.NodeAwareTransport)
	t := newTransport(w, o)
	t.wg.Go(func() { t.pumpPackets(w) })
	t.wg.Go(func() { t.pumpStreams(w) })
	return t
}

// wrapped makes a medium of a memberlist.Transport.
type wrapped struct {
	memberlist.Transport
	aware memberlist.NodeAwareTransport // the same one, if it is; else nil
	down  chan struct{}                 // closed when inner's Shutdown has returned
}

func (w *wrapped) send(b []byte, a memberlist.Address) (time.Time, error) {
	if w.aware == nil {
		return w.WriteTo(b, a.Addr)
	}
	return w.aware.WriteToAddress(b, a)
}

func (w *wrapped) sendTo(b []byte, to Member) error {
	_, err := w.send(b, memberlist.Address{Addr: to.Addr.String(), Name: to.Name})
	return err
}

func (w *wrapped) keeps() bool { return true }

func (w *wrapped) dial(_ context.Context, a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if w.aware == nil {
		return w.DialTimeout(a.Addr, timeout)
	}
	return w.aware.DialAddressTimeout(a, timeout)
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

// pumpPackets runs until inner is down or closes its channel, not only until our Shutdown begins: inner may be blocked
// on a send that its own shutdown waits for. What comes in meanwhile is dropped by deliver.
func (t *transport) pumpPackets(w *wrapped) {
	for {
		select {
		case p, ok := <-w.PacketCh():
			switch {
			case !ok:
				return
			case p == nil:
				continue
			case !t.admits(sourceOf(p.From)):
				if t.count.packetsRefused.Add(1) == 1 {
					t.logRefused("packet", p.From)
				}
			case !t.passes(p.Buf):
				t.deliver(p)
			}
		case <-w.down:
			return
		}
	}
}

// pumpStreams is pumpPackets for streams; accept closes those that come too late.
func (t *transport) pumpStreams(w *wrapped) {
	for {
		select {
		case conn, ok := <-w.StreamCh():
			if !ok {
				return
			}
			if conn != nil {
				t.accept(conn)
			}
		case <-w.down:
			return
		}
	}
}
