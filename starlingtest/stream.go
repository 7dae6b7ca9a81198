package starlingtest

import (
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// conn is one end of a stream. Network.mu guards what changes.
type conn struct {
	net           *Network
	id            uint64
	owner         *Transport
	host, peer    *host
	local, remote *net.TCPAddr
	twin          *conn
	in, out       *pipe
	closed        bool

	readDeadline, writeDeadline time.Time
}

var _ net.Conn = (*conn)(nil)

// newStream makes both ends of a stream, not yet known to anybody.
func (n *Network) newStream(from, to *Transport) (dialled, accepted *conn) {
	n.streams++
	from.ports++
	there := &pipe{from: from.host, to: to.host, dice: newDice(n.seed, from.host, to.host, n.streams)}
	back := &pipe{from: to.host, to: from.host, dice: newDice(n.seed, to.host, from.host, n.streams)}
	local := net.TCPAddrFromAddrPort(from.addr)
	local.Port = 49152 + int(from.ports%16384)
	remote := net.TCPAddrFromAddrPort(to.addr)
	dialled = &conn{net: n, id: n.streams, owner: from, host: from.host, peer: to.host,
		local: local, remote: remote, in: back, out: there}
	accepted = &conn{net: n, id: n.streams, owner: to, host: to.host, peer: from.host,
		local: remote, remote: local, in: there, out: back, twin: dialled}
	dialled.twin = accepted
	return dialled, accepted
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// Read waits for bytes, the end, or the deadline.
func (c *conn) Read(b []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case c.closed:
			return 0, c.fault("read", net.ErrClosed)
		case passed(c.readDeadline, now):
			return 0, c.fault("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		}
		until := c.readDeadline
		if !c.owner.frozen {
			k, err := c.in.take(b, now)
			if k > 0 || err != nil {
				n.arrive(c.peer, c.host, c.id, b[:k])
				c.host.counters.Received.StreamBytes += uint64(k)
				return k, c.fault("read", err)
			}
			until = earlier(until, c.in.next())
		}
		n.wait(&c.in.readers, until)
	}
}

// Write waits until all of b is in the stream's buffer, or for the deadline.
func (c *conn) Write(b []byte) (int, error) {
	n, p := c.net, c.out
	if tap := n.tap.Load(); tap != nil {
		n.observe(*tap, c.owner, Event{To: c.peer.name, Stream: c.id, Data: b})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for p.writing {
		if err := c.cannotWrite(time.Now()); err != nil {
			return 0, c.fault("write", err)
		}
		c.waitToWrite()
	}
	p.writing = true
	defer func() {
		p.writing = false
		p.writers.raise()
	}()
	written := 0
	for {
		now := time.Now()
		if err := c.cannotWrite(now); err != nil {
			return written, c.fault("write", err)
		}
		rest := b[written:min(len(b), written+segment)]
		switch {
		case len(rest) == 0:
			return written, nil
		case !p.room(len(rest)):
			c.waitToWrite()
		default:
			written += c.post(rest, now)
		}
	}
}

// post puts one piece on its way and returns how much of it: less than all if the link cuts the stream there.
func (c *conn) post(b []byte, now time.Time) int {
	p, link := c.out, c.net.linkOf(c.host, c.peer)
	cut := link.CutAfter > 0 && p.carried+len(b) > link.CutAfter
	if cut {
		b = b[:max(0, link.CutAfter-p.carried)]
	}
	c.host.counters.Sent.StreamBytes += uint64(len(b))
	if p.deaf.IsZero() && len(b) > 0 { // what the reader has closed itself against is written to nobody
		left := now
		if link.Bandwidth > 0 {
			left = c.net.path(c.host, c.peer).transmit(link, len(b), now)
		}
		p.push(slices.Clone(b), left.Add(p.dice.segment(link)))
	}
	if cut {
		p.close(syscall.ECONNRESET, p.last)
		c.twin.host.counters.StreamsReset++
		c.sever(now, true)
	}
	return len(b)
}

// cannotWrite says why no byte can be written any more.
func (c *conn) cannotWrite(now time.Time) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case passed(c.writeDeadline, now):
		return os.ErrDeadlineExceeded
	case c.in.reset(now):
		return syscall.ECONNRESET
	case passed(c.out.deaf, now) && !c.in.stalled:
		return syscall.EPIPE
	}
	return nil
}

func (c *conn) waitToWrite() {
	until := c.writeDeadline
	if c.in.end != nil && c.in.end != io.EOF && !c.in.stalled {
		until = earlier(until, c.in.ends) // a reset is on its way
	}
	c.net.wait(&c.out.writers, until)
}

// Close lets the peer read what was written, then EOF.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fault("close", net.ErrClosed)
	}
	c.close()
	return nil
}

func (c *conn) close() {
	c.closed = true
	delete(c.owner.conns, c)
	now := time.Now()
	away := c.net.linkOf(c.host, c.peer).Latency
	c.out.close(io.EOF, now.Add(away))
	c.out.writers.raise()
	c.in.deafen(now.Add(away))
}

// reset breaks both ends; told says whether the peer can learn of it behind a partition.
func (c *conn) reset(told bool) {
	now := time.Now()
	c.sever(now, true)
	c.twin.sever(now, told)
}

// sever breaks this end.
func (c *conn) sever(now time.Time, told bool) {
	if c.closed || c.in.reset(now) {
		return
	}
	c.in.sever(now)
	if told {
		c.in.stalled = false
	}
	c.out.writers.raise()
	c.host.counters.StreamsReset++
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, true, true) }

// SetReadDeadline holds for a Read that waits already, too; the zero time is none.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, true, false) }

// SetWriteDeadline holds for a Write that waits already, too; the zero time is none.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, false, true) }

func (c *conn) setDeadlines(t time.Time, read, write bool) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.fault("set", net.ErrClosed)
	}
	if read {
		c.readDeadline = t
		c.in.readers.raise()
	}
	if write {
		c.writeDeadline = t
		c.out.writers.raise()
	}
	return nil
}

// fault gives an error the shape it has on a TCP connection: memberlist looks at it.
func (c *conn) fault(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

func passed(deadline, now time.Time) bool {
	return !deadline.IsZero() && !now.Before(deadline)
}
