//go:build !race

package starling_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
)

// What is measured here is how long large messages take, in virtual time, on members of limited rates. Under the race detector each of
// these would take minutes, and say no more.

// 50 members with 100 Mbit/s up and down each: what one message costs all, in units of one transmission and of its size. At
// 13b025a the origin sent it to each of the others itself: 48 units. The limit is 1.6 units, which is asked; it takes 1.4 to 1.5.
// STARLING_LOSS is per cent of lost packets; a stream waits 200 ms for each of its pieces that is lost, longer than TCP does as a rule.
func TestLargeSpread(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 * mib, 8 * mib}[:fewer(2, 1)] {
		t.Run(mibs(size), func(t *testing.T) {
			loss := float64(seedtest.Number(t, "STARLING_LOSS", 0)) / 100
			inBulk(t, 50, nil, func(t *testing.T, l *bulk, nodes []*node) { largeSpread(l, nodes, size, loss) })
		})
	}
}

func largeSpread(l *bulk, nodes []*node, size int, loss float64) {
	l.t.Helper()
	l.rates(fast)
	link := labLink
	link.Loss = loss
	l.links(link)
	rest := nodes[1:]
	origin, total := l.wire("m0"), l.Net.Total().Received
	number := l.push(nodes[0], size)
	took := l.reached(2*time.Minute, number, rest...)
	time.Sleep(100 * time.Millisecond) // for what is still on its way
	sent, all := l.wire("m0")-origin, l.Net.Total().Received
	received := int(all.StreamBytes + all.PacketBytes - total.StreamBytes - total.PacketBytes)

	unit, limit := float64(size)/fast, 1.6
	if loss > 0 {
		limit = 60
	}
	l.t.Logf("to all after %v", took)
	l.ratio("time to all, in transmissions", took.Seconds(), unit, limit)
	if loss == 0 {
		l.ratio("bytes that the origin sends, in sizes", float64(sent), float64(size), 1.3)
		l.ratio("bytes received for each that is delivered", float64(received), float64(size*len(rest)), 1.03)
		var first, again uint64
		for _, n := range rest {
			s := n.Stats().Channels[bulkKey]
			first, again = first+s.Received, again+s.Duplicates
		}
		l.ratio("receptions for each delivery, by Stats", float64(first+again), float64(first), 1.02)
	}
	time.Sleep(30 * time.Second)
	l.exact([]int{number}, rest...)
	if sent = l.wire("m0") - origin; loss == 0 && sent > 2*size {
		l.t.Errorf("half a minute later the origin has sent %.1f times the size", float64(sent)/float64(size))
	}
}

// Small messages on another channel, from the origin and from others, while 64 MiB go to all at 100 Mbit/s. The aim is a p99 of twice
// that without, and is nearly met, since a packet queues behind 4 KiB of each stream of its member: 2.6 to 3.3 times. It was 4 to 13
// times while a lane did not wait until the other end had read what was written before.
func TestSmallBesideLarge(t *testing.T) {
	t.Parallel()
	inBulk(t, 6, large, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		from := []*node{nodes[0], nodes[1], nodes[5]}
		without := l.small(10*time.Millisecond, from, after(5*time.Second))
		size := fewer(64*mib, 16*mib)
		number := l.push(nodes[0], size)
		last := time.Now().Add(time.Minute)
		with := l.small(10*time.Millisecond, from, func() bool {
			if time.Now().After(last) {
				return true
			}
			return !slices.ContainsFunc(nodes[1:], func(n *node) bool { return !l.has(n, number) })
		})
		t.Logf("%s to five after %v, of which one transmission takes %v",
			mibs(size), l.reached(0, number, nodes[1:]...), time.Duration(size)*time.Second/fast)
		t.Logf("200 bytes without: median %v, p99 %v; with: median %v, p99 %v",
			without[len(without)/2], p99(without), with[len(with)/2], p99(with))
		l.ratio("p99 with by p99 without", p99(with).Seconds(), p99(without).Seconds(), 6)
		l.exact([]int{number}, nodes[1:]...)
		l.once(nodes...)
	})
}

