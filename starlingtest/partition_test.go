package starlingtest_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func read(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if k, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %d of %d bytes: %v", k, len(want), err)
	}
}

func TestPartitionAndHeal(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(starlingtest.Link{Latency: time.Millisecond}))
		a, b, c, d := start(t, n, "a"), start(t, n, "b"), start(t, n, "c"), start(t, n, "d")
		pass := func(want int, from, to *starlingtest.Transport) {
			t.Helper()
			send(t, from, to, 3, 0)
			time.Sleep(time.Second)
			if got := len(received(to)); got != want {
				t.Errorf("%d came, want %d", got, want)
			}
		}
		send(t, a, c, 3, 0) // on their way when it begins
		ok(t, n.Partition([]string{"a", "b"}, []string{"c"}))
		pass(0, a, c)
		pass(0, c, b)
		pass(3, a, b)
		pass(3, d, c)
		pass(3, b, d)
		if got := n.Total().Dropped; got.Partition != 9 || got.Total() != 9 {
			t.Errorf("%+v", got)
		}
		ok(t, n.Partition([]string{"a"}, []string{"d"}))
		pass(0, d, a)
		pass(0, a, c)
		n.Heal()
		pass(3, a, c)
		pass(3, c, b)
		pass(3, d, a)
	})
}

func TestBlockIsOneWay(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		c, s := connect(t, a, b)
		ok(t, n.Block("a", "b"))
		send(t, a, b, 3, 0)
		send(t, b, a, 3, 0)
		if len(received(b)) != 0 || len(received(a)) != 3 {
			t.Errorf("%+v", n.Total())
		}
		_, err := c.Write([]byte("stalled"))
		ok(t, err)
		ok(t, s.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = s.Read(make([]byte, 10))
		wantTimeout(t, err)
		ok(t, s.SetReadDeadline(time.Time{}))
		_, err = s.Write([]byte("free"))
		ok(t, err)
		read(t, c, "free")
		for _, dial := range []func() (net.Conn, error){
			func() (net.Conn, error) { return a.DialTimeout(b.Addr().String(), time.Second) },
			func() (net.Conn, error) { return b.DialTimeout(a.Addr().String(), time.Second) },
		} {
			_, err := dial()
			wantOp(t, err, "dial")
			wantTimeout(t, err)
		}
		ok(t, n.Unblock("a", "b"))
		read(t, s, "stalled")
		ok(t, n.Block("a", "b"))
		n.Heal()
		send(t, a, b, 3, 0)
		if len(received(b)) != 3 {
			t.Error("Heal did not end Block")
		}
	})
}

// What had arrived before a partition can be read during it, what was on its way comes after it, and so does the end.
func TestPartitionStallsStreams(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: 10 * time.Millisecond})
		c, s := connect(t, a, b)
		write := func(text string) {
			_, err := c.Write([]byte(text))
			ok(t, err)
		}
		write("early")
		time.Sleep(10 * time.Millisecond)
		write("flying")
		time.Sleep(5 * time.Millisecond)
		ok(t, n.Partition([]string{"a"}, []string{"b"}))
		write("late")
		ok(t, c.Close())
		time.Sleep(time.Minute)
		read(t, s, "early")
		ok(t, s.SetReadDeadline(time.Now().Add(time.Second)))
		if k, err := s.Read(make([]byte, 10)); k != 0 {
			t.Fatalf("%d bytes, %v", k, err)
		}
		ok(t, s.SetReadDeadline(time.Time{}))
		n.Heal()
		healed := time.Now()
		read(t, s, "flyinglate")
		if took := time.Since(healed); took != 10*time.Millisecond {
			t.Errorf("came %v after healing, not one latency", took)
		}
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	})
}

func TestDialOutlastsPartition(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{})
		ok(t, n.Partition([]string{"a"}, []string{"b"}))
		began := time.Now()
		time.AfterFunc(3*time.Second, n.Heal)
		connect(t, a, b)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("connected after %v", took)
		}
	})
}

func TestBadNames(t *testing.T) {
	n := starlingtest.NewNetwork(1)
	defer n.Close()
	a, _ := two(t, n, starlingtest.Link{})
	again := func(_ any, err error) error { return err }
	for what, err := range map[string]error{
		"partition of nobody":    n.Partition(),
		"one group":              n.Partition([]string{"a"}),
		"empty group":            n.Partition([]string{"a"}, nil),
		"unknown in partition":   n.Partition([]string{"a"}, []string{"z"}),
		"in two groups":          n.Partition([]string{"a"}, []string{"b", "a"}),
		"block":                  n.Block("a", "z"),
		"block itself":           n.Block("a", "a"),
		"unblock":                n.Unblock("z", "a"),
		"link":                   n.SetLink("a", "z", starlingtest.Link{}),
		"crash":                  n.Crash("z"),
		"freeze":                 n.Freeze("z"),
		"thaw":                   n.Thaw("z"),
		"cut":                    n.CutStreams("a", "z"),
		"counters":               again(n.Counters("z")),
		"addr":                   again(n.Addr("z")),
		"get link":               again(n.Link("z", "a")),
		"no name":                again(n.Transport("")),
		"twice":                  again(n.Transport("a")),
		"taken address":          again(n.TransportAt("c", a.Addr())),
		"packet to no address":   again(a.WriteTo(nil, "b")),
		"stream to no address":   again(a.DialTimeout("b:7946", time.Second)),
		"foreign advertise addr": func() error { _, _, err := a.FinalAdvertiseAddr("10.9.9.9", 7946); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	send(t, a, start(t, n, "c"), 1, 0)
	if c := n.Total(); c.Received.Packets != 1 {
		t.Errorf("a refused call has changed something: %+v", c)
	}
	ok(t, n.Crash("a"))
	if n.Freeze("a") == nil {
		t.Error("froze what is not running")
	}
}
