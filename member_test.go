package starling

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/wire"
)

// TestMaxMetaSize: memberlist takes the largest metadata of a user with what is Starling's own.
func TestMaxMetaSize(t *testing.T) {
	if n := len(wire.EncodeMeta(7, wire.OwnFeatures, wire.AppendKeys(make([]byte, MaxMetaSize), wire.Keys{Accepts: make([]wire.KeyPrint, wire.MaxKeyPrints)}))); n > memberlist.MetaMaxSize {
		t.Errorf("the largest is %d bytes", n)
	}
}

// TestMemberFrom: a Member says what its node does, in bytes of its own; one without our mark, or of a version that does not
// understand ours, is foreign.
func TestMemberFrom(t *testing.T) {
	later := wire.EncodeMeta(7, wire.OwnFeatures, []byte("user"))
	later[3], later[12] = 3, 3
	v1 := []byte("\xf5SG\x0112345678user")
	for name, tt := range map[string]struct {
		meta    []byte
		id      uint64
		version int
		user    string
	}{
		"ours":           {wire.EncodeMeta(7, wire.OwnFeatures, []byte("user")), 7, 2, "user"},
		"no metadata":    {nil, 0, 0, ""},
		"something else": {[]byte("something else altogether"), 0, 0, "something else altogether"},
		"later version":  {later, 0, 3, "user"},
		"version 1":      {v1, 0, 1, "user"},
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

// TestFeatureEvents: who reads the events is told when not all members have a feature any more, and when they have it again. Foreign members
// count for nothing.
func TestFeatureEvents(t *testing.T) {
	table := newMembership("self", nil)
	book := newLogBook(slog.LevelInfo, nil)
	table.common.log = slog.New(book)
	r := table.subscribe()
	without := func(name string, id uint64) *memberlist.Node {
		n := testNode(name, 0, 1, "")
		n.Meta = wire.EncodeMeta(id, 1<<40|(wire.OwnFeatures&^wire.FeatureTypes), nil)
		return n
	}
	table.NotifyJoin(testNode("self", 1, 1, ""))
	table.NotifyJoin(testNode("same", 2, 1, ""))
	table.NotifyJoin(testNode("foreign", 0, 1, ""))
	table.NotifyJoin(without("old", 3))
	table.NotifyJoin(without("older", 4))
	var told []string
	tell := func() {
		for e, ok, _ := table.pull(r); ok; e, ok, _ = table.pull(r) {
			if e.Kind == EventFeatureBegins || e.Kind == EventFeatureEnds {
				told = append(told, e.String())
			}
		}
	}
	tell()
	table.NotifyLeave(without("old", 3))
	tell()
	table.NotifyUpdate(testNode("older", 5, 1, "")) // restarted, of a later release
	tell()
	want := []string{
		"the feature types is not that of all members any more: old lacks it",
		"all members have the feature types, since older is gone",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	lines := []string{
		"INFO not all members have a feature any more: it is used between those that have it feature=types lacks_it=old",
		"INFO all members have a feature, since the last one without it is gone feature=types member=older",
	}
	if got := book.all(); !slices.Equal(got, lines) {
		t.Errorf("the log says %q, want %q", got, lines)
	}
	if m, _ := table.lookup("same"); !m.Has(FeatureTypes) || m.Has(-1) || m.Has(FeatureReads+1) {
		t.Error("a member has what it has, and nothing else")
	}
	if m, _ := table.lookup("foreign"); m.Has(FeatureTypes) {
		t.Error("a foreign member has a feature")
	}
}

// TestLeavesDuringChange: a change of the members may have a stream sent, under the table's lock. One that is refused at once, because its lane is
// full or the cluster closes, asks whether its member leaves.
func TestLeavesDuringChange(t *testing.T) {
	var leaves []bool
	var table *membership
	table = newMembership("self", func(Member, Member) { leaves = append(leaves, table.leaves(1)) })
	m := Member{Name: "m", ID: 1, Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	table.put(m)
	m.RTT = 1
	table.put(m)
	table.goodbye(1, false)
	table.put(m)
	table.NotifyLeave(&memberlist.Node{Name: "m"})
	if want := []bool{false, false, true, true}; !slices.Equal(leaves, want) {
		t.Errorf("it leaves: %v, want %v", leaves, want)
	}
}

// TestLeaves: who has come back after a failure does not leave, and neither does one in whose name somebody said goodbye long ago. So a stream
// to it that fails is counted.
func TestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMembership("self", nil)
		at := netip.MustParseAddrPort("127.0.0.1:1")
		m := Member{Name: "m", ID: 1, Addr: at}
		expect := func(when string, leaves bool) {
			t.Helper()
			if table.leaves(1) != leaves {
				t.Errorf("%s: it leaves: %v", when, !leaves)
			}
		}
		table.put(m)
		table.NotifyLeave(&memberlist.Node{Name: "m"})
		expect("failed", true)
		table.put(m)
		expect("back", false)
		for id := range uint64(rememberGone + 1) { // one more than are remembered
			other := Member{Name: "other", ID: 2 + id, Addr: at}
			table.put(other)
			if id == rememberGone/2 {
				table.goodbye(1, false)
			}
			table.NotifyLeave(&memberlist.Node{Name: "other"})
		}
		expect("after its goodbye", true)
		time.Sleep(goodbyeHolds)
		expect("long after its goodbye", false)
		if len(table.gone.byID) != rememberGone || len(table.gone.ids) != rememberGone {
			t.Errorf("%d gone are remembered, by %d ids", len(table.gone.byID), len(table.gone.ids))
		}
	})
}
