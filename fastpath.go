package starling

import (
	"fmt"
	"net"

	"github.com/hashicorp/memberlist"
)

// The fast path. A packet of memberlist's that carries one user message is the byte userMessage and the message, where
// there is no label, key or compression around it. Such packets pass memberlist by, both ways: it would copy each twice, and
// hand it through two queues of which one is last in, first out, and drops. What is on the wire is the same, so that it is
// each member's own affair whether it takes the fast path, and all that comes otherwise goes to memberlist as ever.

// userMessage is the type of memberlist's packets that carry a user message.
const userMessage = 8

// fastPath reports whether memberlist so configured would put nothing but its type byte around a user message.
func fastPath(c *memberlist.Config) bool {
	return c.Label == "" && c.Keyring == nil && c.SecretKey == nil && !c.EnableCompression
}

// passes gives a packet that carries a user message to whom it concerns, and reports whether it did.
func (t *transport) passes(b []byte) bool {
	if t.user == nil || len(b) == 0 || b[0] != userMessage || t.closing() {
		return false
	}
	t.count.packetsReceived.Add(1)
	t.count.packetBytesReceived.Add(uint64(len(b)))
	t.user(b[1:])
	return true
}

// post sends a packet as one user message. It is put together in scratch, which is returned for the next one: the medium
// may hold on to it, and then the next one gets another.
func (t *transport) post(p packet, scratch []byte) ([]byte, error) {
	if t.medium.keeps() {
		scratch = make([]byte, 0, 1+p.len())
	}
	scratch = append(scratch[:0], userMessage)
	scratch = append(append(scratch, p.head...), p.tail...)
	if t.closing() {
		return scratch, fmt.Errorf("write packet to %s: %w", p.to.Addr, net.ErrClosed)
	}
	err := t.medium.sendTo(scratch, p.to)
	t.count.sent(len(scratch), err)
	return scratch, err
}
