package starling_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// entry is one entry of a map whose later writer wins.
type entry struct {
	Key   string
	Value string
	Stamp int64
}

// wins reports whether e replaces o, which has the same key.
func (e entry) wins(o entry) bool {
	return e.Stamp > o.Stamp || e.Stamp == o.Stamp && e.Value > o.Value
}

// register is a map of entries on one member, kept equal by a channel with a snapshot.
type register struct {
	ch *starling.Channel[entry]

	given recorder[entry] // what the handler was given

	mu      sync.Mutex
	pause   func() // if set, called by every Snapshot
	busy    func() // if set, called by the handler first
	entries map[string]entry
}

func openRegister(t *testing.T, n *node) *register {
	r := &register{entries: map[string]entry{}}
	var err error
	r.ch, err = starling.NewChannelOf(n.Cluster, "register", func(ctx context.Context, m starling.Message[entry]) {
		r.beBusy()
		r.put(m.Value)
		r.given.handle(ctx, m)
	}, starling.JSON[entry](), &starling.ChannelOptions[entry]{Snapshot: r.snapshot})
	must(t, err)
	return r
}

func (r *register) snapshot() iter.Seq[entry] {
	r.mu.Lock()
	pause := r.pause
	r.mu.Unlock()
	if pause != nil {
		pause()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Values(slices.Collect(maps.Values(r.entries)))
}

func (r *register) put(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.entries[e.Key]; !ok || e.wins(old) {
		r.entries[e.Key] = e
	}
}

func (r *register) set(t *testing.T, key, value string) {
	t.Helper()
	e := entry{key, value, time.Now().UnixNano()}
	r.put(e)
	must(t, r.ch.Broadcast(context.Background(), e))
}

func (r *register) beBusy() {
	r.mu.Lock()
	busy := r.busy
	r.mu.Unlock()
	if busy != nil {
		busy()
	}
}

// setBusy has the handler call f from now on.
func (r *register) setBusy(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = f
}

func (r *register) setPause(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = f
}

func (r *register) copy() map[string]entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.entries)
}

// set is a grow-only set, kept equal as Alertmanager keeps its silences: Merge broadcasts again what was new to it, under
// its own lock.
type set struct {
	ch *starling.StateChannel

	mu   sync.Mutex
	have map[string]bool
	// marshal and merge, if set, come first; an error is returned.
	marshal, merge func() error
}

func openSet(t *testing.T, n *node) *set {
	s := &set{have: map[string]bool{}}
	var err error
	s.ch, err = starling.NewState(n.Cluster, "set", s)
	must(t, err)
	return s
}

