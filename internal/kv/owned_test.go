package kv

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
// tombstones are kept or for longer. Of those that are gone nothing is left after that time.
func TestScriptsOwned(t *testing.T) {
	for _, tombstones := range []time.Duration{10 * time.Minute, 5 * time.Second} {
		t.Run(tombstones.String(), func(t *testing.T) {
			scripts(t, 100, func(t *testing.T, seed uint64) {
				s := newSim(t, seed, 3, Limits{Entries: 1000, Bytes: 1 << 20, Tombstones: tombstones, Owned: true})
				play(s, 100, 60*time.Second, false)
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

func (s *ownedStore) members(runs ...uint64) { s.note(s.Owners.Are(runs, s.now)...) }

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
