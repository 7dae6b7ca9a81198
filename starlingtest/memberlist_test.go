package starlingtest_test

import (
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// typical is a local network.
var typical = starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond}

func TestTwentyMembersTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(typical))
		all := lists(t, n, 20)
		settled(t, all, 20, time.Minute)
		for range 10 * 60 {
			time.Sleep(time.Second)
			for _, m := range all {
				if m.NumMembers() != 20 {
					t.Fatalf("%s sees %d members on a perfect network", m.LocalNode().Name, m.NumMembers())
				}
			}
		}
		shutDown(t, all...)
		c := n.Total()
		if c.Sent.Packets != c.Received.Packets+c.Dropped.Total() || c.Dropped.Total() != c.Dropped.Down {
			t.Errorf("packets do not add up: %+v", c)
		}
	})
}

func TestCrashIsDetectedAndRestartSeen(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(typical))
		all := lists(t, n, 5)
		settled(t, all, 5, time.Minute)
		ok(t, n.Crash("m4"))
		took := settled(t, all[:4], 4, time.Minute)
		if took < time.Second {
			t.Errorf("the crash was seen after %v: it said goodbye", took)
		}
		again := list(t, n, "m4")
		_, err := again.Join([]string{all[0].LocalNode().Address()})
		ok(t, err)
		settled(t, append(all[:4:4], again), 5, time.Minute)
		shutDown(t, append(all, again)...)
	})
}

func TestMemberlistPartitionHealsByJoin(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(typical))
		all := lists(t, n, 6)
		settled(t, all, 6, time.Minute)
		ok(t, n.Partition([]string{"m0", "m1", "m2"}, []string{"m3", "m4", "m5"}))
		settled(t, all, 3, 2*time.Minute)
		n.Heal()
		_, err := all[0].Join([]string{all[5].LocalNode().Address()})
		ok(t, err)
		settled(t, all, 6, 2*time.Minute)
		shutDown(t, all...)
	})
}

// memberlist probes by stream when packets fail: nobody is lost although no packet gets through.
func TestMemberlistLivesOnStreamsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(typical))
		all := lists(t, n, 3)
		settled(t, all, 3, time.Minute)
		l := typical
		l.BlockPackets = true
		ok(t, n.SetDefault(l))
		before := n.Total()
		time.Sleep(2 * time.Minute)
		settled(t, all, 3, 0)
		after := n.Total()
		if after.Received.Packets > before.Received.Packets+6 || after.Sent.Streams < before.Sent.Streams+60 {
			t.Errorf("packets %+v, then %+v", before, after)
		}
		l.RefuseStreams = true
		ok(t, n.SetDefault(l))
		settled(t, all, 1, 2*time.Minute)
		shutDown(t, all...)
	})
}

func TestMemberlistAtHeavyLoss(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		l := typical
		l.Loss, l.Duplicate, l.Reorder, l.Bandwidth = 0.3, 0.1, 0.1, 1_000_000
		ok(t, n.SetDefault(l))
		all := lists(t, n, 10)
		settled(t, all, 10, time.Minute)
		time.Sleep(time.Minute)
		c := n.Total()
		if c.Dropped.Loss == 0 || c.Duplicated == 0 {
			t.Errorf("no fault struck: %+v", c)
		}
		shutDown(t, all...)
	})
}

// A frozen member accepts what memberlist sends by stream but answers nothing: it is found dead.
func TestFrozenMemberIsDetected(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		ok(t, n.SetDefault(typical))
		all := lists(t, n, 4)
		settled(t, all, 4, time.Minute)
		ok(t, n.Freeze("m3"))
		settled(t, all[:3], 3, time.Minute)
		ok(t, n.Thaw("m3"))
		settled(t, all, 4, 2*time.Minute)
		shutDown(t, all...)
	})
}

// A memberlist that is shut down in the midst of traffic ends, and nobody else is held up by it.
func TestShutdownUnderTraffic(t *testing.T) {
	bubble(t, func(t *testing.T, n *starlingtest.Network) {
		all := lists(t, n, 3)
		settled(t, all, 3, time.Minute)
		target := all[0].Members()[0]
		for _, node := range all[0].Members() {
			if node.Name == "m2" {
				target = node
			}
		}
		for i := range 10 * starlingtest.PacketBuffer {
			if i == starlingtest.PacketBuffer {
				ok(t, all[2].Shutdown())
			}
			ok(t, all[0].SendBestEffort(target, []byte("hello")))
		}
		shutDown(t, all...)
		if d := counters(t, n, "m2").Dropped; d.Down < 8*starlingtest.PacketBuffer {
			t.Errorf("%+v", d)
		}
	})
}

// measure times f in a bubble. A bubble needs a *testing.T, which RunTests has.
func measure(b *testing.B, f func(t *testing.T, n *starlingtest.Network)) {
	test := testing.InternalTest{Name: b.Name(), F: func(t *testing.T) {
		bubble(t, func(t *testing.T, n *starlingtest.Network) {
			ok(t, n.SetDefault(typical))
			f(t, n)
		})
	}}
	all := func(string, string) (bool, error) { return true, nil }
	for b.Loop() {
		if !testing.RunTests(all, []testing.InternalTest{test}) {
			b.Fatal("failed in the bubble")
		}
	}
}

// Run these with -benchtime=1x.

func Benchmark200MembersFor60Seconds(b *testing.B) {
	measure(b, func(t *testing.T, n *starlingtest.Network) {
		all := lists(t, n, 200)
		time.Sleep(60 * time.Second)
		shutDown(t, all...)
	})
}

// As below, but each joins once more when all are there: memberlist's gossip takes long to tell 1,000 of 1,000.
func Benchmark1000MembersFormJoiningTwice(b *testing.B) {
	measure(b, func(t *testing.T, n *starlingtest.Network) {
		all := lists(t, n, 1000)
		for _, m := range all {
			_, err := m.Join([]string{all[0].LocalNode().Address()})
			ok(t, err)
		}
		b.ReportMetric(settled(t, all, 1000, 10*time.Minute).Seconds(), "virtual-s")
		shutDown(t, all...)
	})
}

func Benchmark1000MembersForm(b *testing.B) {
	measure(b, func(t *testing.T, n *starlingtest.Network) {
		all := lists(t, n, 1000)
		b.ReportMetric(settled(t, all, 1000, 10*time.Minute).Seconds(), "virtual-s")
		shutDown(t, all...)
	})
}
