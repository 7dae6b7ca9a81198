package starling_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What happens at the bounds: of time, of memory, of tables, and of members whose bounds differ.

// A partition of 65 minutes, all seeds gone. Before: never heals, while one of 50 minutes does. Right: heals.
func TestHealsAfterAnHour(t *testing.T) {
	t.Parallel()
	var rec recordedLab
	starlingtest.Run(t, 4, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
		l.Leave("m0") // the seed of all
		l.WaitAll(time.Minute)
		l.Must(l.Net.Partition([]string{"m1"}, []string{"m2", "m3"}))
		time.Sleep(65 * time.Minute)
		l.Net.Heal()
		healed := time.Now()
		if err := soonWithin(10*time.Minute, l.AllSeeAll); err != nil {
			t.Fatalf("ten minutes after a partition of 65 minutes: %v", err)
		}
		t.Logf("whole %v after the partition", time.Since(healed))
		rec.broadcast(t, "m1", 100)
		rec.broadcast(t, "m2", 100)
		l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m1", "m2", "m3") })
	})
}

// Many members are lost at once. Before: three of them are tried at a time, by lot, and some wait several times longer than
// others. Right: those not tried for longest come first.
func TestLostMembersAreTriedInTurn(t *testing.T) {
	t.Parallel()
	const count = 12
	starlingtest.Run(t, 0, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		tr, err := l.Net.Transport("observer")
		l.Must(err)
		dials := &dialLog{Transport: tr}
		c, err := starling.New(starling.Config{Name: "observer", Transport: dials, Logger: slog.New(slog.DiscardHandler)})
		l.Must(err)
		defer c.Close()
		var others []*starling.Cluster
		for i := range count {
			name := fmt.Sprint("other", i)
			tr, err := l.Net.Transport(name)
			l.Must(err)
			o, err := starling.New(starling.Config{Name: name, Transport: tr, Logger: slog.New(slog.DiscardHandler)})
			l.Must(err)
			defer o.Close()
			l.Must(o.Join(endsIn(t, 30*time.Second), c.Self().Addr.String()))
			others = append(others, o)
		}
		l.Within(time.Minute, func() error {
			if n := len(c.Members()); n != count+1 {
				return fmt.Errorf("it sees %d members", n)
			}
			return nil
		})
		for i := range others {
			l.Must(l.Net.Crash(fmt.Sprint("other", i)))
		}
		l.Within(5*time.Minute, func() error {
			if n := len(c.Members()); n != 1 {
				return fmt.Errorf("it sees %d members", n)
			}
			return nil
		})
		time.Sleep(time.Minute)
		dials.begin()
		time.Sleep(30 * time.Minute)
		tried := dials.end()
		t.Logf("%d tries in half an hour", len(tried))
		if len(tried) < 4*count {
			t.Fatalf("%d tries in half an hour: too few to tell", len(tried))
		}
		// Whoever is tried in turn comes once among so many tries as there are members; twice as many allow for those that
		// overlap.
		var worst int
		for _, o := range others {
			last := 0
			for i, addr := range append(slices.Clone(tried), o.Self().Addr.String()) {
				if addr == o.Self().Addr.String() {
					worst, last = max(worst, i-last), i
				}
			}
		}
		if worst > 2*count {
			t.Errorf("of %d lost members one was not tried for %d tries", count, worst)
		}
	})
}

// dialLog is a transport that notes who is dialled.
type dialLog struct {
	*starlingtest.Transport
	mu    sync.Mutex
	addrs []string
}

func (d *dialLog) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return d.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (d *dialLog) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d.mu.Lock()
	d.addrs = append(d.addrs, a.Addr)
	d.mu.Unlock()
	return d.Transport.DialAddressTimeout(a, timeout)
}

func (d *dialLog) begin() { d.end() }

func (d *dialLog) end() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	addrs := d.addrs
	d.addrs = nil
	return addrs
}

