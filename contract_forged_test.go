package starling_test

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingpb"
	"github.com/starling-go/starling/starlingtest"
)

// Frames in another's name, and frames of before: no key, or a key and a recording. A number alone, or a name alone, must not
// take anything from anybody.

// One forged packet in the name of a live origin, with a number far beyond what it has sent. Before: whatever the origin
// broadcasts from then on is taken for something that was here, in the whole cluster and for good, and a gap of 4.6e18
// messages is reported. Right: nothing lasting. What the origin itself says it has sent decides; a jump beyond that is dropped
// and counted.
func TestForgedSeqDoesNotMuteOrigin(t *testing.T) {
	const retention = 10 * time.Second // so that what is missing is given up soon
	part := func(seq uint64) func(starling.Member) []byte {
		return func(m starling.Member) []byte {
			frame, err := proto.Marshal(&starlingpb.Part{Key: contractKey, Data: []byte("forged"), Origin: m.ID, Seq: seq})
			if err != nil {
				panic(err)
			}
			return frame
		}
	}
	baseline := func(m starling.Member) []byte {
		b := &starlingpb.Baseline{Next: 1 << 62, Top: 1 << 62}
		return signedBy(m, &starlingpb.Control{Body: &starlingpb.Control_Baseline{Baseline: b}})
	}
	for _, tt := range []struct {
		name  string
		frame func(starling.Member) []byte
		heard bool // the origin has broadcast before
		// counted: the frame itself shows that it is none of the origin's.
		counted bool
	}{
		{"part 2^62", part(1 << 62), true, true},
		{"part 2^62 of an origin that was not heard", part(1 << 62), false, true},
		{"part 2^20", part(1 << 20), true, true},
		{"the last part there can be", part(math.MaxUint64), true, true},
		{"baseline 2^62 of an origin that was not heard", baseline, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			o := starlingtest.Options{Open: rec.open, Config: func(string) starling.Config {
				return starling.Config{Retention: starling.Retention{Age: retention}}
			}}
			starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
				const count = 10
				if tt.heard {
					for range 5 {
						rec.broadcast(t, "m0", 100)
					}
					l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
				}
				refused := refusals(l.Member("m1").Cluster)
				frame := tt.frame(l.Member("m0").Cluster.Self())
				newOutsider(t, l, "outside").packet(l.Member("m1").Cluster.Self(), frame)
				for range 2 { // at once, and when whatever it left behind has been given up
					for range count {
						rec.broadcast(t, "m0", 100)
					}
					time.Sleep(2 * retention)
				}
				if err := rec.ExactlyOnce(contractKey); err != nil {
					t.Errorf("one forged packet of %d bytes, then %d broadcasts of its victim at once and %d after twice the retention: %v",
						len(frame), count, count, err)
				}
				for _, m := range l.Members() {
					if lost := m.Cluster.Stats().Lost; lost != 0 {
						t.Errorf("%s says that %d messages are lost", m.Name, lost)
					}
				}
				if tt.counted && refusals(l.Member("m1").Cluster) == refused {
					t.Error("m1 has counted nothing")
				}
			})
		})
	}
}

// A Direct in the name of a live member, numbered far beyond what that member has sent. Before: all that it sends later is
// acknowledged and given to no handler. Right: a number alone swallows nothing; what Send says nil of is handled, once.
func TestForgedDirectNumber(t *testing.T) {
	for _, tt := range []struct {
		name      string
		id, floor uint64
	}{
		{"id and floor 2^60", 1 << 60, 1<<60 - 1},
		{"the last there can be", math.MaxUint64, math.MaxUint64},
		{"the next 100", 101, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			starlingtest.Run(t, 2, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
				var mu sync.Mutex
				var real *starlingpb.Part
				l.Net.Tap(func(e starlingtest.Event) {
					if p, d := directIn(e.Data); e.From == "m0" && e.Stream == 0 && d != nil {
						mu.Lock()
						real = p
						mu.Unlock()
					}
				})
				l.Must(rec.channel("m0").Send(endsIn(t, 5*time.Second), "m1", []byte("first")))
				mu.Lock()
				forged := proto.CloneOf(real)
				mu.Unlock()
				d := forged.GetControl().GetDirect()
				d.Data = []byte("forged")
				setNumber(d, "id", tt.id)
				setNumber(d, "floor", tt.floor)
				frame, err := proto.Marshal(forged)
				l.Must(err)
				newOutsider(t, l, "outside").packet(l.Member("m1").Cluster.Self(), frame)
				time.Sleep(time.Second)
				swallowed := sendsThatWereSwallowed(t, &rec, "m0", "m1", 20)
				if swallowed > 0 {
					t.Errorf("after one forged packet %d of 20 Sends were acknowledged and given to no handler", swallowed)
				}
			})
		})
	}
}

