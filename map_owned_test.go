package starling_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// inOwnedLab is inMapLab with n members that own what they set, each of which has set a key of its name.
func inOwnedLab(t *testing.T, n int, o starlingtest.Options, body func(t *testing.T, l *mapLab)) {
	t.Helper()
	l := &mapLab{options: func(string) *starling.MapOptions[string] {
		return &starling.MapOptions[string]{Owned: true, Tombstones: 10 * time.Minute}
	}}
	inMapLab(t, n, l, o, func(t *testing.T, l *mapLab) {
		for _, r := range l.every() {
			r.set(t, r.name, "here")
		}
		l.equal(5*time.Second, n)
		body(t, l)
	})
}

// has waits until members have exactly the keys of those names.
func (l *mapLab) has(limit time.Duration, viewers []string, keys ...string) {
	l.t.Helper()
	slices.Sort(keys)
	l.Within(limit, func() error {
		for _, name := range viewers {
			if has := slices.Sorted(maps.Keys(l.runs[name].content())); !slices.Equal(has, keys) {
				return fmt.Errorf("%s has %v, want %v; it sees %v", name, has, keys, l.runs[name].cluster.Stats().Members)
			}
		}
		return nil
	})
}

// told fails the test if a member's loop was not told exactly this of a key.
func (l *mapLab) told(viewers []string, key string, want ...starling.ChangeKind) {
	l.t.Helper()
	time.Sleep(10 * time.Millisecond)
	for _, name := range viewers {
		if kinds := l.runs[name].of(key); !slices.Equal(kinds, want) {
			l.t.Errorf("the loop of %s was told %v of %s, want %v", name, kinds, key, want)
		}
	}
}

const put, vanished = starling.ChangePut, starling.ChangeVanished

// noticed is how long it takes at most until a member has noticed that others are gone: one that is alone now and then more than a minute.
const noticed = 5 * time.Minute

// The entries of a member that leaves are gone when it has left, and each loop is told so once, with who it was.
func TestMapOwnedLeave(t *testing.T) {
	inOwnedLab(t, 5, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		id := l.runs["m1"].cluster.Self().ID
		l.Leave("m1")
		l.equal(100*time.Millisecond, 4)
		l.told(l.Names(), "m1", put, vanished)
		for _, r := range l.every() {
			r.mu.Lock()
			c := r.changes[len(r.changes)-1]
			if c.Key != "m1" || c.Old != "here" || !c.Had || c.Value != "" || c.From.ID != id {
				t.Errorf("the loop of %s was told %+v", r.name, c)
			}
			r.mu.Unlock()
			if s := r.Stats(); s.Entries != 4 || s.Hidden != 1 || r.Len() != 4 {
				t.Errorf("%s counts %+v and %d keys", r.name, s, r.Len())
			}
			if _, ok := r.Get("m1"); ok {
				t.Errorf("%s has what m1 has set", r.name)
			}
		}
	})
}

// The entries of a member that crashes are gone as soon as it is noticed.
func TestMapOwnedCrash(t *testing.T) {
	inOwnedLab(t, 5, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		l.Crash("m1")
		l.WaitAll(noticed)
		l.equal(10*time.Millisecond, 4)
		l.told(l.Names(), "m1", put, vanished)
	})
}

// A member that the others take for failed, and that notices nothing: its entries are gone, and are there again with it.
func TestMapOwnedFlapOfOneSide(t *testing.T) {
	o := starlingtest.Options{Config: func(name string) (c starling.Config) {
		if name == "m0" {
			c.Tune = blind
		}
		return c
	}}
	inOwnedLab(t, 5, o, func(t *testing.T, l *mapLab) {
		others := []string{"m1", "m2", "m3", "m4"}
		l.Must(l.Net.Partition([]string{"m0"}, others))
		l.has(noticed, others, others...)
		l.has(0, []string{"m0"}, l.Names()...)
		l.Net.Heal()
		l.WaitAll(noticed)
		l.equal(10*time.Millisecond, 5)
		l.told(others, "m0", put, vanished, put)
		time.Sleep(15 * time.Minute) // beyond Tombstones: it is not forgotten
		l.equal(0, 5)
		l.told(others, "m0", put, vanished, put)
		for _, name := range others {
			l.told([]string{"m0"}, name, put)
		}
	})
}

