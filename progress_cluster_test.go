package starling_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// follower records what a member is told of the progress of large messages.
type follower struct {
	t      *testing.T
	mu     sync.Mutex
	values []starling.Progress
}

// follow records the progress on the channel of large messages at a member until it is closed, or the test ends.
func (l *bulk) follow(n *node) *follower {
	f := &follower{t: l.t}
	ctx, cancel := context.WithCancel(context.Background())
	progress := l.channels[n.name].Progress(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for p := range progress {
			f.mu.Lock()
			f.values = append(f.values, p)
			f.mu.Unlock()
		}
	})
	l.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return f
}

// all returns what was told so far.
func (f *follower) all() []starling.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.values)
}

// steps returns what was told of one message at one member, and fails the test unless Done has grown from value to value, and one value,
// the last, is final.
func (f *follower) steps(from string, seq uint64, member string) (steps []starling.Progress) {
	f.t.Helper()
	for _, p := range f.all() {
		if p.From.Name == from && p.Seq == seq && p.Member.Name == member {
			steps = append(steps, p)
		}
	}
	for i, p := range steps {
		last := i == len(steps)-1
		if i > 0 && p.Done < steps[i-1].Done || p.Done > p.Total || p.Total != steps[0].Total || p.Skipped > 0 {
			f.t.Errorf("message %s/%d at %s: value %d of %d after %d", from, seq, member, p.Done, p.Total, steps[max(i-1, 0)].Done)
		}
		if final := p.State != starling.ProgressUnderWay; final != last {
			f.t.Errorf("message %s/%d at %s: %v with value %d of %d", from, seq, member, p.State, i+1, len(steps))
		}
		if (p.State == starling.ProgressHeld) != (p.Done == p.Total) {
			f.t.Errorf("message %s/%d at %s: %v with %d of %d bytes", from, seq, member, p.State, p.Done, p.Total)
		}
	}
	return steps
}

// seqs returns the messages that were told of, by their origin's name.
func (f *follower) seqs(from string) (seqs []uint64) {
	for _, p := range f.all() {
		if p.From.Name == from && !slices.Contains(seqs, p.Seq) {
			seqs = append(seqs, p.Seq)
		}
	}
	return seqs
}

// state returns how a message stands at a member, and with how many bytes.
func (f *follower) state(from string, seq uint64, member string) (starling.ProgressState, int64) {
	f.t.Helper()
	if steps := f.steps(from, seq, member); len(steps) > 0 {
		last := steps[len(steps)-1]
		return last.State, last.Done
	}
	return -1, 0
}

// One large message: its sender sees it grow at each member, and each member sees it grow here.
func TestProgress(t *testing.T) {
	const size = 8 * mib
	inBulk(t, 5, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		sender, receiver := l.follow(nodes[0]), l.follow(nodes[1])
		l.send(nodes[0], 200)
		number := l.push(nodes[0], size)
		l.reached(time.Minute, number, nodes[1:]...)
		time.Sleep(5 * time.Second)
		for _, n := range nodes[1:] {
			steps := sender.steps("m0", sender.seqs("m0")[0], n.name)
			if len(steps) < 5 || steps[0].Done != 0 || steps[len(steps)-1].State != starling.ProgressHeld || steps[0].Incoming {
				t.Errorf("%s: %d values, the last %v", n.name, len(steps), steps[len(steps)-1:])
			}
			if p := steps[0]; p.Total != size || p.Member.ID != n.Self().ID || p.From.ID != nodes[0].Self().ID {
				t.Errorf("%s: %+v", n.name, p)
			}
		}
		steps := receiver.steps("m0", sender.seqs("m0")[0], "m1")
		if len(steps) < 5 || steps[len(steps)-1].State != starling.ProgressHeld || !steps[0].Incoming || steps[0].Total != size {
			t.Errorf("the receiver saw %d values, the last %v", len(steps), steps[max(len(steps)-1, 0):])
		}
		for _, f := range []*follower{sender, receiver} {
			if seqs := f.seqs("m0"); len(seqs) != 1 || len(f.seqs("m1")) > 0 {
				t.Errorf("told of the messages %v", seqs)
			}
		}
		t.Logf("%d values at the sender, %d at a receiver", len(sender.all()), len(receiver.all()))
	})
}

