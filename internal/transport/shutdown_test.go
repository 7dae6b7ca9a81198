package transport

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/memberlist"
)

func TestTransportShutdown(t *testing.T) {
	tr, peer := testListen(t, Options{}), testListen(t, Options{})
	out, err := tr.DialTimeout(peer.Bound().String(), giveItTime)
	if err != nil {
		t.Fatal(err)
	}
	in := receive(t, "stream", peer.StreamCh())
	waiting := make(chan error, 2)
	for _, conn := range []net.Conn{out, in} {
		go func() {
			_, err := conn.Read(make([]byte, 1))
			waiting <- err
		}()
	}
	// One stream accepted and never taken; and more packets than the backlog holds, so that the reader is blocked.
	if _, err := peer.DialTimeout(tr.Bound().String(), giveItTime); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the stream is accepted", func() bool { return tr.Traffic().StreamsAccepted == 1 })
	for range packetBacklog + 1 {
		mustWrite(t, peer, []byte("flood"), tr.Bound())
	}
	waitUntil(t, "the reader is blocked", func() bool { return tr.Traffic().PacketsReceived == packetBacklog+1 })

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := tr.Shutdown(); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
	all.Wait()
	for range 2 {
		if err := receive(t, "end of a stream", waiting); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stream ended with %v", err)
		}
	}
	assertShut(t, tr)
	if got := tr.Traffic().PacketsDropped; got != packetBacklog+1 {
		t.Errorf("%d packets counted as dropped, want %d", got, packetBacklog+1)
	}
	// Both ports are free again.
	if again, err := Listen(Options{Bind: tr.Bound()}); err != nil {
		t.Error(err)
	} else if err := again.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := peer.Shutdown(); err != nil {
		t.Error(err)
	}
	noTransportGoroutines(t)
}

// slowAddr is a source that takes its time to say who it is, and so holds up the goroutine that asks.
type slowAddr struct{ hold chan struct{} }

func (a slowAddr) Network() string { return "test" }
func (a slowAddr) String() string  { <-a.hold; return "127.0.0.1:7" }

func TestTransportShutdownWaitsForItsGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPlain()
		tr := Wrap(inner, Options{Allowed: prefixes("127.0.0.0/8")})
		hold := make(chan struct{})
		inner.packets <- &memberlist.Packet{Buf: []byte("x"), From: slowAddr{hold}}
		var done atomic.Bool
		go func() {
			_ = tr.Shutdown()
			done.Store(true)
		}()
		synctest.Wait()
		if done.Load() {
			t.Error("Shutdown returned while a goroutine of the transport was busy")
		}
		close(hold)
		synctest.Wait()
		if !done.Load() {
			t.Error("Shutdown did not return")
		}
		assertShut(t, tr)
	})
}

// assertShut checks what every method must do after Shutdown.
func assertShut(t *testing.T, tr *Transport) {
	t.Helper()
	if err := tr.Shutdown(); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
	if _, err := tr.WriteTo([]byte("x"), "127.0.0.1:9"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteTo after Shutdown: %v, want net.ErrClosed", err)
	}
	if conn, err := tr.DialTimeout("127.0.0.1:9", giveItTime); !errors.Is(err, net.ErrClosed) || conn != nil {
		t.Errorf("DialTimeout after Shutdown: %v, %v, want net.ErrClosed", conn, err)
	}
	select {
	case p := <-tr.PacketCh():
		t.Errorf("packet after Shutdown: %v", p)
	case s := <-tr.StreamCh():
		t.Errorf("stream after Shutdown: %v", s)
	default:
	}
}
