package starling_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What goes by Send in pieces, among whole members. What came out when a message went whole, as one stream, stands in the comments of some, "before".

// post sends a message to one member for five minutes at most, and yields what Send returns.
func (l *bulk) post(ctx context.Context, from, to *node, size int) (number int, sent chan error) {
	number, b := l.message(size)
	sent = make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		sent <- l.channels[from.name].Send(ctx, to.name, b)
	}()
	return number, sent
}

// sends sends a message to one member and returns its number. Send must return nil within limit.
func (l *bulk) sends(from, to *node, size int, limit time.Duration) int {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	defer cancel()
	number, sent := l.post(ctx, from, to, size)
	if err := <-sent; err != nil {
		l.t.Errorf("Send of %s: %v", mibs(size), err)
	}
	time.Sleep(10 * time.Millisecond) // for the handler
	return number
}

// Each size arrives byte for byte and once: where whole messages end and pieces begin, where one piece more begins, and beyond what memberlist takes
// from one stream.
func TestSendInPiecesOfAnySize(t *testing.T) {
	const whole, piece = mib / 2, mib / 4
	sizes := []int{whole - 1, whole, whole + 1, 3 * piece, 3*piece + 1, 12*mib + 48, 12*mib + 49, 20*mib - 5<<10, 20*mib + 1, 40 * mib}
	inBulk(t, 2, large, func(t *testing.T, l *bulk, nodes []*node) {
		var numbers []int
		for _, size := range sizes[:fewer(len(sizes), 7)] {
			numbers = append(numbers, l.sends(nodes[0], nodes[1], size, 10*time.Second))
		}
		l.exact(numbers, nodes[1])
	})
}

// Streams that break in the middle cost the pieces that were in them. Before, all of it was sent again from the beginning.
func TestSendCut(t *testing.T) {
	const size = 16 * mib
	inBulk(t, 2, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		before, began := l.wire("m0"), time.Now()
		number, sent := l.post(t.Context(), nodes[0], nodes[1], size)
		time.Sleep(time.Duration(size) * time.Second / fast / 2)
		l.Must(l.Net.CutStreams("m0", "m1"))
		if err := <-sent; err != nil {
			t.Error(err)
		}
		l.atMost("Send", time.Since(began), time.Duration(size)*time.Second/fast+3*time.Second)
		time.Sleep(10 * time.Second)
		l.ratio("bytes on the wire", float64(l.wire("m0")-before), float64(size), 1.1)
		l.exact([]int{number}, nodes[1])
	})
}

// While each stream is cut after 100 kB nothing large passes; then it does, once.
func TestSendCutAfter(t *testing.T) {
	inBulk(t, 2, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		link := labLink
		link.CutAfter = 100_000
		l.links(link)
		number, sent := l.post(t.Context(), nodes[0], nodes[1], 4*mib)
		time.Sleep(5 * time.Second)
		if l.has(nodes[1], number) || len(sent) > 0 {
			t.Error("it has passed")
		}
		l.links(labLink)
		healed := time.Now()
		if err := <-sent; err != nil {
			t.Error(err)
		}
		l.atMost("Send after the trouble", time.Since(healed), 7*time.Second)
		time.Sleep(10 * time.Second)
		l.exact([]int{number}, nodes[1])
	})
}

// Packets are lost, or none gets through: acknowledgements and questions are repeated, pieces are not; but where streams are held up for seconds, too,
// one or the other may be.
func TestSendInPiecesLossy(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*starlingtest.Link)
		limit  float64
	}{
		"30 % are lost": {func(k *starlingtest.Link) { k.Loss = 0.3 }, 1.25},
		"none passes":   {func(k *starlingtest.Link) { k.BlockPackets = true }, 1.05},
	} {
		t.Run(name, func(t *testing.T) {
			inBulk(t, 2, func(c *starling.Config) { c.Tune = blind }, func(t *testing.T, l *bulk, nodes []*node) {
				link := labLink
				test.change(&link)
				l.links(link)
				before := l.wire("m0")
				number := l.sends(nodes[0], nodes[1], 4*mib, time.Minute)
				time.Sleep(10 * time.Second)
				l.ratio("bytes on the wire", float64(l.wire("m0")-before), 4*mib, test.limit)
				l.exact([]int{number}, nodes[1])
			})
		})
	}
}

