package starling_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/starlingtest"
)

// mapLab is a Lab whose members each have a Map open, and a loop that watches it.
type mapLab struct {
	*starlingtest.Lab
	t    *testing.T
	runs map[string]*mapRun // the latest of each member
	// options, if set, returns the options of a member's Map.
	options func(name string) *starling.MapOptions[string]
	without string // a member that does not open the Map
}

// mapRun is one run of a member, and what its loop was told.
type mapRun struct {
	*starling.Map[string]
	cluster *starling.Cluster
	name    string

	mu      sync.Mutex
	told    map[string]string
	changes []starling.MapChange[string]
	wrong   []string // what it was told that cannot be
	synced  int
}

// inMapLab runs a test in a bubble with n members.
func inMapLab(t *testing.T, n int, l *mapLab, o starlingtest.Options, body func(t *testing.T, l *mapLab)) {
	t.Helper()
	l.runs = map[string]*mapRun{}
	o.Open = l.open
	starlingtest.Run(t, n, o, func(t *testing.T, lab *starlingtest.Lab) {
		l.t, l.Lab = t, lab
		body(t, l)
	})
}

func (l *mapLab) open(m *starlingtest.Member) (err error) {
	if m.Name == l.without {
		return nil
	}
	var o *starling.MapOptions[string]
	if l.options != nil {
		o = l.options(m.Name)
	}
	r := &mapRun{cluster: m.Cluster, name: m.Name, told: map[string]string{}}
	if r.Map, err = starling.NewMap(m.Cluster, "map", starling.JSON[string](), o); err == nil {
		go r.watch()
	}
	l.runs[m.Name] = r
	return err
}

func (r *mapRun) watch() {
	for c := range r.Watch(context.Background(), "") {
		r.mu.Lock()
		old, had := r.told[c.Key]
		if c.Kind != starling.ChangeSynced && (had != c.Had || old != c.Old) {
			r.wrong = append(r.wrong, fmt.Sprintf("%v, where it knew %q (%v)", c, old, had))
		}
		switch c.Kind {
		case starling.ChangeSynced:
			r.synced++
		case starling.ChangePut:
			r.told[c.Key] = c.Value
		default:
			delete(r.told, c.Key)
		}
		r.changes = append(r.changes, c)
		r.mu.Unlock()
	}
}

// of returns the kinds of what the loop was told of a key.
func (r *mapRun) of(key string) (kinds []starling.ChangeKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.changes {
		if c.Key == key && c.Kind != starling.ChangeSynced {
			kinds = append(kinds, c.Kind)
		}
	}
	return kinds
}

func (r *mapRun) content() map[string]string { return maps.Collect(r.All()) }

func (r *mapRun) set(t *testing.T, key, value string) {
	t.Helper()
	if err := r.Set(t.Context(), key, value); err != nil {
		t.Fatalf("%s: Set: %v", r.name, err)
	}
}

// every returns the latest run of every member that runs.
func (l *mapLab) every() (runs []*mapRun) {
	for _, name := range l.Names() {
		if name != l.without {
			runs = append(runs, l.runs[name])
		}
	}
	return runs
}

// equal waits until all members have the same, of so many keys, and every loop was told of it.
func (l *mapLab) equal(limit time.Duration, keys int) (took time.Duration) {
	l.t.Helper()
	began := time.Now()
	l.Within(limit, func() error {
		first := l.every()[0].content()
		if len(first) != keys {
			return fmt.Errorf("%s has %d keys, want %d", l.every()[0].name, len(first), keys)
		}
		for _, r := range l.every() {
			select {
			case <-r.Synced():
			default:
				return fmt.Errorf("%s does not have its first values yet", r.name)
			}
			if c := r.content(); !maps.Equal(c, first) {
				return fmt.Errorf("%s has %d keys, and not what %s has, %d", r.name, len(c), l.every()[0].name, len(first))
			}
		}
		return nil
	})
	took = time.Since(began)
	time.Sleep(10 * time.Millisecond) // for the loops
	for _, r := range l.every() {
		r.mu.Lock()
		if !maps.Equal(r.told, r.content()) || len(r.wrong) > 0 || r.synced != 1 {
			l.t.Errorf("the loop of %s was told of %d keys of %d, %d times that all is there, and wrongly: %v",
				r.name, len(r.told), r.Len(), r.synced, r.wrong)
		}
		r.mu.Unlock()
	}
	return took
}

// groups splits the members into that many groups.
func (l *mapLab) groups(n int) (groups [][]string) {
	groups = make([][]string, n)
	for i, name := range l.Names() {
		groups[i%n] = append(groups[i%n], name)
	}
	return groups
}

