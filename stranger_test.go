package starling_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
)

// plainMember is a bare memberlist on loopback, such as a stranger may run.
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

// shout sends a valid part to an address by packet and by stream, past all membership.
func shout(tb testing.TB, ml *memberlist.Memberlist, at netip.AddrPort, key, s string) {
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

// TestStrangers: members of another label, with other keys or from outside the networks are not seen and not heard, and
// are told why they cannot join.
func TestStrangers(t *testing.T) {
	t.Parallel()
	key, otherKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keyring := func(c *memberlist.Config, key []byte) { c.SecretKey = key }
	for _, tt := range []struct {
		name     string
		ours     func(*starling.Config)
		theirs   func(*starling.Config)
		plain    func(*memberlist.Config)
		friend   func(*memberlist.Config) // a plain member that is heard: what the stranger lacks is nothing else
		explains bool
	}{
		{
			name: "label", explains: true,
			ours:   func(c *starling.Config) { c.Label = "ours" },
			theirs: func(c *starling.Config) { c.Label = "theirs" },
			plain:  func(c *memberlist.Config) { c.Label = "theirs" },
			friend: func(c *memberlist.Config) { c.Label = "ours" },
		},
		{
			name: "no label", explains: true,
			ours:   func(c *starling.Config) { c.Label = "ours" },
			theirs: func(c *starling.Config) { c.Label = "" },
			plain:  func(c *memberlist.Config) { c.Label = "" },
			friend: func(c *memberlist.Config) { c.Label = "ours" },
		},
		{
			name: "key", explains: true,
			ours:   func(c *starling.Config) { c.Keys = [][]byte{key} },
			theirs: func(c *starling.Config) { c.Keys = [][]byte{otherKey} },
			plain:  func(c *memberlist.Config) { keyring(c, otherKey) },
			friend: func(c *memberlist.Config) { keyring(c, key) },
		},
		{
			name: "no key", explains: true,
			ours:   func(c *starling.Config) { c.Keys = [][]byte{key} },
			theirs: func(c *starling.Config) {},
			plain:  func(c *memberlist.Config) {},
			friend: func(c *memberlist.Config) { keyring(c, key) },
		},
		{
			// We say that we are somewhere else, so that we are inside our networks and 127.0.0.1 is not.
			name: "network",
			ours: func(c *starling.Config) {
				c.Networks, c.AdvertiseAddr = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "10.0.0.1"
			},
			theirs: func(c *starling.Config) {},
			plain:  func(c *memberlist.Config) {},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, "us")
			tt.ours(&cfg)
			us := start(t, cfg)
			_, r := channel(t, us, "ch", nil)
			events := watch(t, us)
			here := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), us.Self().Addr.Port())
			at := here.String()

			cfg = config(t, "stranger")
			tt.theirs(&cfg)
			stranger := start(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := stranger.Join(ctx, at)
			e := seedErrors(err)[at]
			if e == nil {
				t.Fatalf("the stranger's Join: %v", err)
			}
			if tt.explains && !strings.Contains(e.Error(), "another label, or other keys, are likely") {
				t.Errorf("the stranger is told: %v", e)
			}
			// The other way round too.
			if err := us.Join(brief(t), addr(stranger)); tt.explains && err == nil {
				t.Error("we joined the stranger")
			}

			before := us.Stats().Traffic
			shout(t, plainMember(t, "plain", tt.plain), here, "ch", "stranger")
			eventually(t, "the stranger's packet and stream have come", func() bool {
				now := us.Stats().Traffic
				return now.PacketsReceived+now.PacketsRefused > before.PacketsReceived+before.PacketsRefused &&
					now.StreamsAccepted+now.StreamsRefused > before.StreamsAccepted+before.StreamsRefused
			})
			if tt.friend != nil {
				shout(t, plainMember(t, "friend", tt.friend), here, "ch", "friend")
				hears(t, "we", r, "friend", "friend")
			} else if now := us.Stats().Traffic; now.PacketsReceived > 0 || now.StreamsAccepted > 0 {
				t.Errorf("traffic from outside the networks: %+v", now)
			}
			if slices.Contains(heard(r), "stranger") {
				t.Error("a stranger was heard")
			}
			if got := names(us); !slices.Equal(got, []string{"us"}) || len(events.of("stranger")) > 0 {
				t.Errorf("we see %v", got)
			}
			if got := names(stranger); !slices.Equal(got, []string{"stranger"}) && tt.explains {
				t.Errorf("the stranger sees %v", got)
			}
		})
	}
}

// TestInsideNetworks: who comes from inside is as welcome as without a list.
func TestInsideNetworks(t *testing.T) {
	t.Parallel()
	members := flock(t, 3, func(_ int, c *starling.Config) {
		c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	})
	chs, rs := channels(t, members, "ch", nil)
	join(t, members...)
	large := strings.Repeat("large", 1000)
	if err := errors.Join(chs[0].Broadcast(soon(t), say("small")), chs[0].Broadcast(soon(t), say(large))); err != nil {
		t.Fatal(err)
	}
	hears(t, "m02", rs[2], "small", large)
}

// TestForeignMember: a plain memberlist takes part as far as it can, and is never said to have taken what it cannot.
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
	shout(t, ml, c.Self().Addr, "ch", "hello")
	hears(t, "we", r, "hello", "hello")
	if m := r.messages()[0]; m.From.Name != "" || m.Seq != 0 {
		t.Errorf("it is heard as %+v", m)
	}
}

// listener is the delegate of a member that listens.
type listener chan []byte

func (l listener) NotifyMsg(b []byte)              { l <- bytes.Clone(b) }
func (l listener) NodeMeta(int) []byte             { return nil }
func (l listener) GetBroadcasts(_, _ int) [][]byte { return nil }
func (l listener) LocalState(bool) []byte          { return nil }
func (l listener) MergeRemoteState([]byte, bool)   {}
