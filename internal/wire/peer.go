package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxNameSize bounds a member's name, in bytes, so that the sender of a control frame is small against a packet.
const MaxNameSize = 128

// Peer is one run of a member, as the protocol knows it: who wrote a control frame, and where an answer goes. The sender of a
// Spread or a Reports may be an id alone, since only members heed those, and know the rest.
type Peer struct {
	ID   uint64
	Name string
	Addr netip.AddrPort

	// Features are those of a live member. They do not travel with a frame: of whom only a frame was heard they are 0.
	Features Features
}

// Foreign reports whether the member does not speak this version of Starling: then it has no id.
func (p Peer) Foreign() bool { return p.ID == 0 }

// Fields of starlingpb.Sender.
const (
	senderOrigin = 1<<3 | fixed64Field
	senderName   = 2<<3 | bytesField
	senderAddr   = 3<<3 | bytesField
)

// Append appends the sender field of a control frame: the id alone if the peer has no name.
func (p Peer) Append(b []byte) []byte {
	if p.Name == "" {
		b = appendVarint(b, controlSender, 1+8)
		return appendFixed64(b, senderOrigin, p.ID)
	}
	addr := EncodeAddr(p.Addr)
	size := 1 + 8 + 1 + protowire.SizeBytes(len(p.Name)) + 1 + protowire.SizeBytes(len(addr))
	b = appendVarint(b, controlSender, uint64(size))
	b = appendFixed64(b, senderOrigin, p.ID)
	b = appendBytes(b, senderName, p.Name)
	return appendBytes(b, senderAddr, addr)
}

// parseSender decodes a sender, which has either both a name and an address or neither.
func parseSender(b []byte) (Peer, error) {
	var p Peer
	var name, addr []byte
	f := fields{message: b}
	for f.next() {
		switch f.tag {
		case senderOrigin:
			p.ID = f.value
		case senderName:
			name = f.bytes()
		case senderAddr:
			addr = f.bytes()
		}
	}
	if err := f.err("sender"); err != nil {
		return Peer{}, err
	}
	if name == nil && addr == nil {
		return p, nil
	}
	var ok bool
	if p.Addr, ok = DecodeAddr(addr); !ok || len(name) == 0 || len(name) > MaxNameSize || !utf8.Valid(name) {
		return Peer{}, fmt.Errorf("%w: sender %q with an address of %d bytes", ErrMalformed, name, len(addr))
	}
	p.Name = string(name)
	return p, nil
}

// EncodeAddr returns 4 or 16 bytes of address, then the port; the port alone of an address that is not known.
func EncodeAddr(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

// DecodeAddr is the inverse of EncodeAddr. It reports false where there is no address.
func DecodeAddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	ip, ok := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:])), ok
}
