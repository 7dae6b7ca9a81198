package starling_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What is given to New, NewChannel and Join and can never work is said there, at once.

// A name, a label or the key of a channel that is no UTF-8. Before: accepted; no Send is ever acknowledged, because protobuf
// refuses to encode it and nobody looks, and the others count malformed frames. Right: a ConfigError.
func TestKeysThatAreNoUTF8(t *testing.T) {
	const bad = "caf\xe9" // Latin-1
	starlingtest.Run(t, 0, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		member := func(host string, change func(*starling.Config)) (*starling.Cluster, error) {
			tr, err := l.Net.Transport(host)
			l.Must(err)
			cfg := starling.Config{Name: host, Transport: tr, Logger: slog.New(slog.DiscardHandler)}
			change(&cfg)
			return starling.New(cfg)
		}
		for field, change := range map[string]func(*starling.Config){
			"Name":  func(c *starling.Config) { c.Name = bad },
			"Label": func(c *starling.Config) { c.Label = bad },
		} {
			c, err := member("with a bad "+field, change)
			if err == nil {
				defer c.Close()
			}
			if !faultOf(err, field) {
				t.Errorf("New with the %s %q: %v", field, bad, err)
			}
		}
		a, err := member("a", func(*starling.Config) {})
		l.Must(err)
		defer a.Close()
		b, err := member("b", func(*starling.Config) {})
		l.Must(err)
		defer b.Close()
		ignore := func(context.Context, starling.Message[[]byte]) {}
		ch, err := starling.NewChannelOf(a, bad, ignore, starling.Bytes(), nil)
		if !faultOf(err, "key") || !errors.Is(err, starling.ErrChannelKey) {
			t.Errorf("NewChannelOf with the key %q: %v", bad, err)
		}
		if err == nil {
			_, err := starling.NewChannelOf(b, bad, ignore, starling.Bytes(), nil)
			l.Must(err)
			l.Must(b.Join(endsIn(t, 10*time.Second), a.Self().Addr.String()))
			time.Sleep(time.Second)
			t.Logf("and then Send says: %v", ch.Send(endsIn(t, 10*time.Second), "b", []byte("v")))
			t.Logf("and b has dropped: %v", b.Stats().Dropped)
		}
	})
}

// Retention for as long as a time.Duration can tell. Before: ages are multiplied and overflow; FIFO loses its order, messages
// are dropped as late, and what is known of an origin is forgotten at once. Right: it holds as any other, or a ConfigError
// names the limit.
func TestRetentionForEver(t *testing.T) {
	for _, age := range []time.Duration{100 * 365 * 24 * time.Hour, math.MaxInt64} {
		retention := starling.Retention{Age: age}
		quiet := slog.New(slog.DiscardHandler)
		if c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0", Retention: retention, Logger: quiet}); err == nil {
			c.Close()
		} else if faultOf(err, "Retention.Age") {
			continue
		} else {
			t.Fatal(err)
		}
		fifo := func(string) *starling.ChannelOptions[[]byte] { return &starling.ChannelOptions[[]byte]{FIFO: true} }
		options := func(rec *recordedLab) starlingtest.Options {
			return starlingtest.Options{
				Open:   rec.open,
				Config: func(string) starling.Config { return starling.Config{Retention: retention} },
				Link:   starlingtest.Link{Latency: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.3},
			}
		}
		const count = 200
		check := func(t *testing.T, l *starlingtest.Lab, rec *recordedLab, members ...string) {
			t.Helper()
			err := rec.ExactlyOnce(contractKey, members...)
			if rec.options != nil {
				err = errors.Join(err, rec.InOrder(contractKey, members...))
			}
			if err != nil {
				t.Errorf("%d messages of m0: %v", count, err)
			}
			for _, m := range members {
				if s := l.Member(m).Cluster.Stats(); s.Lost > 0 || len(s.Dropped) > 0 {
					t.Logf("%s says that %d messages are lost, and has dropped %v", m, s.Lost, s.Dropped)
				}
			}
		}
		t.Run(fmt.Sprint("order at ", age), func(t *testing.T) {
			rec := recordedLab{options: fifo}
			starlingtest.Run(t, 4, options(&rec), func(t *testing.T, l *starlingtest.Lab) {
				time.Sleep(5 * time.Second)
				for range count {
					rec.broadcast(t, "m0", 100)
					time.Sleep(5 * time.Millisecond)
				}
				time.Sleep(time.Minute)
				check(t, l, &rec, "m1", "m2", "m3")
			})
		})
		// A member that was cut off while an origin broadcast for the first time, and came back when that was gone.
		t.Run(fmt.Sprint("an origin that is gone at ", age), func(t *testing.T) {
			rec := recordedLab{}
			starlingtest.Run(t, 3, options(&rec), func(t *testing.T, l *starlingtest.Lab) {
				time.Sleep(10 * time.Second)
				l.Must(l.Net.Partition([]string{"m1"}, []string{"m0", "m2"}))
				time.Sleep(6 * time.Second)
				for range count {
					rec.broadcast(t, "m0", 500)
				}
				l.Within(20*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m2") })
				l.Crash("m0")
				l.Within(time.Minute, func() error { return l.See([]string{"m2"}, []string{"m2"}) })
				time.Sleep(time.Second)
				l.Net.Heal()
				l.WaitAll(2 * time.Minute)
				time.Sleep(time.Minute)
				check(t, l, &rec, "m1", "m2")
			})
		})
	}
}

