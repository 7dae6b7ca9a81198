package starling_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// dialMeter is a transport that counts how many dials are under way, but for those to members: they are for streams of messages too.
type dialMeter struct {
	memberlist.NodeAwareTransport
	members        []string // their addresses
	now, most, all atomic.Int64
}

func (m *dialMeter) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return m.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (m *dialMeter) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if slices.Contains(m.members, a.Addr) {
		return m.NodeAwareTransport.DialAddressTimeout(a, timeout)
	}
	n := m.now.Add(1)
	defer m.now.Add(-1)
	m.all.Add(1)
	for most := m.most.Load(); n > most && !m.most.CompareAndSwap(most, n); most = m.most.Load() {
	}
	return m.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

// metered makes a member that is none of the lab's, whose dials are counted. The test closes it.
func (l *lab) metered(name string, alter func(*starling.Config)) (*starling.Cluster, *dialMeter) {
	l.t.Helper()
	tr, err := l.Net.Transport(name)
	l.Must(err)
	m := &dialMeter{NodeAwareTransport: tr}
	cfg := starling.Config{Name: name, Transport: m, Logger: quiet}
	if alter != nil {
		alter(&cfg)
	}
	c, err := starling.New(cfg)
	l.Must(err)
	return c, m
}

// thousand returns 1,000 addresses, of which those of the members are the last. At the others nobody answers, unless prepare, which gets a name for
// each, does something about it.
func (l *lab) thousand(members []*node, prepare func(name string)) (addrs []netip.Addr) {
	l.t.Helper()
	for i := range 1000 - len(members) {
		a := netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
		if prepare != nil {
			name := fmt.Sprint("other", i)
			prepare(name)
			at, err := l.Net.Addr(name)
			l.Must(err)
			a = at.Addr()
		}
		addrs = append(addrs, a)
	}
	for _, m := range members {
		addrs = append(addrs, m.Self().Addr.Addr())
	}
	return addrs
}

// TestJoinThousandAddresses: a name has 1,000 addresses, and members live at three of them. Who joins by the name is a member within 2 s, and dials
// eight at once at most, where nobody is at the others, and where these do anything: nothing, refuse, or take the connection and say nothing.
func TestJoinThousandAddresses(t *testing.T) {
	names := fakeDNS(t)
	for _, others := range []string{"silent", "silent, refuse or hang"} {
		t.Run(others, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				members := l.members(3)
				var prepare func(string)
				if i := 0; others != "silent" {
					prepare = func(name string) {
						i++
						tr, err := l.Net.Transport(name)
						l.Must(err)
						switch i % 3 {
						case 0:
							l.Must(l.Net.Crash(name))
						case 1:
							l.Must(tr.Shutdown())
						case 2:
							l.Must(l.Net.Freeze(name))
						}
					}
				}
				names["many.example"] = l.thousand(members, prepare)
				c, dials := l.metered("newcomer", nil)
				defer c.Close()
				for _, m := range members {
					dials.members = append(dials.members, m.Self().Addr.String())
				}
				began := time.Now()
				l.Must(c.Join(soon(t), "dns+many.example:7946"))
				took := time.Since(began)
				t.Logf("member after %v, by %d dials", took, dials.all.Load())
				if took > 2*time.Second || len(c.Members()) != 4 {
					t.Errorf("after %v there are %d members", took, len(c.Members()))
				}
				time.Sleep(20 * time.Second)
				t.Logf("%d dials after 20 s, %d at once", dials.all.Load(), dials.most.Load())
				if most := dials.most.Load(); most > 8 {
					t.Errorf("%d dials at once", most)
				}
			})
		})
	}
}

// TestJoinThousandAddressesByDialsAlone: the same where no packets pass, so that only a dial can tell whether an address is silent: each is dialled
// within 16 s, an eighth of a second for eight.
func TestJoinThousandAddressesByDialsAlone(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var addrs []string
		for _, a := range l.thousand(l.members(3), nil) {
			addrs = append(addrs, netip.AddrPortFrom(a, 7946).String())
		}
		k := labLink
		k.BlockPackets = true
		l.links(k)
		c, dials := l.metered("newcomer", func(cfg *starling.Config) {
			cfg.Resolve = func(context.Context) ([]string, error) { return addrs, nil }
		})
		defer c.Close()
		ctx, stop := context.WithCancel(t.Context())
		joined := make(chan error, 1)
		go func() { joined <- c.Join(ctx) }()
		took, ok := within(16*time.Second, func() bool { return len(c.Members()) > 1 })
		if most := dials.most.Load(); !ok || most > 8 {
			t.Errorf("after %v there are %d members; %d dials at once", took, len(c.Members()), most)
		}
		t.Logf("a member has answered after %v", took)
		stop()
		if err := <-joined; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
