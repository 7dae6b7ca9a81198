package transport

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/certtest"
	"github.com/starling-go/starling/internal/credentials"
)

// securePair is two transports over TLS in a bubble, a and b, whose streams are pipes.
type securePair struct {
	a, b   *Transport
	ap, bp *plain
	conf   *tls.Config // b's
	dials  atomic.Int64
	reach  atomic.Pointer[func() (net.Conn, error)] // how a reaches b, if not as usual
}

const addrA, addrB = "10.0.0.1:7001", "10.0.0.2:7002"

// inSecurePair runs a test with transports that trust each other.
func inSecurePair(t *testing.T, test func(t *testing.T, p *securePair)) {
	synctest.Test(t, func(t *testing.T) {
		ca := certtest.New("ca")
		p := &securePair{ap: newPlain(), bp: newPlain()}
		p.ap.dial = func() (net.Conn, error) {
			p.dials.Add(1)
			if reach := p.reach.Load(); reach != nil {
				return (*reach)()
			}
			return pipeTo(p.bp, addrA, addrB), nil
		}
		p.bp.dial = func() (net.Conn, error) { return pipeTo(p.ap, addrB, addrA), nil }
		p.conf = ca.Config("b")
		p.a, p.b = Wrap(p.ap, Options{TLS: ca.Config("a")}), Wrap(p.bp, Options{TLS: p.conf, MaxPacket: 2000})
		for tr, addr := range map[*Transport]string{p.a: addrA, p.b: addrB} {
			at := netip.MustParseAddrPort(addr)
			if _, _, err := tr.FinalAdvertiseAddr(at.Addr().String(), int(at.Port())); err != nil {
				t.Fatal(err)
			}
			defer tr.Shutdown()
		}
		test(t, p)
	})
}

// reachBy lets a reach b in another way from now on.
func (p *securePair) reachBy(dial func() (net.Conn, error)) { p.reach.Store(&dial) }

// pipeTo gives a transport a stream, as from the host of an address and another port, and returns its other end.
func pipeTo(to *plain, from, addr string) net.Conn {
	near, far := net.Pipe()
	host := netip.MustParseAddrPort(from).Addr()
	select {
	case to.streams <- addrConn{far, textAddr(netip.AddrPortFrom(host, 50_000).String())}:
	case <-time.After(time.Second): // it has shut down
		_ = far.Close()
	}
	return addrConn{near, textAddr(addr)}
}

// TestSecureCarries: packets and streams arrive, as from where their sender says to be; and the transport below sends no packet.
func TestSecureCarries(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		for _, size := range []int{1, 2000, 2001, 40_000, 3} {
			if _, err := p.a.WriteTo(make([]byte, size), addrB); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []int{1, 2000, 3} {
			got := receive(t, "packet", p.b.PacketCh())
			if len(got.Buf) != want || got.From.String() != addrA {
				t.Errorf("a packet of %d bytes from %v, want %d", len(got.Buf), got.From, want)
			}
		}
		mustWrite(t, p.b, make([]byte, 30_000), netip.MustParseAddrPort(addrA)) // larger than what is read at once
		if got := receive(t, "packet", p.a.PacketCh()); len(got.Buf) != 30_000 || got.From.String() != addrB {
			t.Errorf("a packet of %d bytes from %v", len(got.Buf), got.From)
		}
		s, err := p.a.DialTimeout(addrB, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		there := receive(t, "stream", p.b.StreamCh())
		go func() {
			_, _ = s.Write(make([]byte, 100_000))
			_ = s.Close()
		}()
		if b, err := io.ReadAll(there); len(b) != 100_000 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		c, want := p.a.Traffic(), uint64(1)
		if c.TLSLinks != want || c.PacketsUnsent+c.TLSRefused > 0 || p.b.Traffic().PacketsDropped != 2 || len(p.ap.wrote) > 0 {
			t.Errorf("counted: %+v, %+v", c, p.b.Traffic())
		}
		if got := fmt.Sprint(p.a.Names.At(netip.MustParseAddrPort(addrB)), p.b.Names.At(netip.MustParseAddrPort(addrA))); got != "[b starling.test] [a starling.test]" {
			t.Errorf("names %s", got)
		}
	})
}

