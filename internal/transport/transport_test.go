package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// giveItTime ends a test that would otherwise hang; nothing that works comes near it.
const giveItTime = 15 * time.Second

var loopback4 = netip.MustParseAddrPort("127.0.0.1:0")

// testListen listens on loopback and takes the transport down with the test.
func testListen(tb testing.TB, o Options) *Transport {
	tb.Helper()
	if !o.Bind.IsValid() {
		o.Bind = loopback4
	}
	if o.StreamTimeout == 0 {
		o.StreamTimeout = giveItTime
	}
	tr, err := Listen(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := tr.Shutdown(); err != nil {
			tb.Errorf("Shutdown: %v", err)
		}
	})
	return tr
}

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func receive[T any](tb testing.TB, what string, ch <-chan T) T {
	tb.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(giveItTime):
		tb.Fatalf("no %s arrived", what)
		panic("unreachable")
	}
}

func waitUntil(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(giveItTime); !cond(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

func openStreams(tr *Transport) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.open)
}

func mustWrite(tb testing.TB, from *Transport, b []byte, to netip.AddrPort) {
	tb.Helper()
	if _, err := from.WriteTo(b, to.String()); err != nil {
		tb.Fatalf("WriteTo: %v", err)
	}
}

func TestTransportPacketRoundTrip(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(bind, func(t *testing.T) {
			to := testListen(t, Options{Bind: netip.MustParseAddrPort(bind)})
			target := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Bound().Port())
			if bind == "[::1]:0" {
				target = to.Bound()
			}
			from := testListen(t, Options{Bind: netip.AddrPortFrom(target.Addr(), 0)})

			for _, size := range []int{1, 1400, maxDatagram} {
				sent := bytes.Repeat([]byte{byte(size)}, size)
				before := time.Now()
				mustWrite(t, from, sent, target)
				p := receive(t, "packet", to.PacketCh())
				if !bytes.Equal(p.Buf, sent) {
					t.Errorf("%d bytes arrived as %d", size, len(p.Buf))
				}
				if cap(p.Buf) != size {
					t.Errorf("a packet of %d bytes keeps %d", size, cap(p.Buf))
				}
				// Also for "::", where the system reports a mapped address.
				if got := p.From.String(); got != from.Bound().String() || p.From.Network() != "udp" {
					t.Errorf("From = %s %s, want udp %s", p.From.Network(), got, from.Bound())
				}
				if p.Timestamp.Before(before) || p.Timestamp.After(time.Now()) {
					t.Errorf("Timestamp %v is not when it arrived", p.Timestamp)
				}
			}
			want := Counts{PacketsSent: 3, PacketBytesSent: 1401 + maxDatagram}
			if got := from.Traffic(); got != want {
				t.Errorf("sender: %+v, want %+v", got, want)
			}
			want = Counts{PacketsReceived: 3, PacketBytesReceived: 1401 + maxDatagram}
			if got := to.Traffic(); got != want {
				t.Errorf("receiver: %+v, want %+v", got, want)
			}
		})
	}
}

// A packet must stay as it was while the next ones are read into the same buffer.
func TestTransportPacketsAreOwned(t *testing.T) {
	from, to := testListen(t, Options{}), testListen(t, Options{})
	var kept []*memberlist.Packet
	for i := range 50 {
		mustWrite(t, from, []byte{byte(i), 1, 2}, to.Bound())
		kept = append(kept, receive(t, "packet", to.PacketCh()))
	}
	for i, p := range kept {
		if p.Buf[0] != byte(i) {
			t.Fatalf("packet %d now reads %d", i, p.Buf[0])
		}
	}
}

