package transport

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestListenTakenPort(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp := listenUDP(t)
	for _, taken := range []string{tcp.Addr().String(), udp} {
		tr, err := Listen(Options{Bind: netip.MustParseAddrPort(taken)})
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken) || tr != nil {
			t.Errorf("listen on %s: %v, %v, want EADDRINUSE and the address", taken, tr, err)
		}
	}
	if _, err := Listen(Options{}); err == nil {
		t.Error("listened on no address")
	}
}

// A Listen that found its UDP port taken leaves its TCP port free. Any process of this machine may take that one for itself
// meanwhile, so the test fails only when no port of many was free.
func TestListenTakenPortLeavesNothing(t *testing.T) {
	var err error
	for range 10 {
		taken := listenUDP(t)
		if tr, err := Listen(Options{Bind: netip.MustParseAddrPort(taken)}); err == nil {
			t.Fatalf("listen on %s: %v, want EADDRINUSE", taken, tr)
		}
		var tcp net.Listener
		if tcp, err = net.Listen("tcp4", taken); err == nil {
			_ = tcp.Close()
			return
		}
	}
	t.Errorf("after a Listen that failed: %v", err)
}

// listenUDP takes a UDP port until the test ends, and returns its address.
func listenUDP(t *testing.T) string {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	return udp.LocalAddr().String()
}