// A channel with Echo, a handler that hangs, and more broadcasts than Retention holds. Before: what waits for the handler grows
// without bound, and what was evicted before its turn is skipped without a count. Right: bounded, and counted or reported like
// any other.
func TestEchoOfHangingHandlerIsBounded(t *testing.T) {
	const (
		kept  = 1 * mib
		count = 20_000
		size  = 1000
		limit = 12 * kept
	)
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint("members ", n), func(t *testing.T) {
			release := make(chan struct{})
			var handled atomic.Int64
			var channel *starling.Channel[[]byte]
			o := starlingtest.Options{
				Config: func(string) starling.Config { return starling.Config{Retention: starling.Retention{Bytes: kept}} },
				Open: func(m *starlingtest.Member) error {
					echo := m.Name == "m0"
					ch, err := starling.NewChannelOf(m.Cluster, contractKey, func(ctx context.Context, _ starling.Message[[]byte]) {
						if echo {
							select {
							case <-release:
							case <-ctx.Done():
							}
							handled.Add(1)
						}
					}, starling.Bytes(), &starling.ChannelOptions[[]byte]{Echo: echo})
					if echo {
						channel = ch
					}
					return err
				},
			}
			starlingtest.Run(t, n, o, func(t *testing.T, l *starlingtest.Lab) {
				release = make(chan struct{}) // of this bubble
				c := l.Member("m0").Cluster
				before := bytesInUse()
				v := make([]byte, size)
				for i := range count {
					l.Must(channel.Broadcast(t.Context(), v))
					if i%100 == 99 {
						time.Sleep(time.Millisecond)
					}
				}
				time.Sleep(time.Second)
				more := bytesInUse() - before
				s := c.Stats()
				t.Logf("%d broadcasts of %d bytes, %d bytes kept: %d bytes more in use, %d wait for the handler",
					count, size, s.History.Bytes, more, s.Channels[contractKey].Inbox)
				if more > limit {
					t.Errorf("%d bytes more in use for a Retention of %d, at most %d are right", more, kept, limit)
				}
				close(release)
				time.Sleep(2 * time.Minute)
				s = c.Stats()
				dropped := uint64(0)
				for _, n := range s.Dropped {
					dropped += n
				}
				t.Logf("then the handler was given %d; lost %d, dropped %v", handled.Load(), s.Lost, s.Dropped)
				if silently := count - int(handled.Load()) - int(max(s.Lost, dropped)); silently > 0 {
					t.Errorf("%d of %d messages were neither handled nor counted", silently, count)
				}
			})
		})
	}
}

// Members with different limits, as during a rolling change, and one message that one of them does not take. Before: that
// member pulls it again without pause, 485 MB in 2,500 streams in a minute, then reports a gap; nothing is logged before, and
// Confirm counts it among those that hold the message. Right: it says once that it refuses, it is named by Confirm and Flush,
// and the message is counted there.
func TestMembersWithOtherLimits(t *testing.T) {
	const (
		size  = 200 << 10
		watch = 4 * time.Second
	)
	for _, tt := range []struct {
		name   string
		change func(*starling.Config) // of m2
	}{
		{"MaxMessageSize", func(c *starling.Config) { c.MaxMessageSize = 100 << 10 }},
		{"Retention.Bytes", func(c *starling.Config) { c.Retention.Bytes = 300 << 10 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			lines := map[string]*logCounter{}
			for _, name := range []string{"m0", "m1", "m2"} {
				lines[name] = &logCounter{from: slog.LevelWarn}
			}
			o := starlingtest.Options{Open: rec.open, Config: func(name string) (c starling.Config) {
				c.Logger = slog.New(lines[name])
				if name == "m2" {
					tt.change(&c)
				}
				return c
			}}
			starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
				time.Sleep(5 * time.Second)
				for _, c := range lines {
					c.taken()
				}
				refuser := l.Member("m2").Cluster
				refused := refusals(refuser)
				to := countBytes(l, "m0", "m2")
				began := time.Now()
				missing, err := unconfirmed(endsIn(t, watch/4), rec.channel("m0"), rec.Payload(contractKey, "m0", size), false)
				t.Logf("Confirm: missing %v, %v, after %v", missing, err, time.Since(began))
				if !slices.Equal(missing, []string{"m2"}) {
					t.Errorf("Confirm says that %v lack a message that m2 refuses", missing)
				}
				err = rec.channel("m0").Flush(endsIn(t, watch/4))
				t.Logf("Flush: %v", err)
				var lacking *starling.FlushError
				if !errors.As(err, &lacking) || len(lacking.Members) != 1 || lacking.Members[0].Name != "m2" {
					t.Error("Flush does not name m2, which refuses the message")
				}
				time.Sleep(watch - time.Since(began))
				if n := refusals(refuser) - refused; n == 0 {
					t.Error("m2 has counted nothing")
				}
				t.Logf("m0 has sent m2 %d bytes in %v; m2 has dropped %v", to.total(), watch, refuser.Stats().Dropped)
				if most := int64(5 * size); to.total() > most {
					t.Errorf("m0 has sent m2 %d bytes for a message of %d that m2 refuses, at most %d are right", to.total(), size, most)
				}
				for _, name := range []string{"m0", "m2"} {
					n, first := lines[name].taken()
					t.Logf("%s has said %d times:\n\t%s", name, n, fewLines(first))
					if n == 0 || n > 2 {
						t.Errorf("%s has said %d times what it should say once", name, n)
					}
				}
				if err := rec.ExactlyOnce(contractKey, "m1"); err != nil {
					t.Error(err)
				}
				// And what it does take still arrives.
				rec.broadcast(t, "m0", 100)
				l.Within(10*time.Second, func() error {
					if got := rec.handled("m2"); len(got) != 1 {
						return fmt.Errorf("m2 has handled %v", got)
					}
					return nil
				})
			})
		})
	}
}