// TestSecureTakesNoPacket: a packet of the transport below has no certificate, so nobody gets it.
func TestSecureTakesNoPacket(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		p.bp.packets <- &memberlist.Packet{Buf: []byte("\x08stranger"), From: textAddr(addrA)}
		synctest.Wait()
		if c := p.b.Traffic(); c.PacketsRefused != 1 || c.PacketsReceived != 0 || len(p.b.packets) > 0 {
			t.Errorf("counted: %+v", c)
		}
	})
}

// deaf lets a transport dial somebody who shakes hands and then says nothing, and reads nothing or everything.
func (p *securePair) deaf(reads bool) {
	creds := credentials.New(p.conf)
	p.reachBy(func() (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			conn, _ := creds.Accept(far, addrA)
			if conn.Handshake() == nil {
				_, _ = io.ReadFull(conn, make([]byte, greetingSize))
				_, _ = conn.Write([]byte{welcome})
				if reads {
					_, _ = io.Copy(io.Discard, conn)
				}
			}
		}()
		return addrConn{near, textAddr(addrB)}, nil
	})
}

// TestLinkToDeaf: who reads nothing holds up nobody: packets are dropped and counted, the connection is given up, and made again at
// growing pauses.
func TestLinkToDeaf(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		p.deaf(false)
		began := time.Now()
		for range 20_000 {
			if _, err := p.a.WriteTo(make([]byte, 1000), addrB); err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > 0 {
				t.Fatal("WriteTo waits")
			}
			if p.a.Traffic().PacketsSent%100 == 0 {
				synctest.Wait()
			}
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if unsent := p.a.Traffic().PacketsUnsent; unsent < 19_000 || m.HeapAlloc > 32<<20 {
			t.Errorf("%d packets are counted as unsent, %d bytes are in use", unsent, m.HeapAlloc)
		}
		for time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
			_, _ = p.a.WriteTo(make([]byte, 1000), addrB)
		}
		// Each connection is there for 3 s, and the pauses grow to 2 s.
		if n := p.dials.Load(); n < 11 || n > 16 {
			t.Errorf("%d dials in a minute", n)
		}
	})
}

// TestLinkUnanswered: a connection over which nothing is heard is given up, although everything can be written to it. So it is after a
// partition, when TCP tries again but seldom.
func TestLinkUnanswered(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		p.deaf(true)
		for range 600 {
			mustWrite(t, p.a, []byte("x"), netip.MustParseAddrPort(addrB))
			time.Sleep(100 * time.Millisecond)
		}
		if n := p.dials.Load(); n < 11 || n > 16 {
			t.Errorf("%d dials in a minute", n)
		}
		p.reach.Store(nil)
		for range 100 {
			mustWrite(t, p.a, []byte("x"), netip.MustParseAddrPort(addrB))
			time.Sleep(100 * time.Millisecond)
		}
		if got := len(p.b.packets); got < 40 {
			t.Errorf("%d of the packets of the last ten seconds have come", got)
		}
	})
}

// TestLinkBackoff: a member that cannot be reached is dialled at growing pauses, however much is sent to it.
func TestLinkBackoff(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		p.reachBy(func() (net.Conn, error) { return nil, errors.New("nobody there") })
		for range 6000 {
			_, _ = p.a.WriteTo([]byte("x"), addrB)
			time.Sleep(10 * time.Millisecond)
		}
		if n := p.dials.Load(); n < 25 || n > 50 {
			t.Errorf("%d dials in a minute", n)
		}
		p.reach.Store(nil)
		began := time.Now()
		for range 300 {
			_, _ = p.a.WriteTo([]byte("back"), addrB)
			time.Sleep(10 * time.Millisecond)
		}
		receive(t, "packet", p.b.PacketCh())
		if c := p.a.Traffic(); c.TLSLinks != 1 {
			t.Errorf("in %v: %+v", time.Since(began), c)
		}
	})
}

