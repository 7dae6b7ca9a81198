package starling

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"

	"github.com/hashicorp/memberlist"
)

// The fast path. A packet of memberlist's that carries one user message is the byte userMessage and the message, where
// there is no label, key or compression around it. Such packets pass memberlist by, both ways: it would copy each twice, and
// hand it through two queues of which one is last in, first out, and drops. What is on the wire is the same, so that it is
// each member's own affair whether it takes the fast path, and all that comes otherwise goes to memberlist as ever.

// Types of memberlist's packets. A compound is how many messages it has, their lengths, two bytes each, and the messages.
const (
	compoundMessage = 7
	userMessage     = 8
)

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

// post sends packets to one member as one: a user message, or a compound of several. It is put together in scratch, which
// is returned for the next one: the medium may hold on to it, and then the next one gets another.
func (t *transport) post(ps []packet, scratch []byte) ([]byte, error) {
	to := ps[0].to
	if t.closing() {
		return scratch, fmt.Errorf("write packet to %s: %w", to.Addr, net.ErrClosed)
	}
	if t.medium.keeps() {
		scratch = nil
	}
	scratch = scratch[:0]
	if len(ps) > 1 {
		scratch = append(scratch, compoundMessage, byte(len(ps)))
		for i := range ps {
			scratch = binary.BigEndian.AppendUint16(scratch, uint16(1+ps[i].len()))
		}
	}
	for i := range ps {
		scratch = ps[i].append(append(scratch, userMessage))
	}
	err := t.medium.sendTo(scratch, to)
	t.count.sent(len(scratch), err)
	return scratch, err
}

// compound returns how many of the first packets travel as one: those that follow each other to the same foreign member and fit
// into limit together, one at least. Foreign members get part by part what ours get in batches.
func compound(ps []packet, limit int) int {
	if !ps[0].to.Foreign() {
		return 1
	}
	n, size := 0, 2
	for n < min(len(ps), math.MaxUint8) && ps[n].to.Name == ps[0].to.Name {
		if size += 2 + 1 + ps[n].len(); size > limit && n > 0 {
			break
		}
		n++
	}
	return n
}
