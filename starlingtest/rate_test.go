package starlingtest_test

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// near checks a time that the pieces, and what is behind them, may change a little.
func near(t testing.TB, what string, took, want time.Duration) {
	t.Helper()
	if slack := want / 10; took < want-slack || took > want+slack {
		t.Errorf("%s took %v, want about %v", what, took, want)
	}
}

// pour writes so many bytes to a new stream and closes it. The time that its reader needed comes out of the channel.
func pour(t testing.TB, from, to *starlingtest.Transport, size int) <-chan time.Duration {
	t.Helper()
	began := time.Now()
	c, s := connect(t, from, to)
	go func() {
		c.Write(make([]byte, size))
		c.Close()
	}()
	took := make(chan time.Duration, 1)
	go func() {
		if k, err := io.Copy(io.Discard, s); err != nil || k != int64(size) {
			t.Errorf("%d bytes of %d, %v", k, size, err)
		}
		took <- time.Since(began)
	}()
	return took
}

func TestRatesAreShared(t *testing.T) {
	for name, set := range map[string]func(*starlingtest.Network) error{
		"up": func(n *starlingtest.Network) error { return n.SetRate("a", 1_000_000, 0) },
		"down": func(n *starlingtest.Network) error {
			return errors.Join(n.SetRate("b", 0, 1_000_000), n.SetRate("c", 0, 1_000_000))
		},
		"link": func(n *starlingtest.Network) error { return n.SetDefault(starlingtest.Link{Bandwidth: 1_000_000}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *starlingtest.Network) {
				a, b := two(t, n, starlingtest.Link{})
				c := start(t, n, "c")
				ok(t, set(n))
				near(t, "one stream", <-pour(t, a, b, 1_000_000), time.Second)

				one, other := pour(t, a, b, 1_000_000), pour(t, a, b, 1_000_000)
				near(t, "the first of two streams to one", <-one, 2*time.Second)
				near(t, "the second", <-other, 2*time.Second)

				one, other = pour(t, a, b, 1_000_000), pour(t, a, c, 1_000_000)
				want := time.Second
				if name == "up" {
					want *= 2
				}
				near(t, "the first of two streams to two", <-one, want)
				near(t, "the second", <-other, want)

				one, other = pour(t, a, c, 1_000_000), pour(t, b, c, 1_000_000)
				if want = time.Second; name == "down" {
					want *= 2
				}
				near(t, "the first of two streams from two", <-one, want)
				<-other
				time.Sleep(time.Second)

				one, other = pour(t, a, b, 1_000_000), pour(t, b, a, 1_000_000) // what goes up does not hold up what comes down
				near(t, "there", <-one, time.Second)
				if name == "link" {
					near(t, "back", <-other, time.Second)
				}
			})
		})
	}
}

// What waits at one sender holds up nothing of another at their receiver.
func TestSlowSenderHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
		c := start(t, n, "c")
		ok(t, n.SetRate("a", 10_000, 0))
		ok(t, n.SetRate("b", 0, 1_000_000))
		slow := pour(t, a, b, 100_000)
		synctest.Wait()
		near(t, "a fast sender", <-pour(t, c, b, 500_000), 505*time.Millisecond)
		near(t, "a slow sender", <-slow, 10*time.Second)
	})
}

// A packet waits for one piece of each stream, and for the packets before it.
func TestPacketsAmongStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		ok(t, n.SetRate("a", 1_000_000, 1_000_000))
		for range 3 {
			pour(t, a, b, 1_000_000)
		}
		time.Sleep(time.Second)
		began := time.Now()
		_, err := a.WriteTo(make([]byte, 1000), b.Addr().String())
		ok(t, err)
		<-b.PacketCh()
		if took := time.Since(began); took < time.Millisecond || took > 15*time.Millisecond {
			t.Errorf("a packet among three streams came after %v", took)
		}
		for range 1000 {
			_, err := a.WriteTo(make([]byte, 1000), b.Addr().String())
			ok(t, err)
		}
		time.Sleep(10 * time.Second)
		if d := counters(t, n, "a").Dropped; d.Buffer < 700 || d.Buffer > 750 {
			t.Errorf("%d of 1000 packets dropped by a queue that holds 256 KiB", d.Buffer)
		}
		if c := n.Total(); c.Sent.Packets != c.Received.Packets+c.Dropped.Total() || c.Sent.StreamBytes != c.Received.StreamBytes {
			t.Errorf("%+v", c)
		}
	})
}

// A limit that comes or goes under a stream changes nothing of what its reader gets, and neither does loss.
func TestRateChangesUnderStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2})
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(i * i >> 8)
		}
		c, s := connect(t, a, b)
		go func() {
			c.Write(want)
			c.Close()
		}()
		changed := make(chan struct{})
		go func() {
			defer close(changed)
			for _, r := range []struct{ up, down int }{{100_000, 0}, {0, 50_000}, {0, 0}, {100_000, 100_000}, {0, 0}} {
				n.SetRate("a", r.up, r.down)
				n.SetRate("b", r.up, r.down)
				time.Sleep(time.Second)
			}
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		<-changed
	})
}

