package starlingtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
)

const (
	// Pause is how long memberlist's probes may outlive a [Lab]. [Run] sleeps that long at its end; in a bubble of your own,
	// sleep it after [Lab.Close].
	Pause = 30 * time.Second

	joinWithin  = time.Minute
	joinAtOnce  = 16
	leaveWithin = 10 * time.Second
	formWithin  = 10 * time.Minute
	look        = 10 * time.Millisecond // between two checks of what is waited for
)

// Options say how a [Lab] is made. The zero value is a local network whose members have no channel.
type Options struct {
	// Seed is the seed of the network's faults. 0 stands for one of [Seed], which a failed test prints.
	Seed uint64

	// Link is the link between every two members at first. The zero value stands for a local network: a latency of 1 ms, with
	// half of it as jitter. For a perfect network call Net.SetDefault(Link{}) when the Lab has formed.
	Link Link

	// Config, if set, returns the configuration of the member of that name; it is called at every start, on the goroutine that
	// starts the member. The Lab sets its Name and Transport, and a Logger that discards unless there is one.
	Config func(name string) starling.Config

	// Open, if set, opens a member's channels. It is called at every start of a member, before it joins, on the goroutine that
	// starts the member. An error fails the test. What needs a context there must not get that of the test outside: it belongs to no bubble.
	Open func(m *Member) error
}

// Lab is a whole cluster on a [Network]. Make one with [Run] or [NewLab].
//
// Its methods fail the test when they cannot do what they are asked: where a name is none of a member that runs, or a member
// cannot start or join. So call them on the test's own goroutine, and one at a time. Times are virtual in a bubble, real outside.
type Lab struct {
	// Net is the network that the members are on, for faults and counters. Its methods return errors; see [Lab.Must].
	Net *Network

	t       TB
	options Options
	members []*Member // Invariant: those that run, in the order of their start
}

// Member is one run of one member of a [Lab]: from its start until it crashes or leaves. Nobody changes it. A later run of the
// same name is another Member.
type Member struct {
	Name    string            // that of its starling.Config
	Cluster *starling.Cluster // open while the run lasts; the Lab closes it
}

// Run makes a bubble of [testing/synctest] and in it a Lab of n members, m0 to m(n-1), who all see each other; it runs body,
// stops everything, and sleeps [Pause]. When body begins the members are not ready yet (Cluster.Ready): that takes half a second more. Everything takes virtual time, so body may sleep as long as it likes. If body fails the
// test, which it must do by the t that it is given, Run stops everything too. Goroutines that body has started, those of the
// service under test too, must end by themselves, or be ended by body: the bubble waits for them, and fails the test when all that
// is left of them waits for ever.
func Run(t *testing.T, n int, o Options, body func(t *testing.T, l *Lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, o)
		defer time.Sleep(Pause)
		defer l.Close()
		l.form(n)
		body(t, l)
	})
}

// NewLab makes a Lab of n members, m0 to m(n-1), who all see each other: in real time, or in a bubble of your own. The caller
// closes it. In an example or a program there is no test: then t is nil, and what would fail the test panics.
func NewLab(t TB, n int, o Options) *Lab {
	if t == nil {
		t = noTest{}
	}
	t.Helper()
	l := newLab(t, o)
	formed := false
	defer func() {
		if !formed {
			l.Close()
		}
	}()
	l.form(n)
	formed = true
	return l
}

func newLab(t TB, o Options) *Lab {
	seed := o.Seed
	if seed == 0 {
		seed = Seed(t)
	}
	if o.Link == (Link{}) {
		o.Link = Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond}
	}
	l := &Lab{Net: NewNetwork(seed), t: t, options: o}
	l.Must(l.Net.SetDefault(o.Link))
	return l
}

// form starts the first members. Each joins twice, because at its second join it is told of everybody at once: gossip alone
// takes four times as long until 1,000 members know each other.
func (l *Lab) form(n int) {
	l.t.Helper()
	for i := range n {
		l.open(fmt.Sprintf("m%d", i))
	}
	for range 2 {
		for some := range slices.Chunk(l.members, joinAtOnce) {
			l.Must(l.join(some...))
		}
	}
	l.WaitAll(formWithin)
}

// Close ends every member without a goodbye, and closes the network. It may be called twice.
func (l *Lab) Close() {
	for _, m := range l.members {
		m.Cluster.Close()
	}
	l.members = nil
	l.Net.Close()
}

// Start starts a member that does not run, and returns when it has joined the member that has run longest. A name that ran
// before keeps its address, as a process does that is started again.
func (l *Lab) Start(name string) *Member {
	l.t.Helper()
	m := l.open(name)
	l.Must(l.join(m))
	return m
}

// StartAlone is [Lab.Start] without the join: the member knows nobody until you call its Cluster's Join, or another member finds
// it. Until then [Lab.WaitAll] fails.
func (l *Lab) StartAlone(name string) *Member {
	l.t.Helper()
	return l.open(name)
}

// Restart crashes a member if it runs (see [Lab.Crash]), and starts it.
func (l *Lab) Restart(name string) *Member {
	l.t.Helper()
	if l.index(name) >= 0 {
		l.Crash(name)
	}
	return l.Start(name)
}

// Crash ends a member without a goodbye, as if its machine lost power: the others get no answer from it any more. It returns
// when the member's Cluster is closed.
func (l *Lab) Crash(name string) {
	l.t.Helper()
	m := l.remove(name)
	l.Must(l.Net.Crash(name))
	l.Must(m.Cluster.Close())
}

