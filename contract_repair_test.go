package starling_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What was read in the source and not tried before: order, room and repair at their edges.

// FIFO and Supersede: w, then a1 b1 a2 b2 a3 while they wait. Before: a newer value takes the place of the older, and w a3 b2 is
// handed on, although b2 was broadcast before a3. Right: the order of FIFO.
func TestSupersedeKeepsTheOrder(t *testing.T) {
	var rec recordedLab
	rec.options = func(string) *starling.ChannelOptions[[]byte] {
		return &starling.ChannelOptions[[]byte]{FIFO: true, Supersede: func(v []byte) string { return string(v[:1]) }}
	}
	starlingtest.Run(t, 2, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
		time.Sleep(5 * time.Second)
		for _, v := range []string{"w", "a1", "b1", "a2", "b2", "a3"} {
			l.Must(rec.channel("m0").Broadcast(t.Context(), []byte(v)))
			if v == "w" {
				synctest.Wait() // it has left, and what follows within a millisecond waits for company
			}
		}
		time.Sleep(time.Second)
		if got, want := rec.handled("m1"), []string{"w", "b2", "a3"}; !slices.Equal(got, want) {
			t.Errorf("m1 was given %v, which should be %v", got, want)
		}
	})
}

// Packets of 512 bytes, a label of 255 and a key leave 23 bytes for what is told of all origins in a digest. Before: what is told
// of an origin with a few holes does not fit, nor does what would come after it; so a member that has not heard of the last
// messages of an origin that crashed never does. Right: what New accepts works.
func TestRepairInTheSmallestPackets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(string) starling.Config
	}{
		{"the usual packets", nil},
		{"the smallest packets", func(string) starling.Config {
			return starling.Config{
				Label: strings.Repeat("l", 255), Keys: [][]byte{make([]byte, 32)},
				Tune: func(c *memberlist.Config) { c.UDPBufferSize = 512 },
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			starlingtest.Run(t, 3, starlingtest.Options{Open: rec.open, Config: tt.config}, func(t *testing.T, l *starlingtest.Lab) {
				rec.broadcast(t, "m0", 50)
				l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
				lossy := starlingtest.Link{Latency: time.Millisecond, Loss: 0.95, RefuseStreams: true}
				l.Must(l.Net.SetLink("m0", "m1", lossy))
				l.Must(l.Net.SetLink("m0", "m2", lossy))
				for range 300 { // of which some reach one, some both and some nobody
					rec.broadcast(t, "m0", 90)
					time.Sleep(3 * time.Millisecond)
				}
				l.Must(l.Net.Partition([]string{"m0"}, []string{"m1"}))
				for range 30 { // of which some reach m2
					rec.broadcast(t, "m0", 90)
					time.Sleep(3 * time.Millisecond)
				}
				l.Crash("m0")
				time.Sleep(2 * time.Minute)
				m1, m2 := rec.handled("m1"), rec.handled("m2")
				t.Logf("m1 handled %d and lost %d, m2 handled %d and lost %d",
					len(m1), l.Member("m1").Cluster.Stats().Lost, len(m2), l.Member("m2").Cluster.Stats().Lost)
				for _, pair := range [][2][]string{{m1, m2}, {m2, m1}} {
					missing := slices.DeleteFunc(slices.Clone(pair[0]), func(id string) bool { return slices.Contains(pair[1], id) })
					if len(missing) > 0 {
						t.Errorf("one of them never had %d messages that the other one had, such as %s", len(missing), missing[0])
					}
				}
			})
		})
	}
}

// A message that three members lacked while it was on its way, and that its origin let go since. Before: what they said then is
// remembered for ever, and the message becomes a gap although they hold it by now. Right: it is had from them.
func TestOldDenialIsNoGap(t *testing.T) {
	var rec recordedLab
	o := starlingtest.Options{Open: rec.open, Config: func(name string) (c starling.Config) {
		if name == "m0" {
			c.Retention.Bytes = 512 << 10
		}
		return c
	}}
	starlingtest.Run(t, 6, o, func(t *testing.T, l *starlingtest.Lab) {
		others := []string{"m1", "m2", "m3", "m4", "m5"}
		rec.broadcast(t, "m0", 100)
		l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
		link, err := l.Net.Link("m0", "m1")
		l.Must(err)
		refusing := link
		refusing.RefuseStreams = true
		for _, name := range others {
			l.Must(l.Net.SetLink("m0", name, refusing))
		}
		rec.broadcast(t, "m0", 200<<10)
		for range 5 { // by packet, so that all know that they lack the one before
			rec.broadcast(t, "m0", 100)
			time.Sleep(time.Second)
		}
		l.Must(l.Net.Partition([]string{"m1"}, []string{"m0", "m2", "m3", "m4", "m5"}))
		for _, name := range others {
			l.Must(l.Net.SetLink("m0", name, link))
		}
		l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m2", "m3", "m4", "m5") })
		for range 700 { // so that the large one leaves the history of its origin
			rec.broadcast(t, "m0", 600)
		}
		l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m2", "m3", "m4", "m5") })
		l.Must(l.See(others, append([]string{"m0"}, others...))) // nobody has noticed the cut
		l.Net.Heal()
		if err := soonWithin(30*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m1") }); err != nil {
			t.Errorf("m1 says that %d messages are lost: %v", l.Member("m1").Cluster.Stats().Lost, err)
		}
	})
}

// A member comes back from a partition, and sees at first nobody but an origin that has let go of a message meanwhile. Before:
// it is a gap at once, since everybody in view lacks it. Right: it is had from those who hold it, and come into view seconds
// later.
func TestOneDenialIsNoGap(t *testing.T) {
	var rec recordedLab
	o := starlingtest.Options{Open: rec.open, Config: func(name string) (c starling.Config) {
		if name == "m0" {
			c.Retention.Bytes = 512 << 10
		}
		return c
	}}
	starlingtest.Run(t, 5, o, func(t *testing.T, l *starlingtest.Lab) {
		rec.broadcast(t, "m0", 100)
		l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
		rest := []string{"m2", "m3", "m4"}
		l.Must(l.Net.Partition([]string{"m1"}, []string{"m0"}))
		l.Must(l.Net.Partition([]string{"m1"}, rest))
		l.Within(time.Minute, func() error { return l.See([]string{"m1"}, []string{"m1"}) })
		for range 700 { // more than the history of m0 holds
			rec.broadcast(t, "m0", 800)
		}
		l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey, rest...) })
		l.Net.Heal()
		l.Must(l.Net.Partition([]string{"m1"}, rest)) // connected through m0
		time.Sleep(15 * time.Second)
		l.Net.Heal()
		if err := soonWithin(40*time.Second, func() error { return rec.ExactlyOnce(contractKey, "m1") }); err != nil {
			t.Errorf("m1 says that %d messages are lost: %.200v", l.Member("m1").Cluster.Stats().Lost, err)
		}
	})
}