// The receiver leaves, crashes, or starts again at its address in the middle: Send says that it is gone, or returns nil for what its handler was
// given, once. The next message reaches the run that is there.
func TestSendInPiecesToWhoGoes(t *testing.T) {
	for name, goes := range map[string]func(l *bulk, n *node) (next *node){
		"leaves": func(l *bulk, n *node) *node {
			l.Must(n.Leave(l.t.Context()))
			l.gone(n)
			return nil
		},
		"crashes": func(l *bulk, n *node) *node {
			l.crash(n)
			return nil
		},
		"starts again": func(l *bulk, n *node) *node {
			l.crash(n)
			next := l.member(n.name, l.open)
			l.join(next, l.nodes[0])
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBulk(t, 3, nil, func(t *testing.T, l *bulk, nodes []*node) {
				l.rates(2 * mib)
				sender := l.follow(nodes[0])
				number, sent := l.post(t.Context(), nodes[0], nodes[1], 8*mib)
				time.Sleep(2 * time.Second)
				next := goes(l, nodes[1])
				err := <-sent
				var refused *starling.SendError
				if !errors.As(err, &refused) || refused.Reason != starling.SendMemberGone {
					t.Errorf("Send: %v", err)
				}
				steps := sender.sends(1)
				if last := steps[len(steps)-1]; last.State != starling.ProgressGone || last.Done == 0 || last.Done >= 8*mib {
					t.Errorf("told %+v", last)
				}
				time.Sleep(20 * time.Second)
				if l.mu.Lock(); len(l.given["m1"][number]) > 0 {
					t.Error("it was handled")
				}
				l.mu.Unlock()
				if next != nil {
					l.exact([]int{l.sends(nodes[0], next, 2*mib, 10*time.Second)}, next)
				}
				l.exact([]int{l.sends(nodes[0], nodes[2], 2*mib, 10*time.Second)}, nodes[2])
			})
		})
	}
}

// Contexts end in the middle, of more messages than the receiver gathers at a time: Send says so, and what the receiver had of them is let go of with the
// next message, or after two minutes.
func TestSendInPiecesGivenUp(t *testing.T) {
	inBulk(t, 2, large, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		sender, receiver := l.follow(nodes[0]), l.follow(nodes[1])
		size := 64 * mib
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, sent := l.post(ctx, nodes[0], nodes[1], size)
			var refused *starling.SendError
			if err := <-sent; !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &refused) || refused.Reason != starling.SendNoAnswer {
				t.Errorf("Send: %v", err)
			}
			cancel()
			steps := sender.sends(uint64(i) + 1)
			if last := steps[len(steps)-1]; last.State != starling.ProgressGivenUp || last.Done == 0 {
				t.Errorf("told %+v", last)
			}
		}
		time.Sleep(3 * time.Minute)
		for i := range uint64(3) {
			steps := receiver.sends(i + 1)
			if last := steps[len(steps)-1]; last.State != starling.ProgressLost || !last.Incoming || last.Total != int64(size) {
				t.Errorf("told %+v", last)
			}
		}
		l.exact([]int{l.sends(nodes[0], nodes[1], fewer(32, 8)*mib, 10*time.Second)}, nodes[1])
	})
}

// The receiver sees the sender fail, while the sender notices nothing of it and is not answered. When they have met again the message is handed over,
// once, and what came before need not come again.
func TestSendInPiecesAcrossFlap(t *testing.T) {
	inBulk(t, 1, func(c *starling.Config) { c.Tune = blind }, func(t *testing.T, l *bulk, nodes []*node) {
		l.configure = nil
		nodes = append(nodes, l.member("m1", l.open))
		l.join(nodes[1], nodes[0])
		l.whole(nodes...)
		time.Sleep(3 * time.Second)
		l.rates(mib)
		before := l.wire("m0")
		number, sent := l.post(t.Context(), nodes[0], nodes[1], 12*mib)
		time.Sleep(6 * time.Second)
		deaf := labLink
		deaf.BlockPackets, deaf.RefuseStreams = true, true
		l.Must(l.Net.SetLink("m1", "m0", deaf))
		if _, ok := within(time.Minute, func() bool { return len(nodes[1].Members()) == 1 }); !ok {
			t.Fatal("the receiver does not notice")
		}
		if len(nodes[0].Members()) != 2 {
			t.Fatal("the sender has noticed too: this is another case")
		}
		l.Must(l.Net.SetLink("m1", "m0", labLink))
		l.whole(nodes...)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		l.ratio("bytes on the wire", float64(l.wire("m0")-before), 12*mib, 1.5)
		l.exact([]int{number}, nodes[1])
	})
}

