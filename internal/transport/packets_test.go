package transport

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// TestFastPathConfig: a user message goes through memberlist where that puts a label, encryption or compression around it.
func TestFastPathConfig(t *testing.T) {
	ring, err := memberlist.NewKeyring(nil, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		conf memberlist.Config
		fast bool
	}{
		"nothing around": {memberlist.Config{}, true},
		"label":          {memberlist.Config{Label: "blue"}, false},
		"keyring":        {memberlist.Config{Keyring: ring}, false},
		"empty keyring":  {memberlist.Config{Keyring: new(memberlist.Keyring)}, false}, // it may get keys later
		"secret key":     {memberlist.Config{SecretKey: make([]byte, 16)}, false},
		"compression":    {memberlist.Config{EnableCompression: true}, false},
	} {
		if got := FastPath(&test.conf); got != test.fast {
			t.Errorf("%s: %v, want %v", name, got, test.fast)
		}
	}
}

// TestFastPathPackets: Options.User gets each user message, whole and once, and memberlist gets all other packets; with own
// sockets and with a transport that the user brought.
func TestFastPathPackets(t *testing.T) {
	for name, network := range map[string]func(t *testing.T, o Options) (*Transport, netip.AddrPort){
		"sockets": func(t *testing.T, o Options) (*Transport, netip.AddrPort) {
			tr := testListen(t, o)
			return tr, tr.Bound()
		},
		"wrapped": func(t *testing.T, o Options) (*Transport, netip.AddrPort) {
			tr := testListen(t, Options{}) // as the user's
			w := Wrap(tr, o)
			t.Cleanup(func() { _ = w.Shutdown() })
			return w, tr.Bound()
		},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan string, 10)
			tr, addr := network(t, Options{User: func(b []byte) {
				heard <- string(b)
				clear(b) // as the next packet will
			}})
			peer, peerAddr := network(t, Options{})
			scratch := make([]byte, 0, 8)
			for _, text := range []string{"first", "a longer second one", "", "3rd"} {
				p := wire.Packet{To: wire.Peer{Name: "tr", Addr: addr}, Head: []byte(text[:len(text)/2]), Tail: []byte(text[len(text)/2:])}
				var err error
				if scratch, err = peer.Post([]wire.Packet{p}, scratch); err != nil {
					t.Fatal(err)
				}
				if got := receive(t, "message", heard); got != text {
					t.Errorf("%q arrives as %q", text, got)
				}
			}
			mustWrite(t, peer, []byte("\x07compound"), addr)
			if p := receive(t, "packet", tr.PacketCh()); string(p.Buf) != "\x07compound" || len(heard) > 0 {
				t.Errorf("memberlist gets %q, the fast path %d messages", p.Buf, len(heard))
			}
			if _, err := tr.Post([]wire.Packet{{To: wire.Peer{Addr: peerAddr}, Head: []byte("back")}}, nil); err != nil {
				t.Fatal(err)
			}
			if p := receive(t, "packet", peer.PacketCh()); string(p.Buf) != "\x08back" {
				t.Errorf("a transport without a fast path gets %q", p.Buf)
			}
			if c := tr.Traffic(); c.PacketsReceived != 5 || c.PacketsSent != 1 || c.PacketBytesSent != 5 {
				t.Errorf("counted: %+v", c)
			}
			_ = peer.Shutdown()
			if _, err := peer.Post([]wire.Packet{{To: wire.Peer{Addr: addr}, Head: []byte("late")}}, nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Shutdown: %v", err)
			}
		})
	}
}

// TestCompound: a foreign member gets packets that are as full as fits, and a plain memberlist reads them; our own members get
// one packet each.
func TestCompound(t *testing.T) {
	foreign, ours := wire.Peer{Name: "plain"}, wire.Peer{Name: "ours", ID: 7}
	to := func(m wire.Peer, sizes ...int) (ps []wire.Packet) {
		for _, n := range sizes {
			ps = append(ps, wire.Packet{To: m, Head: make([]byte, n/2), Tail: make([]byte, n-n/2)})
		}
		return ps
	}
	for name, test := range map[string]struct {
		ps   []wire.Packet
		want int
	}{
		"one":             {to(foreign, 100), 1},
		"one, too large":  {to(foreign, 2000, 1), 1},
		"as many as fit":  {to(foreign, 495, 496, 3, 1), 3}, // 2 + 498 + 499 + 6 bytes are 1005
		"one byte more":   {to(foreign, 495, 497, 3), 2},
		"another member":  {append(to(foreign, 10, 10), to(wire.Peer{Name: "plain2"}, 10)...), 2},
		"ours":            {to(ours, 10, 10), 1},
		"255 at the most": {to(foreign, make([]int, 300)...), 255},
	} {
		if got := Compound(test.ps, 1005); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	heard := make(arrivals, 300)
	c := memberlist.DefaultLocalConfig()
	c.Name, c.BindAddr, c.BindPort, c.Delegate, c.Logger = "plain", "127.0.0.1", 0, heard, log.New(io.Discard, "", 0)
	member, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = member.Shutdown() })
	node := member.LocalNode()
	foreign.Addr = netip.AddrPortFrom(netip.MustParseAddr(node.Addr.String()), node.Port)
	var ps []wire.Packet
	want := map[string]bool{}
	for i := range 255 {
		text := fmt.Sprint("part ", i)
		want[text] = true
		ps = append(ps, wire.Packet{To: foreign, Head: []byte("part "), Tail: []byte(fmt.Sprint(i))})
	}
	if _, err := testListen(t, Options{}).Post(ps, nil); err != nil {
		t.Fatal(err)
	}
	for len(want) > 0 {
		text := string(receive(t, "message", heard))
		if !want[text] {
			t.Fatalf("heard %q", text)
		}
		delete(want, text)
	}
}

// TestFastPathNetworks: a user message from outside the allowed networks is refused, like any other packet.
func TestFastPathNetworks(t *testing.T) {
	heard := make(chan string, 10)
	o := Options{User: func(b []byte) { heard <- string(b) }, Allowed: prefixes("10.0.0.0/8")}
	own, inner := testListen(t, o), testListen(t, Options{})
	wrapped := Wrap(inner, o)
	t.Cleanup(func() { _ = wrapped.Shutdown() })
	peer := testListen(t, Options{})
	for tr, addr := range map[*Transport]netip.AddrPort{own: own.Bound(), wrapped: inner.Bound()} {
		if _, err := peer.Post([]wire.Packet{{To: wire.Peer{Addr: addr, ID: 1}, Head: []byte("hello")}}, nil); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the message is refused", func() bool { return tr.Traffic().PacketsRefused == 1 })
	}
	if len(heard) > 0 {
		t.Errorf("heard %q", <-heard)
	}
}