// Seeds as people write them. Before: accepted by New and Join, and it can never work. Right: a ConfigError that names the
// fault.
func TestSeedsAsPeopleWriteThem(t *testing.T) {
	starlingtest.Run(t, 1, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		for i, seed := range []string{
			"10.0.0.7,10.0.0.8", "10.0.0.7:7946,10.0.0.8:7946", "a,b", "a:7946, b:7946", // several in one string
			" 10.0.0.7:7946", "10.0.0.7:7946 ", "10.0.0.7 :7946", "a:7946\n", "a\n", "\ta", // from a file, or a list with spaces
			"${POD_IP}:7946", "$POD_IP", "{{ .Host }}:7946", // nobody has filled it in
			"dnssrv+peers.local:7946", "srv+peers.local:7946", "dns+dns+peers.local", "dnssrvnoa+x", // of other systems, or twice
		} {
			tr, err := l.Net.Transport(fmt.Sprint("other", i))
			l.Must(err)
			quiet := slog.New(slog.DiscardHandler)
			c, err := starling.New(starling.Config{Name: "other", Transport: tr, Logger: quiet, Seeds: []string{seed}})
			if err == nil {
				c.Close()
			}
			if !faultOf(err, "Seeds[0]") {
				t.Errorf("New with the seed %q: %v", seed, err)
			}
			tr, err = l.Net.Transport(fmt.Sprint("another", i))
			l.Must(err)
			c, err = starling.New(starling.Config{Name: "another", Transport: tr, Logger: quiet})
			l.Must(err)
			// A Join that accepts it would look a name up, in a bubble: its context is over.
			err = c.Join(overAlready(t), seed)
			if faults := configFaults(err); len(faults) != 1 || faults[0].Value != seed {
				t.Errorf("Join of %q: %v", seed, err)
			}
			c.Close()
		}
	})
}