// A member that keeps things for a shorter time than the others, and was cut off for longer than that. Before: it pulls what it
// takes for too old again without pause, until its own time is up. Right: it refuses a message once.
func TestMemberWithAnotherRetentionAge(t *testing.T) {
	const size = 200 << 10
	var rec recordedLab
	o := starlingtest.Options{Open: rec.open, Config: func(name string) (c starling.Config) {
		if name == "m2" {
			c.Retention.Age = 4 * time.Second
		}
		return c
	}}
	starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
		rec.broadcast(t, "m0", 100)
		l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2"}))
		time.Sleep(6 * time.Second)
		rec.broadcast(t, "m0", size)
		time.Sleep(6 * time.Second)
		to := countBytes(l, "m0", "m2")
		l.Net.Heal()
		time.Sleep(20 * time.Second)
		s := l.Member("m2").Cluster.Stats()
		t.Logf("m0 has sent m2 %d bytes in 20 s; m2 has dropped %v and lost %d", to.total(), s.Dropped, s.Lost)
		if most := int64(5 * size); to.total() > most {
			t.Errorf("m0 has sent m2 %d bytes for a message of %d that is too old for m2, at most %d are right", to.total(), size, most)
		}
		if s.Lost != 1 {
			t.Errorf("m2 says that %d messages are lost, and one is", s.Lost)
		}
	})
}

// 4,200 members that broadcast nothing come and go: in words only, by memberlist's push/pull with m0. Before: the table of those
// that were met is full for ever, and what is missing of an origin that has crashed since is neither repaired nor a gap. Right:
// every table has a lifecycle.
func TestManySilentMembersComeAndGo(t *testing.T) {
	t.Parallel()
	const (
		batch = 100
		count = 20 // messages of the origin that crashes
	)
	for _, many := range []int{0, fewer(4200, 300)} {
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			var rec recordedLab
			starlingtest.Run(t, 2, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
				m0, began := l.Member("m0").Cluster, time.Now()
				for first := 0; first < many; first += batch {
					outside := newOutsider(t, l, fmt.Sprint("host", first))
					var ghosts []ghost
					for i := range batch {
						n := first + i
						ghosts = append(ghosts, ghost{fmt.Sprint("silent", n), outside.tr.Addr(), uint64(1_000_000 + n)})
					}
					outside.tell(m0.Self(), ghosts, ghostAlive)
					if n := len(m0.Members()); n < batch {
						t.Fatalf("m0 sees %d members: nothing is tested", n)
					}
					outside.tell(m0.Self(), ghosts, ghostLeft)
					l.Must(outside.tr.Shutdown())
				}
				l.WaitAll(5 * time.Minute)
				if many > 0 {
					t.Logf("%d members came and went in %v", many, time.Since(began))
				}

				l.Start("x")
				l.WaitAll(time.Minute)
				time.Sleep(10 * time.Second)
				l.Must(l.Net.Partition([]string{"m0"}, []string{"x"}))
				for range count {
					rec.broadcast(t, "x", 100)
				}
				l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m1") })
				l.Crash("x")
				time.Sleep(4 * time.Minute)
				got, lost := len(rec.handled("m0")), int(m0.Stats().Lost)
				if got+lost != count {
					t.Errorf("x broadcast %d and crashed; m0 handled %d and reported %d lost", count, got, lost)
				}
			})
		})
	}
}
