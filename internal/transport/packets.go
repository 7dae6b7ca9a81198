package transport

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// The fast path. Where memberlist puts no label, encryption or compression around a user message, its packet is the byte
// userMessage followed by the message. A Transport sends and receives such packets itself. memberlist would copy each packet
// twice to send it, and would hand a received one through two queues, one of which is last in, first out, and drops. The bytes
// on the wire are the same, so each member can decide by itself whether it uses the fast path. All other packets go to
// memberlist.

// Types of memberlist's packets: the first byte of each. After the type, a compound has the number of its messages in one byte,
// the length of each in two, and the messages.
const (
	compoundMessage = 7
	userMessage     = 8
)

// FastPath reports whether a memberlist with this configuration puts nothing but its type byte around a user message, so that
// user messages may pass it by.
func FastPath(c *memberlist.Config) bool {
	return c.Label == "" && c.Keyring == nil && c.SecretKey == nil && !c.EnableCompression
}

// readPackets reads packets into one buffer until the socket is closed. Options.User gets a user message as it lies there. A
// packet for memberlist is copied into a slice of its exact size: memberlist queues packets, and would otherwise keep 64 KiB
// for each.
func (t *Transport) readPackets(udp *net.UDPConn) {
	buf := make([]byte, readBuffer)
	var last time.Duration
	for {
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if !t.retry(err, "read packets", &t.count.packetErrors, &last) {
				return
			}
			continue
		}
		last = 0

		from = unmap(from)
		if !t.admits(from.Addr()) {
			if t.count.packetsRefused.Add(1) == 1 {
				t.logRefused("packet", from)
			}
			continue
		}
		t.Heard.note(from, now)
		if t.deliverUserMessage(buf[:n]) {
			continue
		}
		t.deliverPacket(packetOf(buf[:n], from, now))
	}
}

// packetOf returns a packet that has a copy of b, of its exact size.
func packetOf(b []byte, from netip.AddrPort, at time.Time) *memberlist.Packet {
	d := &datagram{source: source(from)}
	d.Packet = memberlist.Packet{Buf: make([]byte, len(b)), From: &d.source, Timestamp: at}
	copy(d.Buf, b)
	return &d.Packet
}

// deliverUserMessage calls Options.User if the packet is one user message, and reports whether it did.
func (t *Transport) deliverUserMessage(b []byte) bool {
	if t.User == nil || len(b) == 0 || b[0] != userMessage || t.closing() {
		return false
	}
	t.count.packetsReceived.Add(1)
	t.count.packetBytesReceived.Add(uint64(len(b)))
	t.User(b[1:])
	return true
}

// deliverPacket hands a packet from an allowed source to memberlist. It blocks while the backlog is full: see packetBacklog.
func (t *Transport) deliverPacket(p *memberlist.Packet) {
	t.count.packetsReceived.Add(1)
	t.count.packetBytesReceived.Add(uint64(len(p.Buf)))
	if len(p.Buf) == 0 || t.maxPacket > 0 && len(p.Buf) > t.maxPacket {
		t.count.packetsDropped.Add(1)
		return
	}
	select {
	case t.packets <- p:
	case <-t.ctx.Done():
		t.count.packetsDropped.Add(1)
	}
}

// Post sends ps, one packet or several for the same member, in one packet of memberlist's: a user message, or a compound of
// them. [Compound] tells how many fit.
//
// Post builds the packet in scratch, which may be nil, and returns a slice that the caller passes to its next Post. That saves an
// allocation where the medium copies what it sends; where the medium may keep the bytes, Post makes a new slice each time.
//
// The error wraps net.ErrClosed after Shutdown; else it is the medium's.
func (t *Transport) Post(ps []wire.Packet, scratch []byte) ([]byte, error) {
	to := ps[0].To
	if t.closing() {
		return scratch, fmt.Errorf("write packet to %s: %w", to.Addr, net.ErrClosed)
	}
	if t.medium.retains() {
		scratch = nil
	}
	scratch = scratch[:0]
	if len(ps) > 1 {
		scratch = append(scratch, compoundMessage, byte(len(ps)))
		for i := range ps {
			scratch = binary.BigEndian.AppendUint16(scratch, uint16(1+ps[i].Len()))
		}
	}
	for i := range ps {
		scratch = ps[i].Append(append(scratch, userMessage))
	}
	err := t.medium.sendTo(scratch, to)
	t.count.sent(len(scratch), err)
	return scratch, err
}

// Compound returns how many packets at the beginning of ps [Transport.Post] may send as one packet of at most limit bytes: those
// for the same foreign member that fit, but at least one. ps may not be empty. Only foreign members get compounds, because they
// cannot read the batches in which our own members get several parts at once.
func Compound(ps []wire.Packet, limit int) int {
	if !ps[0].To.Foreign() {
		return 1
	}
	n, size := 0, 2
	for n < min(len(ps), math.MaxUint8) && ps[n].To.Name == ps[0].To.Name {
		if size += 2 + 1 + ps[n].Len(); size > limit && n > 0 {
			break
		}
		n++
	}
	return n
}
