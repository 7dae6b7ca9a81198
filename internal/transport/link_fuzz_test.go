package transport

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// inputConn is a link on which everything has been written already.
type inputConn struct {
	net.Conn
	in      *bytes.Reader
	answers int
}

func (c *inputConn) Read(b []byte) (int, error)         { return c.in.Read(b) }
func (c *inputConn) Write(b []byte) (int, error)        { c.answers += len(b); return len(b), nil }
func (c *inputConn) SetWriteDeadline(_ time.Time) error { return nil }

// FuzzReadLink: whatever a member writes to its link, nothing comes out that is too large, and no more than went in.
func FuzzReadLink(f *testing.F) {
	f.Add([]byte("\x00\x03abc\x00\x00\x00\x02\x08x"))
	f.Add([]byte("\xff\xffabc"))
	f.Add(append([]byte("\x27\x10"), make([]byte, 10_000)...))
	f.Add(append([]byte("\x27\x10\x08"), make([]byte, 9_999)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		const largest = 5000
		out := 0
		take := func(p []byte) {
			if len(p) == 0 || len(p) > largest {
				t.Errorf("a packet of %d bytes", len(p))
			}
			out += 2 + len(p)
		}
		tr := &Transport{maxPacket: largest, ctx: t.Context(), User: func(p []byte) { take(append(p, 0)) }}
		c := &inputConn{in: bytes.NewReader(b)}
		tr.packets = make(chan *memberlist.Packet, len(b)+1)
		readLink(tr, c, netip.MustParseAddrPort("10.0.0.1:7"))
		for len(tr.packets) > 0 {
			take((<-tr.packets).Buf)
		}
		if out+2*c.answers > len(b) {
			t.Errorf("%d bytes and %d answers came of %d bytes", out, c.answers, len(b))
		}
	})
}
