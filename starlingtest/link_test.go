package starlingtest_test

import (
	"errors"
	"math"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestPerfectLink(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		send(t, a, b, 500, 0)
		for i, got := range received(b) {
			if got != i {
				t.Fatalf("packet %d came as number %d", got, i)
			}
		}
		if c := n.Total(); c.Received.Packets != 500 || c.Dropped.Total() != 0 || c.Duplicated != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// No fault of a link touches what a member sends itself.
func TestLoopbackIsPerfect(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, _ := two(t, n, starlingtest.Link{Loss: 1, RefuseStreams: true})
		send(t, a, a, 3, 0)
		c, s := connect(t, a, a)
		_, err := c.Write([]byte("self"))
		ok(t, err)
		read(t, s, "self")
		if len(received(a)) != 3 {
			t.Error("lost within a member")
		}
	})
}

func TestLossHitsPacketsOnly(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Loss: 0.3})
		send(t, a, b, 1000, 0)
		got := len(received(b))
		if got < 620 || got > 780 {
			t.Errorf("%d of 1000 arrived at a loss of 0.3", got)
		}
		if c := counters(t, n, "a"); c.Dropped.Loss != uint64(1000-got) || c.Dropped.Total() != c.Dropped.Loss {
			t.Errorf("%+v", c.Dropped)
		}
		ok(t, n.SetDefault(starlingtest.Link{Loss: 1}))
		began := time.Now()
		c, s := connect(t, a, b)
		if _, err := c.Write([]byte("slow")); err != nil {
			t.Fatal(err)
		}
		read(t, s, "slow")
		if took := time.Since(began); took != 9*time.Second { // handshake there and back, data
			t.Errorf("the stream took %v at a loss of 1", took)
		}
	})
}

func TestLatencyAndJitter(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
		low, high := time.Hour, time.Duration(0)
		for i := range 300 {
			sent := time.Now()
			_, err := a.WriteTo(number(i), b.Addr().String())
			ok(t, err)
			took := (<-b.PacketCh()).Timestamp.Sub(sent)
			low, high = min(low, took), max(high, took)
		}
		if low < 5*time.Millisecond || low > 6*time.Millisecond || high > 15*time.Millisecond || high < 14*time.Millisecond {
			t.Errorf("between %v and %v, want 5 ms to 15 ms", low, high)
		}
		ok(t, n.SetDefault(starlingtest.Link{Latency: 10 * time.Millisecond}))
		began := time.Now()
		c, s := connect(t, a, b)
		if took := time.Since(began); took != 20*time.Millisecond {
			t.Errorf("the handshake took %v, not a round trip", took)
		}
		_, err := c.Write([]byte("x"))
		ok(t, err)
		read(t, s, "x")
		if took := time.Since(began); took != 30*time.Millisecond {
			t.Errorf("the first byte came after %v", took)
		}
	})
}

func TestDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Duplicate: 0.5})
		send(t, a, b, 400, 0)
		got := received(b)
		if len(got) < 540 || len(got) > 660 {
			t.Errorf("%d arrived of 400, half of them twice", len(got))
		}
		if c := counters(t, n, "a"); int(c.Duplicated) != len(got)-400 {
			t.Errorf("counted %d duplicates, %d came", c.Duplicated, len(got)-400)
		}
		if len(slices.Compact(got)) != 400 {
			t.Error("not each packet came")
		}
	})
}

func TestReorder(t *testing.T) {
	overtaken := func(l starlingtest.Link) (count int) {
		bubble(t, func(t *testing.T, n *starlingtest.Network) {
			a, b := two(t, n, l)
			send(t, a, b, 400, 0)
			time.Sleep(time.Second)
			got := received(b)
			if len(got) != 400 {
				t.Fatalf("%d came", len(got))
			}
			for i := range got[1:] {
				if got[i+1] < got[i] {
					count++
				}
			}
		})
		return count
	}
	if c := overtaken(starlingtest.Link{Latency: time.Millisecond}); c != 0 {
		t.Errorf("%d overtaken without Reorder", c)
	}
	if c := overtaken(starlingtest.Link{Latency: time.Millisecond, Reorder: 0.1}); c < 10 || c > 80 {
		t.Errorf("%d overtaken at Reorder 0.1", c)
	}
	if c := overtaken(starlingtest.Link{Latency: time.Millisecond, Jitter: time.Millisecond}); c < 50 {
		t.Errorf("%d overtaken by jitter", c)
	}
}

func TestBandwidthIsSharedByPacketsAndStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Bandwidth: 100_000})
		began := time.Now()
		for range 10 {
			_, err := a.WriteTo(make([]byte, 1000), b.Addr().String())
			ok(t, err)
		}
		for range 10 {
			<-b.PacketCh()
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("10 kB took %v at 100 kB/s", took)
		}
		c, s := connect(t, a, b)
		began = time.Now()
		_, err := c.Write(make([]byte, 100_000))
		ok(t, err)
		_, err = a.WriteTo(make([]byte, 1000), b.Addr().String())
		ok(t, err)
		<-b.PacketCh() // waits for one piece of the stream
		if took := time.Since(began); took < 10*time.Millisecond || took > 60*time.Millisecond {
			t.Errorf("the packet among the stream came after %v", took)
		}
		read(t, s, string(make([]byte, 100_000)))
		if took := time.Since(began).Round(time.Microsecond); took != 1010*time.Millisecond {
			t.Errorf("101 kB took %v at 100 kB/s", took)
		}
		for range 1000 {
			_, err := a.WriteTo(make([]byte, 1000), b.Addr().String())
			ok(t, err)
		}
		if d := counters(t, n, "a").Dropped; d.Buffer < 700 || d.Buffer > 750 {
			t.Errorf("%d of 1000 packets dropped by a queue that holds 256 KiB", d.Buffer)
		}
	})
}