// Leave ends a member by its Cluster's Leave, and returns when it has left. An error, or more than 10 s, fails the test.
func (l *Lab) Leave(name string) {
	l.t.Helper()
	m := l.remove(name)
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	l.Must(m.Cluster.Leave(ctx))
}

// Member returns the member of that name that runs.
func (l *Lab) Member(name string) *Member {
	l.t.Helper()
	i := l.index(name)
	if i < 0 {
		l.t.Fatalf("starlingtest: no member %q runs", name)
	}
	return l.members[i]
}

// Members returns the members that run, in the order of their start. The caller owns the slice.
func (l *Lab) Members() []*Member { return slices.Clone(l.members) }

// Names returns the names of the members that run, in the order of their start.
func (l *Lab) Names() []string {
	names := make([]string, len(l.members))
	for i, m := range l.members {
		names[i] = m.Name
	}
	return names
}

// Counters returns what a member has sent, received and lost, over all its runs. It need not run now.
func (l *Lab) Counters(name string) Counters {
	l.t.Helper()
	c, err := l.Net.Counters(name)
	l.Must(err)
	return c
}

// WaitAll waits until every member that runs sees every member that runs, in its present run, and no other. If that takes
// longer than limit, the test fails.
func (l *Lab) WaitAll(limit time.Duration) {
	l.t.Helper()
	l.Within(limit, l.AllSeeAll)
}

// AllSeeAll returns nil if every member that runs sees every member that runs, in its present run, and no other. The error
// names who sees whom.
func (l *Lab) AllSeeAll() error {
	for _, m := range l.members {
		if n := m.Cluster.Stats().Members; n != len(l.members) { // cheap, and the usual reason
			if err := l.See([]string{m.Name}, l.Names()); err != nil {
				return err
			}
		}
	}
	return l.See(l.Names(), l.Names())
}

// See returns nil if each of viewers sees exactly the members in seen, in their present run. All of them must run. The error has
// a line for each viewer that lacks members or sees others.
func (l *Lab) See(viewers, seen []string) error {
	l.t.Helper()
	runs := make(map[string]uint64, len(seen))
	for _, name := range seen {
		runs[name] = l.Member(name).Cluster.Self().ID
	}
	var errs []error
	for _, viewer := range viewers {
		lacks, strange, gone := maps.Clone(runs), []string(nil), []string(nil)
		for _, m := range l.Member(viewer).Cluster.Members() {
			if id, wanted := runs[m.Name]; !wanted && l.index(m.Name) < 0 {
				gone = append(gone, m.Name)
			} else if !wanted {
				strange = append(strange, m.Name)
			} else if id == m.ID {
				delete(lacks, m.Name)
			}
		}
		if len(lacks) > 0 {
			errs = append(errs, fmt.Errorf("%s does not see %d: %s", viewer, len(lacks), list(slices.Sorted(maps.Keys(lacks)))))
		}
		if len(gone) > 0 {
			errs = append(errs, fmt.Errorf("%s sees %d that the Lab does not run: %s", viewer, len(gone), list(gone)))
		}
		if len(strange) > 0 {
			errs = append(errs, fmt.Errorf("%s should not see %d: %s", viewer, len(strange), list(strange)))
		}
	}
	return errors.Join(errs...)
}

// Within calls check every 10 ms until it returns nil. If that takes longer than limit, the test fails with check's last error.
func (l *Lab) Within(limit time.Duration, check func() error) {
	l.t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) >= limit {
			l.t.Fatalf("starlingtest: after %v: %v", limit, err)
		}
		time.Sleep(min(look, limit-time.Since(began)))
	}
}

// Must fails the test if err is not nil. It is for what returns an error, as in l.Must(l.Net.Partition(…)).
func (l *Lab) Must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("starlingtest: %v", err)
	}
}

// open makes a member that knows nobody.
func (l *Lab) open(name string) *Member {
	l.t.Helper()
	tr, err := l.Net.Transport(name)
	l.Must(err)
	var c starling.Config
	if l.options.Config != nil {
		c = l.options.Config(name)
	}
	c.Name, c.Transport = name, tr
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	cluster, err := starling.New(c)
	if err != nil {
		tr.Shutdown()
		l.Must(err)
	}
	m := &Member{Name: name, Cluster: cluster}
	l.members = append(l.members, m)
	if l.options.Open != nil {
		l.Must(l.options.Open(m))
	}
	return m
}

// join joins members, all at the same time, to the member that has run longest.
func (l *Lab) join(members ...*Member) error {
	ctx, cancel := context.WithTimeout(context.Background(), joinWithin)
	defer cancel()
	first := l.members[0]
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		if m != first {
			all.Go(func() { errs[i] = m.Cluster.Join(ctx, first.Cluster.Self().Addr.String()) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

func (l *Lab) index(name string) int {
	return slices.IndexFunc(l.members, func(m *Member) bool { return m.Name == name })
}

func (l *Lab) remove(name string) *Member {
	l.t.Helper()
	m := l.Member(name)
	l.members = slices.DeleteFunc(l.members, func(o *Member) bool { return o == m })
	return m
}

// noTest stands for a test where there is none.
type noTest struct{}

func (noTest) Helper()                           {}
func (noTest) Cleanup(func())                    {}
func (noTest) Failed() bool                      { return false }
func (noTest) Logf(string, ...any)               {}
func (noTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
