package starling_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// freeAddr is a loopback address where nobody listens.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// hangingAddr is a loopback address where connections are accepted and never answered.
func hangingAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var held []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, conn)
		}
		for _, conn := range held {
			conn.Close()
		}
	}()
	tb.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String()
}

// impatient gives a stream little time.
func impatient(c *memberlist.Config) {
	quick(c)
	c.TCPTimeout = 300 * time.Millisecond
}

// seedErrors returns what err says of each seed.
func seedErrors(err error) map[string]*starling.SeedError {
	found := map[string]*starling.SeedError{}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *starling.SeedError:
			found[e.Seed] = e
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return found
}

// TestJoinBadSeeds: each seed gets its own error when the context ends.
func TestJoinBadSeeds(t *testing.T) {
	t.Parallel()
	refuses, hangs, nowhere := freeAddr(t), hangingAddr(t), "host.invalid:7946"
	cfg := config(t, "a")
	cfg.Tune = impatient
	cfg.Seeds = []string{refuses}
	c := start(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := c.Join(ctx, hangs, nowhere)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context's error is missing: %v", err)
	}
	found := seedErrors(err)
	for _, seed := range []string{refuses, hangs, nowhere} {
		if e := found[seed]; e == nil || e.Err == nil {
			t.Errorf("no error for %s in %v", seed, err)
		}
	}
	if len(found) != 3 {
		t.Errorf("%d errors, want 3", len(found))
	}
}

// TestJoinTellsTheCause: what a seed did first is still told when the context ends while it is being tried again.
func TestJoinTellsTheCause(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	joined := make(chan error, 1)
	c := start(t, config(t, "a"))
	go func() { joined <- c.Join(ctx, l.Addr().String()) }()
	for try := range 2 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if try == 0 {
			conn.Close() // as a member of another label does
			continue
		}
		defer conn.Close()
		cancel()
	}
	err = arrives(t, "Join returns", joined)
	e := seedErrors(err)[l.Addr().String()]
	if e == nil || !strings.Contains(e.Error(), "another label, other keys, or TLS on one side only, are likely") {
		t.Errorf("Join: %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the context's error is missing: %v", err)
	}
}

// TestJoinEndedContext: a context that has ended leaves no seed without its error.
func TestJoinEndedContext(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	seeds := []string{freeAddr(t), freeAddr(t)}
	err := c.Join(ctx, seeds...)
	if found := seedErrors(err); found[seeds[0]] == nil || found[seeds[1]] == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Join: %v", err)
	}
}

// TestJoinHangingSeed: a seed that hangs neither outlasts the context nor keeps another from being joined.
func TestJoinHangingSeed(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, func(_ int, c *starling.Config) { c.Tune = impatient })
	hangs := hangingAddr(t)
	asked := time.Now()
	err := members[0].Join(brief(t), hangs)
	if !errors.Is(err, context.DeadlineExceeded) || seedErrors(err)[hangs] == nil {
		t.Errorf("Join: %v", err)
	}
	if took := time.Since(asked); took > patience/2 {
		t.Errorf("Join took %v", took)
	}
	if err := members[0].Join(soon(t), hangs, addr(members[1])); err != nil {
		t.Errorf("Join with one good seed: %v", err)
	}
	allSee(t, members...)
}

// TestJoinMalformedSeeds: each fault is told at once, and nothing of the call is kept. A seed without a port is one where BindAddr has
// port 0.
func TestJoinMalformedSeeds(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	for _, seed := range []string{"", ":7946", "host:", "host:0", "host:65536", "host:http", "a:b:c", "[::1", "dns+", "dns+:1", "10.0.0.7", "dns+host"} {
		err := c.Join(t.Context(), addr(c), seed)
		var fault *starling.ConfigError
		if !errors.As(err, &fault) || fault.Value != seed {
			t.Errorf("seed %q: %v", seed, err)
		}
	}
	if err := c.Join(t.Context()); err != nil {
		t.Errorf("a refused seed was kept: %v", err)
	}
}

