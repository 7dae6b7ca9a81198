package kv

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// owned holds what all have against what they must have: of each key the latest of the values that the members have which are there, each
// of them the last one that it has written itself.
func (s *sim) owned() {
	s.t.Helper()
	own := map[uint64]map[string]simWrite{}
	for _, n := range s.nodes {
		own[n.id] = map[string]simWrite{}
	}
	for _, w := range s.writes {
		if of := own[w.Origin]; of != nil && of[w.Key].Stamp < w.Stamp {
			of[w.Key] = w
		}
	}
	want := map[string]simWrite{}
	for _, of := range own {
		for key, w := range of {
			over := w.TTL && !w.at.Add(w.Left).After(s.now)
			if w.State == Live && !over && want[key].Version.Less(w.Version) {
				want[key] = w
			}
		}
	}
	for _, n := range s.nodes {
		has := 0
		n.store.View(false, s.now).Ascend("", func(e *Entry[string]) bool {
			has++
			if w := want[e.Key]; e.Value != w.Value || e.Version != w.Version {
				s.t.Errorf("%d has %s=%q of %d, want %q of %d", n.id, e.Key, e.Value, e.Origin, w.Value, w.Origin)
			}
			return true
		})
		if has != len(want) {
			s.t.Errorf("%d has %d keys, want %d", n.id, has, len(want))
		}
	}
}

// Where runs own what they have written: all have what those have that are there, however they come, go and are cut off, for less than
// tombstones are kept or for longer. Tombstones are kept for longer than comparisons pause: else who has missed a packet of a run may not have
// seen yet that it did when the deletion is let go. Of those that are gone nothing is left after that time.
func TestScriptsOwned(t *testing.T) {
	const tombstones = 5 * time.Minute // the least that MapOptions takes
	for _, longest := range []time.Duration{30 * time.Second, 4 * tombstones} {
		t.Run(longest.String(), func(t *testing.T) {
			scripts(t, 50, func(t *testing.T, seed uint64) {
				s := newSim(t, seed, 3, Limits{Entries: 1000, Bytes: 1 << 20, Tombstones: tombstones, Owned: true})
				play(s, 100, longest, false)
				s.heal()
				s.run(3 * time.Second) // until all know who is there
				s.check(2*time.Minute, false)
				s.owned()
				s.run(tombstones + 10*time.Second)
				s.check(time.Minute, false)
				s.owned()
				for _, n := range s.nodes {
					n.store.tree.Ascend(func(e *Entry[string]) bool {
						if s.node(e.Origin) == nil {
							t.Errorf("%d has %s of %d, which is gone", n.id, e.Key, e.Origin)
						}
						return true
					})
					for run := range n.store.cover.runs {
						if s.node(run) == nil {
							t.Errorf("%d knows what it has seen of %d, which is gone", n.id, run)
						}
					}
				}
			})
		})
	}
}

// ownedStore is a Store of run 1 of an owned map, with a reader.
type ownedStore struct {
	*Store[string]
	now    time.Time
	reader *Watcher[string]
}

func newOwnedStore() *ownedStore {
	now := time.UnixMilli(1_700_000_000_000)
	l := Limits{Entries: 100, Bytes: 1 << 20, Tombstones: 10 * time.Minute, Owned: true}
	return &ownedStore{New[string](1, l, now), now, NewWatcher[string]("")}
}

func (s *ownedStore) note(changes ...Change[string]) {
	for _, c := range changes {
		if c != (Change[string]{}) {
			s.reader.Note(c)
		}
	}
}

func (s *ownedStore) members(runs ...uint64) { s.note(s.Owners.SetMembers(runs, s.now)...) }

// put lets a run write.
func (s *ownedStore) put(run uint64, key, value string) {
	w := Write[string]{Key: key, Value: value, Version: Version{s.Clock.Next(s.now), run}}
	_, c := s.Put(&w, nil, nil, s.now)
	s.note(c)
}