// Three sides each have what their own members have set. When they are whole all have all, what was changed meanwhile included, and with
// less and more time apart than deletions are remembered.
func TestMapOwnedPartition(t *testing.T) {
	for _, apart := range []time.Duration{2 * time.Minute, 25 * time.Minute} {
		t.Run(apart.String(), func(t *testing.T) {
			inOwnedLab(t, 6, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
				l.runs["m1"].set(t, "deleted", "by m1 itself")
				l.equal(time.Second, 7)
				sides := l.groups(3)
				l.Must(l.Net.Partition(sides...))
				for i, side := range sides {
					keys := slices.Clone(side)
					if i == 1 {
						keys = append(keys, "deleted")
					}
					l.has(noticed, side, keys...)
				}
				l.runs["m0"].set(t, "new", "of m0")
				l.Must(l.runs["m1"].Delete(t.Context(), "deleted"))
				time.Sleep(apart)
				l.Net.Heal()
				l.WaitAll(noticed)
				l.equal(5*time.Second, 7)
				l.has(0, l.Names(), append(l.Names(), "new")...)
				l.told([]string{"m0", "m1", "m3", "m4"}, "m2", put, vanished, put)
				for _, name := range []string{"m0", "m2", "m3", "m5"} { // it may have been back until its deletion was here
					kinds := l.runs[name].of("deleted")
					if back := []starling.ChangeKind{put, vanished, put, starling.ChangeDelete}; !slices.Equal(kinds, back[:2]) && !slices.Equal(kinds, back) {
						t.Errorf("the loop of %s was told %v", name, kinds)
					}
				}
				for _, r := range l.every() {
					if s := r.Stats(); s.Dropped != 0 || s.Hidden != 0 {
						t.Errorf("%s counts %+v", r.name, s)
					}
				}
			})
		})
	}
}

// A member that is started again under its name and at its address is another one: what it had set is gone until it sets it.
func TestMapOwnedRestart(t *testing.T) {
	inOwnedLab(t, 4, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		l.Restart("m1")
		l.WaitAll(noticed)
		l.equal(5*time.Second, 3)
		time.Sleep(5 * time.Minute)
		l.equal(0, 3)
		l.told([]string{"m0", "m2", "m3"}, "m1", put, vanished)
		l.told([]string{"m1"}, "m1")
		l.runs["m1"].set(t, "m1", "again")
		l.equal(time.Second, 4)
		l.told([]string{"m0", "m2", "m3"}, "m1", put, vanished, put)
		if v, _ := l.runs["m3"].Get("m1"); v != "again" {
			t.Errorf("m3 has %q", v)
		}
	})
}

// A newcomer does not see what somebody has set who is away, and sees it when that one is back.
func TestMapOwnedNewcomer(t *testing.T) {
	inOwnedLab(t, 4, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		others := []string{"m0", "m2", "m3"}
		l.Must(l.Net.Partition([]string{"m1"}, others))
		l.has(noticed, others, others...)
		m := l.StartAlone("late")
		l.Must(l.Net.Partition([]string{"m1"}, append(others, "late")))
		l.Must(m.Cluster.Join(t.Context(), l.Member("m0").Cluster.Self().Addr.String()))
		l.Must(m.Cluster.Ready(t.Context()))
		l.has(0, []string{"late"}, others...)
		time.Sleep(3 * time.Minute)
		l.has(0, []string{"late"}, others...)
		l.told([]string{"late"}, "m1")
		if s := l.runs["late"].Stats(); s.Hidden != 0 {
			t.Errorf("the newcomer was given %d entries that it does not read", s.Hidden)
		}
		l.Net.Heal()
		l.WaitAll(noticed)
		l.equal(5*time.Second, 4)
		l.told([]string{"late"}, "m1", put)
	})
}

