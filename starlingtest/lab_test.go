package starlingtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// recording opens a channel "x" on each member, whose messages rec records.
func recording(rec *starlingtest.Recorder) (starlingtest.Options, map[string]*starling.Channel[[]byte]) {
	channels := make(map[string]*starling.Channel[[]byte])
	return starlingtest.Options{Open: func(m *starlingtest.Member) (err error) {
		channels[m.Name], err = starling.NewChannelOf(m.Cluster, "x", rec.Handler("x", m.Name), starling.Bytes(), nil)
		return err
	}}, channels
}

func TestLab(t *testing.T) {
	var rec starlingtest.Recorder
	o, channels := recording(&rec)
	starlingtest.Run(t, 4, o, func(t *testing.T, l *starlingtest.Lab) {
		say := func(name string) {
			t.Helper()
			ok(t, channels[name].Broadcast(t.Context(), rec.Payload("x", name, 100)))
		}
		all := func() error { return rec.ExactlyOnce("x", l.Names()...) }
		say("m0")
		l.Within(5*time.Second, all)
		first := l.Member("m3").Cluster.Self()
		l.Restart("m3")
		if again := l.Member("m3").Cluster.Self(); again.Addr != first.Addr || again.ID == first.ID {
			t.Errorf("%v restarted as %v", first, again)
		}
		l.WaitAll(20 * time.Second)
		l.Start("late")
		l.WaitAll(5 * time.Second)
		say("late")
		say("m3")
		l.Within(5*time.Second, all)
		l.Crash("m1")
		l.Leave("m2")
		if got := fmt.Sprint(l.Names()); got != "[m0 m3 late]" {
			t.Error(got, "run")
		}
		l.WaitAll(20 * time.Second)
		if c := l.Counters("m1"); c.Sent.Packets == 0 || c.Received.PacketBytes == 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestStartAlone(t *testing.T) {
	var rec starlingtest.Recorder
	o, channels := recording(&rec)
	starlingtest.Run(t, 2, o, func(t *testing.T, l *starlingtest.Lab) {
		alone := l.StartAlone("alone")
		time.Sleep(time.Minute)
		l.Must(l.See([]string{"alone"}, []string{"alone"}))
		l.Must(l.See([]string{"m0", "m1"}, []string{"m0", "m1"}))
		l.Must(alone.Cluster.Join(t.Context(), l.Member("m1").Cluster.Self().Addr.String()))
		l.WaitAll(5 * time.Second)
		l.Must(channels["alone"].Broadcast(t.Context(), rec.Payload("x", "alone", 100))) // its channel was opened
		l.Within(5*time.Second, func() error { return rec.ExactlyOnce("x") })
	})
}

// failing is a test that notes how it fails, and ends its goroutine then as a test does.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}
func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

// failure returns how f fails the test that a lab of two is made for.
func failure(t *testing.T, o starlingtest.Options, f func(l *starlingtest.Lab)) (said string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fake := &failing{TB: t}
		defer time.Sleep(starlingtest.Pause)
		defer func() {
			if r := recover(); r != nil && r != any(fake) {
				panic(r)
			}
			said = fake.said
		}()
		l := starlingtest.NewLab(fake, 2, o)
		defer l.Close()
		f(l)
	})
	return said
}

func TestLabFailsTheTest(t *testing.T) {
	for want, f := range map[string]func(l *starlingtest.Lab){
		`no member "m7" runs`:                     func(l *starlingtest.Lab) { l.Crash("m7") },
		`member "m1" is running`:                  func(l *starlingtest.Lab) { l.Start("m1") },
		`no member is called "m7"`:                func(l *starlingtest.Lab) { l.Counters("m7") },
		`group 1 of the partition names`:          func(l *starlingtest.Lab) { l.Must(l.Net.Partition([]string{"m0"}, nil)) },
		`m0 sees 1 that the Lab does not run: m1`: func(l *starlingtest.Lab) { l.Crash("m1"); l.WaitAll(time.Millisecond) },
		"m0 does not see 1: m1": func(l *starlingtest.Lab) {
			l.Must(l.Net.Partition([]string{"m0"}, []string{"m1"}))
			time.Sleep(time.Minute)
			l.Must(l.See([]string{"m0"}, []string{"m0", "m1"}))
		},
		"m1 should not see 1: m0": func(l *starlingtest.Lab) { l.Must(l.See([]string{"m1"}, []string{"m1"})) },
		"after 3s: it is not": func(l *starlingtest.Lab) {
			l.Within(3*time.Second, func() error { return errors.New("it is not") })
		},
		`member "m0" is running at 10.0.0.1`: func(l *starlingtest.Lab) { _, err := l.Net.Transport("m0"); l.Must(err) },
	} {
		if said := failure(t, starlingtest.Options{}, f); !strings.Contains(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	}
	bad := starlingtest.Options{Open: func(*starlingtest.Member) error { return errors.New("no channel") }}
	if said := failure(t, bad, func(*starlingtest.Lab) {}); !strings.Contains(said, "no channel") {
		t.Errorf("said %q", said)
	}
	bad = starlingtest.Options{Config: func(string) starling.Config { return starling.Config{Label: strings.Repeat("x", 300)} }}
	if said := failure(t, bad, func(*starlingtest.Lab) {}); !strings.Contains(said, "Label") {
		t.Errorf("said %q", said)
	}
	bad = starlingtest.Options{Link: starlingtest.Link{Loss: 2}}
	if said := failure(t, bad, func(*starlingtest.Lab) {}); !strings.Contains(said, "Link.Loss is 2") {
		t.Errorf("said %q", said)
	}
}

// give calls a handler as a channel would.
func give(h func(context.Context, starling.Message[[]byte]), payload []byte, via starling.Via) {
	h(context.Background(), starling.Message[[]byte]{Value: payload, Via: via})
}

func TestRecorder(t *testing.T) {
	var rec starlingtest.Recorder
	old := rec.Payload("x", "a", 50)
	if len(old) != 50 || starlingtest.PayloadID(old) != "a/1" {
		t.Errorf("%q", old)
	}
	a, b, c := rec.Handler("x", "a"), rec.Handler("x", "b"), rec.Handler("x", "c")
	p2, p3 := rec.Payload("x", "a", 0), rec.Payload("x", "a", 10)
	rec.Sent("x", "b", "b/1")
	give(a, []byte("b/1"), starling.ViaGossip)
	give(b, p2, starling.ViaGossip)
	give(b, p3, starling.ViaGossip)
	for _, p := range [][]byte{old, p3, p2, []byte("b/1 ")} {
		give(c, p, starling.ViaRepair)
	}
	ok(t, rec.ExactlyOnce("x"))
	ok(t, rec.InOrder("x", "a", "b"))
	wantSaid(t, rec.InOrder("x"), "channel \"x\", 4 messages, 3 members:\n  c got a/2 after a/3")

	give(c, p2, starling.ViaSync) // from a snapshot: does not count
	ok(t, rec.ExactlyOnce("x", "c"))
	give(c, p2, starling.ViaGossip)
	give(c, []byte("z"), starling.ViaGossip)
	b = rec.Handler("x", "b") // restarted: owed nothing so far
	ok(t, rec.ExactlyOnce("x", "b"))
	rec.Payload("x", "a", 0)
	wantSaid(t, rec.ExactlyOnce("x"), "channel \"x\", 5 messages, 3 members:\n"+
		"  b lacks 1: a/4\n  c lacks 1: a/4\n  c got 1 more than once: a/2 (2 times)\n  c got 1 that nobody sent: z")
	if d := rec.Deliveries("x", "c"); len(d) != 7 || d[0].ID != "a/1" || d[0].Via != starling.ViaRepair || d[0].At.IsZero() {
		t.Errorf("%v", d)
	}
	give(b, p2, starling.ViaGossip)

	wantSaid(t, rec.ExactlyOnce("y"), `channel "y": nobody records it`)
	rec.Handler("silent", "a")
	for _, err := range []error{rec.ExactlyOnce("silent"), rec.InOrder("silent")} {
		wantSaid(t, err, `channel "silent": no message was noted as sent (by Payload or Sent): nothing is tested`)
	}
	wantSaid(t, rec.ExactlyOnce("x", "d"), "channel \"x\", 5 messages, 1 member:\n  d does not record it")
	defer func() {
		if recover() == nil {
			t.Error("the same message was sent twice, and nobody minded")
		}
	}()
	rec.Sent("x", "c", "b/1")
}

func wantSaid(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("said %v\nwant %s", err, want)
	}
}

// What arrives is seen where it arrives: not what is lost, twice what is duplicated.
func TestTapArrivals(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		a, b := two(t, n, starlingtest.Link{Latency: time.Millisecond, Loss: 0.5, Duplicate: 0.5})
		packets, bytes := 0, 0
		n.TapArrivals(func(e starlingtest.Event) {
			if e.From != "a" || e.To != "b" {
				t.Errorf("from %s to %s", e.From, e.To)
			}
			if e.Stream == 0 {
				packets++
			}
			bytes += len(e.Data)
		})
		send(t, a, b, 500, 0)
		time.Sleep(time.Second)
		if got := len(received(b)); got != packets || packets < 250 || packets > 500 || bytes != 4*packets {
			t.Errorf("%d packets arrived, %d of %d bytes seen", got, packets, bytes)
		}
		bytes = 0
		x, y := connect(t, a, b)
		_, err := x.Write([]byte("hello"))
		ok(t, err)
		for range 2 {
			_, err = y.Read(make([]byte, 3))
			ok(t, err)
		}
		if bytes != 5 {
			t.Errorf("%d bytes seen of a stream of 5", bytes)
		}
		n.TapArrivals(nil)
		send(t, a, b, 10, 0)
		time.Sleep(time.Second)
		if bytes != 5 {
			t.Error("seen after the tap was removed")
		}
		ok(t, x.Close())
		ok(t, y.Close())
	})
}
