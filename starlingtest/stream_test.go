package starlingtest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestStreamAddresses(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		c, s := connect(t, a, b)
		if c.RemoteAddr().String() != "10.0.0.2:7946" || s.LocalAddr().String() != "10.0.0.2:7946" {
			t.Error(c.RemoteAddr(), s.LocalAddr())
		}
		if c.LocalAddr().String() != s.RemoteAddr().String() || c.LocalAddr().Network() != "tcp" {
			t.Error(c.LocalAddr(), s.RemoteAddr())
		}
		if host, _, err := net.SplitHostPort(s.RemoteAddr().String()); err != nil || host != "10.0.0.1" {
			t.Error(host, err)
		}
	})
}

func TestStreamKeepsOrderAndEnds(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2, Reorder: 1})
		c, s := connect(t, a, b)
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(i >> 8)
		}
		go func() {
			for part := range bytes.SplitSeq(want, []byte{77}) {
				c.Write(part)
				time.Sleep(time.Millisecond)
			}
			c.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, bytes.ReplaceAll(want, []byte{77}, nil)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if c := n.Total(); c.Sent.StreamBytes != c.Received.StreamBytes || c.Sent.Streams != 1 || c.Received.Streams != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c, s := connect(t, a, b)
		began := time.Now()
		ok(t, c.SetDeadline(began.Add(time.Second)))
		_, err := c.Read(make([]byte, 1))
		wantOp(t, err, "read")
		wantTimeout(t, err)
		if took := time.Since(began); took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
		_, err = c.Write([]byte("x"))
		wantOp(t, err, "write")
		wantTimeout(t, err)

		ok(t, c.SetDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Now()) }) // for a Read that waits already
		_, err = c.Read(make([]byte, 1))
		wantTimeout(t, err)

		ok(t, c.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { c.Close() })
		_, err = c.Read(make([]byte, 1))
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := c.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestPeerThatNeverReads(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		ok(t, n.Freeze("b"))
		c, err := a.DialTimeout(b.Addr().String(), time.Second) // the kernel connects, nobody accepts
		ok(t, err)
		ok(t, c.SetWriteDeadline(time.Now().Add(5*time.Second)))
		k, err := c.Write(make([]byte, 1<<20))
		wantOp(t, err, "write")
		wantTimeout(t, err)
		if k != 256<<10 {
			t.Errorf("%d bytes fit into a stream that nobody reads", k)
		}
		if len(b.StreamCh()) != 0 {
			t.Error("a frozen member was handed a stream")
		}
		ok(t, n.Thaw("b"))
		s := <-b.StreamCh()
		read(t, s, string(make([]byte, k)))

		ok(t, n.Freeze("b"))
		ok(t, c.SetWriteDeadline(time.Time{}))
		_, err = c.Write([]byte("unheard"))
		ok(t, err)
		time.AfterFunc(time.Hour, func() { n.Thaw("b") })
		began := time.Now()
		read(t, s, "unheard")
		if took := time.Since(began); took != time.Hour {
			t.Errorf("a frozen member read after %v", took)
		}
	})
}

func TestClosedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c, s := connect(t, a, b)
		ok(t, s.Close())
		_, err := c.Write([]byte("in vain")) // the news is on its way
		ok(t, err)
		time.Sleep(time.Second)
		_, err = c.Write([]byte("in vain"))
		wantOp(t, err, "write")
		if !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
	})
}

func TestConcurrentWritesAreNotTorn(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		c, s := connect(t, a, b)
		const size = 300 << 10 // more than the buffer: each has to wait in its midst
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { c.Write(bytes.Repeat([]byte{byte(i)}, size)) })
		}
		for range 4 {
			got := make([]byte, size)
			_, err := io.ReadFull(s, got)
			ok(t, err)
			if bytes.Count(got, got[:1]) != size {
				t.Error("a write was torn")
			}
		}
		wg.Wait()
	})
}

func TestCutStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond, Bandwidth: 100_000})
		c, s := connect(t, a, b)
		_, err := c.Write(make([]byte, 200_000))
		ok(t, err)
		time.Sleep(time.Second)
		ok(t, n.CutStreams("b", "a"))
		got, err := io.ReadAll(s)
		if len(got) == 0 || len(got) > 100_000 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		wantOp(t, err, "read")
		_, err = c.Write([]byte("x"))
		wantOp(t, err, "write")
		if !errors.Is(err, syscall.ECONNRESET) || n.Total().StreamsReset != 2 {
			t.Error(err, n.Total().StreamsReset)
		}
		c, s = connect(t, a, b) // new ones live
		ok(t, n.Partition([]string{"a"}, []string{"b"}))
		ok(t, n.CutStreams("a", "b")) // a cut needs no network
		for _, end := range []net.Conn{c, s} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
	})
}

func TestCutAfter(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		ok(t, n.SetLink("a", "b", starlingtest.Link{Latency: time.Millisecond, CutAfter: 50_000}))
		c, s := connect(t, a, b)
		answered := make(chan error, 1)
		go func() {
			_, err := s.Write(make([]byte, 1<<20)) // waits for room until the reset arrives
			answered <- err
		}()
		synctest.Wait()
		k, err := c.Write(make([]byte, 60_000))
		if k != 50_000 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("wrote %d, %v", k, err)
		}
		got, err := io.ReadAll(s)
		if len(got) != 50_000 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d, %v", len(got), err)
		}
		if err := <-answered; !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestDialFailures(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		fails := func(addr string, want error, after time.Duration) {
			t.Helper()
			began := time.Now()
			_, err := a.DialTimeout(addr, 2*time.Second)
			wantOp(t, err, "dial")
			if took := time.Since(began); !errors.Is(err, want) || took != after {
				t.Errorf("%v after %v, want %v after %v", err, took, want, after)
			}
		}
		fails("10.1.2.3:7946", os.ErrDeadlineExceeded, 2*time.Second)
		ok(t, b.Shutdown())
		fails(b.Addr().String(), syscall.ECONNREFUSED, 2*time.Millisecond)
		b = start(t, n, "b")
		ok(t, n.Crash("b"))
		fails(b.Addr().String(), os.ErrDeadlineExceeded, 2*time.Second)
		b = start(t, n, "b")
		if _, err := a.DialTimeout(b.Addr().String(), -1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if _, err := a.DialTimeout(b.Addr().String(), time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a round trip of 2 ms was done in 1")
		}
		time.AfterFunc(time.Second, func() { a.Shutdown() })
		fails("10.1.2.3:7946", net.ErrClosed, time.Second)
		fails(b.Addr().String(), net.ErrClosed, 0)
		if c := counters(t, n, "a"); c.DialsFailed != 7 {
			t.Errorf("%d dials failed", c.DialsFailed)
		}
	})
}

func TestBacklogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		for range starlingtest.StreamBacklog {
			_, err := a.DialTimeout(b.Addr().String(), time.Second)
			ok(t, err)
		}
		_, err := a.DialTimeout(b.Addr().String(), 2500*time.Millisecond)
		wantTimeout(t, err)
		if c := counters(t, n, "b"); c.BacklogFull != 3 || c.Received.Streams != starlingtest.StreamBacklog {
			t.Errorf("%+v", c)
		}
		time.AfterFunc(time.Second/2, func() { <-b.StreamCh() })
		_, err = a.DialTimeout(b.Addr().String(), 5*time.Second)
		ok(t, err)
	})
}

func TestWriterWaitsForReader(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c, s := connect(t, a, b)
		var done bool
		go func() {
			c.Write(make([]byte, 300<<10))
			done = true
		}()
		synctest.Wait()
		if done {
			t.Error("300 KiB fitted into 256")
		}
		read(t, s, string(make([]byte, 300<<10)))
		synctest.Wait()
		if !done {
			t.Error("the writer still waits")
		}
	})
}