// TestLinkIsRenewed: a link is made anew within ten minutes, and no packet is lost for that.
func TestLinkIsRenewed(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		const each = 250 * time.Millisecond
		next := uint32(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for got := range p.b.PacketCh() {
				if n := binary.BigEndian.Uint32(got.Buf); n == ^uint32(0) {
					return
				} else if n != next {
					t.Errorf("packet %d after %d", n, next)
				}
				next++
			}
		}()
		for i := range uint32(30 * time.Minute / each) {
			mustWrite(t, p.a, binary.BigEndian.AppendUint32(nil, i), netip.MustParseAddrPort(addrB))
			time.Sleep(each)
		}
		mustWrite(t, p.a, binary.BigEndian.AppendUint32(nil, ^uint32(0)), netip.MustParseAddrPort(addrB))
		<-done
		if c := p.a.Traffic(); c.TLSLinks < 3 || c.TLSLinks > 5 || c.PacketsUnsent > 0 || next != uint32(30*time.Minute/each) {
			t.Errorf("%d packets have come; %+v", next, c)
		}
	})
}

// TestLinkEndsWhenIdle: a link that nobody uses is closed, and forgotten.
func TestLinkEndsWhenIdle(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		mustWrite(t, p.a, []byte("x"), netip.MustParseAddrPort(addrB))
		receive(t, "packet", p.b.PacketCh())
		time.Sleep(linkAge + forgetAfter + linkSilence)
		synctest.Wait()
		p.a.secure.mu.Lock()
		n := len(p.a.secure.links)
		p.a.secure.mu.Unlock()
		if n > 0 || p.b.secure.serving.size > 0 {
			t.Errorf("%d links are there, %d served", n, p.b.secure.serving.size)
		}
	})
}

// TestSecureShutdown: Shutdown waits neither for handshakes that hang, on either side, nor for a link that nobody reads.
func TestSecureShutdown(t *testing.T) {
	inSecurePair(t, func(t *testing.T, p *securePair) {
		mustWrite(t, p.b, []byte("x"), netip.MustParseAddrPort(addrA))
		receive(t, "packet", p.a.PacketCh())
		near, _ := net.Pipe()
		p.ap.streams <- near // says nothing
		p.reachBy(func() (net.Conn, error) { near, _ := net.Pipe(); return near, nil })
		mustWrite(t, p.a, []byte("x"), netip.MustParseAddrPort(addrB))
		dialled := make(chan error)
		go func() {
			_, err := p.a.DialTimeout(addrB, time.Minute)
			dialled <- err
		}()
		synctest.Wait()
		began := time.Now()
		if err := p.a.Shutdown(); err != nil || time.Since(began) > 0 {
			t.Errorf("Shutdown: %v after %v", err, time.Since(began))
		}
		if err := <-dialled; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dial: %v", err)
		}
		assertShut(t, p.a)
	})
}

// TestCrowd: each source may have so many, and of all there are so many; who has more loses its oldest to who has fewer.
func TestCrowd(t *testing.T) {
	c := newCrowd(4, 6)
	closed, leaves := map[net.Conn]string{}, map[string]func(){}
	text := func() string {
		var s []string
		for _, name := range closed {
			s = append(s, name)
		}
		clear(closed)
		return strings.Join(s, " ")
	}
	for i, step := range []struct {
		name, source string
		ok           bool
		closes       string
	}{
		{"a1", "10.0.0.1", true, ""}, {"a2", "10.0.0.1", true, ""}, {"a3", "10.0.0.1", true, ""}, {"a4", "10.0.0.1", true, ""},
		{"a5", "10.0.0.1", false, ""},
		{"b1", "2001:db8::1", true, ""}, {"b2", "2001:db8::2", true, ""}, // one network
		{"c1", "10.0.0.3", true, "a1"}, {"c2", "10.0.0.3", true, "a2"},
		{"c3", "10.0.0.3", false, ""},
	} {
		leave, ok := c.enter(netip.MustParseAddr(step.source), &noted{name: step.name, closed: closed})
		if got := text(); ok != step.ok || got != step.closes {
			t.Errorf("step %d, %s: %v, closed %q", i, step.name, ok, got)
		}
		leaves[step.name] = leave
	}
	leaves["a1"]() // was closed before
	leaves["b1"]()
	leaves["b1"]()
	if c.size != 5 {
		t.Errorf("%d are there", c.size)
	}
}

type noted struct {
	net.Conn
	name   string
	closed map[net.Conn]string
}

func (n *noted) Close() error {
	n.closed[n] = n.name
	return nil
}