// A seed that is oneself, by whatever address, among others that refuse. Before: Join says nil at once, and the member is
// alone. Right: a seed that is oneself is no seed; Join goes on, and says why the others refused. An address that is
// unspecified may be refused by a ConfigError, too.
func TestSeedThatIsOneself(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuses := free.Addr().String()
	free.Close()
	for name, own := range map[string]string{
		"its address": "127.0.0.1:%d", "unspecified": "0.0.0.0:%d", "its name": "localhost:%d", "by dns": "dns+localhost:%d",
	} {
		t.Run(name, func(t *testing.T) {
			c := loopbackMember(t, "a", nil)
			own := fmt.Sprintf(own, c.Self().Addr.Port())
			began := time.Now()
			err := c.Join(endsIn(t, 300*time.Millisecond), own, refuses)
			t.Logf("Join of %s and of one that refuses: %v, after %v", own, err, time.Since(began))
			if len(configFaults(err)) > 0 && strings.Contains(own, "0.0.0.0") {
				return
			}
			if err == nil || !strings.Contains(err.Error(), refuses) {
				t.Errorf("Join of oneself (%s) and of one that refuses: %v", own, err)
			}
		})
	}
	t.Run("others with another key", func(t *testing.T) {
		with := func(key byte) func(*starling.Config) {
			return func(c *starling.Config) { c.Keys = [][]byte{[]byte(strings.Repeat(string(rune(key)), 32))} }
		}
		c, other := loopbackMember(t, "a", with('a')), loopbackMember(t, "b", with('b'))
		err := c.Join(endsIn(t, 500*time.Millisecond), c.Self().Addr.String(), other.Self().Addr.String())
		if err == nil || !strings.Contains(err.Error(), other.Self().Addr.String()) {
			t.Errorf("Join of oneself and of one with another key: %v", err)
		}
	})
}

// A time-out of zero. Before: accepted, and Join can never succeed. Right: a ConfigError.
func TestTimeoutsThatCannotWork(t *testing.T) {
	starlingtest.Run(t, 1, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		for i, timeout := range []time.Duration{0, -time.Second} {
			tr, err := l.Net.Transport(fmt.Sprint("other", i))
			l.Must(err)
			c, err := starling.New(starling.Config{
				Name: "other", Transport: tr, Logger: slog.New(slog.DiscardHandler),
				Tune: func(c *memberlist.Config) { c.TCPTimeout = timeout },
			})
			if !faultOf(err, "Tune") {
				t.Errorf("New with a TCPTimeout of %v: %v", timeout, err)
			}
			if err == nil {
				t.Logf("and then Join says: %v", c.Join(endsIn(t, 10*time.Second), l.Member("m0").Cluster.Self().Addr.String()))
				c.Close()
			}
		}
	})
}

// bridgeVariable tells the test below that it runs in a network of its own.
const bridgeVariable = "STARLING_TEST_BRIDGE"

// A host with the bridge of a container runtime, 172.17.0.1 on every host alike, and an address that others reach. Before: the
// bridge's address is advertised, since it is private. Right: the one of the route out (or New says that it cannot choose).
// The network is a namespace of its own, where the system allows one.
func TestBridgeIsNotAdvertised(t *testing.T) {
	const bridge, outside = "172.17.0.1", "203.0.113.5"
	if os.Getenv(bridgeVariable) != "" {
		c, err := starling.New(starling.Config{BindAddr: "0.0.0.0:0", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			if len(configFaults(err)) == 0 {
				t.Error(err)
			}
			return
		}
		defer c.Close()
		if got := c.Self().Addr.Addr().String(); got != outside {
			t.Errorf("it advertises %s; the route out is from %s", got, outside)
		}
		return
	}
	const setup = `set -e
ip link set lo up
ip link add docker0 type bridge
ip addr add ` + bridge + `/16 dev docker0
ip link set docker0 up
ip link add eth0 type veth peer name peer0
ip addr add ` + outside + `/24 dev eth0
ip link set eth0 up
ip link set peer0 up
ip route add default via 203.0.113.1 dev eth0
`
	if out, err := exec.Command("unshare", "-rn", "sh", "-c", setup).CombinedOutput(); err != nil {
		t.Skipf("no network of its own can be made here: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "-rn", "sh", "-c", setup+`exec "$0" -test.run='^TestBridgeIsNotAdvertised$' -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), bridgeVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a network with a bridge: %v\n%s", err, out)
	}
}
