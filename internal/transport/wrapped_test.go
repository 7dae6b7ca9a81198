package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// plain is a transport as a user might write one: not node-aware, with unbuffered channels.
type plain struct {
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	wrote    chan string
	dial     func() (net.Conn, error)
	shutdown func(*plain) error
}

func newPlain() *plain {
	return &plain{
		packets:  make(chan *memberlist.Packet),
		streams:  make(chan net.Conn),
		wrote:    make(chan string, 10),
		shutdown: func(*plain) error { return nil },
	}
}

func (p *plain) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

func (p *plain) WriteTo(b []byte, addr string) (time.Time, error) {
	p.wrote <- addr + " " + string(b)
	return time.Unix(7, 0), nil
}
func (p *plain) DialTimeout(string, time.Duration) (net.Conn, error) { return p.dial() }
func (p *plain) PacketCh() <-chan *memberlist.Packet                 { return p.packets }
func (p *plain) StreamCh() <-chan net.Conn                           { return p.streams }
func (p *plain) Shutdown() error                                     { return p.shutdown(p) }

// aware is the same with node names.
type aware struct{ *plain }

func (a aware) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return a.WriteTo(b, to.Name+"@"+to.Addr)
}

func (a aware) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return nil, fmt.Errorf("no route to %s", to.Name)
}

// textAddr is an address as an in-memory network might have it.
type textAddr string

func (a textAddr) Network() string { return "test" }
func (a textAddr) String() string  { return string(a) }

// addrConn is one end of a pipe with an address.
type addrConn struct {
	net.Conn
	remote net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.remote }

func TestWrapPlain(t *testing.T) {
	inner := newPlain()
	near, far := net.Pipe()
	inner.dial = func() (net.Conn, error) { return near, nil }
	tr := Wrap(inner, Options{StreamTimeout: 200 * time.Millisecond})

	at, err := tr.WriteToAddress([]byte("hi"), memberlist.Address{Addr: "b", Name: "bee"})
	if got := <-inner.wrote; err != nil || got != "b hi" || !at.Equal(time.Unix(7, 0)) {
		t.Errorf("wrote %q at %v, %v", got, at, err)
	}
	p := &memberlist.Packet{Buf: []byte("in"), From: textAddr("c")}
	inner.packets <- nil
	inner.packets <- p
	if got := receive(t, "packet", tr.PacketCh()); got != p {
		t.Errorf("packet %v", got)
	}
	s, err := tr.DialTimeout("b", giveItTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("nobody reads")); err == nil {
		t.Error("the dialled stream has no deadline")
	}
	if ip, port, err := tr.FinalAdvertiseAddr("10.0.0.1", 5); ip.String() != "10.0.0.1" || port != 5 || err != nil {
		t.Errorf("FinalAdvertiseAddr = %v, %d, %v", ip, port, err)
	}
	if tr.Bound().IsValid() {
		t.Errorf("bound to %v", tr.Bound())
	}

	accepted, _ := net.Pipe()
	inner.streams <- accepted
	receive(t, "stream", tr.StreamCh())
	if err := tr.Shutdown(); err != nil {
		t.Error(err)
	}
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the accepted stream is not closed: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the dialled stream is not closed: %v", err)
	}
	want := Counts{
		PacketsSent: 1, PacketBytesSent: 2, PacketsReceived: 1, PacketBytesReceived: 2, StreamsDialed: 1, StreamsAccepted: 1,
	}
	if got := tr.Traffic(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	assertShut(t, tr)
	noTransportGoroutines(t)
}

func TestWrapNodeAware(t *testing.T) {
	inner := aware{newPlain()}
	tr := Wrap(inner, Options{})
	defer tr.Shutdown()
	if _, err := tr.WriteToAddress([]byte("hi"), memberlist.Address{Addr: "b", Name: "bee"}); err != nil {
		t.Error(err)
	}
	if got := <-inner.wrote; got != "bee@b hi" {
		t.Errorf("wrote %q", got)
	}
	_, err := tr.DialAddressTimeout(memberlist.Address{Addr: "b", Name: "bee"}, 0)
	if err == nil || err.Error() != "no route to bee" {
		t.Errorf("dial: %v", err)
	}
}

