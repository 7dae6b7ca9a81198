package starling

import (
	"net/netip"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// TestMaxMetaSize: the largest metadata of a user is, with what is Starling's own, the largest that memberlist takes.
func TestMaxMetaSize(t *testing.T) {
	if n := len(wire.EncodeMeta(7, wire.AppendKeys(make([]byte, MaxMetaSize), wire.Keys{Accepts: make([]wire.KeyPrint, wire.MaxKeyPrints)}))); n != memberlist.MetaMaxSize {
		t.Errorf("the largest is %d bytes", n)
	}
}

// TestMemberFrom: a Member says what its node does, in bytes of its own; one without our mark, or of another major version, is
// foreign.
func TestMemberFrom(t *testing.T) {
	later := wire.EncodeMeta(7, []byte("user"))
	later[3] = 2
	for name, tt := range map[string]struct {
		meta    []byte
		id      uint64
		version int
		user    string
	}{
		"ours":           {wire.EncodeMeta(7, []byte("user")), 7, 1, "user"},
		"no metadata":    {nil, 0, 0, ""},
		"something else": {[]byte("something else altogether"), 0, 0, "something else altogether"},
		"later version":  {later, 0, 2, "user"},
	} {
		node := testNode("n", 0, 7946, string(tt.meta))
		m := memberFrom(node)
		clear(node.Meta)
		clear(node.Addr)
		if m.Name != "n" || m.Addr != netip.MustParseAddrPort("127.0.0.1:7946") || m.Status != StatusAlive {
			t.Errorf("%s: %+v", name, m)
		}
		if m.ID != tt.id || m.Version != tt.version || string(m.Meta) != tt.user || m.Foreign() != (tt.id == 0) {
			t.Errorf("%s: id %d, version %d, foreign %v, metadata %q", name, m.ID, m.Version, m.Foreign(), m.Meta)
		}
	}
}
