package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrNothingSaid is what reading an accepted connection ends with that its peer has closed, or left, without a byte: a health check, or somebody
// who looks whether there is anybody. memberlist would take io.EOF there for a stream without a label.
var ErrNothingSaid = errors.New("nothing was said on this connection")

// incoming is a stream that a peer has dialled, as memberlist reads it: a connection, or one of the streams of a kept connection (see
// kept.go), which the first bytes tell. Whoever reads it is the only one.
type incoming struct {
	*stream
	born   time.Time // of the connection
	blocks *blocks   // nil: the connection is the stream, or nothing was read yet
	begun  bool      // the first bytes were read
	head   []byte    // of them, what is still to be handed on

	tells  bool      // the peer wants to know how much of a stream was read
	untold int       // bytes of this stream that were read and not told
	told   time.Time // when that was told last, or the stream began
}

// Read reads what the peer has written.
func (in *incoming) Read(b []byte) (int, error) {
	switch {
	case in.blocks != nil:
		n, err := in.blocks.Read(b)
		in.tell(n)
		return n, err
	case len(in.head) > 0:
		n := copy(b, in.head)
		in.head = in.head[n:]
		return n, nil
	case in.begun || len(b) == 0:
		return in.stream.Read(b)
	}
	in.begun = true
	n, err := in.stream.Read(b)
	if n == 0 && err != nil {
		return 0, fmt.Errorf("%w (%w)", ErrNothingSaid, err)
	}
	if n == 0 || b[0] != keptHead[0] {
		return n, err
	}
	return in.beginKept(b, n)
}

// tell tells the peer that more was read, if that is much, and the stream takes long.
func (in *incoming) tell(n int) {
	if in.untold += n; !in.tells || in.untold < moreBytes {
		return
	}
	if now := time.Now(); now.Sub(in.told) >= moreEvery {
		in.untold, in.told = 0, now
		_, _ = in.stream.Write([]byte{keptMore}) // if it fails, reading on does too
	}
}

// beginKept reads on from the n first bytes of a connection, which are in b and seem to begin keptHead.
func (in *incoming) beginKept(b []byte, n int) (int, error) {
	in.head = bytes.Clone(b[:n])
	for len(in.head) < len(keptHead) {
		var more [len(keptHead)]byte
		n, err := in.stream.Read(more[:len(keptHead)-len(in.head)])
		in.head = append(in.head, more[:n]...)
		if err != nil {
			break
		}
	}
	for _, head := range []string{keptHead, keptHeadTelling} {
		if rest, ok := bytes.CutPrefix(in.head, []byte(head)); ok {
			in.head, in.blocks, in.tells, in.told = nil, newBlocks(rest, in.stream), head == keptHeadTelling, time.Now()
		}
	}
	return in.Read(b)
}

// Write writes to a connection. What memberlist says to a message of SendReliable, namely an error, is lost: nobody reads it.
func (in *incoming) Write(b []byte) (int, error) {
	if in.blocks != nil {
		return len(b), nil
	}
	return in.stream.Write(b)
}

// Close closes the connection, or lets a kept one wait for the next stream.
func (in *incoming) Close() error {
	if in.blocks == nil {
		return in.stream.Close()
	}
	t := in.stream.t
	if !t.begin(in.next) {
		return in.stream.Close()
	}
	return nil
}

// next waits for the next stream of a kept connection and hands it to memberlist. It closes the connection if that has not read the last
// one to its end, since something was wrong with it then.
func (in *incoming) next() {
	s, t := in.stream, in.stream.t
	defer t.incoming.Add(-1)
	if t.incoming.Add(1) > keptMost || time.Since(in.born) >= 2*keptAge || !in.blocks.end() || !answered(s) {
		_ = s.Close()
		return
	}
	if s.SetDeadline(time.Now().Add(2*keptIdle)) != nil || !in.blocks.more() || s.SetDeadline(time.Now().Add(t.streamTimeout)) != nil {
		_ = s.Close()
		return
	}
	s.received.Store(0)
	(&incoming{stream: s, born: in.born, blocks: in.blocks, tells: in.tells, told: time.Now()}).hand()
}

// hand hands the stream to memberlist, which closes it.
func (in *incoming) hand() {
	select {
	case in.stream.t.streams <- in:
	case <-in.stream.t.ctx.Done():
		_ = in.stream.Close()
	}
}

// answered tells the peer that its stream was read.
func answered(s *stream) bool {
	_, err := s.Write([]byte{keptRead})
	return err == nil
}

// blocks reads the streams of a kept connection, one after the other.
type blocks struct {
	r    *bufio.Reader
	left uint32 // of the block that is being read
	over bool   // the stream has ended
}

// newBlocks reads from r what comes after some bytes that were read from it already.
func newBlocks(read []byte, r io.Reader) *blocks {
	return &blocks{r: bufio.NewReader(io.MultiReader(bytes.NewReader(read), r))}
}

// Read reads from one stream, and returns io.EOF at its end.
func (bs *blocks) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if bs.left == 0 {
		if err := bs.next(); err != nil {
			return 0, err
		}
	}
	n, err := bs.r.Read(b[:min(uint64(len(b)), uint64(bs.left))])
	bs.left -= uint32(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next begins the next block. It returns io.EOF at the end of the stream.
func (bs *blocks) next() error {
	if bs.over {
		return io.EOF
	}
	var length [4]byte
	if _, err := io.ReadFull(bs.r, length[:]); err != nil {
		return io.ErrUnexpectedEOF
	}
	bs.left = binary.BigEndian.Uint32(length[:])
	if bs.over = bs.left == 0; bs.over {
		return io.EOF
	}
	return nil
}

// end reports whether nothing of the stream is left but its end.
func (bs *blocks) end() bool { return bs.left == 0 && bs.next() == io.EOF }

// more waits until another stream begins.
func (bs *blocks) more() bool {
	if _, err := bs.r.Peek(1); err != nil {
		return false
	}
	bs.over = false
	return true
}
