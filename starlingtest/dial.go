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

// DialTimeout opens a stream to whoever has that address, which takes one round trip. A timeout of 0 stands for two minutes. The
// caller owns the stream and closes it. Its methods may be called concurrently, as those of any net.Conn.
//
// Errors are a *net.OpError, for: os.ErrDeadlineExceeded, a timeout, if nobody answers, because nobody has the address or its
// member has crashed or is partitioned off; ECONNREFUSED if the member was shut down or the link refuses streams; net.ErrClosed
// after or during Shutdown; an address that is not ip:port.
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
	c, err := t.dial(addr, deadline)
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

// dial tries until somebody answers, as a kernel does that sends its SYN again.
func (t *Transport) dial(addr string, deadline time.Time) (*conn, error) {
	n := t.net
	if !time.Now().Before(deadline) {
		return nil, os.ErrDeadlineExceeded
	}
	n.dials++
	d := newDice(n.links.seed, t.host, t.host, n.dials)
	for {
		to := n.hosts.at(addr)
		if !t.reachable(to) {
			if err := t.await(time.Time{}, deadline); err != nil {
				return nil, err
			}
			continue
		}
		out, back := n.links.of(t.host, to), n.links.of(to, t.host)
		there, home := d.segment(out), d.segment(back)
		if err := t.await(time.Now().Add(there), deadline); err != nil {
			return nil, err
		}
		if n.hosts.at(addr) != to || !t.reachable(to) {
			continue
		}
		if to.running == nil || n.links.of(t.host, to).RefuseStreams {
			if err := t.await(time.Now().Add(home), deadline); err != nil {
				return nil, err
			}
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		c, ok := t.connect(to.running)
		if !ok {
			if err := t.await(time.Now().Add(redial), deadline); err != nil {
				return nil, err
			}
			continue
		}
		if err := t.await(time.Now().Add(home), deadline); err != nil {
			if !c.closed {
				c.close()
			}
			return nil, err
		}
		return c, nil
	}
}

// reachable reports whether a handshake would be answered: it needs both directions, and somebody there.
func (t *Transport) reachable(to *host) bool {
	ps := &t.net.partitions
	return t.state != crashed && to != nil && !to.crashed && !ps.severed(t.host, to) && !ps.severed(to, t.host)
}

// connect offers a stream to a member. It returns false if the member's backlog is full.
func (t *Transport) connect(to *Transport) (*conn, bool) {
	c, accepted := t.newStream(to)
	if !to.offer(accepted) {
		to.host.counters.BacklogFull++
		return nil, false
	}
	to.host.counters.Received.Streams++
	t.conns[c], to.conns[accepted] = struct{}{}, struct{}{}
	return c, true
}

// await waits until a given time, or if that is zero until the network has changed; no longer than the deadline or than the
// transport runs.
func (t *Transport) await(until, deadline time.Time) error {
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
		t.net.changed.wait(&t.net.mu, earlier(until, deadline))
		if until.IsZero() {
			until = time.Now()
		}
	}
}