// Loops are told of what vanishes and comes back, and of what is changed meanwhile, each once and in order, however often it happens.
func TestMapOwnedWatch(t *testing.T) {
	inOwnedLab(t, 4, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		others := []string{"m1", "m2", "m3"}
		for round := range 4 {
			l.Must(l.Net.Partition([]string{"m0"}, others))
			l.has(noticed, others, others...)
			l.has(noticed, []string{"m0"}, "m0")
			if round%2 == 0 {
				l.runs["m0"].set(t, "m0", fmt.Sprint("changed ", round))
			}
			l.Net.Heal()
			l.WaitAll(noticed)
			l.equal(5*time.Second, 4)
		}
		for _, name := range others {
			r := l.runs[name]
			r.mu.Lock()
			var told []string
			for _, c := range r.changes {
				if c.Key == "m0" {
					told = append(told, c.Kind.String()+" "+c.Value)
				}
			}
			r.mu.Unlock()
			// What comes back is as it was, if the change is not here yet.
			want := regexp.MustCompile("^put here,vanished ,(put here,)?put changed 0,vanished ,put changed 0,vanished ,(put changed 0,)?put changed 2," +
				"vanished ,put changed 2$")
			if all := strings.Join(told, ","); !want.MatchString(all) {
				t.Errorf("the loop of %s was told %s", name, all)
			}
		}
	})
}

// What members have set that are gone for good is forgotten after Tombstones, whoever comes meanwhile.
func TestMapOwnedForgets(t *testing.T) {
	inOwnedLab(t, 3, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		for range 6 {
			l.Restart("m1")
			l.WaitAll(noticed)
			l.runs["m1"].set(t, "m1", "again")
			l.equal(5*time.Second, 3)
			time.Sleep(3 * time.Minute)
		}
		if s := l.runs["m0"].Stats(); s.Hidden == 0 || s.Hidden > 4 {
			t.Errorf("m0 holds %d entries of members that are gone, of the last ten minutes", s.Hidden)
		}
		time.Sleep(8 * time.Minute)
		for _, r := range l.every() {
			if s := r.Stats(); s.Hidden != 0 || s.Entries != 3 || s.Bytes > 3*100 || s.Tombstones != 0 {
				t.Errorf("%s still holds %+v", r.name, s)
			}
		}
	})
}

// Of a key that several have set the last one's value is read; when that one is gone, that of the one before. Each takes away its own only.
func TestMapOwnedKeyOfSeveral(t *testing.T) {
	inOwnedLab(t, 4, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		reads := func(want string) {
			t.Helper()
			l.Within(noticed, func() error {
				for _, r := range l.every() {
					if v, _ := r.Get("both"); v != want || r.content()["both"] != want {
						return fmt.Errorf("%s reads %q and %q, want %q", r.name, v, r.content()["both"], want)
					}
				}
				return nil
			})
		}
		l.runs["m1"].set(t, "both", "m1")
		reads("m1")
		l.Must(l.runs["m2"].Update(t.Context(), "both", func(old string, ok bool) (string, bool) { return old + "m2", ok }))
		reads("m1m2")
		if err := l.runs["m3"].Delete(t.Context(), "both"); !errors.Is(err, starling.ErrNotOwner) {
			t.Errorf("m3 deletes what others have set: %v", err)
		}
		if err := l.runs["m3"].ConfirmDelete(t.Context(), "both", nil); !errors.Is(err, starling.ErrNotOwner) {
			t.Errorf("m3 deletes what others have set: %v", err)
		}
		l.Must(l.runs["m3"].Delete(t.Context(), "nobody's"))
		l.Must(l.runs["m2"].Delete(t.Context(), "both"))
		reads("m1")
		l.Must(l.runs["m3"].SetTTL(t.Context(), "both", "m3", 20*time.Second))
		reads("m3")
		time.Sleep(20 * time.Second)
		reads("m1")
		l.runs["m2"].set(t, "both", "m2")
		reads("m2")
		l.Must(l.runs["m1"].Delete(t.Context(), "both"))
		reads("m2")
		l.runs["m1"].set(t, "both", "m1")
		reads("m1")
		l.Crash("m1")
		reads("m2")
		l.Crash("m2")
		reads("")
		l.WaitAll(noticed)
		l.equal(time.Second, 2)
		l.told(l.Names(), "both", put, put, put, put, put, put, put, put, vanished)
	})
}