func (s *set) MarshalBinary() ([]byte, error) {
	s.mu.Lock()
	marshal := s.marshal
	s.mu.Unlock()
	if marshal != nil {
		if err := marshal(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(slices.Sorted(maps.Keys(s.have)))
}

func (s *set) setMarshal(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marshal = f
}

func (s *set) Merge(b []byte) error {
	if s.merge != nil {
		if err := s.merge(); err != nil {
			return err
		}
	}
	var theirs []string
	if err := json.Unmarshal(b, &theirs); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []string
	for _, v := range theirs {
		if !s.have[v] {
			s.have[v] = true
			fresh = append(fresh, v)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	b, _ = json.Marshal(fresh)
	return s.ch.Broadcast(b)
}

func (s *set) add(t *testing.T, v string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have[v] = true
	b, _ := json.Marshal([]string{v})
	must(t, s.ch.Broadcast(b))
}

func (s *set) copy() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.have)
}

// states are the states of a lab's members.
type states struct {
	registers map[*node]*register
	sets      map[*node]*set
}

func newStates() *states {
	return &states{registers: map[*node]*register{}, sets: map[*node]*set{}}
}

func (s *states) open(t *testing.T) func(*node) {
	return func(n *node) { s.registers[n], s.sets[n] = openRegister(t, n), openSet(t, n) }
}

// equal reports whether the members have the same states, and those of so many entries.
func (s *states) equal(entries, elements int, nodes ...*node) bool {
	r, set := s.registers[nodes[0]].copy(), s.sets[nodes[0]].copy()
	if len(r) != entries || len(set) != elements {
		return false
	}
	for _, n := range nodes[1:] {
		if !maps.Equal(r, s.registers[n].copy()) || !maps.Equal(set, s.sets[n].copy()) {
			return false
		}
	}
	return true
}

// Ten members, split for twice the retention while both sides change the state, are equal again soon.
func TestStateAfterPartition(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := l.members(10, s.open(t))
		must(t, l.Net.Partition(nodeNames(nodes[:4]), nodeNames(nodes[4:])))
		const rounds = 24
		for round := range rounds {
			for i, n := range nodes {
				s.registers[n].set(t, fmt.Sprint("own", i), fmt.Sprint(round))
				s.registers[n].set(t, fmt.Sprint("common", round), fmt.Sprint(i))
				s.sets[n].add(t, fmt.Sprint(i, "/", round))
				time.Sleep(time.Millisecond)
			}
			time.Sleep(5*time.Second - 10*time.Millisecond)
		}
		l.Net.Heal()
		whole := l.whole(nodes...)
		took, ok := within(30*time.Second, func() bool { return s.equal(10+rounds, 10*rounds, nodes...) })
		if !ok {
			for _, n := range nodes {
				t.Errorf("%s has %d entries and %d elements", n.name, len(s.registers[n].copy()), len(s.sets[n].copy()))
			}
		}
		t.Logf("whole %v after the heal, states equal %v after that", whole, took)
	})
}

// A newcomer has the full state before its handler sees a message that is newer, though streams to it are slow.
func TestStateOfNewcomer(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := append([]*node(nil), l.members(5, s.open(t))...)
		const keys = 100
		for k := range keys {
			s.registers[nodes[k%5]].set(t, fmt.Sprint(k), "old")
			s.sets[nodes[k%5]].add(t, fmt.Sprint(k))
		}
		time.Sleep(2 * time.Minute) // nothing of it is kept
		stop := make(chan struct{})
		var registers []*register
		for _, n := range nodes {
			registers = append(registers, s.registers[n])
		}
		var writer sync.WaitGroup
		writer.Go(func() {
			for k := 0; ; k++ {
				registers[k%5].set(t, fmt.Sprint(k%keys), "new")
				select {
				case <-time.After(5 * time.Millisecond):
				case <-stop:
					return
				}
			}
		})
		slow := rough
		slow.Loss = 0.2
		l.links(slow)
		time.Sleep(time.Second)
		late := l.member("late", s.open(t))
		l.join(late, nodes[0])
		took, ok := within(30*time.Second, func() bool {
			return len(s.registers[late].copy()) == keys && len(s.sets[late].copy()) == keys
		})
		if !ok {
			t.Errorf("the newcomer has %d entries and %d elements", len(s.registers[late].copy()), len(s.sets[late].copy()))
		}
		time.Sleep(5 * time.Second)
		close(stop)
		writer.Wait()
		time.Sleep(10 * time.Second)
		seen := map[string]bool{}
		for i, m := range s.registers[late].given.messages() {
			if m.Via != starling.ViaSync && len(seen) < keys {
				t.Errorf("the newcomer handled a message by %v after %d of %d entries of the state (call %d)", m.Via, len(seen), keys, i)
				break
			}
			seen[m.Value.Key] = true
		}
		if !s.equal(keys, keys, append(nodes, late)...) {
			t.Error("the states differ")
		}
		t.Logf("the newcomer has the state after %v", took)
		l.noGaps(l.nodes...)
	})
}