// sendsThatWereSwallowed sends messages to a live member, which must succeed, and returns how many of them no handler was
// given. It fails the test for one that was handled twice.
func sendsThatWereSwallowed(t *testing.T, rec *recordedLab, from, to string, count int) (swallowed int) {
	t.Helper()
	for i := range count {
		if err := rec.channel(from).Send(endsIn(t, 10*time.Second), to, fmt.Appendf(nil, "%s>%s/%d", from, to, i)); err != nil {
			t.Errorf("Send to a live member: %v", err)
		}
	}
	time.Sleep(time.Second)
	times := map[string]int{}
	for _, id := range rec.handled(to) {
		times[id]++
	}
	for i := range count {
		switch n := times[fmt.Sprintf("%s>%s/%d", from, to, i)]; {
		case n == 0:
			swallowed++
		case n > 1:
			t.Errorf("a Send was handled %d times", n)
		}
	}
	return swallowed
}

// Encrypted packets and streams that somebody has recorded, and sends again later: to another member, and to a new run of the
// one that they were for. memberlist has no protection against that. Before: a Send that was meant for m1 is handled by m2, and
// by m1 again after a restart, which then swallows the next Sends. Right: refused by the run that a frame names.
func TestReplayedSend(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
	}{{"packets", 100}, {"streams", 5000}} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			o := starlingtest.Options{Open: rec.open, Config: func(string) starling.Config {
				return starling.Config{Keys: [][]byte{bytes.Repeat([]byte{7}, 32)}}
			}}
			starlingtest.Run(t, 3, o, func(t *testing.T, l *starlingtest.Lab) {
				time.Sleep(10 * time.Second) // what they have to say to each other at first
				r := recordTraffic(l, "m0", "m1")
				for i := range 5 { // so that the numbers are above those of the Sends that follow the restart
					v := append(fmt.Appendf(nil, "meant-for-m1/%d ", i), make([]byte, tt.size)...)
					l.Must(rec.channel("m0").Send(endsIn(t, 5*time.Second), "m1", v))
				}
				time.Sleep(100 * time.Millisecond)
				packets, streams := r.stop()
				t.Logf("recorded %d packets and %d streams from m0 to m1", len(packets), len(streams))
				again := func(to string) {
					outside := newOutsider(t, l, "outside of "+to)
					at := l.Member(to).Cluster.Self()
					for _, b := range packets {
						outside.raw(at.Addr, b)
						time.Sleep(time.Millisecond)
					}
					for _, b := range streams {
						if err := outside.dial(at, time.Second, b); err != nil {
							t.Logf("a stream to %s: %v", to, err)
						}
					}
					time.Sleep(time.Second)
				}
				again("m2")
				if got := rec.handled("m2"); len(got) > 0 {
					t.Errorf("m2 handled %d Sends that were meant for m1", len(got))
				}
				l.Restart("m1")
				l.WaitAll(time.Minute)
				again("m1")
				if got := rec.handled("m1"); len(got) > 0 {
					t.Errorf("m1 handled %d Sends that its run before had handled", len(got))
				}
				if n := sendsThatWereSwallowed(t, &rec, "m0", "m1", 5); n > 0 {
					t.Errorf("m1 acknowledged %d of the next 5 Sends and gave them to no handler", n)
				}
			})
		})
	}
}