// What one member changes the others have within milliseconds, and each loop is told of it once, with who did it.
func TestMapSpreads(t *testing.T) {
	inMapLab(t, 10, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		l.equal(5*time.Second, 0)
		one, other := l.runs["m3"], l.runs["m7"]
		one.set(t, "a", "1")
		if v, ok := one.Get("a"); !ok || v != "1" {
			t.Errorf("m3 does not read what it has written: %q, %v", v, ok)
		}
		if took := l.equal(time.Second, 1); took > 50*time.Millisecond {
			t.Errorf("it took %v to all", took)
		}
		l.Must(other.Update(t.Context(), "a", func(old string, ok bool) (string, bool) { return old + "2", ok }))
		l.Must(other.Update(t.Context(), "b", func(old string, ok bool) (string, bool) { return "", false }))
		l.equal(time.Second, 1)
		l.Must(other.SetTTL(t.Context(), "b", "for a while", 10*time.Second))
		l.equal(time.Second, 2)
		l.Must(one.ConfirmDelete(t.Context(), "a", handled(true)))
		for _, r := range l.every() {
			if v, ok := r.Get("a"); ok {
				t.Errorf("%s has %q, although its deletion was confirmed", r.name, v)
			}
		}
		time.Sleep(9 * time.Second)
		l.equal(time.Second, 1)
		time.Sleep(1100 * time.Millisecond)
		l.equal(time.Millisecond, 0)
		for _, r := range l.every() {
			put, del, exp := starling.ChangePut, starling.ChangeDelete, starling.ChangeExpired
			if a, b := r.of("a"), r.of("b"); !slices.Equal(a, []starling.ChangeKind{put, put, del}) || !slices.Equal(b, []starling.ChangeKind{put, exp}) {
				t.Errorf("the loop of %s was told %v of a and %v of b", r.name, a, b)
			}
			r.mu.Lock()
			i := slices.IndexFunc(r.changes, func(c starling.MapChange[string]) bool { return c.Key == "a" && c.Value == "12" })
			if c := r.changes[max(i, 0)]; c.From.Name != "m7" || c.Old != "1" || !c.Had {
				t.Errorf("the loop of %s was told %+v", r.name, c)
			}
			r.mu.Unlock()
		}
	})
}

// A newcomer, and a member that is started again at its address, get all of it; the loop is told when it is there.
func TestMapOfNewcomer(t *testing.T) {
	inMapLab(t, 5, &mapLab{without: "m2"}, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		const keys = 2000
		for i := range keys {
			l.runs["m0"].set(t, fmt.Sprint("key", i), strings.Repeat("x", i%500))
		}
		l.equal(5*time.Second, keys)
		time.Sleep(5 * time.Minute) // beyond the retention
		m := l.StartAlone("late")
		l.Must(m.Cluster.Ready(t.Context())) // alone
		l.Must(m.Cluster.Join(t.Context(), l.Member("m0").Cluster.Self().Addr.String()))
		l.Must(m.Cluster.Ready(t.Context()))
		if n := l.runs["late"].Len(); n != keys {
			t.Errorf("the newcomer is ready, and has %d of %d keys", n, keys)
		}
		took := l.equal(5*time.Second, keys)
		t.Logf("all are equal %v after a newcomer is ready", took)
		l.Restart("m4")
		l.equal(5*time.Second, keys)
		l.Leave("m0") // who has set them
		time.Sleep(time.Minute)
		l.equal(time.Second, keys)
	})
}

// A newcomer whose donor crashes before it has answered asks another one within a second or so.
func TestMapOfDeadDonor(t *testing.T) {
	inMapLab(t, 3, new(mapLab), starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		l.runs["m0"].set(t, "a", "1")
		time.Sleep(2 * time.Minute) // beyond the retention
		for i := range 20 {
			late := l.StartAlone(fmt.Sprint("late", i))
			l.Must(late.Cluster.Join(t.Context(), l.Member("m0").Cluster.Self().Addr.String()))
			l.Crash("m1")
			began := time.Now()
			<-l.runs[late.Name].Synced()
			if took := time.Since(began); took > 3*time.Second || l.runs[late.Name].Len() != 1 {
				t.Errorf("its first values, %d, came after %v", l.runs[late.Name].Len(), took)
			}
			l.Leave(late.Name)
			l.Start("m1")
			l.WaitAll(time.Minute)
		}
	})
}

