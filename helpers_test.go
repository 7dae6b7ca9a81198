package starling_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/starling-go/starling"
)

// patience ends a test that would otherwise hang; nothing that works comes near it.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// text is the message type of most tests.
type text = *wrapperspb.StringValue

func say(s string) text { return wrapperspb.String(s) }

// quick makes memberlist exchange its lists often. Who is gone is found out in some ten seconds, no sooner: on a loaded
// machine a member may be starved for a while, and must not fail for that. Streams get a time that such a machine can keep.
func quick(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = time.Second, time.Second
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 6, 1
	c.PushPullInterval = 2 * time.Second
	c.TCPTimeout = 10 * time.Second
	c.DeadNodeReclaimTime = time.Second
}

// still makes memberlist neither gossip nor exchange states, and nearly never probe.
func still(c *memberlist.Config) {
	c.GossipInterval, c.PushPullInterval = 0, 0
	c.ProbeInterval = time.Hour
	c.TCPTimeout = 10 * time.Second
}

// config is that of a member on a loopback port that the system picks. The label keeps tests apart: a member that looks
// for one it lost may find a port in the hands of another test.
func config(tb testing.TB, name string) starling.Config {
	label, _, _ := strings.Cut(tb.Name(), "#")
	return starling.Config{
		Name: name, BindAddr: "127.0.0.1:0", Profile: starling.ProfileLocal, Logger: quiet, Tune: quick, Label: label,
	}
}

// start makes a member and closes it with the test.
func start(tb testing.TB, cfg starling.Config) *starling.Cluster {
	tb.Helper()
	c, err := starling.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return c
}

// startMembers makes n members named m00, m01 and so on, each with its Config changed by alter (which may be nil). They know
// nobody.
func startMembers(tb testing.TB, n int, alter func(i int, c *starling.Config)) []*starling.Cluster {
	tb.Helper()
	members := make([]*starling.Cluster, n)
	for i := range members {
		cfg := config(tb, fmt.Sprintf("m%02d", i))
		if alter != nil {
			alter(i, &cfg)
		}
		members[i] = start(tb, cfg)
	}
	return members
}

// flock is what fastpath_cluster_test.go and bench_test.go still call startMembers.
var flock = startMembers

// addr is where others reach c.
func addr(c *starling.Cluster) string { return c.Self().Addr.String() }

// join joins every member through the first and waits until all see all.
func join(tb testing.TB, members ...*starling.Cluster) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for _, c := range members[1:] {
		if err := c.Join(ctx, addr(members[0])); err != nil {
			tb.Fatal(err)
		}
	}
	allSee(tb, members...)
}

// joinFails returns the error of a Join that cannot succeed, which goes on trying until its context ends: it is given more time until
// the error says that, since a slow machine may not have come that far.
func joinFails(tb testing.TB, c *starling.Cluster, seed, says string) (err error) {
	for limit := 60 * time.Millisecond; limit < patience; limit *= 2 {
		ctx, cancel := context.WithTimeout(tb.Context(), limit)
		err = c.Join(ctx, seed)
		cancel()
		if err == nil || strings.Contains(err.Error(), says) {
			break
		}
	}
	return err
}

// allSee waits until each of the members sees exactly these.
func allSee(tb testing.TB, members ...*starling.Cluster) {
	tb.Helper()
	var want []string
	for _, c := range members {
		want = append(want, c.Self().Name)
	}
	slices.Sort(want)
	for _, c := range members {
		eventually(tb, fmt.Sprintf("%s sees %v", c.Self().Name, want), func() bool { return slices.Equal(names(c), want) })
	}
}

// names returns the names of the members that c sees, in order.
func names(c *starling.Cluster) []string {
	var names []string
	for _, m := range c.Members() {
		names = append(names, m.Name)
	}
	return names
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-poll.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// arrives takes a value from ch, which must come.
func arrives[T any](tb testing.TB, what string, ch <-chan T) T {
	tb.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		tb.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

// soon is a context for what works at once.
func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// brief is a context for what is to time out.
func brief(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	tb.Cleanup(cancel)
	return ctx
}

// recorder keeps the messages that a handler was given, for tests that look into them. Where it is enough to count them, see
// starlingtest.Recorder.
type recorder[T any] struct {
	mu  sync.Mutex
	got []starling.Message[T]
}

func (r *recorder[T]) handle(_ context.Context, m starling.Message[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
}

func (r *recorder[T]) messages() []starling.Message[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder[T]) count() int { return len(r.messages()) }

// heard returns the texts that were recorded, sorted.
func heard(r *recorder[text]) []string {
	var texts []string
	for _, m := range r.messages() {
		texts = append(texts, m.Value.GetValue())
	}
	slices.Sort(texts)
	return texts
}

// hears waits until exactly these texts were recorded, each once.
func hears(tb testing.TB, who string, r *recorder[text], want ...string) {
	tb.Helper()
	want = slices.Sorted(slices.Values(want))
	eventually(tb, fmt.Sprintf("%s hears %d messages", who, len(want)), func() bool { return r.count() >= len(want) })
	if got := heard(r); !slices.Equal(got, want) {
		tb.Errorf("%s heard %.200q, want %.200q", who, got, want)
	}
}

// channel opens a text channel on c.
func channel(tb testing.TB, c *starling.Cluster, key string, o *starling.ChannelOptions[text]) (
	*starling.Channel[text], *recorder[text],
) {
	tb.Helper()
	r := new(recorder[text])
	ch, err := starling.NewChannel(c, key, r.handle, o)
	if err != nil {
		tb.Fatal(err)
	}
	return ch, r
}

// channels opens a text channel on every member.
func channels(tb testing.TB, members []*starling.Cluster, key string, o *starling.ChannelOptions[text]) (
	[]*starling.Channel[text], []*recorder[text],
) {
	tb.Helper()
	chs, rs := make([]*starling.Channel[text], len(members)), make([]*recorder[text], len(members))
	for i, c := range members {
		chs[i], rs[i] = channel(tb, c, key, o)
	}
	return chs, rs
}

// watch records the events of a member until it is closed or the test ends.
func watch(tb testing.TB, c *starling.Cluster) *watcher {
	w := new(watcher)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range c.Events(ctx) {
			w.mu.Lock()
			w.events = append(w.events, e)
			w.mu.Unlock()
		}
	})
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return w
}

type watcher struct {
	mu     sync.Mutex
	events []starling.Event
}

// of returns the kinds of the events about a name, in order.
func (w *watcher) of(name string) []starling.EventKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []starling.EventKind
	for _, e := range w.events {
		if e.Member.Name == name {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// sees waits until the events about a name are exactly these.
func (w *watcher) sees(tb testing.TB, name string, want ...starling.EventKind) {
	tb.Helper()
	what := fmt.Sprintf("events %v about %s (so far %v)", want, name, w.of(name))
	eventually(tb, what, func() bool { return len(w.of(name)) >= len(want) })
	if got := w.of(name); !slices.Equal(got, want) {
		tb.Errorf("events about %s: %v, want %v", name, got, want)
	}
}

// gaps returns the gaps that the member has reported.
func (w *watcher) gaps() []starling.Gap {
	w.mu.Lock()
	defer w.mu.Unlock()
	var gaps []starling.Gap
	for _, e := range w.events {
		if e.Kind == starling.EventGap {
			gaps = append(gaps, e.Gap)
		}
	}
	return gaps
}

// all returns the kind of every event and whom it is about.
func (w *watcher) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var texts []string
	for _, e := range w.events {
		texts = append(texts, fmt.Sprint(e.Kind, " ", e.Member.Name))
	}
	return texts
}