// Two members send each other several messages at once: each arrives once, and the bytes go once.
func TestSendInPiecesBothWays(t *testing.T) {
	const each, size = 4, 3 * mib
	inBulk(t, 2, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		before, began := l.wire(""), time.Now()
		var numbers [2][]int
		var all []chan error
		for range each {
			for i := range nodes {
				number, sent := l.post(t.Context(), nodes[i], nodes[1-i], size)
				numbers[1-i], all = append(numbers[1-i], number), append(all, sent)
			}
		}
		for _, sent := range all {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		l.atMost("all", time.Since(began), 3*each*size*time.Second/fast/2)
		time.Sleep(10 * time.Second)
		l.ratio("bytes on the wire", float64(l.wire("")-before), 2*each*size, 1.05)
		for i, n := range nodes {
			l.exact(numbers[i], n)
		}
	})
}

// More messages at once than a receiver gathers: the others wait for their turn, without sending what there is no room for.
func TestSendInPiecesMoreThanRoom(t *testing.T) {
	size := fewer(16, 4) * mib
	inBulk(t, 2, func(c *starling.Config) { c.MaxMessageSize = size }, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(8 * fast)
		before := l.wire("m0")
		var numbers []int
		var all []chan error
		for range 4 {
			number, sent := l.post(t.Context(), nodes[0], nodes[1], size)
			numbers, all = append(numbers, number), append(all, sent)
		}
		for _, sent := range all {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Second)
		l.ratio("bytes on the wire", float64(l.wire("m0")-before), float64(4*size), 1.1)
		l.exact(numbers, nodes[1])
	})
}

// Small and medium messages to the same member, by Send and by Broadcast, while 40 MiB go to it at 100 Mbit/s. Before, the medium ones waited for the
// end of it.
func TestSmallBesideSend(t *testing.T) {
	inBulk(t, 2, large, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		number, sent := l.post(t.Context(), nodes[0], nodes[1], fewer(40, 16)*mib)
		var small, medium []time.Duration
		var all sync.WaitGroup
		timed := func(took *[]time.Duration, size int) {
			began := time.Now()
			l.Must(nodes[0].ch.Send(t.Context(), "m1", make([]byte, size)))
			*took = append(*took, time.Since(began))
		}
		all.Go(func() {
			for range 100 {
				timed(&small, 200)
				time.Sleep(10 * time.Millisecond)
			}
		})
		all.Go(func() {
			for range 5 {
				timed(&medium, 100_000)
				time.Sleep(50 * time.Millisecond)
			}
		})
		ids := l.lab.sendMany(nodes[0], 5, 200)
		l.atMost("small broadcasts", l.delivered(time.Second, ids, nodes[0], nodes[1]), 50*time.Millisecond)
		all.Wait()
		if len(sent) > 0 {
			t.Error("the large one was too fast for this test")
		}
		l.atMost("200 bytes", slices.Max(small), 50*time.Millisecond)
		l.atMost("100 kB", slices.Max(medium), 400*time.Millisecond)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		l.exact([]int{number}, nodes[1])
	})
}

// sends returns what was told of the n-th message by Send, and fails the test unless the last value alone is final.
func (f *follower) sends(n uint64) (steps []starling.Progress) {
	f.t.Helper()
	time.Sleep(100 * time.Millisecond) // for the reader
	for _, p := range f.all() {
		if p.Send == n {
			steps = append(steps, p)
		}
	}
	for i, p := range steps {
		if final := p.State != starling.ProgressUnderWay; final != (i == len(steps)-1) || p.Seq != 0 || p.Done > p.Total {
			f.t.Errorf("value %d of %d of Send %d: %+v", i+1, len(steps), n, p)
		}
		if (p.State == starling.ProgressHeld) != (p.Done == p.Total) && !p.Incoming {
			f.t.Errorf("%v with %d of %d bytes", p.State, p.Done, p.Total)
		}
	}
	if len(steps) == 0 {
		f.t.Fatalf("nothing was told of Send %d", n)
	}
	return steps
}

