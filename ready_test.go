package starling_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/starlingtest"
)

// ready waits until a member is ready, and returns how long that took.
func ready(t *testing.T, n *node, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Errorf("%s: %v", n.name, err)
	}
	return time.Since(began)
}

// notReady returns why a member is not ready.
func notReady(t *testing.T, n *node, want starling.NotReadyReason) *starling.NotReadyError {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := n.Ready(ctx)
	var e *starling.NotReadyError
	if !errors.As(err, &e) || e.Reason != want || !errors.Is(err, context.Canceled) {
		t.Fatalf("%s: %v, want reason %v", n.name, err, want)
	}
	if h := n.Health(); h.NotReady == nil || h.NotReady.Reason != want || h.Members != len(n.Members()) {
		t.Errorf("%s: %+v", n.name, h)
	}
	return e
}

// A member without seeds is ready alone, at once; one with seeds is not before one has answered.
func TestReadyAlone(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		a := l.member("a", openRegisters(t, s))
		if took := ready(t, a, time.Second); took > 0 {
			t.Errorf("alone, and ready after %v", took)
		}
		b := l.member("b", openRegisters(t, s))
		must(t, l.Net.Partition([]string{"a"}, []string{"b"}))
		joined := make(chan error, 1)
		go func() { joined <- b.Join(t.Context(), a.Self().Addr.String()) }()
		time.Sleep(time.Minute)
		notReady(t, b, starling.NotReadyAlone)
		l.Net.Heal()
		must(t, <-joined)
		ready(t, b, 2*time.Second)
		if took := ready(t, a, time.Second); took > 0 {
			t.Errorf("the first is ready again after %v", took)
		}
	})
}

// Three members that start together are ready within a second.
func TestReadySoon(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) { c.MinMembers = 3 }
		s := newStates()
		a := l.member("a", openRegisters(t, s))
		if e := notReady(t, a, starling.NotReadyMembers); e.Have != 1 || e.Want != 3 {
			t.Errorf("%v", e)
		}
		b, c := l.member("b", openRegisters(t, s)), l.member("c", openRegisters(t, s))
		began := time.Now()
		for _, n := range []*node{b, c} {
			go n.Join(t.Context(), a.Self().Addr.String())
		}
		for _, n := range []*node{a, b, c} {
			ready(t, n, time.Minute)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("all ready after %v", took)
		} else {
			t.Logf("all ready after %v", took)
		}
	})
}

// A member is not ready while it lacks its state, and says whom it waits for; when it is, it has the state, and was told so by an event.
func TestReadyWithState(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(3, openRegisters(t, s)))
		s.fill(t, 10, nodes...)
		late := l.member("late", func(*node) {})
		events := make(chan starling.Event, 100)
		go func() {
			for e := range late.Events(t.Context()) {
				events <- e
			}
		}()
		l.join(late, nodes[0])
		refusing := labLink
		refusing.RefuseStreams = true
		l.links(refusing)
		openRegisters(t, s)(late) // not before: its state would perhaps be here already
		for range 100 {
			if e := notReady(t, late, starling.NotReadyState); e.Channel != "register" || len(e.Members) != 3 || e.Members[0].Name != "m0" {
				t.Fatalf("%v", e)
			}
			time.Sleep(100 * time.Millisecond)
		}
		l.links(labLink)
		took := ready(t, late, 20*time.Second)
		if n := len(s.registers[late].copy()); n != 10 {
			t.Errorf("ready with %d entries", n)
		}
		t.Logf("ready %v after streams got through", took)
		time.Sleep(time.Second)
		synced := 0
		for len(events) > 0 {
			if e := <-events; e.Kind == starling.EventSynced {
				synced++
				if e.Channel != "register" || e.Member.Name != "late" {
					t.Errorf("%+v", e)
				}
			}
		}
		if synced != 1 {
			t.Errorf("%d times synced", synced)
		}
	})
}