// Pulls in another's name. Before: 14.6 KB in, 34.5 MB out, 2,370 times as much, to a member that lacked nothing. Right: a
// member is answered at the rate of what it was heard to need, and with at most ten times what came in until it has proved
// its address.
func TestForgedPullsAreNotAmplified(t *testing.T) {
	const (
		pulls = 200
		watch = 5 * time.Second
	)
	real := func(_ *testing.T, l *starlingtest.Lab, _ *outsider) (starling.Member, string) {
		return l.Member("m1").Cluster.Self(), "m1"
	}
	madeUp := func(t *testing.T, l *starlingtest.Lab, o *outsider) (starling.Member, string) {
		third := newOutsider(t, l, "third party")
		g := ghost{"ghost", third.tr.Addr(), 777}
		o.tell(l.Member("m0").Cluster.Self(), []ghost{g}, ghostAlive)
		return starling.Member{Name: g.name, Addr: g.addr, ID: g.id}, "third party"
	}
	for _, tt := range []struct {
		name string
		// victim returns in whose name the pulls are, and the host at its address.
		victim func(*testing.T, *starlingtest.Lab, *outsider) (starling.Member, string)
	}{
		{"of a member that lacks nothing", real},
		{"of a member that somebody made up, at the address of a third party", madeUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recordedLab
			starlingtest.Run(t, 3, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
				for range 8 {
					rec.broadcast(t, "m0", mib)
				}
				l.Within(10*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
				time.Sleep(5 * time.Second)
				asked := l.Member("m0").Cluster.Self()
				outside := newOutsider(t, l, "outside")
				quiet := countBytes(l, "m0", "m1") // without pulls
				time.Sleep(watch)
				background := quiet.total()

				victim, host := tt.victim(t, l, outside)
				out := countBytes(l, "m0", host)
				in := 0
				for id := range pulls {
					frame := signedBy(victim, &starlingpb.Control{Body: &starlingpb.Control_Pull{Pull: &starlingpb.Pull{
						Id: uint64(id + 1), Stream: true, Want: []*starlingpb.Ranges{{Origin: asked.ID, Spans: []uint64{uint64(id%8 + 1), 0}}},
					}}})
					in += len(frame)
					outside.packet(asked, frame)
					time.Sleep(watch / pulls)
				}
				time.Sleep(time.Second)
				sent := out.total() - background
				t.Logf("%d bytes in, %d bytes more out than without (%d): %d times", in, sent, background, sent/int64(in))
				if sent > 10*int64(in) {
					t.Errorf("%d pulls, %d bytes, made m0 send %d bytes to somebody who lacks nothing: %d times",
						pulls, in, sent, sent/int64(in))
				}
			})
		})
	}
}

// Questions for a channel's state in another's name: no row of the issue, but the same kind. Before: 3,200 bytes in, 419 MB out,
// 131,000 times. Right: a member is given its state as often as it needs it, and not for each packet that names it.
func TestForgedStateQuestionsAreNotAmplified(t *testing.T) {
	const (
		size  = 2 * mib
		count = 100
	)
	o := starlingtest.Options{Open: func(m *starlingtest.Member) error { return openState(m.Cluster, "state", make([]byte, size)) }}
	starlingtest.Run(t, 2, o, func(t *testing.T, l *starlingtest.Lab) {
		time.Sleep(time.Minute)
		to, victim := l.Member("m0").Cluster.Self(), l.Member("m1").Cluster.Self()
		outside := newOutsider(t, l, "outside")
		out := countBytes(l, "m0", "m1")
		in := 0
		for i := range count {
			frame := signedBy(victim, &starlingpb.Control{Body: &starlingpb.Control_SyncAsk{SyncAsk: &starlingpb.SyncAsk{
				Id: uint64(i + 1), Key: "state", First: true,
			}}})
			in += len(frame)
			outside.packet(to, frame)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		t.Logf("%d bytes in, %d bytes out: %d times", in, out.total(), out.total()/int64(in))
		// One question may be taken for an honest one; another state goes with memberlist's push/pull.
		if out.total() > 3*size {
			t.Errorf("%d questions, %d bytes, made m0 send %d bytes to a member that has the state", count, in, out.total())
		}
	})
}

// Goodbyes in the names of members that stay: no row of the issue, but the same kind. Before: they are believed whenever these
// members are lost later, nobody looks for them, and a partition of two minutes never heals. Right: it heals; who is still there
// after its goodbye has not left.
func TestForgedGoodbyeKeepsNobodyApart(t *testing.T) {
	starlingtest.Run(t, 4, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		l.Leave("m0") // the seed of all
		l.WaitAll(time.Minute)
		outside := newOutsider(t, l, "outside")
		for _, to := range l.Members() {
			for _, from := range l.Members() {
				if from != to {
					goodbye := &starlingpb.Control{Body: &starlingpb.Control_Goodbye{Goodbye: &starlingpb.Goodbye{}}}
					outside.packet(to.Cluster.Self(), signedBy(from.Cluster.Self(), goodbye))
				}
			}
		}
		time.Sleep(time.Minute)
		l.Must(l.Net.Partition([]string{"m1"}, []string{"m2", "m3"}))
		time.Sleep(2 * time.Minute)
		l.Net.Heal()
		if err := soonWithin(5*time.Minute, l.AllSeeAll); err != nil {
			t.Errorf("five minutes after a partition of two minutes: %v", err)
		}
	})
}