// told is what the reader is told by now, as one text.
func (s *ownedStore) told() string {
	var all []string
	for {
		n, ok := s.reader.Next()
		if !ok {
			return strings.Join(all, " ")
		}
		was, is := "", ""
		if n.Was != nil {
			was = n.Was.Value
		}
		if is = n.Is.Value; n.Is.State() == Vanished {
			is = fmt.Sprint("gone with ", n.Is.Origin)
		}
		all = append(all, fmt.Sprintf("%s:%s>%s", n.Key, was, is))
	}
}

func (s *ownedStore) expect(t *testing.T, told string, keys int) {
	t.Helper()
	if got := s.told(); got != told {
		t.Errorf("the reader was told %q, want %q", got, told)
	}
	has := 0
	s.View(false, s.now).Ascend("", func(*Entry[string]) bool { has++; return true })
	if has != keys {
		t.Errorf("%d keys are read, want %d", has, keys)
	}
}

// An entry that is here before its owner is met is read when it is.
func TestOwnedBeforeItsOwner(t *testing.T) {
	s := newOwnedStore()
	s.put(2, "b", "x")
	s.put(2, "a", "x")
	s.put(1, "c", "mine")
	s.expect(t, "c:>mine", 1)
	s.members(2, 3)
	s.expect(t, "a:>x b:>x", 3)
	s.members(3)
	s.expect(t, "a:x>gone with 2 b:x>gone with 2", 1)
}

// A reader that reads nothing while an owner is away for a while is told nothing of it, or the last that became of it.
func TestOwnedSlowReader(t *testing.T) {
	s := newOwnedStore()
	s.members(2, 3)
	s.put(2, "a", "x")
	s.expect(t, "a:>x", 1)
	s.members(3)
	s.members(2, 3)
	s.expect(t, "", 1)
	s.members()
	s.put(3, "a", "later")
	s.members(2)
	s.members(2, 3)
	s.expect(t, "a:x>later", 1)
	s.members(2)
	s.expect(t, "a:later>x", 1)
}

// Who has an entry for the same key that is not the latest is not seen to come and go.
func TestOwnedUnseen(t *testing.T) {
	s := newOwnedStore()
	s.members(2)
	s.put(2, "a", "x")
	s.put(1, "a", "mine")
	s.expect(t, "a:>mine", 1)
	s.members()
	s.members(2)
	s.put(3, "a", "of nobody that is here")
	s.expect(t, "", 1)
	s.now = s.now.Add(time.Minute)
	s.members()
	s.now = s.now.Add(10*time.Minute - time.Second)
	s.note(s.Tick(s.now)...)
	if n := s.Counts().Entries; n != 2 {
		t.Errorf("%d entries are kept, want 2", n)
	}
	if at, ok := s.NextTick(); !ok || at.After(s.now.Add(2*time.Second)) {
		t.Errorf("it is to be called at %v", at)
	}
	s.now = s.now.Add(2 * time.Second)
	s.note(s.Tick(s.now)...)
	if n := s.Counts().Entries; n != 1 {
		t.Errorf("%d entries are kept, want 1", n)
	}
	if _, ok := s.NextTick(); ok {
		t.Error("there is something to do still")
	}
	s.expect(t, "", 1)
}

// What is not given in a comparison is not said to have been covered by it, either.
func TestOwnedCoverage(t *testing.T) {
	s := newOwnedStore()
	s.members(2)
	for run := uint64(2); run < 4; run++ {
		s.put(run, "a", "x")
		s.Seen(run, 0, s.Get("a", run).Stamp)
	}
	q := (&Pull[string]{ID: 1}).First(newOwnedStore().View(true, s.now), false)
	a, _ := Answer(s.View(true, s.now), q, false, Standing{})
	if len(a.Cover) != 1 || a.Cover[0].ID != 2 {
		t.Errorf("%v is said to be covered, want what 2 has written", a.Cover)
	}
	if _, give := Answer(s.View(true, s.now), &wire.MapQuestion{ID: 1, Since: []wire.MapRun{}}, false, Standing{}); len(give) != 1 || give[0].Origin != 2 {
		t.Errorf("%d entries are given as later, want that of 2", len(give))
	}
	other := newOwnedStore()
	other.members(3)
	other.Covered(&Pull[string]{here: other.visibility.sum, Cover: []wire.MapRun{{ID: 2, Stamp: 1}, {ID: 3, Stamp: 2}}})
	other.members(2, 3) // between the last answer and the end of the comparison
	other.Covered(&Pull[string]{here: other.visibility.sum + 1, Cover: []wire.MapRun{{ID: 2, Stamp: 1}}})
	if v := other.View(true, other.now).cover; len(v) != 1 || v[0].Origin != 3 {
		t.Errorf("%v is covered, want what 3 has written", v)
	}
}