// A member that is ready has handled all that was broadcast before it joined, though handlers are slow and messages come all the time.
func TestReadyUnderTraffic(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(5, openRegisters(t, s)))
		l.links(rough)
		var writers []*register // the newcomers' come into the map while this goroutine runs
		for _, n := range nodes {
			writers = append(writers, s.registers[n])
		}
		var sent atomic.Int64
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				writers[i%5].set(t, fmt.Sprint(i), "x")
				sent.Store(int64(i + 1))
				select {
				case <-time.After(20 * time.Millisecond):
				case <-stop:
					return
				}
			}
		}()
		for i := range 3 {
			time.Sleep(10 * time.Second)
			late := l.member(fmt.Sprint("late", i), func(n *node) {
				openRegisters(t, s)(n)
				s.registers[n].setBusy(func() { time.Sleep(time.Millisecond) })
			})
			before := int(sent.Load())
			l.join(late, nodes[i])
			took := ready(t, late, 30*time.Second)
			have := s.registers[late].copy()
			lacking := 0
			for k := range before {
				if _, ok := have[fmt.Sprint(k)]; !ok {
					lacking++
				}
			}
			if lacking > 0 {
				t.Errorf("%s is ready, and lacks %d of %d", late.name, lacking, before)
			}
			t.Logf("ready after %v, of %d messages", took, before)
		}
		close(stop)
		<-done
	})
}

// Gossip about newcomers does not reach one member, as may happen where packets are lost: memberlist tells of each a few times only. They are
// ready, and Confirm returns, long before its next push/pull, 30 s later: they tell it of themselves.
func TestOneMemberHearsNoGossip(t *testing.T) {
	const limit = 10 * time.Second
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		channels := map[*node]*starling.Channel[[]byte]{}
		plain := func(n *node) { // without state, so that nothing but Confirm asks anybody
			ch, err := starling.NewChannelOf(n.Cluster, "plain", func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
			must(t, err)
			channels[n] = ch
		}
		state := openRegisters(t, s)
		nodes := slices.Clone(l.members(5, func(n *node) { plain(n); state(n) }))
		deaf := nodes[4]
		for _, n := range nodes[:4] {
			must(t, l.Net.SetLink(n.name, deaf.name, starlingtest.Link{BlockPackets: true}))
		}
		late := func(name string, open func(*node), through *node) *node {
			n := l.member(name, open)
			l.join(n, through)
			must(t, l.Net.SetLink(n.name, deaf.name, starlingtest.Link{BlockPackets: true}))
			return n
		}
		for i, through := range nodes[:4] {
			s.registers[deaf].set(t, fmt.Sprint(i), "x")
			if took := ready(t, late(fmt.Sprint("ready", i), state, through), time.Minute); took > limit {
				t.Errorf("the newcomer %d is ready after %v", i, took)
			}
			n := late(fmt.Sprint("confirms", i), plain, through)
			began := time.Now()
			err := channels[n].Confirm(t.Context(), nil, &starling.ConfirmOptions{Handled: true})
			if took := time.Since(began); err != nil || took > limit {
				t.Errorf("a message of the newcomer %d is confirmed after %v: %v", i, took, err)
			}
		}
	})
}

// A state that is too large is told of by an event at the one that lacks it, which gets those of the others.
func TestStateTooLargeIsTold(t *testing.T) {
	if raced {
		t.Skip("260 MiB")
	}
	inLab(t, func(t *testing.T, l *lab) {
		a := l.member("a", func(n *node) { openHoard(t, n, starling.MaxStateSize>>20+1) })
		c := l.member("c", func(n *node) { openHoard(t, n, 1) })
		l.join(c, a)
		var got *atomic.Int64
		b := l.member("b", func(n *node) { got = openHoard(t, n, 0) })
		told := make(chan starling.Event, 10)
		go func() {
			for e := range b.Events(t.Context()) {
				if e.Kind == starling.EventStateTooLarge {
					told <- e
				}
			}
		}()
		l.join(b, a)
		time.Sleep(3 * time.Second)
		if n := got.Load(); n != 1 {
			t.Errorf("%d items of the state that can be had, want 1", n)
		}
		var e starling.Event
		select {
		case e = <-told:
		default:
			t.Fatal("it is not told")
		}
		var large *starling.StateTooLargeError
		if !errors.As(e.Err, &large) || large.Member != "a" || large.Channel != "hoard" || large.Size <= large.Limit || large.Item || e.Member.Name != "a" {
			t.Errorf("%+v", e)
		}
		if e := notReady(t, b, starling.NotReadyState); e.Channel != "hoard" {
			t.Errorf("%v", e)
		}
	})
}