// A state that fails, in whatever method, harms no other.
func TestStateThatFails(t *testing.T) {
	broken := errors.New("broken")
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := append([]*node(nil), l.members(3, func(n *node) {
			s.open(t)(n)
			bad := &set{have: map[string]bool{}}
			bad.marshal = func() error { return broken }
			var err error
			bad.ch, err = starling.NewState(n.Cluster, "broken out", bad)
			must(t, err)
			worse := &set{have: map[string]bool{}}
			worse.merge = func() error { return broken }
			worse.ch, err = starling.NewState(n.Cluster, "broken in", worse)
			must(t, err)
			worse.add(t, "x")
		})...)
		s.registers[nodes[0]].set(t, "k", "v")
		s.sets[nodes[1]].add(t, "e")
		time.Sleep(2 * time.Minute)
		late := l.member("late", s.open(t))
		l.join(late, nodes[2])
		if took, ok := within(5*time.Second, func() bool { return s.equal(1, 1, append(nodes, late)...) }); !ok {
			t.Errorf("the newcomer has not the state after %v", took)
		}
		if nodes[0].Stats().Dropped[starling.DropNoSnapshot] == 0 {
			t.Error("the failure to marshal was not counted")
		}
	})
}

// A Snapshot or MarshalBinary that takes long holds up its channel on its member, and nothing else.
func TestStateThatBlocks(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := newStates()
		nodes := append([]*node(nil), l.members(5, s.open(t))...)
		s.registers[nodes[0]].set(t, "k", "v")
		s.sets[nodes[1]].add(t, "e")
		time.Sleep(2 * time.Minute)
		stuck := nodes[0]
		s.registers[stuck].setPause(func() { time.Sleep(20 * time.Second) })
		s.sets[stuck].setMarshal(func() error { time.Sleep(20 * time.Second); return nil })
		late := l.member("late", s.open(t))
		l.join(late, stuck)
		took, ok := within(15*time.Second, func() bool { return s.equal(1, 1, append(nodes, late)...) })
		if !ok {
			t.Errorf("the newcomer has not the state after %v", took)
		}
		t.Logf("the newcomer has the state after %v", took)
		all := append(nodes, late)
		for range 20 {
			ids := l.sendMany(nodes[1], 5, 200)
			l.delivered(5*time.Second, ids, nodes[1], all...)
			ids = l.sendMany(stuck, 5, 200)
			l.delivered(5*time.Second, ids, stuck, all...)
			time.Sleep(3 * time.Second)
			if len(stuck.Members()) != 6 || len(nodes[2].Members()) != 6 {
				t.Error("a member was lost")
			}
		}
		s.registers[nodes[2]].set(t, "k", "w")
		s.sets[nodes[2]].add(t, "f")
		if took, ok := within(3*time.Minute, func() bool { return s.equal(1, 2, all...) }); !ok {
			t.Errorf("the states are not equal after %v", took)
		}
		l.noGaps(l.nodes...)
	})
}

// TestLargeStateMessage: what a State broadcasts in pieces is merged whole.
func TestLargeStateMessage(t *testing.T) {
	const size = 700_000
	inLab(t, func(t *testing.T, l *lab) {
		var chs []*starling.StateChannel
		var sets []*sizes
		l.members(2, func(n *node) {
			s := new(sizes)
			ch, err := starling.NewState(n.Cluster, "state", s)
			must(t, err)
			chs, sets = append(chs, ch), append(sets, s)
		})
		must(t, chs[0].Broadcast(make([]byte, size)))
		time.Sleep(5 * time.Second)
		if got := sets[1].all(); !slices.Contains(got, size) {
			t.Errorf("merged %v bytes", got)
		}
	})
}

// sizes is a State that notes how long is what it merges.
type sizes struct {
	mu     sync.Mutex
	merged []int
}

func (s *sizes) MarshalBinary() ([]byte, error) { return nil, nil }

func (s *sizes) Merge(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.merged = append(s.merged, len(b))
	return nil
}

func (s *sizes) all() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.merged)
}