// What members that are gone have set takes room until it is forgotten.
func TestOwnedRoom(t *testing.T) {
	s := newOwnedStore()
	s.members(2)
	for i := range 100 {
		s.put(2, fmt.Sprint(i), "x")
	}
	s.members()
	if field, _, _ := s.Room("mine", 1, nil); field != "MaxEntries" {
		t.Errorf("over %q, want MaxEntries", field)
	}
	s.Tick(s.now.Add(11 * time.Minute))
	if field, _, _ := s.Room("mine", 1, nil); field != "" {
		t.Errorf("over %q after Tombstones", field)
	}
}

// A member never drops its own entries, though somebody has seen of it what it has not noted yet itself; of another run's it drops those that
// who has seen more of that run does not have.
func TestOwnedDrops(t *testing.T) {
	s := newOwnedStore()
	s.members(2, 3)
	for run := uint64(1); run < 4; run++ {
		s.put(run, "a", "x")
	}
	later := s.Clock.Next(s.now)
	cover := []wire.MapRun{{ID: 1, Stamp: uint64(later)}, {ID: 2, Stamp: uint64(later)}, {ID: 3, Stamp: 1}}
	s.now = s.now.Add(time.Hour)
	s.Seen(3, 0, later)
	v := s.View(true, s.now)
	p := &Pull[string]{ID: 1}
	p.First(v, false)
	p.Next(v, &wire.MapAnswer{ID: 1, Cover: cover, Aged: uint64(later), Nodes: []wire.MapNode{{}}}, false, Standing{})
	p.Next(v, &wire.MapAnswer{ID: 1}, false, Standing{}) // nothing was written later
	if len(p.Drops) != 1 || p.Drops[0].Origin != 2 {
		t.Errorf("%d entries are dropped, want that of 2: %v", len(p.Drops), p.Drops)
	}
}

// A member whose Map is not owned is not told that what it has is not here: it names it otherwise.
func TestOwnedLacks(t *testing.T) {
	s := newOwnedStore()
	q := &wire.MapQuestion{ID: 1, Lacks: true, Leaves: []wire.MapLeaf{{Items: []wire.MapItem{{Key: 1, Stamp: 2, Mark: 3}}}}}
	for _, owned := range []bool{false, true} {
		q.Owned = owned
		if a, _ := Answer(s.View(true, s.now), q, false, Standing{}); (len(a.Lacks) > 0) != owned {
			t.Errorf("asked by one whose Map is owned (%v), it says that %d entries are not here", owned, len(a.Lacks))
		}
	}
}

// A comparison ends in vain when it changes meanwhile, here or there, whose entries count.
func TestOwnedComparedAcrossAChange(t *testing.T) {
	for _, there := range []bool{false, true} {
		s := newOwnedStore()
		s.members(2)
		s.put(2, "a", "x")
		p := &Pull[string]{ID: 1}
		p.First(s.View(true, s.now), false)
		a := wire.MapAnswer{ID: 1, Members: 7, Nodes: []wire.MapNode{{Value: 3}}}
		q := p.Next(s.View(true, s.now), &a, false, Standing{})
		if there {
			a.Members = 8
		} else {
			s.members(2, 3)
		}
		if again := p.Next(s.View(true, s.now), &a, false, Standing{}); q == nil || again != nil || !p.Vain {
			t.Errorf("there (%v): it has asked %v and then %v", there, q, again)
		}
	}
}