// When a member closes, whoever waits for it to be ready is told so.
func TestReadyEnds(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) { c.MinMembers = 2 }
		a := l.member("a")
		done := make(chan error, 1)
		go func() { done <- a.Ready(context.Background()) }()
		time.Sleep(time.Second)
		l.crash(a)
		must(t, a.Close())
		if err := <-done; !errors.Is(err, starling.ErrClosed) {
			t.Error(err)
		}
	})
}

// A member is ready when the membership has not changed for half a second, and stays so when it changes after that.
func TestReadyWhenQuiet(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.member("a"), l.member("b")
		l.join(b, a)
		notReady(t, b, starling.NotReadyUnsettled)
		time.Sleep(400 * time.Millisecond)
		c := l.member("c")
		l.join(c, a)
		if _, ok := within(time.Second, func() bool { return len(b.Members()) == 3 }); !ok {
			t.Fatal("b does not see the third")
		}
		changed := time.Now()
		notReady(t, b, starling.NotReadyUnsettled)
		ready(t, b, time.Minute)
		if quiet := time.Since(changed); quiet < 480*time.Millisecond || quiet > 520*time.Millisecond {
			t.Errorf("ready %v after it saw the third, want half a second", quiet)
		}

		stays := func(what string) {
			t.Helper()
			for range 100 {
				if e := b.Health().NotReady; e != nil {
					t.Fatalf("%s, and b is no longer ready: %v", what, e)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		d := l.member("d")
		l.join(d, a)
		l.whole(a, b, c, d)
		notReady(t, d, starling.NotReadyUnsettled) // so the change was a moment ago
		stays("a fourth has come")
		must(t, c.Leave(t.Context()))
		l.gone(c)
		stays("one has left")
	})
}

// After a Join that has failed since a member has not taken this one in, Ready waits for that one, and then for the states.
func TestReadyAfterFailedJoin(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := slices.Clone(l.members(2, openRegisters(t, s)))
		s.fill(t, 10, nodes...)
		free := make(chan struct{})
		release := sync.OnceFunc(func() { close(free) })
		defer release()
		for i, n := range nodes { // so that none gives its state
			s.registers[n].setBusy(func() { <-free })
			s.registers[nodes[1-i]].set(t, fmt.Sprint("new", i), "x")
		}

		late := l.member("late", openRegisters(t, s))
		must(t, l.Net.Freeze("m1"))
		joining, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		err := late.Join(joining, addr(nodes[0].Cluster))
		var refused *starling.NotTakenInError
		if !errors.As(err, &refused) || len(refused.Members) != 1 || refused.Members[0].Name != "m1" {
			t.Fatalf("Join: %v, want that m1 has not taken it in", err)
		}
		for range 10 {
			if e := notReady(t, late, starling.NotReadyJoin); len(e.Members) != 1 || e.Members[0].Name != "m1" {
				t.Fatalf("%v, want that m1 is waited for", e)
			}
			time.Sleep(100 * time.Millisecond)
		}

		must(t, l.Net.Thaw("m1")) // before the others give it up
		if _, ok := within(5*time.Second, func() bool {
			e := late.Health().NotReady
			return e == nil || e.Reason != starling.NotReadyJoin
		}); !ok {
			t.Fatal("m1 does not take it in")
		}
		for range 20 {
			if e := notReady(t, late, starling.NotReadyState); e.Channel != "register" || len(e.Members) != 2 {
				t.Fatalf("%v, want that both states are waited for", e)
			}
			time.Sleep(100 * time.Millisecond)
		}
		release()
		ready(t, late, 20*time.Second)
		if n := len(s.registers[late].copy()); n != 12 {
			t.Errorf("ready with %d of 12 entries", n)
		}
	})
}