func TestTransportWriteErrors(t *testing.T) {
	// IPv6, where the system would carry a few bytes more than over IPv4.
	tr := testListen(t, Options{Bind: netip.MustParseAddrPort("[::1]:0")})
	if _, err := tr.WriteTo(make([]byte, maxDatagram+1), tr.Bound().String()); err == nil {
		t.Error("a packet larger than UDP over IPv4 carries was accepted")
	}
	for _, addr := range []string{"", "nonsense", "127.0.0.1", "127.0.0.1:notaport"} {
		if _, err := tr.WriteTo([]byte{1}, addr); err == nil {
			t.Errorf("WriteTo(%q) succeeded", addr)
		}
	}
	if got, want := tr.Traffic(), (Counts{PacketErrors: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTransportWritesToNames(t *testing.T) {
	tr := testListen(t, Options{})
	_, port, _ := net.SplitHostPort(tr.Bound().String())
	if _, err := tr.WriteTo([]byte("hello"), net.JoinHostPort("localhost", port)); err != nil {
		t.Fatal(err)
	}
	receive(t, "packet", tr.PacketCh())
}

func TestTransportWriteDoesNotAllocate(t *testing.T) {
	from, to := testListen(t, Options{}), testListen(t, Options{})
	addr := memberlist.Address{Addr: to.Bound().String(), Name: "to"}
	b := make([]byte, 1400)
	// Only sending counts: AllocsPerRun sees the whole process, so the receiver must be gone.
	if err := to.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = from.WriteToAddress(b, addr) }); n != 0 {
		t.Errorf("%v allocations per packet sent", n)
	}
}

func TestTransportEmptyPacket(t *testing.T) {
	from, to := testListen(t, Options{}), testListen(t, Options{})
	mustWrite(t, from, nil, to.Bound())
	mustWrite(t, from, []byte("x"), to.Bound())
	if p := receive(t, "packet", to.PacketCh()); len(p.Buf) != 1 {
		t.Errorf("memberlist got a packet of %d bytes", len(p.Buf))
	}
	if got, want := to.Traffic(), (Counts{PacketsReceived: 2, PacketBytesReceived: 1, PacketsDropped: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTransportStreamRoundTrip(t *testing.T) {
	from, to := testListen(t, Options{}), testListen(t, Options{})
	out, err := from.DialTimeout(to.Bound().String(), giveItTime)
	if err != nil {
		t.Fatal(err)
	}
	in := receive(t, "stream", to.StreamCh())
	if _, err := out.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "ping" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(got); err != io.EOF {
		t.Fatalf("after the peer's Close: %v, want EOF", err)
	}
	_ = in.Close()
	if got, want := from.Traffic(), (Counts{StreamsDialed: 1, StreamBytesSent: 4}); got != want {
		t.Errorf("dialler: %+v, want %+v", got, want)
	}
	if got, want := to.Traffic(), (Counts{StreamsAccepted: 1, StreamBytesReceived: 4}); got != want {
		t.Errorf("listener: %+v, want %+v", got, want)
	}
	for _, tr := range []*Transport{from, to} {
		if n := openStreams(tr); n != 0 {
			t.Errorf("%d closed streams are still held", n)
		}
	}
}

func TestTransportDialError(t *testing.T) {
	tr, gone := testListen(t, Options{}), testListen(t, Options{})
	if err := gone.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if conn, err := tr.DialTimeout(gone.Bound().String(), giveItTime); err == nil || conn != nil {
		t.Errorf("dialled a closed port: %v, %v", conn, err)
	}
	var timeout net.Error
	conn, err := tr.DialTimeout(tr.Bound().String(), -time.Second)
	if !errors.As(err, &timeout) || !timeout.Timeout() || conn != nil {
		t.Errorf("dialled without time: %v, %v", conn, err)
	}
	if got, want := tr.Traffic(), (Counts{StreamErrors: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTransportAllowedNetworks(t *testing.T) {
	tests := []struct {
		name    string
		bind    string
		allowed []string
		admits  bool
	}{
		{"all", "127.0.0.1:0", nil, true},
		{"own", "127.0.0.1:0", []string{"10.0.0.0/8", "127.0.0.0/8"}, true},
		{"other", "127.0.0.1:0", []string{"10.0.0.0/8"}, false},
		{"mapped prefix", "127.0.0.1:0", []string{"::ffff:127.0.0.0/104"}, true},
		{"mapped source", "[::]:0", []string{"127.0.0.0/8"}, true},
		{"mapped source from outside", "[::]:0", []string{"::/0"}, false},
		{"own IPv6", "[::1]:0", []string{"::1/128"}, true},
		{"other IPv6", "[::1]:0", []string{"fd00::/8"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := testListen(t, Options{Bind: netip.MustParseAddrPort(tt.bind), Allowed: prefixes(tt.allowed...)})
			target := to.Bound()
			if target.Addr().IsUnspecified() {
				target = netip.AddrPortFrom(loopback4.Addr(), target.Port())
			}
			from := testListen(t, Options{Bind: netip.AddrPortFrom(target.Addr(), 0)})
			mustWrite(t, from, []byte("knock"), target)
			out, err := from.DialTimeout(target.String(), giveItTime)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()

			if tt.admits {
				receive(t, "packet", to.PacketCh())
				receive(t, "stream", to.StreamCh())
				if got := to.Traffic(); got.PacketsRefused+got.StreamsRefused != 0 {
					t.Errorf("refused: %+v", got)
				}
				return
			}
			if _, err := out.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the refused stream was not closed: %v", err)
			}
			want := Counts{PacketsRefused: 1, StreamsRefused: 1}
			waitUntil(t, "both are counted as refused, and nothing else", func() bool { return to.Traffic() == want })
		})
	}
}

// The whole point of the deadline: memberlist's SendReliable sets none.
func TestTransportStreamDeadline(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never reads
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	tr := testListen(t, Options{StreamTimeout: 200 * time.Millisecond})

	out, err := tr.DialTimeout(deaf.Addr().String(), giveItTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write to a peer that never reads: %v, want a time-out", err)
	}
	// A failed write closes the stream, for memberlist may have forgotten it.
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) || openStreams(tr) != 0 {
		t.Errorf("after the failed write: %v, want net.ErrClosed; %d streams are held", err, openStreams(tr))
	}

	mute, err := net.Dial("tcp", tr.Bound().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	in := receive(t, "stream", tr.StreamCh())
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read from a peer that never writes: %v, want a time-out", err)
	}
}