// A newcomer whose donor leaves in the middle of giving asks another one at once.
func TestMapOfLeavingDonor(t *testing.T) {
	inMapLab(t, 3, new(mapLab), starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		const keys = 2000
		for i := range keys {
			l.runs["m0"].set(t, fmt.Sprint(i), strings.Repeat("x", 1000))
		}
		time.Sleep(2 * time.Minute) // beyond the retention
		begun := 0
		for i := range 12 {
			late := l.StartAlone(fmt.Sprint("late", i))
			l.Must(l.Net.SetRate(late.Name, 0, 2<<20)) // it takes a second to be given all
			l.Must(late.Cluster.Join(t.Context(), l.Member("m0").Cluster.Self().Addr.String()))
			time.Sleep(400 * time.Millisecond)
			if n := l.runs[late.Name].Len(); n > 0 && n < keys {
				begun++
			}
			l.Leave("m1")
			began := time.Now()
			<-l.runs[late.Name].Synced()
			if took := time.Since(began); took > 4*time.Second || l.runs[late.Name].Len() != keys {
				t.Errorf("its first values, %d, came %v after a member has left", l.runs[late.Name].Len(), took)
			}
			l.Leave(late.Name)
			l.Start("m1")
			l.WaitAll(time.Minute)
			<-l.runs["m1"].Synced()
		}
		if begun == 0 {
			t.Error("nothing was under way when a donor left")
		}
	})
}

// Seven groups of members are cut off from each other for five minutes, beyond the retention, while all change things, and a newcomer
// comes when they heal: they are equal within 5 s of being whole. STARLING_MEMBERS makes it larger.
func TestMapAfterPartitionInto7(t *testing.T) {
	n := seedtest.Number(t, "STARLING_MEMBERS", 14)
	inMapLab(t, n, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		for i, r := range l.every() {
			r.set(t, fmt.Sprint("common", i), "old")
		}
		l.equal(5*time.Second, n)
		l.Must(l.Net.Partition(l.groups(7)...))
		for round := range 5 {
			for i, r := range l.every() {
				r.set(t, fmt.Sprint("own", i, "/", round), fmt.Sprint(round))
				r.set(t, fmt.Sprint("both", round), fmt.Sprint(i))
				l.Must(r.Delete(t.Context(), fmt.Sprint("common", i)))
			}
			time.Sleep(time.Minute)
		}
		l.Net.Heal()
		l.Start("newcomer")
		l.WaitAll(time.Minute)
		took := l.equal(5*time.Second, 5*n+5)
		t.Logf("%d members are equal %v after they are whole", n+1, took)
	})
}

// A member that was away for longer than deletions are remembered brings nothing back. It is told what it has to drop.
func TestMapBeyondTombstones(t *testing.T) {
	l := &mapLab{options: func(string) *starling.MapOptions[string] {
		return &starling.MapOptions[string]{Tombstones: 10 * time.Minute}
	}}
	inMapLab(t, 5, l, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		for i := range 10 {
			l.runs["m1"].set(t, fmt.Sprint("key", i), "old")
		}
		l.equal(5*time.Second, 10)
		l.Must(l.Net.Partition([]string{"m0"}, []string{"m1", "m2", "m3", "m4"}))
		for i := range 5 {
			l.Must(l.runs["m2"].Delete(t.Context(), fmt.Sprint("key", i)))
		}
		l.runs["m3"].set(t, "new", "1")
		time.Sleep(25 * time.Minute)
		l.runs["m0"].set(t, "late", "1") // too young to have been deleted
		l.Net.Heal()
		l.WaitAll(time.Minute)
		l.equal(5*time.Second, 7)
		if s := l.runs["m0"].Stats(); s.Dropped != 5 || s.Tombstones != 0 {
			t.Errorf("m0 has dropped %d entries, want 5, and remembers %d deletions", s.Dropped, s.Tombstones)
		}
		if kinds := l.runs["m0"].of("key3"); !slices.Contains(kinds, starling.ChangeDropped) {
			t.Errorf("the loop of m0 was told %v of key3", kinds)
		}
		for _, r := range l.every()[1:] {
			if s := r.Stats(); s.Dropped != 0 {
				t.Errorf("%s has dropped %d entries", r.name, s.Dropped)
			}
		}
	})
}

// A flap, and a member that nobody reaches for longer than the retention while nobody notices: equal again.
func TestMapAfterPause(t *testing.T) {
	o := starlingtest.Options{Config: func(string) starling.Config { return starling.Config{Tune: blind} }}
	inMapLab(t, 5, new(mapLab), o, func(t *testing.T, l *mapLab) {
		l.equal(5*time.Second, 0)
		l.Must(l.Net.Partition([]string{"m0"}, []string{"m1", "m2", "m3", "m4"}))
		l.runs["m1"].set(t, "a", "1")
		l.runs["m0"].set(t, "b", "1")
		time.Sleep(3 * time.Minute)
		l.Net.Heal()
		took := l.equal(2*time.Minute, 2)
		t.Logf("equal %v after the pause", took)
	})
}