func TestMTU(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{MTU: 1400})
		for _, size := range []int{1400, 1401, 65507} {
			_, err := a.WriteTo(make([]byte, size), b.Addr().String())
			ok(t, err)
		}
		if c := n.Total(); c.Received.Packets != 1 || c.Received.PacketBytes != 1400 || c.Dropped.Size != 2 {
			t.Errorf("%+v", c)
		}
		_, err := a.WriteTo(make([]byte, 65508), b.Addr().String())
		if !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("a packet beyond UDP's limit: %v", err)
		}
		c, s := connect(t, a, b)
		_, err = c.Write(make([]byte, 5000))
		ok(t, err)
		read(t, s, string(make([]byte, 5000)))
	})
}

func TestBlockPacketsAndRefuseStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		ok(t, n.SetLink("a", "b", starlingtest.Link{BlockPackets: true}))
		send(t, a, b, 5, 0)
		send(t, b, a, 5, 0)
		if len(received(b)) != 0 || len(received(a)) != 5 || counters(t, n, "a").Dropped.Partition != 5 {
			t.Errorf("%+v", n.Total())
		}
		c, s := connect(t, a, b)
		l, err := n.Link("a", "b")
		ok(t, err)
		l.RefuseStreams = true
		ok(t, n.SetLink("a", "b", l))
		_, err = c.Write([]byte("open"))
		ok(t, err)
		read(t, s, "open")
		_, err = a.DialTimeout(b.Addr().String(), time.Second)
		wantOp(t, err, "dial")
		if !errors.Is(err, syscall.ECONNREFUSED) || err.(net.Error).Timeout() {
			t.Error(err)
		}
		connect(t, b, a)
	})
}

// The decisions on a link depend on the seed and its own packets: not on other links, streams, or the order of starting.
func TestSameSeedSameFate(t *testing.T) {
	l := starlingtest.Link{Latency: 3 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.2, Duplicate: 0.2, Reorder: 0.2}
	run := func(seed uint64, noise bool, l starlingtest.Link) (got []int) {
		bubble(t, func(t *testing.T, _ *starlingtest.Network) {
			n := starlingtest.NewNetwork(seed)
			defer n.Close()
			var a, b *starlingtest.Transport
			if noise {
				start(t, n, "x")
				b, a = start(t, n, "b"), start(t, n, "a")
			} else {
				a, b = start(t, n, "a"), start(t, n, "b")
			}
			ok(t, n.SetDefault(l))
			for i := range 200 {
				_, err := a.WriteTo(number(i), b.Addr().String())
				ok(t, err)
				if noise {
					send(t, b, a, 3, 0)
					if i%50 == 0 {
						c, _ := connect(t, b, a)
						_, err := c.Write(make([]byte, 1000))
						ok(t, err)
					}
				}
			}
			time.Sleep(time.Second)
			got = received(b)
		})
		if noise {
			slices.Sort(got) // dialling took time between the packets: which came is the same, not when
		}
		return got
	}
	first := run(7, false, l)
	if !slices.Equal(first, run(7, false, l)) {
		t.Error("the same seed gave another run")
	}
	if slices.Equal(first, run(8, false, l)) {
		t.Error("another seed gave the same run")
	}
	if !slices.Equal(slices.Sorted(slices.Values(first)), run(7, true, l)) {
		t.Error("what happens elsewhere changed the decisions")
	}
	calm := l
	calm.Reorder, calm.Jitter = 0, 0
	if !slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(run(7, false, calm)))) {
		t.Error("a change of delay changed who is lost or duplicated")
	}
}

func TestBadLinks(t *testing.T) {
	n := starlingtest.NewNetwork(1)
	defer n.Close()
	two(t, n, starlingtest.Link{})
	for _, l := range []starlingtest.Link{
		{Loss: -0.1}, {Loss: 1.1}, {Duplicate: -1}, {Duplicate: 2}, {Reorder: -1}, {Reorder: 1.5}, {Loss: math.NaN()},
		{Latency: -1}, {Jitter: -1}, {Latency: 1, Jitter: 2}, {Bandwidth: -1}, {MTU: -1}, {MTU: 65508}, {CutAfter: -1},
	} {
		if n.SetDefault(l) == nil || n.SetLink("a", "b", l) == nil {
			t.Errorf("%+v was accepted", l)
		}
	}
	if got, err := n.Link("a", "b"); err != nil || got != (starlingtest.Link{}) {
		t.Errorf("a refused link left %+v, %v", got, err)
	}
}