func TestOpenSocketsTriesAnotherPort(t *testing.T) {
	for _, taken := range []int{bindAttempts - 1, bindAttempts} {
		tries := 0
		s, err := openSockets(loopback4, func(network string, a *net.UDPAddr) (*net.UDPConn, error) {
			if tries++; tries <= taken {
				other, err := net.ListenUDP(network, a)
				if err != nil {
					return nil, err
				}
				t.Cleanup(func() { _ = other.Close() })
			}
			return net.ListenUDP(network, a)
		})
		if taken == bindAttempts {
			if !errors.Is(err, syscall.EADDRINUSE) || tries != bindAttempts {
				t.Errorf("all taken: %v after %d tries, want EADDRINUSE after %d", err, tries, bindAttempts)
			}
			continue
		}
		if err != nil {
			t.Fatalf("one port was free: %v", err)
		}
		tcp, udp := s.tcp.Addr().(*net.TCPAddr), s.udp.LocalAddr().(*net.UDPAddr)
		if tcp.Port != udp.Port || tcp.Port != int(s.bound().Port()) {
			t.Errorf("TCP has %v, UDP %v, bound says %v", tcp, udp, s.bound())
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// Expired deadlines make every read and accept fail, as an overloaded system would. Each run of failures is logged
// once, and begins with a short pause again.
func TestListenSurvivesErrors(t *testing.T) {
	var warnings lines
	tr := testListen(t, Options{Logger: slog.New(slog.NewTextHandler(&warnings, nil))})
	peer := testListen(t, Options{})
	s := tr.medium.(*sockets)
	for run := range 2 {
		before := tr.Traffic()
		_ = s.udp.SetReadDeadline(time.Unix(1, 0))
		_ = s.tcp.SetDeadline(time.Unix(1, 0))
		waitUntil(t, "errors are counted", func() bool {
			now := tr.Traffic()
			return now.PacketErrors >= before.PacketErrors+3 && now.StreamErrors >= before.StreamErrors+3
		})
		_ = s.udp.SetReadDeadline(time.Time{})
		_ = s.tcp.SetDeadline(time.Time{})
		mustWrite(t, peer, []byte("still there?"), tr.Bound())
		receive(t, "packet", tr.PacketCh())
		if _, err := peer.DialTimeout(tr.Bound().String(), giveItTime); err != nil {
			t.Fatal(err)
		}
		receive(t, "stream", tr.StreamCh())
		if got := warnings.n.Load(); got != int64(2*(run+1)) {
			t.Errorf("%d warnings after %d runs of failures of two sockets", got, run+1)
		}
	}
}

// lines counts the records that a slog handler writes.
type lines struct{ n atomic.Int64 }

func (l *lines) Write(b []byte) (int, error) {
	l.n.Add(1)
	return len(b), nil
}

// Shutdown ends dials that are under way by ending their context.
func TestDialEndsWithItsContext(t *testing.T) {
	tr := testListen(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := tr.medium.dial(ctx, memberlist.Address{Addr: tr.Bound().String()}, giveItTime)
	if err == nil || conn != nil {
		t.Errorf("dial without context: %v, %v", conn, err)
	}
}

func TestRetryDoublesItsPauseUpToASecond(t *testing.T) {
	tr := testListen(t, Options{})
	if err := tr.Shutdown(); err != nil {
		t.Fatal(err)
	}
	var last time.Duration
	var got []time.Duration
	for range 10 {
		if tr.retry(syscall.EMFILE, "accept streams", &tr.count.streamErrors, &last) {
			t.Fatal("a pause outlasted Shutdown")
		}
		got = append(got, last)
	}
	if got[0] != 5*time.Millisecond || got[1] != 10*time.Millisecond || got[7] != 640*time.Millisecond || got[9] != time.Second {
		t.Errorf("pauses: %v", got)
	}
}

func TestFinalAdvertiseAddr(t *testing.T) {
	bind := netip.MustParseAddrPort("127.0.0.1:7946")
	tests := []struct {
		bind     netip.AddrPort
		ip       string
		port     int
		want     string // empty: an error that names ip
		wantPort int
	}{
		{bind, "", 0, "127.0.0.1", 7946},
		{bind, "", 1234, "127.0.0.1", 7946},
		{bind, "10.1.2.3", 0, "10.1.2.3", 7946},
		{bind, "10.1.2.3", 1234, "10.1.2.3", 1234},
		{bind, "::ffff:10.1.2.3", 1234, "10.1.2.3", 1234},
		{bind, "2001:db8::1", 1234, "2001:db8::1", 1234},
		{netip.MustParseAddrPort("[::1]:7"), "", 0, "::1", 7},
		{bind, "nonsense", 1, "", 0},
		{bind, "0.0.0.0", 1, "", 0},
		{bind, "224.0.0.1", 1, "", 0},
		{bind, "fe80::1%eth0", 1, "", 0},
		{bind, "10.1.2.3", -1, "", 0},
		{bind, "10.1.2.3", 65536, "", 0},
	}
	for _, tt := range tests {
		s := &sockets{addr: tt.bind}
		ip, port, err := s.advertise(tt.ip, tt.port)
		switch {
		case tt.want == "" && (err == nil || !strings.Contains(err.Error(), tt.ip)):
			t.Errorf("advertise(%q, %d) = %v, %d, %v, want an error that names it", tt.ip, tt.port, ip, port, err)
		case tt.want != "" && (err != nil || ip.String() != tt.want || port != tt.wantPort):
			t.Errorf("advertise(%q, %d) = %v, %d, %v, want %s, %d", tt.ip, tt.port, ip, port, err, tt.want, tt.wantPort)
		}
	}
	for _, unspecified := range []string{"0.0.0.0:7946", "[::]:7946"} {
		s := &sockets{addr: netip.MustParseAddrPort(unspecified)}
		ip, port, err := s.advertise("", 0)
		if err != nil || ip.IsUnspecified() || port != 7946 {
			t.Errorf("bound to %s: advertise = %v, %d, %v", unspecified, ip, port, err)
		}
	}
}

func TestBestAddr(t *testing.T) {
	tests := []struct {
		local, want4, want string
	}{
		{"127.0.0.1 ::1 192.0.2.1 10.0.0.1 192.168.0.1 2001:db8::1 fd00::1", "10.0.0.1", "fd00::1"},
		{"127.0.0.1 ::1 192.0.2.1 2001:db8::1", "192.0.2.1", "2001:db8::1"},
		{"127.0.0.1 ::1 fe80::1 10.0.0.1", "10.0.0.1", "10.0.0.1"},
		{"169.254.3.4 fe80::1 127.0.0.1 ::1", "127.0.0.1", "::1"},
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"fe80::1", "invalid IP", "invalid IP"},
		{"", "invalid IP", "invalid IP"},
	}
	for _, tt := range tests {
		var local []netip.Addr
		for s := range strings.FieldsSeq(tt.local) {
			local = append(local, netip.MustParseAddr(s))
		}
		if got := bestAddr(local, true).String(); got != tt.want4 {
			t.Errorf("bestAddr(%s) for 0.0.0.0 = %s, want %s", tt.local, got, tt.want4)
		}
		if got := bestAddr(local, false).String(); got != tt.want {
			t.Errorf("bestAddr(%s) for :: = %s, want %s", tt.local, got, tt.want)
		}
	}
}

// BenchmarkPacket sends one packet and waits until it arrived.
func BenchmarkPacket(b *testing.B) {
	bench := func(b *testing.B, from, to memberlist.Transport, addr string) {
		packet := make([]byte, 1400)
		b.SetBytes(int64(len(packet)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := from.WriteTo(packet, addr); err != nil {
				b.Fatal(err)
			}
			<-to.PacketCh()
		}
	}
	b.Run("starling", func(b *testing.B) {
		from, to := testListen(b, Options{}), testListen(b, Options{})
		bench(b, from, to, to.Bound().String())
	})
	b.Run("memberlist", func(b *testing.B) {
		var ts [2]*memberlist.NetTransport
		for i := range ts {
			t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
				BindAddrs: []string{"127.0.0.1"}, Logger: log.New(io.Discard, "", 0),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = t.Shutdown() })
			ts[i] = t
		}
		addr := netip.AddrPortFrom(loopback4.Addr(), uint16(ts[1].GetAutoBindPort()))
		bench(b, ts[0], ts[1], addr.String())
	})
}