// A member that dies midway ends with what it was known to hold, at the latest as soon as it is found out, and the others get everything. One that joins
// midway is not owed the message: neither the sender nor itself is told of it.
func TestProgressOfMembersThatComeAndGo(t *testing.T) {
	const size = 8 * mib
	inBulk(t, 5, large, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(2 * mib)
		sender := l.follow(nodes[0])
		number := l.push(nodes[0], size)
		time.Sleep(time.Second)
		var newcomer *follower
		late := l.member("late", l.open, func(n *node) { newcomer = l.follow(n) })
		l.Must(l.Net.SetRate("late", 2*mib, 2*mib))
		l.join(late, nodes[1])
		l.crash(nodes[4])
		l.reached(2*time.Minute, number, nodes[1:4]...)
		time.Sleep(10 * time.Second)
		seq := sender.seqs("m0")[0]
		for _, n := range nodes[1:4] {
			if state, _ := sender.state("m0", seq, n.name); state != starling.ProgressHeld {
				t.Errorf("%s: %v", n.name, state)
			}
		}
		state, done := sender.state("m0", seq, "m4") // given up, if the message was done before its death was noticed
		if state != starling.ProgressGone && state != starling.ProgressGivenUp || done == 0 || done >= size {
			t.Errorf("the dead member: %v with %d bytes", state, done)
		}
		if steps := sender.steps("m0", seq, "late"); len(steps) > 0 {
			t.Errorf("of the newcomer %v was told", steps)
		}
		if values := newcomer.all(); len(values) > 0 {
			t.Errorf("the newcomer was told %v", values)
		}
		next := l.push(nodes[0], 1*mib)
		l.reached(time.Minute, next, nodes[1], late)
		time.Sleep(5 * time.Second)
		seq = sender.seqs("m0")[1]
		if state, _ := sender.state("m0", seq, "late"); state != starling.ProgressHeld {
			t.Errorf("of the next message the newcomer is owed: %v", state)
		}
		if state, _ := newcomer.state("m0", seq, "late"); state != starling.ProgressHeld {
			t.Errorf("the newcomer has of it: %v", state)
		}
	})
}

// A member that is slow gets everything, and one that takes no message of that size is given up, with nothing.
func TestProgressOfSlowAndUnwilling(t *testing.T) {
	const size = 4 * mib
	inBulk(t, 4, large, func(t *testing.T, l *bulk, nodes []*node) {
		for _, limit := range []int{mib, 64 * mib} {
			l.configure = func(c *starling.Config) {
				large(c)
				c.MaxMessageSize = limit
			}
			n := l.member(fmt.Sprint("m", len(nodes)), l.open)
			l.join(n, nodes[0])
			nodes = append(nodes, n)
		}
		l.whole(nodes...)
		time.Sleep(3 * time.Second)
		l.rates(fast)
		l.Must(l.Net.SetRate("m1", 2*mib, 2*mib))
		sender := l.follow(nodes[0])
		number := l.push(nodes[0], size)
		l.reached(2*time.Minute, number, nodes[1], nodes[2], nodes[3], nodes[5])
		time.Sleep(5 * time.Second)
		seq := sender.seqs("m0")[0]
		for _, n := range nodes[1:] {
			want, has := starling.ProgressHeld, int64(size)
			if n.name == "m4" {
				want, has = starling.ProgressGivenUp, 0
			}
			if state, done := sender.state("m0", seq, n.name); state != want || done != has {
				t.Errorf("%s: %v with %d bytes, want %v", n.name, state, done, want)
			}
		}
	})
}

// A sender that dies midway: what is not complete is lost, with a gap.
func TestProgressOfDeadSender(t *testing.T) {
	inBulk(t, 4, large, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(2 * mib)
		receiver := l.follow(nodes[1])
		l.push(nodes[0], 8*mib)
		time.Sleep(time.Second)
		l.crash(nodes[0])
		time.Sleep(2 * time.Minute)
		seq := receiver.seqs("m0")[0]
		state, done := receiver.state("m0", seq, "m1")
		if state != starling.ProgressLost || done == 0 || done >= 8*mib {
			t.Errorf("%v with %d bytes", state, done)
		}
		if len(nodes[1].events.gaps()) == 0 {
			t.Error("no gap was reported")
		}
	})
}

