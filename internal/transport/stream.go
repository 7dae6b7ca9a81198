package transport

import (
	"net"
	"sync/atomic"
	"time"
)

const (
	// pace is how many bytes must pass within each time-out of a stream: a slow link that moves is not cut off, and a peer that
	// feeds us single bytes is. That takes from us no more than one deadline for all would: whoever wants to pin memory with a
	// stream has to send 16 KiB for each further time-out, where it would only have to dial again.
	pace = 16 << 10

	// mostExtended is how many received bytes extend the deadline of a stream: memberlist's own limit for a message and for a
	// state, and so what one stream can pin, however long it lasts. What comes beyond has what is left of the last time-out.
	// Invariant: nobody feeds us a stream for longer than mostExtended/pace + 1 = 1,281 time-outs.
	mostExtended = 20 << 20
)

// stream is a connection that ends when it is silent, whose bytes are counted, and that Shutdown closes if nobody else has.
//
// SetDeadline says how long it may be silent: the deadline is set anew, as far away as it was then, whenever pace bytes have
// passed in either direction. So memberlist's deadline for the whole of an exchange becomes one for each 16 KiB of it, while that
// for a ping, which is smaller, stays. SetReadDeadline and SetWriteDeadline hold until then.
type stream struct {
	net.Conn
	t *Transport

	patience atomic.Int64 // from the last SetDeadline to its deadline, in ns
	passed   atomic.Int64 // bytes since the deadline was set, either way
	received atomic.Int64 // bytes in all
}

// SetDeadline sets the deadline of reads and writes.
func (s *stream) SetDeadline(at time.Time) error {
	s.patience.Store(int64(time.Until(at)))
	s.passed.Store(0)
	return s.Conn.SetDeadline(at)
}

// pass notes that n bytes have passed, and extends the deadline if they are enough. The deadline is for both directions: a state
// that takes long to come must leave time for the answer.
func (s *stream) pass(n int) {
	if s.passed.Add(int64(n)) < pace {
		return
	}
	s.passed.Store(0)
	if patience := time.Duration(s.patience.Load()); patience > 0 {
		// An error leaves the old deadline, so that the stream ends all the same.
		_ = s.Conn.SetDeadline(time.Now().Add(patience))
	}
}

// Read reads and counts.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.t.count.streamBytesReceived.Add(uint64(n))
	if s.received.Add(int64(n)) <= mostExtended {
		s.pass(n)
	}
	return n, err
}

// Write writes and counts, pace bytes at a time so that each gets a deadline of its own. It closes the stream when it fails: half
// a message is on the way, and nothing sensible can follow. memberlist itself forgets a dialled stream whose label header could
// not be written, and would leave it open until Shutdown.
func (s *stream) Write(b []byte) (int, error) {
	written := 0
	for {
		n, err := s.Conn.Write(b[written:min(len(b), written+pace)])
		written += n
		s.t.count.streamBytesSent.Add(uint64(n))
		if err != nil {
			_ = s.Close()
			return written, err
		}
		s.pass(n)
		if written == len(b) {
			return written, nil
		}
	}
}

// Close closes the connection and forgets it.
func (s *stream) Close() error {
	s.t.mu.Lock()
	delete(s.t.open, s)
	s.t.mu.Unlock()
	return s.Conn.Close()
}

// abort is Close.
func (s *stream) abort() { _ = s.Close() }