// TestJoinNobody: who has no seeds, or is its own seed, is the first member.
func TestJoinNobody(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	if err := errors.Join(c.Join(t.Context()), c.Join(t.Context(), addr(c))); err != nil {
		t.Error(err)
	}
}

// TestJoinLateSeed: Join tries again until the seed is there.
func TestJoinLateSeed(t *testing.T) {
	t.Parallel()
	late := freeAddr(t)
	c := start(t, config(t, "early"))
	joined := make(chan error, 1)
	go func() { joined <- c.Join(soon(t), late) }()
	eventually(t, "the first try fails", func() bool { return c.Stats().Traffic.StreamErrors > 0 })
	select {
	case err := <-joined:
		t.Fatalf("Join of nobody: %v", err)
	default:
	}
	cfg := config(t, "late")
	cfg.BindAddr = late
	seed := start(t, cfg)
	if err := arrives(t, "Join returns", joined); err != nil {
		t.Fatal(err)
	}
	allSee(t, c, seed)
}

// TestJoinByName: every address of a name is a seed.
func TestJoinByName(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	if err := members[1].Join(soon(t), fmt.Sprintf("dns+localhost:%d", members[0].Self().Addr.Port())); err != nil {
		t.Fatal(err)
	}
	allSee(t, members...)
}

// TestJoinIPv6: members bound to ::1, to all addresses of both families and to 127.0.0.1 meet, as far as they can reach each other; a
// seed of the other family is skipped, and said.
func TestJoinIPv6(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else {
		l.Close()
	}
	bind := []string{"[::1]:0", "[::]:0", "127.0.0.1:0"}
	members := startMembers(t, 3, func(i int, c *starling.Config) {
		if c.BindAddr = bind[i]; i == 1 {
			c.AdvertiseAddr = "::1"
		}
	})
	six, both, four := members[0], members[1], members[2]
	if err := both.Join(soon(t), addr(six)); err != nil {
		t.Fatal(err)
	}
	allSee(t, six, both)
	little, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	err := four.Join(little, addr(six))
	if e := seedErrors(err)[addr(six)]; e == nil || !strings.Contains(e.Error(), "IPv6, and this member, bound to 127.0.0.1, reaches IPv4 alone") {
		t.Errorf("Join of a seed of the other family: %v", err)
	}
	// Who listens on all addresses dials both families. The other cannot answer by its own, so this Join does not return.
	ctx, cancel := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- both.Join(ctx, addr(four)) }()
	eventually(t, "both families are dialled", func() bool { return len(names(both)) == 3 })
	cancel()
	<-joined
}

// TestJoinConfigSeeds: the seeds of the Config need not be given again.
func TestJoinConfigSeeds(t *testing.T) {
	t.Parallel()
	a := start(t, config(t, "a"))
	cfg := config(t, "b")
	cfg.Seeds = []string{addr(a)}
	b := start(t, cfg)
	if err := b.Join(soon(t)); err != nil {
		t.Fatal(err)
	}
	allSee(t, a, b)
}

