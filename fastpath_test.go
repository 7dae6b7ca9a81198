package starling

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"testing"

	"github.com/hashicorp/memberlist"
)

// TestFastPathOnly: what memberlist would put a label, encryption or compression around goes through memberlist.
func TestFastPathOnly(t *testing.T) {
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
		if got := fastPath(&test.conf); got != test.fast {
			t.Errorf("%s: %v, want %v", name, got, test.fast)
		}
	}
}

// TestFastPathPackets: a user message goes to whom it concerns, whole and once, everything else to memberlist; with own
// sockets and with a transport that the user brought.
func TestFastPathPackets(t *testing.T) {
	for name, network := range map[string]func(t *testing.T, o transportOptions) (*transport, netip.AddrPort){
		"sockets": func(t *testing.T, o transportOptions) (*transport, netip.AddrPort) {
			tr := testListen(t, o)
			return tr, tr.bound()
		},
		"wrapped": func(t *testing.T, o transportOptions) (*transport, netip.AddrPort) {
			tr := testListen(t, transportOptions{}) // as the user's
			w := wrap(tr, o)
			t.Cleanup(func() { _ = w.Shutdown() })
			return w, tr.bound()
		},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan string, 10)
			tr, addr := network(t, transportOptions{user: func(b []byte) {
				heard <- string(b)
				clear(b) // as the next packet will
			}})
			peer, peerAddr := network(t, transportOptions{})
			scratch := make([]byte, 0, 8)
			for _, text := range []string{"first", "a longer second one", "", "3rd"} {
				p := packet{to: Member{Name: "tr", Addr: addr}, head: []byte(text[:len(text)/2]), tail: []byte(text[len(text)/2:])}
				var err error
				if scratch, err = peer.post([]packet{p}, scratch); err != nil {
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
			if _, err := tr.post([]packet{{to: Member{Addr: peerAddr}, head: []byte("back")}}, nil); err != nil {
				t.Fatal(err)
			}
			if p := receive(t, "packet", peer.PacketCh()); string(p.Buf) != "\x08back" {
				t.Errorf("who has no fast path gets %q", p.Buf)
			}
			if c := tr.traffic(); c.PacketsReceived != 5 || c.PacketsSent != 1 || c.PacketBytesSent != 5 {
				t.Errorf("counted: %+v", c)
			}
			_ = peer.Shutdown()
			if _, err := peer.post([]packet{{to: Member{Addr: addr}, head: []byte("late")}}, nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Shutdown: %v", err)
			}
		})
	}
}

// TestCompound: what goes to a foreign member fills packets that memberlist reads; ours get one each.
func TestCompound(t *testing.T) {
	foreign, ours := Member{Name: "plain"}, Member{Name: "ours", ID: 7}
	to := func(m Member, sizes ...int) (ps []packet) {
		for _, n := range sizes {
			ps = append(ps, packet{to: m, head: make([]byte, n/2), tail: make([]byte, n-n/2)})
		}
		return ps
	}
	for name, test := range map[string]struct {
		ps   []packet
		want int
	}{
		"one":             {to(foreign, 100), 1},
		"one, too large":  {to(foreign, 2000, 1), 1},
		"as many as fit":  {to(foreign, 495, 496, 3, 1), 3}, // 2 + 498 + 499 + 6 bytes are 1005
		"one byte more":   {to(foreign, 495, 497, 3), 2},
		"another member":  {append(to(foreign, 10, 10), to(Member{Name: "plain2"}, 10)...), 2},
		"ours":            {to(ours, 10, 10), 1},
		"255 at the most": {to(foreign, make([]int, 300)...), 255},
	} {
		if got := compound(test.ps, 1005); got != test.want {
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
	var ps []packet
	want := map[string]bool{}
	for i := range 255 {
		text := fmt.Sprint("part ", i)
		want[text] = true
		ps = append(ps, packet{to: foreign, head: []byte("part "), tail: []byte(fmt.Sprint(i))})
	}
	if _, err := testListen(t, transportOptions{}).post(ps, nil); err != nil {
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

// TestFastPathNetworks: a stranger's user message is refused, like all else.
func TestFastPathNetworks(t *testing.T) {
	heard := make(chan string, 10)
	o := transportOptions{user: func(b []byte) { heard <- string(b) }, allowed: prefixes("10.0.0.0/8")}
	own, inner := testListen(t, o), testListen(t, transportOptions{})
	wrapped := wrap(inner, o)
	t.Cleanup(func() { _ = wrapped.Shutdown() })
	peer := testListen(t, transportOptions{})
	for tr, addr := range map[*transport]netip.AddrPort{own: own.bound(), wrapped: inner.bound()} {
		if _, err := peer.post([]packet{{to: Member{Addr: addr, ID: 1}, head: []byte("hello")}}, nil); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the stranger is refused", func() bool { return tr.traffic().PacketsRefused == 1 })
	}
	if len(heard) > 0 {
		t.Errorf("heard %q", <-heard)
	}
}
