package starlingtest

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	longestDial = 2 * time.Minute // of a dial without timeout: about when a kernel gives up
	redial      = time.Second     // after a full backlog
)

// DialTimeout opens a stream to whoever has that address; it takes one round trip. Errors are a *net.OpError: a timeout
// (os.ErrDeadlineExceeded) if nobody answers, because nobody has the address, it has crashed or is partitioned off;
// ECONNREFUSED if the member was shut down or the link refuses streams; net.ErrClosed after or during Shutdown. A timeout of
// 0 stands for two minutes. The caller owns the stream and closes it.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	n := t.net
	if timeout == 0 {
		timeout = longestDial
	}
	deadline := time.Now().Add(timeout)
	remote, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.AddrError{Err: "not ip:port", Addr: addr}}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.dial(t, addr, deadline)
	if err != nil {
		t.host.counters.DialsFailed++
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(remote), Err: err}
	}
	t.host.counters.Sent.Streams++
	return c, nil
}

// DialAddressTimeout is DialTimeout; the name is ignored.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// dial goes round until somebody answers, as a kernel does that sends its SYN again.
func (n *Network) dial(t *Transport, addr string, deadline time.Time) (*conn, error) {
	if !time.Now().Before(deadline) {
		return nil, os.ErrDeadlineExceeded
	}
	n.dials++
	d := newDice(n.seed, t.host, t.host, n.dials)
	for {
		to := n.route(addr)
		if !n.reachable(t, to) {
			if err := n.await(t, time.Time{}, deadline); err != nil {
				return nil, err
			}
			continue
		}
		out, back := n.linkOf(t.host, to), n.linkOf(to, t.host)
		there, home := d.segment(out), d.segment(back)
		if err := n.await(t, time.Now().Add(there), deadline); err != nil {
			return nil, err
		}
		if n.route(addr) != to || !n.reachable(t, to) {
			continue
		}
		if to.running == nil || n.linkOf(t.host, to).RefuseStreams {
			if err := n.await(t, time.Now().Add(home), deadline); err != nil {
				return nil, err
			}
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		c, ok := n.connect(t, to.running)
		if !ok {
			if err := n.await(t, time.Now().Add(redial), deadline); err != nil {
				return nil, err
			}
			continue
		}
		if err := n.await(t, time.Now().Add(home), deadline); err != nil {
			if !c.closed {
				c.close()
			}
			return nil, err
		}
		return c, nil
	}
}

// reachable says whether a handshake would be answered: it needs both directions, and somebody there.
func (n *Network) reachable(t *Transport, to *host) bool {
	return t.state != crashed && to != nil && !to.crashed && !n.severed(t.host, to) && !n.severed(to, t.host)
}

// connect offers a stream to a member, or says that its backlog is full.
func (n *Network) connect(from, to *Transport) (*conn, bool) {
	c, accepted := n.newStream(from, to)
	if !to.offer(accepted) {
		to.host.counters.BacklogFull++
		return nil, false
	}
	to.host.counters.Received.Streams++
	from.conns[c], to.conns[accepted] = struct{}{}, struct{}{}
	return c, true
}

// await waits until a given time, or if that is zero until the network has changed; no longer than the deadline or than the
// transport runs.
func (n *Network) await(t *Transport, until, deadline time.Time) error {
	for {
		now := time.Now()
		switch {
		case t.state == shutDown:
			return net.ErrClosed
		case !until.IsZero() && !now.Before(until):
			return nil
		case !now.Before(deadline):
			return os.ErrDeadlineExceeded
		}
		n.wait(&n.changed, earlier(until, deadline))
		if until.IsZero() {
			until = time.Now()
		}
	}
}