// Messages of 1 KiB, as alerts are, 1,000 a second: above the size rule, and none of them large. Each member may dial 100 times a second; it
// was 1,600 times when each stream had a connection of its own, and is 3 times.
func TestManyAlerts(t *testing.T) {
	t.Parallel()
	const rate = 1000
	seconds := fewer(2, 1)
	inBulk(t, 10, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		dials := make([]uint64, len(nodes))
		for i, n := range nodes {
			dials[i] = l.Counters(n.name).Sent.Streams
		}
		var numbers []int
		tick := time.NewTicker(time.Second / rate)
		for i := range seconds * rate {
			<-tick.C
			numbers = append(numbers, l.push(nodes[i%10], 1<<10))
		}
		tick.Stop()
		for i, n := range nodes {
			each := float64(l.Counters(n.name).Sent.Streams-dials[i]) / float64(seconds)
			if i == 0 {
				t.Logf("%s dials %.0f times a second", n.name, each)
			}
			if each > 100 {
				t.Errorf("%s dials %.0f times a second, more than 100", n.name, each)
			}
		}
		time.Sleep(10 * time.Second)
		var took []time.Duration
		l.mu.Lock()
		for _, n := range nodes {
			for number, calls := range l.given[n.name] {
				took = append(took, calls[0].at.Sub(l.began[number]))
			}
		}
		l.mu.Unlock()
		slices.Sort(took)
		if want := len(numbers) * (len(nodes) - 1); len(took) != want {
			t.Errorf("%d deliveries, want %d", len(took), want)
		}
		l.atMost("p99 of 1 KiB", p99(took), 10*time.Millisecond)
		for i, n := range nodes {
			var own []int
			for k := i; k < len(numbers); k += len(nodes) {
				own = append(own, numbers[k])
			}
			l.exact(own, allBut(nodes, n)...)
		}
	})
}

// More than half of a large cluster hangs at once, and the rest goes on. At 13b025a a large message between two healthy members
// waited for 10 s when 32 of 60 hung, and took 39 ms when 31 did. Right: one that hangs costs its own stream and nothing of others. That is
// so for Send. A broadcast goes through others, and each level of hanging ones costs their time-out: some 4 to 6 s here.
func TestManyHangAtOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		hang func(*bulk, *node)
	}{
		{"accept and never read", func(l *bulk, n *node) { l.Must(l.Net.Freeze(n.name)) }},
		{"answer no dial", func(l *bulk, n *node) { l.crash(n) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBulk(t, 60, nil, func(t *testing.T, l *bulk, nodes []*node) {
				for _, n := range nodes[28:] {
					test.hang(l, n)
				}
				number := l.push(nodes[0], 1*mib)
				l.atMost("1 MiB to the healthy", l.reached(time.Minute, number, nodes[1:28]...), 10*time.Second)
				time.Sleep(10 * time.Second)
				l.exact([]int{number}, nodes[1:28]...)
			})
		})
	}
}

// TestSlowMember: 4 MiB to members of which one has a slow link take as long as that link takes, Flush waits for it, and hardly anything goes twice.
// Before members told what they read, it was given up after a few seconds, and had nothing after ten minutes.
func TestSlowMember(t *testing.T) {
	for _, test := range []struct {
		members, rate int
		bytes, time   float64 // at most
	}{{2, 128 << 10, 1.1, 1.05}, {2, 512 << 10, 1.1, 1.05}, {5, 256 << 10, 1.2, 1.1}, {5, 512 << 10, 1.2, 1.1}} {
		t.Run(fmt.Sprintf("%d members, %d KiB each second", test.members, test.rate>>10), func(t *testing.T) {
			inBulk(t, test.members, nil, func(t *testing.T, l *bulk, nodes []*node) {
				l.rates(fast)
				slow := nodes[test.members-1]
				l.Must(l.Net.SetRate(slow.name, test.rate, test.rate))
				before := l.wire("")
				number := l.push(nodes[0], 4*mib)
				if err := l.channels["m0"].Flush(l.t.Context()); err != nil {
					t.Errorf("Flush: %v", err)
				}
				took := l.reached(time.Minute, number, nodes[1:]...)
				time.Sleep(10 * time.Second)
				l.ratio("time to all, in what its link takes", took.Seconds(), 4*mib/float64(test.rate), test.time)
				l.ratio("bytes on the wire", float64(l.wire("")-before), float64(4*mib*(test.members-1)), test.bytes)
				l.exact([]int{number}, nodes[1:]...)
			})
		})
	}
}

