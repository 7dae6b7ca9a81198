package starlingtest_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/starlingtest"
)

func TestCrashAndRestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c, s := connect(t, a, b)
		send(t, a, b, 3, 0)
		ok(t, n.Crash("b"))
		ok(t, n.Crash("b"))
		send(t, b, a, 3, 0)
		time.Sleep(time.Second)
		if d := counters(t, n, "b").Dropped; d.Down != 6 || len(received(a)) != 0 {
			t.Errorf("%+v", d)
		}
		for _, end := range []net.Conn{c, s} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			if _, err := end.Write(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		again := start(t, n, "b")
		if again.Addr() != b.Addr() {
			t.Errorf("restarted at %v, was %v", again.Addr(), b.Addr())
		}
		connect(t, a, again)
		ok(t, b.Shutdown()) // the crashed run ends late: the new one does not care
		send(t, a, again, 3, 0)
		time.Sleep(time.Second)
		if len(received(again)) != 3 {
			t.Error("the restarted member hears nothing")
		}
		ok(t, n.Crash("b"))
		elsewhere := netip.MustParseAddrPort("192.168.7.7:1234")
		moved, err := n.TransportAt("b", elsewhere)
		ok(t, err)
		ip, port, err := moved.FinalAdvertiseAddr("", 7946)
		if addr, _ := n.Addr("b"); err != nil || addr != elsewhere || ip.String() != "192.168.7.7" || port != 1234 {
			t.Error(addr, ip, port, err)
		}
		send(t, a, moved, 3, 0)
		send(t, a, b, 3, 0)
		time.Sleep(time.Second)
		if len(received(moved)) != 3 || counters(t, n, "a").Dropped.Unknown != 3 {
			t.Error("the moved member is not where it moved")
		}
	})
}

// Behind a partition nobody learns that a member has crashed.
func TestCrashBehindPartition(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		c, _ := connect(t, a, b)
		ok(t, n.Partition([]string{"a"}, []string{"b"}))
		ok(t, n.Crash("b"))
		ok(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err := c.Write([]byte("x"))
		ok(t, err)
		_, err = c.Read(make([]byte, 1))
		wantTimeout(t, err)
		ok(t, c.SetDeadline(time.Time{}))
		n.Heal()
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c, s := connect(t, a, b)
		_, err := s.Write([]byte("last words"))
		ok(t, err)
		ok(t, b.Shutdown())
		ok(t, b.Shutdown())
		if got, err := io.ReadAll(c); err != nil || string(got) != "last words" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		_, err = b.WriteTo([]byte("x"), a.Addr().String())
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		n.Close()
		n.Close()
		if _, err := n.Transport("b"); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestBufferDropsAndCounts(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *starlingtest.Network) {
			a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond, Duplicate: 0.1})
			if frozen {
				send(t, a, b, 10, 0)
				time.Sleep(time.Second)
				ok(t, n.Freeze("b"))
			}
			send(t, a, b, 3*starlingtest.PacketBuffer, 0)
			time.Sleep(time.Second)
			if frozen {
				if got := len(received(b)); got < 10 || got > 20 {
					t.Errorf("a frozen member was handed %d packets", got)
				}
				ok(t, n.Thaw("b"))
			}
			received(b)
			c, into := n.Total(), counters(t, n, "b")
			if c.Received.Packets != starlingtest.PacketBuffer || into.Dropped.Buffer < 2*starlingtest.PacketBuffer {
				t.Errorf("%+v", c)
			}
			if c.Sent.Packets+c.Duplicated != c.Received.Packets+c.Dropped.Total() {
				t.Errorf("they do not add up: %+v", c)
			}
		})
	}
}

func TestPacketsInTransitAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Hour})
		send(t, a, b, 1<<16+5, 0)
		if d := counters(t, n, "a").Dropped.Buffer; d != 5 {
			t.Errorf("%d packets too many in transit were dropped, want 5", d)
		}
		began := time.Now()
		n.Close()
		if c := n.Total(); c.Dropped.Down != 1<<16 || time.Since(began) != 0 {
			t.Errorf("closing took %v and dropped %d of what was on its way", time.Since(began), c.Dropped.Down)
		}
	})
}

func TestTap(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		var seen []starlingtest.Event
		a, b := two(t, n, starlingtest.Link{Loss: 1})
		n.Tap(func(e starlingtest.Event) {
			e.Data = []byte(string(e.Data))
			seen = append(seen, e)
			n.Total() // it may call the network
		})
		_, err := a.WriteToAddress([]byte("lost"), memberlist.Address{Addr: b.Addr().String(), Name: "whoever"})
		ok(t, err)
		_, err = b.WriteTo([]byte("nowhere"), "10.9.9.9:1")
		ok(t, err)
		c, s := connect(t, a, b)
		_, err = c.Write([]byte("there"))
		ok(t, err)
		_, err = s.Write([]byte("back"))
		ok(t, err)
		n.Tap(nil)
		send(t, a, b, 1, 0)
		for i, want := range []starlingtest.Event{
			{From: "a", To: "b", Data: []byte("lost")}, {From: "b", To: "10.9.9.9:1", Data: []byte("nowhere")},
			{From: "a", To: "b", Stream: 1, Data: []byte("there")}, {From: "b", To: "a", Stream: 1, Data: []byte("back")},
		} {
			if got := seen[i]; got.From != want.From || got.To != want.To || got.Stream != want.Stream ||
				string(got.Data) != string(want.Data) {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		if len(seen) != 4 {
			t.Errorf("%d events", len(seen))
		}
	})
}

// testLog is a test that fails, as Seed sees it.
type testLog struct {
	testing.TB
	failed  bool
	cleanup []func()
	log     strings.Builder
}

func (s *testLog) Helper()          {}
func (s *testLog) Failed() bool     { return s.failed }
func (s *testLog) Cleanup(f func()) { s.cleanup = append(s.cleanup, f) }
func (s *testLog) Logf(f string, arg ...any) {
	s.log.WriteString(f)
	s.log.WriteString(arg[0].(string))
}

func TestSeed(t *testing.T) {
	for _, failed := range []bool{true, false} {
		s := &testLog{failed: failed}
		t.Setenv(starlingtest.SeedVariable, "42")
		if got := starlingtest.Seed(s); got != 42 {
			t.Errorf("seed %d", got)
		}
		s.cleanup[0]()
		if strings.Contains(s.log.String(), starlingtest.SeedVariable) != failed {
			t.Errorf("failed %v, printed %q", failed, s.log.String())
		}
	}
}

// Outside a bubble time is real; everything else is the same.
func TestRealTime(t *testing.T) {
	n := starlingtest.NewNetwork(starlingtest.Seed(t))
	defer n.Close()
	a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond, Jitter: time.Millisecond})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { send(t, a, b, 100, 0) })
	}
	for range 400 {
		<-b.PacketCh()
	}
	wg.Wait()
	c, s := connect(t, a, b)
	wg.Go(func() {
		c.Write(make([]byte, 1<<20))
		c.Close()
	})
	if got, err := io.ReadAll(s); err != nil || len(got) != 1<<20 {
		t.Error(len(got), err)
	}
	wg.Wait()
}
