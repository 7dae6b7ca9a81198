package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const streamTimeout = 10 * time.Second

// inPipe runs a test in a bubble, with one end of a pipe as a stream that was accepted. A pipe has no buffer.
func inPipe(t *testing.T, test func(t *testing.T, s, peer net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPlain()
		tr := Wrap(inner, Options{StreamTimeout: streamTimeout})
		near, far := net.Pipe()
		defer time.Sleep(streamTimeout) // until trickle and drip have noticed
		defer far.Close()
		defer tr.Shutdown()
		inner.streams <- near
		test(t, receive(t, "stream", tr.StreamCh()), far)
	})
}

// trickle writes n bytes every now and then until that fails or the stream ends.
func trickle(w io.Writer, n int, every time.Duration) {
	for b := make([]byte, n); ; {
		time.Sleep(every)
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// drip reads n bytes every now and then until that fails.
func drip(r io.Reader, n int, every time.Duration) {
	for b := make([]byte, n); ; {
		time.Sleep(every)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
	}
}

// cut fails unless err is a deadline that passed after that time.
func cut(t *testing.T, err error, began time.Time, after time.Duration) {
	t.Helper()
	if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != after {
		t.Errorf("ended with %v after %v, want a deadline after %v", err, took, after)
	}
}

// TestStreamSlowWrite: a peer that reads slowly gets the whole message, however long that takes; one that reads hardly anything is
// cut off.
func TestStreamSlowWrite(t *testing.T) {
	inPipe(t, func(t *testing.T, s, peer net.Conn) {
		began := time.Now()
		go drip(peer, pace, streamTimeout*9/10)
		if n, err := s.Write(make([]byte, 20*pace)); n != 20*pace || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if took := time.Since(began); took != 20*streamTimeout*9/10 {
			t.Errorf("took %v", took)
		}
	})
	inPipe(t, func(t *testing.T, s, peer net.Conn) {
		began := time.Now()
		go drip(peer, 1, time.Millisecond)
		n, err := s.Write(make([]byte, 2*pace))
		cut(t, err, began, streamTimeout)
		if n >= pace || n < pace/2 {
			t.Errorf("%d bytes were written", n)
		}
	})
}

// TestStreamSlowRead: the one deadline that memberlist sets for a stream it has accepted holds for each 16 KiB that come.
func TestStreamSlowRead(t *testing.T) {
	const limit = 5 * time.Second // memberlist's
	read := func(s net.Conn, n int) error {
		_, err := io.ReadFull(s, make([]byte, n))
		return err
	}
	for _, test := range []struct {
		name string
		read func(t *testing.T, s, peer net.Conn, began time.Time)
	}{
		{"slow", func(t *testing.T, s, peer net.Conn, began time.Time) {
			go trickle(peer, pace, limit*9/10)
			if err := read(s, 20*pace); err != nil {
				t.Errorf("cut after %v: %v", time.Since(began), err)
			}
			go drip(peer, 1, limit*9/10) // the answer has time, too
			if _, err := s.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}},
		{"single bytes", func(t *testing.T, s, peer net.Conn, began time.Time) {
			go trickle(peer, 1, time.Millisecond)
			cut(t, read(s, pace), began, limit)
		}},
		{"silent in the end", func(t *testing.T, s, peer net.Conn, began time.Time) {
			time.Sleep(limit / 2)
			go peer.Write(make([]byte, 2*pace-1))
			cut(t, read(s, 2*pace), began, limit/2+limit)
		}},
		{"too much", func(t *testing.T, s, peer net.Conn, began time.Time) {
			go func() {
				_, _ = peer.Write(make([]byte, mostExtended))
				trickle(peer, pace, limit*9/10)
			}()
			cut(t, read(s, mostExtended+2*pace), began, limit)
		}},
		{"ping", func(t *testing.T, s, peer net.Conn, began time.Time) {
			go trickle(peer, 100, limit/10)
			cut(t, read(s, 100*100), began, limit)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inPipe(t, func(t *testing.T, s, peer net.Conn) {
				began := time.Now()
				if err := s.SetDeadline(began.Add(limit)); err != nil {
					t.Fatal(err)
				}
				test.read(t, s, peer, began)
			})
		})
	}
}