func TestWrapAllowedNetworks(t *testing.T) {
	inner := newPlain()
	tr := Wrap(inner, Options{Allowed: prefixes("10.0.0.0/8")})
	defer tr.Shutdown()
	outside := []net.Addr{
		nil, textAddr("bee"), textAddr("127.0.0.1:7"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}, (*net.UDPAddr)(nil),
		&net.TCPAddr{}, textAddr("10.0.0.1"),
	}
	inside := []net.Addr{
		textAddr("10.0.0.1:7"), textAddr("[::ffff:10.0.0.1]:7"),
		&net.UDPAddr{IP: net.IPv4(10, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(10, 2, 3, 4)},
	}
	for _, a := range outside {
		inner.packets <- &memberlist.Packet{Buf: []byte("x"), From: a}
		near, far := net.Pipe()
		inner.streams <- addrConn{near, a}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the stream of %v was not closed: %v", a, err)
		}
	}
	for _, a := range inside {
		inner.packets <- &memberlist.Packet{Buf: []byte("x"), From: a}
		if p := receive(t, "packet", tr.PacketCh()); p.From != a {
			t.Errorf("a packet from %v got through", p.From)
		}
		near, _ := net.Pipe()
		inner.streams <- addrConn{near, a}
		if s := receive(t, "stream", tr.StreamCh()); s.RemoteAddr() != a {
			t.Errorf("a stream from %v got through", s.RemoteAddr())
		}
	}
	out, in := uint64(len(outside)), uint64(len(inside))
	want := Counts{PacketsRefused: out, StreamsRefused: out, PacketsReceived: in, PacketBytesReceived: in, StreamsAccepted: in}
	if got := tr.Traffic(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A user's transport may hand over packets and streams until its Shutdown returns, and may or may not close its channels.
func TestWrapDrainsDuringShutdown(t *testing.T) {
	for _, closes := range []bool{false, true} {
		inner := newPlain()
		late, _ := net.Pipe()
		failure := errors.New("not today")
		inner.shutdown = func(p *plain) error {
			for range packetBacklog + 10 {
				p.packets <- &memberlist.Packet{Buf: []byte("late")}
			}
			p.streams <- late
			if closes {
				close(p.packets)
				close(p.streams)
			}
			return failure
		}
		tr := Wrap(inner, Options{})
		for range 2 {
			if err := tr.Shutdown(); !errors.Is(err, failure) {
				t.Errorf("Shutdown: %v, want what inner said", err)
			}
		}
		if _, err := late.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the late stream is not closed: %v", err)
		}
		if n := len(tr.packets); n != 0 {
			t.Errorf("%d packets are left", n)
		}
		noTransportGoroutines(t)
	}
}

// memberlist crashes on what a closed channel gives.
func TestWrapHidesClosedChannels(t *testing.T) {
	inner := newPlain()
	tr := Wrap(inner, Options{})
	close(inner.packets)
	close(inner.streams)
	noTransportGoroutines(t) // the pumps have seen it
	assertNothing(t, tr)
	if err := tr.Shutdown(); err != nil {
		t.Error(err)
	}
	assertNothing(t, tr)
}

func assertNothing(t *testing.T, tr *Transport) {
	t.Helper()
	select {
	case p, ok := <-tr.PacketCh():
		t.Errorf("packet %v, %v", p, ok)
	case s, ok := <-tr.StreamCh():
		t.Errorf("stream %v, %v", s, ok)
	default:
	}
}

// Shutdown does not let a dial wait of which the user's transport returns nothing, and closes what comes of it later; it waits for
// that.
func TestWrapDialOutlivedByShutdown(t *testing.T) {
	for _, failure := range []error{nil, errors.New("hung up")} {
		synctest.Test(t, func(t *testing.T) {
			inner := newPlain()
			near, far := net.Pipe()
			answer := make(chan struct{})
			inner.dial = func() (net.Conn, error) {
				<-answer
				if failure != nil {
					_ = near.Close()
				}
				return near, failure
			}
			tr := Wrap(inner, Options{})
			result := make(chan error, 1)
			go func() {
				_, err := tr.DialTimeout("b", giveItTime)
				result <- err
			}()
			synctest.Wait()
			var down atomic.Bool
			go func() {
				_ = tr.Shutdown()
				down.Store(true)
			}()
			synctest.Wait()
			select {
			case err := <-result:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("dial: %v, want net.ErrClosed", err)
				}
			default:
				t.Error("the dial waits for the user's transport")
			}
			if down.Load() {
				t.Error("Shutdown has not waited for the user's transport")
			}
			close(answer)
			synctest.Wait()
			if !down.Load() {
				t.Error("Shutdown waits for nothing")
			}
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the stream that came too late is open: %v", err)
			}
		})
	}
}

// arrivals is a memberlist delegate that keeps user messages.
type arrivals chan []byte

func (i arrivals) NotifyMsg(b []byte)                { i <- bytes.Clone(b) }
func (i arrivals) NodeMeta(int) []byte               { return nil }
func (i arrivals) GetBroadcasts(int, int) [][]byte   { return nil }
func (i arrivals) LocalState(bool) []byte            { return nil }
func (i arrivals) MergeRemoteState(_ []byte, _ bool) {}

// Two real members over own sockets, and over a wrapped NetTransport.
func TestTransportCarriesMemberlist(t *testing.T) {
	silent := log.New(io.Discard, "", 0)
	kinds := map[string]func() *Transport{
		"own": func() *Transport {
			return testListen(t, Options{Allowed: prefixes("127.0.0.0/8")})
		},
		"wrapped": func() *Transport {
			inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: silent})
			if err != nil {
				t.Fatal(err)
			}
			return Wrap(inner, Options{Allowed: prefixes("127.0.0.0/8"), StreamTimeout: giveItTime})
		},
	}
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			var members [2]*memberlist.Memberlist
			var inboxes [2]arrivals
			for i := range members {
				inboxes[i] = make(arrivals, 10)
				c := memberlist.DefaultLocalConfig()
				c.Name, c.Label, c.Logger = fmt.Sprint("m", i), "test", silent
				c.Transport, c.Delegate = open(), inboxes[i]
				m, err := memberlist.Create(c)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Shutdown()
				members[i] = m
			}
			joinAndTalk(t, members, inboxes)
			for _, m := range members {
				if err := m.Shutdown(); err != nil {
					t.Error(err)
				}
			}
			noTransportGoroutines(t)
		})
	}
}

func joinAndTalk(t *testing.T, members [2]*memberlist.Memberlist, inboxes [2]arrivals) {
	t.Helper()
	if n, err := members[1].Join([]string{members[0].LocalNode().Address()}); n != 1 || err != nil {
		t.Fatalf("Join: %d, %v", n, err)
	}
	for i, m := range members {
		waitUntil(t, "both see two members", func() bool { return m.NumMembers() == 2 })
		other := members[1-i].LocalNode()
		large := bytes.Repeat([]byte("large"), 200_000)
		if err := m.SendBestEffort(other, []byte("small")); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "small message", inboxes[1-i]); string(got) != "small" {
			t.Errorf("got %q", got)
		}
		if err := m.SendReliable(other, large); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "large message", inboxes[1-i]); !bytes.Equal(got, large) {
			t.Errorf("got %d bytes", len(got))
		}
	}
}
