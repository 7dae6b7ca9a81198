package starling_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
)

// plainMember is a bare memberlist on loopback, without Starling.
func plainMember(tb testing.TB, name string, alter func(*memberlist.Config)) *memberlist.Memberlist {
	tb.Helper()
	cfg := memberlist.DefaultLocalConfig()
	quick(cfg)
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = name, "127.0.0.1", 0, 0
	cfg.Label, _, _ = strings.Cut(tb.Name(), "#")
	cfg.LogOutput, cfg.EnableCompression = io.Discard, false
	if alter != nil {
		alter(cfg)
	}
	ml, err := memberlist.Create(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ml.Shutdown(); err != nil {
			tb.Error(err)
		}
	})
	return ml
}

// sendPart sends a valid part to an address by packet and by stream, whether the two are members of one cluster or not.
func sendPart(tb testing.TB, ml *memberlist.Memberlist, at netip.AddrPort, key, s string) {
	tb.Helper()
	data, err := proto.Marshal(say(s))
	if err != nil {
		tb.Fatal(err)
	}
	frame, err := proto.Marshal(&starlingpb.Part{Key: key, Data: data})
	if err != nil {
		tb.Fatal(err)
	}
	node := &memberlist.Node{Name: "us", Addr: at.Addr().AsSlice(), Port: at.Port()}
	if err := ml.SendToAddress(node.FullAddress(), frame); err != nil {
		tb.Error(err)
	}
	// A stream may be refused while it is being written.
	if err := ml.SendReliable(node, frame); err != nil {
		tb.Logf("stream: %v", err)
	}
}

// TestForeignMember: a plain memberlist is a member that gets plain parts and is heard, but nobody can Send to it.
func TestForeignMember(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "us"))
	ch, r := channel(t, c, "ch", nil)
	heard := make(listener, 1000)
	ml := plainMember(t, "plain", func(c *memberlist.Config) { c.Delegate = heard })
	if err := c.Join(soon(t), ml.LocalNode().Address()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plain member is seen", func() bool { return len(c.Members()) == 2 })
	m := c.Members()[0]
	if m.Name != "plain" || !m.Foreign() || m.Version != 0 || c.Stats().Foreign != 1 {
		t.Errorf("it is seen as %+v", m)
	}
	var refused *starling.SendError
	if err := ch.Send(soon(t), "plain", say("m")); !errors.As(err, &refused) || refused.Reason != starling.SendForeign {
		t.Errorf("Send: %v", err)
	}
	// It gets plain parts, small and large.
	large := strings.Repeat("large", 1000)
	if err := errors.Join(ch.Broadcast(soon(t), say("small")), ch.Broadcast(soon(t), say(large))); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for len(got) < 2 {
		var p starlingpb.Part
		var v = say("")
		if err := errors.Join(proto.Unmarshal(arrives(t, "a part", heard), &p), proto.Unmarshal(p.Data, v)); err != nil {
			t.Fatal(err)
		}
		if p.Key != "ch" || p.Origin != c.Self().ID {
			t.Errorf("it got key %q of origin %x", p.Key, p.Origin)
		}
		got[v.GetValue()] = true
	}
	if !got["small"] || !got[large] {
		t.Errorf("it got %d other messages", len(got))
	}
	// And is heard, though it cannot say who it is.
	sendPart(t, ml, c.Self().Addr, "ch", "hello")
	hears(t, "we", r, "hello", "hello")
	if m := r.messages()[0]; m.From.Name != "" || m.Seq != 0 {
		t.Errorf("it is heard as %+v", m)
	}
}

// TestOtherVersion: a member of a version that does not understand ours is foreign, which the log says, with what to do.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	book := &logCounter{from: slog.LevelWarn}
	cfg := config(t, "us")
	cfg.Logger = slog.New(book)
	c := start(t, cfg)
	later := versioned{make(listener, 1000), append([]byte("\xf5SG\x09"), "12345678\x08\x00user"...)}
	ml := plainMember(t, "later", func(c *memberlist.Config) { c.Delegate = later })
	if err := c.Join(soon(t), ml.LocalNode().Address()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one is seen", func() bool { return len(c.Members()) == 2 })
	if m := c.Members()[0]; m.Name != "later" || !m.Foreign() || m.Version != 9 || string(m.Meta) != "user" {
		t.Errorf("it is seen as %+v", m)
	}
	var all string
	eventually(t, "the log says so", func() bool {
		_, lines := book.taken()
		all += strings.Join(lines, "\n")
		return strings.Contains(all, "speaks another version of Starling")
	})
	if !strings.Contains(all, "member=later") || !strings.Contains(all, "speaks=9 understands_from=8 this_speaks=2 this_understands_from=2") {
		t.Errorf("the log says %q", all)
	}
}

// versioned is a listener with metadata.
type versioned struct {
	listener
	meta []byte
}

func (v versioned) NodeMeta(int) []byte { return v.meta }

// listener is a delegate that keeps the user messages.
type listener chan []byte

func (l listener) NotifyMsg(b []byte)              { l <- bytes.Clone(b) }
func (l listener) NodeMeta(int) []byte             { return nil }
func (l listener) GetBroadcasts(_, _ int) [][]byte { return nil }
func (l listener) LocalState(bool) []byte          { return nil }
func (l listener) MergeRemoteState([]byte, bool)   {}
