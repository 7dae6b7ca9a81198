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
func (t *Transport) newStream(to *Transport) (dialled, accepted *conn) {
	n := t.net
	n.streams++
	t.ports++
	there := &pipe{dice: newDice(n.links.seed, t.host, to.host, n.streams)}
	back := &pipe{dice: newDice(n.links.seed, to.host, t.host, n.streams)}
	local := net.TCPAddrFromAddrPort(t.addr)
	local.Port = 49152 + int(t.ports%16384)
	remote := net.TCPAddrFromAddrPort(to.addr)
	dialled = &conn{net: n, id: n.streams, owner: t, host: t.host, peer: to.host,
		local: local, remote: remote, in: back, out: there}
	accepted = &conn{net: n, id: n.streams, owner: to, host: to.host, peer: t.host,
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
				n.taps.arrived(c.peer, c.host, c.id, b[:k])
				c.host.counters.Received.StreamBytes += uint64(k)
				return k, c.fault("read", err)
			}
			until = earlier(until, c.in.next())
		}
		c.in.readers.wait(&n.mu, until)
	}
}

// Write waits until all of b is in the stream's buffer, or for the deadline.
func (c *conn) Write(b []byte) (int, error) {
	n, p := c.net, c.out
	c.owner.show(Event{To: c.peer.name, Stream: c.id, Data: b})
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
	p, link := c.out, c.net.links.of(c.host, c.peer)
	cut := link.CutAfter > 0 && p.carried+len(b) > link.CutAfter
	if cut {
		b = b[:max(0, link.CutAfter-p.carried)]
	}
	c.host.counters.Sent.StreamBytes += uint64(len(b))
	if p.refused.IsZero() && len(b) > 0 { // what is written after the reader has closed is lost
		c.carry(slices.Clone(b), p.dice.segment(link), now)
	}
	if cut {
		p.close(syscall.ECONNRESET, p.last)
		c.twin.host.counters.StreamsReset++
		c.sever(now, true)
	}
	return len(b)
}

// carry puts a piece on its way, whole if no rate holds it up.
func (c *conn) carry(b []byte, delay time.Duration, now time.Time) {
	n, p := c.net, c.out
	free := c.host.up.free() && c.peer.down.free() && n.links.rate(c.host, c.peer).free()
	if c.host == c.peer || free && p.waiting == 0 {
		p.push(b, now.Add(delay))
		return
	}
	p.expect(len(b))
	for part := range slices.Chunk(b, quantum) {
		ld := &load{from: c.host, to: c.peer, size: len(part), delay: delay, writer: c, data: part}
		ld.advance(n, now)
	}
	n.transit.schedule(now)
}

// cannotWrite returns why no byte can be written any more, or nil.
func (c *conn) cannotWrite(now time.Time) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case passed(c.writeDeadline, now):
		return os.ErrDeadlineExceeded
	case c.in.reset(now):
		return syscall.ECONNRESET
	case passed(c.out.refused, now) && !c.in.stalled:
		return syscall.EPIPE
	}
	return nil
}

func (c *conn) waitToWrite() {
	until := c.writeDeadline
	if c.in.end != nil && c.in.end != io.EOF && c.in.waiting == 0 && !c.in.stalled {
		until = earlier(until, c.in.ends) // a reset is on its way
	}
	c.out.writers.wait(&c.net.mu, until)
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
	away := c.net.links.of(c.host, c.peer).Latency
	c.out.close(io.EOF, now.Add(away))
	c.out.writers.raise()
	c.in.refuse(now.Add(away))
}

// reset breaks both ends. told is whether the peer learns of it although a partition is between them.
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