// Where one member's Map is owned and another's is not nothing breaks: each has what it understands.
func TestMapOwnedByOneOnly(t *testing.T) {
	l := &mapLab{options: func(name string) *starling.MapOptions[string] {
		return &starling.MapOptions[string]{Owned: name == "m0"}
	}}
	lines := new(logCounter)
	o := starlingtest.Options{Config: func(string) starling.Config { return starling.Config{Logger: slog.New(lines)} }}
	inMapLab(t, 3, l, o, func(t *testing.T, l *mapLab) {
		for _, r := range l.every() {
			r.set(t, r.name, "here")
		}
		l.equal(5*time.Second, 3)
		l.Must(l.Start("late").Cluster.Ready(t.Context()))
		l.equal(5*time.Second, 3)
		l.Leave("m1")
		l.has(time.Second, []string{"m0"}, "m0", "m2")
		time.Sleep(time.Minute)
		l.has(0, []string{"m2", "late"}, "m0", "m1", "m2")
		n := l.runs["m0"].Stats().Compared
		time.Sleep(time.Minute)
		if n = l.runs["m0"].Stats().Compared - n; n > 3 {
			t.Errorf("%d comparisons in a minute", n)
		}
		if told := lines.warnings("another MapOptions.Owned"); len(told) == 0 || len(told) > 20 {
			t.Errorf("the log says %d times that the two are never equal: %v", len(told), told)
		}
	})
}

// Newcomers that come together, so that it changes whose entries count while they ask, have all entries when they are ready.
func TestMapOwnedNewcomersTogether(t *testing.T) {
	l := &mapLab{options: func(string) *starling.MapOptions[string] { return &starling.MapOptions[string]{Owned: true} }}
	inMapLab(t, 1, l, starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		const keys = 100
		for i := range keys {
			l.runs["m0"].set(t, fmt.Sprint(i), "x")
		}
		time.Sleep(2 * time.Minute) // beyond the retention
		m0 := l.Member("m0").Cluster.Self().Addr.String()
		for round := range 20 {
			var wait sync.WaitGroup
			var all []*starlingtest.Member
			for i := range 3 {
				all = append(all, l.StartAlone(fmt.Sprint("late", round, "-", i)))
			}
			for _, late := range all {
				wait.Go(func() {
					l.Must(late.Cluster.Join(t.Context(), m0))
					l.Must(late.Cluster.Ready(t.Context()))
					if n := l.runs[late.Name].Len(); n != keys {
						t.Errorf("%s is ready, and has %d of %d keys", late.Name, n, keys)
					}
				})
			}
			wait.Wait()
			for i := range 3 {
				l.Leave(fmt.Sprint("late", round, "-", i))
			}
			time.Sleep(time.Second)
		}
	})
}

// Delete takes away this member's own value also in the moment in which another one's, which covered it, has expired and is still to be noticed.
func TestMapOwnedDeleteOfWhatIsCovered(t *testing.T) {
	inOwnedLab(t, 2, starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		mine, other, moments := l.runs["m0"], l.runs["m1"], 0
		for round := range 40 {
			key := fmt.Sprint("key", round)
			mine.set(t, key, "mine")
			time.Sleep(5 * time.Millisecond)
			l.Must(other.SetTTL(t.Context(), key, "other", 20*time.Millisecond))
			for i := range 40 { // so many expiries that they are noticed up to 1 ms late
				l.Must(mine.SetTTL(t.Context(), fmt.Sprint("beside", i), "", time.Duration(15_000+270*i)*time.Microsecond))
			}
			time.Sleep(5 * time.Millisecond)
			v, ok := mine.Get(key)
			for ; ok && v == "other"; v, ok = mine.Get(key) {
				time.Sleep(50 * time.Microsecond)
			}
			if !ok {
				moments++
			}
			l.Must(mine.Delete(t.Context(), key))
			time.Sleep(20 * time.Millisecond)
			if v, ok := mine.Get(key); ok {
				t.Errorf("round %d: %s is there after its deletion", round, v)
			}
		}
		if t.Logf("%d of 40 deletions in such a moment", moments); moments == 0 {
			t.Error("no deletion was in such a moment")
		}
	})
}

// What is owned is not merged.
func TestMapOwnedWithMerge(t *testing.T) {
	inMapLab(t, 1, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		_, err := starling.NewMap(l.runs["m0"].cluster, "both", starling.JSON[string](), &starling.MapOptions[string]{
			Owned: true, Merge: func(a, b string) string { return max(a, b) },
		})
		var fault *starling.ConfigError
		if !errors.As(err, &fault) || fault.Field != "Owned" {
			t.Errorf("Owned with Merge: %v", err)
		}
	})
}