// Who sends sees the receiver's share grow, and who receives sees it come; of what goes whole neither is told.
func TestSendProgress(t *testing.T) {
	const size = 8 * mib
	inBulk(t, 3, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		sender, receiver, other := l.follow(nodes[0]), l.follow(nodes[1]), l.follow(nodes[2])
		l.sends(nodes[0], nodes[1], mib/2, time.Second)
		l.sends(nodes[0], nodes[1], size, 10*time.Second)
		l.sends(nodes[0], nodes[1], mib, 10*time.Second)
		steps := sender.sends(1)
		if first, last := steps[0], steps[len(steps)-1]; len(steps) < 10 || first.Done != 0 || last.State != starling.ProgressHeld || first.Incoming ||
			first.Total != size || first.From.Name != "m0" || first.Member.ID != nodes[1].Self().ID {
			t.Errorf("the sender was told %d values, from %+v to %+v", len(steps), first, last)
		}
		steps = receiver.sends(1)
		if first, last := steps[0], steps[len(steps)-1]; len(steps) < 10 || last.State != starling.ProgressHeld || !first.Incoming ||
			first.Total != size || first.From.ID != nodes[0].Self().ID || first.Member.Name != "m1" {
			t.Errorf("the receiver was told %d values, from %+v to %+v", len(steps), first, last)
		}
		for _, f := range []*follower{sender, receiver} {
			if last := f.sends(2); last[len(last)-1].State != starling.ProgressHeld {
				t.Errorf("of the next one: %+v", last)
			}
			for _, p := range f.all() {
				if p.Send == 0 || p.Send > 2 {
					t.Errorf("told %+v", p)
				}
			}
		}
		if values := other.all(); len(values) > 0 {
			t.Errorf("another member was told %+v", values)
		}
		fmt.Fprintln(t.Output(), len(sender.all()), "values at the sender,", len(receiver.all()), "at the receiver")
	})
}

// More messages wait for a handler that is slow than its member has room for: each goes once all the same. Before those that are complete were kept
// from giving way to others of their channel, they went eight times.
func TestSendInPiecesToSlowHandler(t *testing.T) {
	const count = 8
	size := fewer(8, 2) * mib
	inBulk(t, 2, func(c *starling.Config) { c.MaxMessageSize = 2 * size }, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(8 * fast)
		nodes[1].setBusy(func() { time.Sleep(10 * time.Second) })
		before := l.wire("m0")
		var all sync.WaitGroup
		for range count {
			_, b := l.lab.payload(nodes[0], size)
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				if err := nodes[0].ch.Send(ctx, "m1", b); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Minute)
		l.ratio("bytes on the wire", float64(l.wire("m0")-before), float64(count*size), 1.3)
	})
}

// Who finds no room is not passed over for ever by those that come after it: all members send to one again and again, more than it gathers. Before, the
// pauses of those that waited grew to five seconds, and three of the members waited until the others had ended.
func TestSendInPiecesFair(t *testing.T) {
	if raced {
		t.Skip("takes a minute under the race detector")
	}
	const senders, lasts, size = 12, time.Minute, 2 * mib
	inBulk(t, 1+senders, func(c *starling.Config) { c.MaxMessageSize = size }, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		b := make([]byte, size)
		end := time.Now().Add(lasts)
		var mu sync.Mutex
		var took []time.Duration
		var all sync.WaitGroup
		for _, n := range nodes[1:] {
			all.Go(func() {
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(t.Context(), 2*lasts)
					began := time.Now()
					if err := l.channels[n.name].Send(ctx, "m0", b); err != nil {
						t.Error(err)
					}
					cancel()
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
		all.Wait()
		l.atMost("the longest", slices.Max(took), lasts*3/4)
	})
}