// One of ten never reads its streams: it hangs altogether, and is found out, or it answers packets all the time. The others get what
// they would get without it, as fast, and nobody keeps much for it. When it is replaced the newcomer gets what is broadcast then.
func TestOneNeverReads(t *testing.T) {
	count := fewer(100, 10)
	alone, kept := oneNeverReads(t, "nobody", count, func(l *bulk) func() { return func() {} })
	for _, test := range []struct {
		name string
		hang func(*bulk) (replace func())
	}{
		{"hangs", func(l *bulk) func() {
			n := l.nodes[9]
			l.Must(l.Net.Freeze(n.name))
			return func() { l.crash(n) }
		}},
		{"answers packets", func(l *bulk) func() {
			l.crash(l.nodes[9])
			l.whole(l.nodes...)
			n, stop := l.deaf("deaf")
			l.join(n, l.nodes[0])
			l.whole(l.nodes...)
			l.Must(l.Net.SetRate("deaf", fast, fast))
			return stop
		}},
	} {
		with, more := oneNeverReads(t, test.name, count, test.hang)
		if with > alone+4*time.Second { // until it is found out: mostly 1.5 to 2 s, 3 at times; 1.2 times as long with 100 messages is the aim
			t.Errorf("%s: %v with it and %v without", test.name, with, alone)
		}
		if more > kept+64*mib {
			t.Errorf("%s: all together hold %d MiB with it and %d without", test.name, more/mib, kept/mib)
		}
	}
}

// oneNeverReads returns how long the messages took to those that do, and how many bytes all members hold then.
func oneNeverReads(t *testing.T, name string, count int, hang func(*bulk) (replace func())) (took time.Duration, inUse int) {
	t.Run(name, func(t *testing.T) {
		inBulk(t, 10, nil, func(t *testing.T, l *bulk, nodes []*node) {
			l.rates(fast)
			replace := hang(l)
			from, rest := nodes[0], nodes[1:9]
			queue, history := 0, 0
			base, began := int(heap()), time.Now()
			done := make(chan struct{})
			var numbers []int
			go func() {
				defer close(done)
				for range count {
					number, b := l.message(1 * mib)
					numbers = append(numbers, number)
					if err := l.channels["m0"].Broadcast(context.Background(), b); err != nil {
						t.Error(err)
					}
				}
			}()
			within(10*time.Minute, func() bool {
				s := from.Stats()
				queue, history = max(queue, s.Queue.Bytes), max(history, s.History.Bytes)
				select {
				case <-done:
					return !slices.ContainsFunc(rest, func(n *node) bool { return !l.has(n, numbers[count-1]) })
				default:
					return false
				}
			})
			<-done
			for _, number := range numbers {
				l.reached(time.Minute, number, rest...)
			}
			took = time.Since(began)
			inUse = int(heap()) - base - count*mib // without the test's own copies
			t.Logf("%d messages of 1 MiB after %v, queue %d MiB, history %d MiB, heap %d MiB",
				count, took, queue/mib, history/mib, inUse/mib)
			if limit := starling.DefaultQueueBytes + mib; queue > limit {
				t.Errorf("the queue held %d bytes, more than %d", queue, limit)
			}
			if limit := starling.DefaultRetentionBytes; history > limit {
				t.Errorf("the history held %d bytes, more than %d", history, limit)
			}
			if limit := 10 * starling.DefaultRetentionBytes * 5 / 4; inUse > limit { // what is kept is charged a little less than it takes
				t.Errorf("ten members hold %d bytes, more than %d", inUse, limit)
			}
			l.exact(numbers, rest...)

			replace()
			late := l.member("late", l.open)
			l.join(late, nodes[1])
			rest = append(slices.Clone(rest), late)
			numbers = nil
			for range 5 {
				numbers = append(numbers, l.push(from, 1*mib))
			}
			for _, number := range numbers {
				l.reached(time.Minute, number, rest...)
			}
			time.Sleep(10 * time.Second)
			l.exact(numbers, rest...)
		})
	})
	return took, inUse
}