// Many messages of several members at once: each reader is told the end of each at each member, once.
func TestProgressOfMany(t *testing.T) {
	each := fewer(12, 3)
	inBulk(t, 4, nil, func(t *testing.T, l *bulk, nodes []*node) {
		l.rates(fast)
		var followers []*follower
		for _, n := range nodes {
			followers = append(followers, l.follow(n), l.follow(n))
		}
		var numbers []int
		for i := range each {
			for _, n := range nodes {
				numbers = append(numbers, l.push(n, 200_000+i*100_001))
			}
		}
		time.Sleep(time.Minute)
		l.reached(time.Minute, numbers[len(numbers)-1], nodes[:3]...)
		for i, f := range followers {
			self, ends := nodes[i/2].name, 0
			for _, n := range nodes {
				for _, seq := range f.seqs(n.name) {
					for _, at := range nodes {
						if sends := n.name == self; sends == (at.name == self) {
							continue // of what others send it is told here alone
						}
						if state, _ := f.state(n.name, seq, at.name); state == starling.ProgressHeld {
							ends++
						} else {
							t.Errorf("%s: %s/%d at %s: %v", self, n.name, seq, at.name, state)
						}
					}
				}
			}
			if ends != 2*3*each {
				t.Errorf("%s was told %d ends, want %d", self, ends, 2*3*each)
			}
		}
	})
}

// Who does not read holds up nobody, and is told the latest of each message and member, once.
func TestProgressUnread(t *testing.T) {
	const count = 20
	inBulk(t, 4, nil, func(t *testing.T, l *bulk, nodes []*node) {
		progress := l.channels["m0"].Progress(t.Context())
		for range count {
			number := l.push(nodes[0], 300_000)
			l.reached(time.Second, number, nodes[1:]...)
		}
		time.Sleep(5 * time.Second)
		l.Must(nodes[0].Leave(t.Context()))
		told := map[string]int{}
		for p := range progress { // it ends, since the cluster is closed
			if p.State != starling.ProgressHeld || p.Done != 300_000 || p.Skipped != 0 || p.Member.Name == "" {
				t.Errorf("told %+v", p)
			}
			told[fmt.Sprint(p.Seq, p.Member.Name)]++
		}
		if len(told) != 3*count {
			t.Errorf("told of %d, want %d", len(told), 3*count)
		}
		for what, times := range told {
			if times != 1 {
				t.Errorf("%s was told %d times", what, times)
			}
		}
	})
}

// A subscription ends with its context, with its loop, and with the channel; and a second loop over it ends at once.
func TestProgressEnds(t *testing.T) {
	inBulk(t, 2, nil, func(t *testing.T, l *bulk, nodes []*node) {
		ch := l.channels["m0"]
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{ctx, t.Context()} {
			progress := ch.Progress(ctx)
			wg.Go(func() {
				for range progress {
				}
			})
		}
		broken := ch.Progress(t.Context())
		abandoned := ch.Progress(ctx)
		l.push(nodes[0], mib)
		for range broken {
			break
		}
		for range broken {
			t.Error("told after the loop has ended")
		}
		time.Sleep(time.Second)
		cancel()
		for range abandoned {
			t.Error("told after the context has ended")
		}
		ch.Close()
		wg.Wait()
		for range ch.Progress(t.Context()) {
			t.Error("told of a closed channel")
		}
	})
}

// A foreign member is given the message whole: it has nothing, and then everything.
func TestProgressOfForeign(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "us"))
	ch, _ := channel(t, c, "ch", nil)
	heard := make(listener, 1000)
	ml := plainMember(t, "plain", func(c *memberlist.Config) { c.Delegate = heard })
	must(t, c.Join(soon(t), ml.LocalNode().Address()))
	eventually(t, "the plain member is seen", func() bool { return len(c.Members()) == 2 })
	progress := ch.Progress(soon(t))
	must(t, ch.Broadcast(soon(t), say(strings.Repeat("large", 40_000))))
	var steps []starling.Progress
	for p := range progress {
		if steps = append(steps, p); p.State != starling.ProgressUnderWay {
			break
		}
	}
	last := steps[len(steps)-1]
	if last.State != starling.ProgressHeld || last.Done != last.Total || last.Done < 200_000 || last.Member.Name != "plain" || !last.Member.Foreign() {
		t.Errorf("%+v", steps)
	}
	if len(steps) > 2 || len(steps) == 2 && steps[0].Done != 0 {
		t.Errorf("%+v", steps)
	}
}
