package starling

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Member is one participant of the cluster, as this member saw it last. It is a value: nothing in it changes, and Meta
// is the receiver's own copy.
type Member struct {
	Name    string
	Addr    netip.AddrPort // where the others reach it
	Meta    []byte         // what it gave to Config.Meta or SetMeta
	ID      uint64         // random identity of this run of it; 0 for a foreign member, one that does not speak Starling
	Status  Status
	Version int           // major version of Starling's wire that it speaks; 0 for a foreign member
	RTT     time.Duration // round trip of the last probe that this member made of it; 0 before the first
}

// Foreign reports whether the member does not speak this version of Starling (a plain memberlist, an Alertmanager, or
// another major version). A foreign member gets plain parts and no control frames, and acknowledges nothing.
func (m Member) Foreign() bool { return m.ID == 0 }

// Status is what is known of a member's life.
type Status int

const (
	StatusAlive  Status = iota // takes part, as far as is known
	StatusLeft                 // said goodbye
	StatusFailed               // is gone without a goodbye
)

func (s Status) String() string {
	switch s {
	case StatusAlive:
		return "alive"
	case StatusLeft:
		return "left"
	case StatusFailed:
		return "failed"
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// wireVersion is the major version of the wire. Members of another one are foreign to each other.
const wireVersion = 1

// MaxMetaSize is the most metadata a member may carry, in bytes: memberlist allows 512, the rest is Starling's own.
const MaxMetaSize = memberlist.MetaMaxSize - metaHeader

// A member's memberlist metadata is: magic, version, origin id, then the user's bytes.
const (
	metaMagic  = "\xf5SG"
	metaHeader = len(metaMagic) + 1 + 8
)

func encodeMeta(id uint64, user []byte) []byte {
	b := make([]byte, 0, metaHeader+len(user))
	b = append(b, metaMagic...)
	b = append(b, wireVersion)
	b = binary.BigEndian.AppendUint64(b, id)
	return append(b, user...)
}

// decodeMeta splits a member's metadata. Whatever does not carry our magic and version belongs to a foreign member.
func decodeMeta(b []byte) (id uint64, version int, user []byte) {
	if len(b) < metaHeader || string(b[:len(metaMagic)]) != metaMagic {
		return 0, 0, b
	}
	if version = int(b[len(metaMagic)]); version != wireVersion {
		return 0, version, b[metaHeader:]
	}
	return binary.BigEndian.Uint64(b[len(metaMagic)+1:]), version, b[metaHeader:]
}

// memberFrom copies what memberlist may change under our feet into a value.
func memberFrom(n *memberlist.Node) Member {
	id, version, user := decodeMeta(n.Meta)
	ip, _ := netip.AddrFromSlice(n.Addr)
	return Member{
		Name:    n.Name,
		Addr:    netip.AddrPortFrom(ip.Unmap(), n.Port),
		Meta:    bytes.Clone(user),
		ID:      id,
		Version: version,
	}
}

// clone returns m with metadata of its own.
func (m Member) clone() Member {
	m.Meta = bytes.Clone(m.Meta)
	return m
}

// sameFace tells whether a reader who knows a would learn nothing from b. The round trip changes all the time and is no news.
func sameFace(a, b Member) bool {
	return a.Name == b.Name && a.Addr == b.Addr && a.ID == b.ID && a.Status == b.Status && a.Version == b.Version &&
		bytes.Equal(a.Meta, b.Meta)
}

func byName(a, b Member) int { return cmp.Compare(a.Name, b.Name) }