// What breaks or ends a stream does so too where pieces wait for a rate.
func TestStreamsEndUnderRates(t *testing.T) {
	limited := func(t *testing.T, f func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport)) {
		t.Helper()
		bubble(t, func(t *testing.T, n *starlingtest.Network) {
			a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
			ok(t, n.SetRate("a", 100_000, 100_000))
			ok(t, n.SetRate("b", 100_000, 100_000))
			f(t, n, a, b)
		})
	}
	t.Run("cut", func(t *testing.T) {
		limited(t, func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport) {
			c, s := connect(t, a, b)
			_, err := c.Write(make([]byte, 200_000))
			ok(t, err)
			time.Sleep(time.Second)
			ok(t, n.CutStreams("a", "b"))
			got, err := io.ReadAll(s)
			if len(got) < 80_000 || len(got) > 100_000 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			near(t, "a stream after the cut", <-pour(t, a, b, 100_000), time.Second)
		})
	})
	t.Run("cut after", func(t *testing.T) {
		limited(t, func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport) {
			ok(t, n.SetLink("a", "b", starlingtest.Link{Latency: time.Millisecond, CutAfter: 50_000}))
			c, s := connect(t, a, b)
			answered := make(chan error, 1)
			go func() {
				_, err := s.Write(make([]byte, 1<<20)) // waits for room until the reset arrives
				answered <- err
			}()
			synctest.Wait()
			k, err := c.Write(make([]byte, 60_000))
			if k != 50_000 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("wrote %d, %v", k, err)
			}
			got, err := io.ReadAll(s)
			if len(got) != 50_000 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read %d, %v", len(got), err)
			}
			if err := <-answered; !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		})
	})
	t.Run("closed by the reader", func(t *testing.T) {
		limited(t, func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport) {
			c, s := connect(t, a, b)
			time.AfterFunc(time.Second, func() { s.Close() })
			c.Write(make([]byte, 1<<20)) // until then; the rest is lost
			time.Sleep(time.Second)
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Error(err)
			}
			near(t, "a stream after that", <-pour(t, a, b, 100_000), time.Second)
		})
	})
	t.Run("partition", func(t *testing.T) {
		limited(t, func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport) {
			took := pour(t, a, b, 300_000)
			time.Sleep(time.Second)
			ok(t, n.Partition([]string{"a"}, []string{"b"}))
			time.Sleep(time.Minute)
			n.Heal()
			if took := <-took; took < time.Minute || took > time.Minute+5*time.Second {
				t.Errorf("3 s of bytes and a minute's partition took %v", took)
			}
		})
	})
	t.Run("crash", func(t *testing.T) {
		limited(t, func(t *testing.T, n *starlingtest.Network, a, b *starlingtest.Transport) {
			c, s := connect(t, a, b)
			_, err := c.Write(make([]byte, 200_000))
			ok(t, err)
			send(t, a, b, 10, 0)
			time.Sleep(time.Second)
			send(t, a, b, 10, 0)
			ok(t, n.Crash("a"))
			if _, err := io.ReadAll(s); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			time.Sleep(time.Second)
			if got := len(received(b)); got < 10 || counters(t, n, "a").Dropped.Down != uint64(20-got) {
				t.Errorf("%d packets, %+v", got, counters(t, n, "a").Dropped)
			}
			a = start(t, n, "a")
			near(t, "a stream of its next run", <-pour(t, a, b, 100_000), time.Second)
		})
	})
}

func TestFrozenReaderHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		c := start(t, n, "c")
		ok(t, n.SetRate("a", 1_000_000, 0))
		ok(t, n.Freeze("b"))
		conn, err := a.DialTimeout(b.Addr().String(), time.Second)
		ok(t, err)
		go conn.Write(make([]byte, 1<<20))
		time.Sleep(time.Second)
		near(t, "a stream beside one that nobody reads", <-pour(t, a, c, 1_000_000), time.Second)
		ok(t, conn.Close())
	})
}

func TestRateValidation(t *testing.T) {
	n := starlingtest.NewNetwork(1)
	defer n.Close()
	start(t, n, "a")
	for _, bad := range []struct {
		name     string
		up, down int
	}{{"b", 1, 1}, {"a", -1, 1}, {"a", 1, -1}} {
		if n.SetRate(bad.name, bad.up, bad.down) == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// A rate is kept in real time too, however late timers are.
func TestRateInRealTime(t *testing.T) {
	n := starlingtest.NewNetwork(1)
	defer n.Close()
	a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond})
	ok(t, n.SetRate("a", 40<<20, 0))
	if took := <-pour(t, a, b, 4<<20); took < 90*time.Millisecond {
		t.Errorf("4 MiB at 40 MiB/s took %v", took)
	}
}