// Bounds are errors at who sets, and others are unharmed.
func TestMapBounds(t *testing.T) {
	l := &mapLab{options: func(string) *starling.MapOptions[string] {
		return &starling.MapOptions[string]{MaxEntries: 3, MaxBytes: 1000}
	}}
	inMapLab(t, 2, l, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		m := l.runs["m0"]
		var limit *starling.MapLimitError
		if err := m.Set(t.Context(), strings.Repeat("k", starling.MaxMapKeySize+1), ""); !errors.As(err, &limit) || limit.Field != "key" {
			t.Errorf("a long key: %v", err)
		}
		if err := m.Set(t.Context(), "large", strings.Repeat("x", 1000)); !errors.As(err, &limit) || limit.Field != "MaxBytes" {
			t.Errorf("a large value: %v", err)
		}
		for i := range 3 {
			m.set(t, fmt.Sprint(i), "x")
		}
		if err := m.Set(t.Context(), "4", ""); !errors.As(err, &limit) || limit.Field != "MaxEntries" || limit.Value != 4 || limit.Limit != 3 {
			t.Errorf("a fourth key: %v", err)
		}
		m.set(t, "2", "y")
		l.Must(m.Delete(t.Context(), "1"))
		m.set(t, "4", "z")
		l.equal(time.Second, 3)
		var large *starling.TooLargeError
		unbounded, err := starling.NewMap(m.cluster, "unbounded", starling.JSON[string](), nil)
		l.Must(err)
		if err := unbounded.Set(t.Context(), "large", strings.Repeat("x", starling.DefaultMaxMessageSize)); !errors.As(err, &large) {
			t.Errorf("a value that is too large: %v", err)
		}
		unbounded.Close()
		if err := unbounded.Set(t.Context(), "a", ""); !errors.Is(err, starling.ErrClosed) {
			t.Errorf("Set after Close: %v", err)
		}
		if err := m.SetTTL(t.Context(), "a", "", -1); err == nil {
			t.Error("a negative time to live is taken")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Set(ended, "2", "never"); !errors.Is(err, context.Canceled) {
			t.Errorf("Set with a context that has ended: %v", err)
		}
		if v, _ := m.Get("2"); v != "y" {
			t.Errorf("what Set has returned an error for was set: %q", v)
		}
	})
}

// What members merge has all that each has put in, whatever they do at the same time.
func TestMapMerges(t *testing.T) {
	letters := func(a, b string) string {
		all := []rune(a + b)
		slices.Sort(all)
		return string(slices.Compact(all))
	}
	l := &mapLab{options: func(string) *starling.MapOptions[string] { return &starling.MapOptions[string]{Merge: letters} }}
	inMapLab(t, 5, l, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2", "m3", "m4"}))
		for i, r := range l.every() {
			for round := range 4 {
				r.set(t, "letters", string(rune('a'+4*i+round)))
			}
		}
		time.Sleep(2 * time.Minute)
		l.Net.Heal()
		l.WaitAll(time.Minute)
		l.equal(5*time.Second, 1)
		if v, _ := l.runs["m0"].Get("letters"); v != "abcdefghijklmnopqrst" {
			t.Errorf("all have merged %s", v)
		}
		l.Must(l.runs["m0"].Delete(t.Context(), "letters"))
		l.equal(time.Second, 0)
		l.runs["m1"].set(t, "letters", "z")
		l.equal(time.Second, 1)
		if v, _ := l.runs["m4"].Get("letters"); v != "z" {
			t.Errorf("what was deleted has come back: %s", v)
		}
	})
}

// Update of a value that has expired, and is not noticed yet, is that of a key without one.
func TestMapUpdateOfWhatIsOver(t *testing.T) {
	inMapLab(t, 1, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		m := l.runs["m0"]
		l.Must(m.SetTTL(t.Context(), "a", "1", 100*time.Microsecond))
		time.Sleep(200 * time.Microsecond)
		calls := 0
		l.Must(m.Update(t.Context(), "a", func(old string, ok bool) (string, bool) {
			if calls++; ok {
				t.Errorf("call %d is given %q", calls, old)
			}
			return "2", calls < 10
		}))
		if v, ok := m.Get("a"); calls != 1 || !ok || v != "2" {
			t.Errorf("%q (%v) after %d calls", v, ok, calls)
		}
	})
}

// A lone member has its first values, none, as soon as it has joined nobody, and not before.
func TestMapOfLoneMember(t *testing.T) {
	inMapLab(t, 0, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		m := l.StartAlone("lone")
		time.Sleep(time.Minute)
		select {
		case <-l.runs["lone"].Synced():
			t.Error("the Map has its first values before Join")
		default:
		}
		l.Must(m.Cluster.Join(t.Context()))
		began := time.Now()
		<-l.runs["lone"].Synced()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		l.runs["lone"].set(t, "a", "1")
		l.equal(time.Second, 1)
	})
}