// TestJoinCutShort: Close ends a Join that tries and tries.
func TestJoinCutShort(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	joined := make(chan error, 1)
	refuses := freeAddr(t)
	go func() { joined <- c.Join(context.Background(), refuses) }()
	eventually(t, "the first try fails", func() bool { return c.Stats().Traffic.StreamErrors > 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := arrives(t, "Join returns", joined); !errors.Is(err, starling.ErrClosed) {
		t.Errorf("Join: %v", err)
	}
}

// TestJoinAsksTheSeedAgain: a member asks its seed again, one second and four seconds after its own Join, and so learns of
// members that joined soon after it, although no packet tells it of them. It does not wait for the next push/pull.
func TestJoinAsksTheSeedAgain(t *testing.T) {
	for later, within := range map[time.Duration]time.Duration{
		500 * time.Millisecond: 600 * time.Millisecond,
		2 * time.Second:        2100 * time.Millisecond,
	} {
		inLab(t, func(t *testing.T, l *lab) {
			k := labLink
			k.BlockPackets = true
			l.links(k)
			l.configure = func(c *starling.Config) {
				c.Tune = func(m *memberlist.Config) { m.PushPullInterval, m.ProbeInterval = 0, time.Hour }
			}
			seed, first, second := l.member("seed"), l.member("first"), l.member("second")
			k.RefuseStreams = true // the first must ask by itself
			must(t, l.Net.SetLink("second", "first", k))
			l.join(first, seed)
			time.Sleep(later)
			if n := len(first.Members()); n != 2 {
				t.Fatalf("%d members are known before the second joins", n)
			}
			began := time.Now()
			ctx, stop := context.WithCancel(t.Context())
			joined := make(chan error, 1)
			go func() { joined <- second.Join(ctx, addr(seed.Cluster)) }() // waits for the first, which it cannot reach
			l.whole(seed, first, second)
			stop()
			<-joined
			if took := time.Since(began); took > within {
				t.Errorf("who joined %v later was known after %v", later, took)
			}
		})
	}
}

// TestRejoin: a member that was lost without a goodbye is looked for, and found when it is back, though it knows nobody.
func TestRejoin(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := append([]*node(nil), l.members(3)...)
		was := nodes[2].Self()
		l.crash(nodes[2])
		l.whole(nodes[:2]...)
		again := l.member(was.Name)
		if got := again.Self().Addr; got != was.Addr {
			t.Fatalf("it is back at %v, was at %v: nothing is tested", got, was.Addr)
		}
		t.Logf("found again after %v", l.whole(l.nodes...))
	})
}

// TestAdmit: a member that the hook refuses is not seen, and the hook sees what it decides on.
func TestAdmit(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, func(i int, c *starling.Config) {
		c.Meta = fmt.Appendf(nil, "meta %d", i)
		if i == 0 {
			c.Admit = func(m starling.Member) error {
				if string(m.Meta) == "meta 2" {
					return errors.New("not this one")
				}
				return nil
			}
		}
	})
	events := watch(t, members[0])
	if err := members[1].Join(soon(t), addr(members[0])); err != nil {
		t.Fatal(err)
	}
	// The first does not pass on whom it refuses, so the third joins the second by itself.
	for _, seed := range members[:2] {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		err := members[2].Join(ctx, addr(seed))
		stop()
		if refused := (*starling.NotTakenInError)(nil); !errors.As(err, &refused) {
			t.Fatalf("the refused joined: %v, want a *NotTakenInError", err)
		}
	}
	eventually(t, "the second sees all", func() bool { return len(names(members[1])) == 3 })
	events.sees(t, "m01", starling.EventJoined)
	if got := names(members[0]); !slices.Equal(got, []string{"m00", "m01"}) || len(events.of("m02")) > 0 {
		t.Errorf("the first sees %v, events about the refused: %v", got, events.of("m02"))
	}
}

// TestAdmitMerge: clusters that both refuse to merge stay apart, and Join says why.
func TestAdmitMerge(t *testing.T) {
	t.Parallel()
	shown := make(chan []starling.Member, 100)
	members := startMembers(t, 2, func(_ int, c *starling.Config) {
		c.Meta = []byte("meta")
		c.AdmitMerge = func(ms []starling.Member) error {
			shown <- ms
			return errors.New("we keep to ourselves")
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := members[1].Join(ctx, addr(members[0]))
	if e := seedErrors(err)[addr(members[0])]; e == nil || !strings.Contains(e.Error(), "we keep to ourselves") {
		t.Errorf("Join: %v", err)
	}
	ms := arrives(t, "the hook is asked", shown)
	if len(ms) != 1 || string(ms[0].Meta) != "meta" || ms[0].ID == 0 {
		t.Errorf("the hook was shown %+v", ms)
	}
	for _, c := range members {
		if len(c.Members()) != 1 {
			t.Errorf("%s sees %v", c.Self().Name, names(c))
		}
	}
}
