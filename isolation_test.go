package starling_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// TestIsolation: a member with another label, with other keys, or from outside the networks is not seen, what it sends is not
// handled, and its Join says why.
func TestIsolation(t *testing.T) {
	t.Parallel()
	key, otherKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keyring := func(c *memberlist.Config, key []byte) { c.SecretKey = key }
	for _, tt := range []struct {
		name     string
		ours     func(*starling.Config)
		theirs   func(*starling.Config)
		plain    func(*memberlist.Config)
		control  func(*memberlist.Config) // of a plain member that is heard, so that the outsider is not ignored for another reason
		explains string                   // Join says what is probably wrong
	}{
		{
			name: "label", explains: "another label, other keys, or TLS on one side only, are likely",
			ours:    func(c *starling.Config) { c.Label = "ours" },
			theirs:  func(c *starling.Config) { c.Label = "theirs" },
			plain:   func(c *memberlist.Config) { c.Label = "theirs" },
			control: func(c *memberlist.Config) { c.Label = "ours" },
		},
		{
			name: "no label", explains: "another label, other keys, or TLS on one side only, are likely",
			ours:    func(c *starling.Config) { c.Label = "ours" },
			theirs:  func(c *starling.Config) { c.Label = "" },
			plain:   func(c *memberlist.Config) { c.Label = "" },
			control: func(c *memberlist.Config) { c.Label = "ours" },
		},
		{
			name: "key", explains: "the seed encrypts by a key that this member does not have: give both the same Keys",
			ours:    func(c *starling.Config) { c.Keys = [][]byte{key} },
			theirs:  func(c *starling.Config) { c.Keys = [][]byte{otherKey} },
			plain:   func(c *memberlist.Config) { keyring(c, otherKey) },
			control: func(c *memberlist.Config) { keyring(c, key) },
		},
		{
			name: "no key", explains: "the seed encrypts, this member does not: give both the same Keys",
			ours:    func(c *starling.Config) { c.Keys = [][]byte{key} },
			theirs:  func(c *starling.Config) {},
			plain:   func(c *memberlist.Config) {},
			control: func(c *memberlist.Config) { keyring(c, key) },
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

			cfg = config(t, "outsider")
			tt.theirs(&cfg)
			outsider := start(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := outsider.Join(ctx, at)
			e := seedErrors(err)[at]
			if e == nil {
				t.Fatalf("the outsider's Join: %v", err)
			}
			if !strings.Contains(e.Error(), tt.explains) {
				t.Errorf("the outsider is told: %v", e)
			}
			// The other way round too.
			says := ""
			if tt.name == "no key" {
				says = "the seed does not encrypt, this member does: give both the same Keys"
			}
			err = joinFails(t, us, addr(outsider), says)
			if tt.explains != "" && err == nil {
				t.Error("we joined the outsider")
			}
			if err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("we are told: %v", err)
			}

			before := us.Stats().Traffic
			sendPart(t, plainMember(t, "plain", tt.plain), here, "ch", "outsider")
			eventually(t, "the outsider's packet and stream have come", func() bool {
				now := us.Stats().Traffic
				return now.PacketsReceived+now.PacketsRefused > before.PacketsReceived+before.PacketsRefused &&
					now.StreamsAccepted+now.StreamsRefused > before.StreamsAccepted+before.StreamsRefused
			})
			if tt.control != nil {
				sendPart(t, plainMember(t, "control", tt.control), here, "ch", "control")
				hears(t, "we", r, "control", "control")
			} else if now := us.Stats().Traffic; now.PacketsReceived > 0 || now.StreamsAccepted > 0 {
				t.Errorf("traffic from outside the networks: %+v", now)
			}
			if slices.Contains(heard(r), "outsider") {
				t.Error("an outsider was heard")
			}
			if got := names(us); !slices.Equal(got, []string{"us"}) || len(events.of("outsider")) > 0 {
				t.Errorf("we see %v", got)
			}
			if got := names(outsider); !slices.Equal(got, []string{"outsider"}) && tt.explains != "" {
				t.Errorf("the outsider sees %v", got)
			}
		})
	}
}

// TestInsideNetworks: members inside the networks meet and hear each other.
func TestInsideNetworks(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, func(_ int, c *starling.Config) {
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