// A member that leaves is not ready from the moment that Leave was called.
func TestNotReadyWhileLeaving(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(2))
		a := nodes[0]
		ready(t, a, time.Minute)
		l.cut(a, nodes[1])
		l.send(a, 100) // Leave waits, for nobody else holds it
		left := make(chan struct{})
		go func() {
			defer close(left)
			_ = a.Leave(context.Background()) // it says that the other has not heard of it
		}()
		l.gone(a)
		check := func() {
			t.Helper()
			if e := a.Health().NotReady; e == nil || e.Reason != starling.NotReadyClosed {
				t.Errorf("Health: %v", e)
			}
			began := time.Now()
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if err := a.Ready(ctx); !errors.Is(err, starling.ErrClosed) || time.Since(began) > 0 {
				t.Errorf("Ready: %v after %v", err, time.Since(began))
			}
		}
		time.Sleep(100 * time.Millisecond)
		check()
		select {
		case <-left:
			t.Error("Leave has returned: nothing was tested")
		default:
		}
		<-left
		check()
	})
}

// Members are restarted one after the other, politely or by a crash, while all broadcast: none handles a message before its state, and who is
// ready has all that was set before it came, and is with somebody who stays. STARLING_MEMBERS and STARLING_RATE (messages per second of all)
// make it larger.
func TestReadyInRollingRestart(t *testing.T) {
	n, rate := seedtest.Number(t, "STARLING_MEMBERS", 6), seedtest.Number(t, "STARLING_RATE", 60)
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		r := &rollingWriters{t: t, pause: time.Second * time.Duration(n) / time.Duration(rate)}
		for _, m := range slices.Clone(l.members(n, openRegisters(t, s))) {
			r.start(m.name, s.registers[m])
		}
		time.Sleep(time.Second)
		for i := range n {
			m := l.nodes[0] // who has run for longest
			r.stop(m.name)
			if i%2 == 0 {
				time.Sleep(time.Second) // what it has sent has left it
				l.crash(m)
			} else {
				must(t, m.Leave(t.Context()))
				l.gone(m)
			}
			back := l.member(m.name, openRegisters(t, s))
			owed := r.set()
			l.join(back, l.nodes[0])
			took := ready(t, back, time.Minute)
			have, lacking := s.registers[back].copy(), 0
			for _, key := range owed {
				if _, ok := have[key]; !ok {
					lacking++
				}
			}
			given, early := map[string]bool{}, 0
			for _, msg := range s.registers[back].given.messages() {
				if msg.Via != starling.ViaSync {
					break
				}
				given[msg.Value.Key] = true
			}
			for _, key := range owed {
				if !given[key] {
					early++
				}
			}
			if lacking > 0 || early > 0 {
				t.Errorf("%s is ready and lacks %d of %d; it has handled a message before %d of its state", m.name, lacking, len(owed), early)
			}
			t.Logf("%s is ready after %v, with %d", m.name, took, len(owed))
			r.start(m.name, s.registers[back])
		}
		for name := range r.stops {
			r.stop(name)
		}
	})
}

// rollingWriters set one key after the other, each at its member.
type rollingWriters struct {
	t     *testing.T
	pause time.Duration

	mu    sync.Mutex
	keys  []string
	stops map[string]func()
}

func (r *rollingWriters) start(name string, reg *register) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(r.pause):
			}
			r.mu.Lock()
			key := fmt.Sprint(len(r.keys))
			r.keys = append(r.keys, key)
			r.mu.Unlock()
			reg.set(r.t, key, name)
		}
	}()
	if r.stops == nil {
		r.stops = map[string]func(){}
	}
	r.stops[name] = func() { close(stop); <-done }
}

// stop ends the writer at a member; it has set all that it has begun to.
func (r *rollingWriters) stop(name string) {
	r.stops[name]()
	delete(r.stops, name)
}

// set returns what was set so far.
func (r *rollingWriters) set() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}

// Who is ready alone, and joins nobody, stays ready when another member comes to it, though that one has no such Map.
func TestReadyAloneWithMap(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a := l.member("a", func(n *node) {
			_, err := starling.NewMap(n.Cluster, "map", starling.JSON[string](), nil)
			must(t, err)
		})
		ready(t, a, 0)
		l.join(l.member("b"), a)
		for range 100 {
			if e := a.Health().NotReady; e != nil {
				t.Fatalf("with another member: %v", e)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}
