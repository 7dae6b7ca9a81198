package kv

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/wire"
)

// sim is a cluster of bare Stores on a network that loses, delays and partitions, in a loop with a clock of its own. Values are
// strings; where they are merged, sets of letters.
type sim struct {
	t      testing.TB
	rng    *rand.Rand
	limits Limits
	now    time.Time
	events eventQueue
	nodes  []*simNode // that live
	group  map[uint64]int
	loss   float64
	ids    uint64
	seq    int
	keys   int

	writes  map[uint64]simWrite // all that were ever made, by number
	deleted map[hlc.Stamp]time.Time
	made    uint64
	bytes   int // of questions and answers
	given   int // entries in answers
}

type simWrite struct {
	Write[string]
	at time.Time
}

// simNode is one run of a member.
type simNode struct {
	sim     *sim
	id      uint64
	store   *Store[string]
	sched   *Schedule
	census  *Census
	pull    *Pull[string]
	until   time.Time
	learned map[uint64]bool // what the donor knew at the first question
	wrong   time.Duration   // its clock
	sees    map[uint64]bool
	known   map[uint64]bool // numbers of the writes that it has seen
	watcher *Watcher[string]
	watched map[string]string // what a reader of the watcher knows
	synced  int
	drops   int
	full    int
	away    bool // it is left out, or has not compared since
}

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

type eventQueue []simEvent

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func newSim(t testing.TB, seed uint64, n int, l Limits) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), limits: l, now: time.UnixMilli(1_700_000_000_000),
		group: map[uint64]int{}, writes: map[uint64]simWrite{}, deleted: map[hlc.Stamp]time.Time{}, keys: 8,
	}
	for range n {
		s.start()
	}
	return s
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, simEvent{s.now.Add(d), s.seq, do})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.events) > 0 && !s.events[0].at.After(end) {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = end
}

// start starts a run of a member.
func (s *sim) start() *simNode {
	s.ids++
	n := &simNode{
		sim: s, id: s.ids, store: New[string](s.ids, s.limits, s.now), sees: map[uint64]bool{},
		sched: NewSchedule(s.rng, s.now), known: map[uint64]bool{},
		watcher: NewWatcher[string](""), watched: map[string]string{},
	}
	switch s.rng.IntN(4) {
	case 0:
		n.wrong = time.Duration(s.rng.Int64N(int64(2*time.Hour))) - time.Hour
	}
	n.census = NewCensus(s.limits.Tombstones, Standing{1, n.id}, s.now)
	s.nodes = append(s.nodes, n)
	n.sched.Joined()
	s.meet()
	n.tick()
	return n
}

func (s *sim) crash(n *simNode) {
	s.nodes = slices.DeleteFunc(s.nodes, func(m *simNode) bool { return m == n })
	s.meet()
}

func (n *simNode) lives() bool { return slices.Contains(n.sim.nodes, n) }

// split puts every member into a group; members of different groups do not reach each other.
func (s *sim) split(group func(i int, n *simNode) int) {
	for i, n := range s.nodes {
		s.group[n.id] = group(i, n)
	}
	s.meet()
}

func (s *sim) heal() { s.split(func(int, *simNode) int { return 0 }) }

func (s *sim) reaches(a, b *simNode) bool { return b.lives() && s.group[a.id] == s.group[b.id] }

// meet tells every member whom it sees now.
func (s *sim) meet() {
	for _, n := range s.nodes {
		least, weight := n.id, 1
		for _, m := range s.nodes {
			if m == n {
				continue
			}
			if s.reaches(n, m) {
				weight, least = weight+1, min(least, m.id)
			}
			if s.reaches(n, m) && !n.sees[m.id] {
				n.sees[m.id] = true
				n.sched.Arrived(m.id, s.now)
			}
		}
		for id := range n.sees {
			m := s.node(id)
			if m == nil || !s.reaches(n, m) {
				delete(n.sees, id)
				n.sched.Departed(id)
			}
		}
		n.census.Change(Standing{weight, least}, s.now)
		if s.limits.Owned { // it hears of it later, and may hear of entries before
			s.after(time.Duration(s.rng.IntN(3000))*time.Millisecond, n.members)
		}
	}
}

// members tells the Store whom the member sees.
func (n *simNode) members() {
	for _, c := range n.store.Owners.SetMembers(slices.Collect(maps.Keys(n.sees)), n.sim.now) {
		n.note(c)
	}
}

func (n *simNode) note(c Change[string]) {
	if c != (Change[string]{}) {
		n.watcher.Note(c)
	}
}

func (s *sim) node(id uint64) *simNode {
	for _, n := range s.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// send delivers something after a while, unless it is lost.
func (s *sim) send(from, to *simNode, lossy bool, do func()) {
	if lossy && s.rng.Float64() < s.loss {
		return
	}
	s.after(time.Duration(s.rng.IntN(20_000))*time.Microsecond, func() {
		if from.lives() && to.lives() && s.reaches(from, to) {
			do()
		}
	})
}

// tick does what is due, every 50 ms.
func (n *simNode) tick() {
	s := n.sim
	if !n.lives() {
		return
	}
	n.expire()
	if n.pull != nil && s.now.After(n.until) {
		n.sched.Failed(n.pullFrom(), s.now)
		n.pull = nil
	}
	if n.pull == nil {
		if id, ok, _ := n.sched.Next(s.now); ok {
			s.seq++
			n.pull = &Pull[string]{ID: uint64(s.seq)<<16 | id}
			n.ask(n.pull.First(n.store.View(true, s.now), !n.sched.Synced()))
		}
	}
	if n.sched.Synced() && n.synced == 0 {
		n.synced++
		n.watcher.Synced()
	}
	if s.rng.IntN(10) == 0 {
		n.read()
	}
	s.after(50*time.Millisecond, n.tick)
}

// expire lets what has lived its time expire.
func (n *simNode) expire() {
	for _, c := range n.store.Tick(n.sim.now) {
		n.note(c)
	}
}

func (n *simNode) pullFrom() uint64 { return n.pull.ID & 0xffff }

func (n *simNode) ask(q *wire.MapQuestion) {
	s := n.sim
	n.until = s.now.Add(time.Second)
	to := s.node(n.pullFrom())
	if to == nil {
		return
	}
	s.bytes += len(wire.AppendMapQuestion(nil, q))
	s.send(n, to, true, func() {
		if to.sched.Synced() && !q.Partial && q.First && q.Root != to.store.root {
			to.sched.Differs(n.id, s.now)
		}
		v := to.store.View(true, s.now)
		a, give := Answer(v, q, !to.sched.Synced(), to.census.Standing(s.now))
		s.bytes += len(wire.AppendMapAnswer(nil, &a))
		s.given += len(give)
		at, known := s.now, maps.Clone(to.known)
		s.send(to, n, true, func() {
			if q.First && n.pull != nil && n.pull.ID == q.ID {
				n.learned = known
			}
			n.answered(&a, v, give, known, s.now.Sub(at))
		})
	})
}

// answered takes an answer. known are the writes that the donor knew.
func (n *simNode) answered(a *wire.MapAnswer, v *View[string], give []*Entry[string], known map[uint64]bool, ago time.Duration) {
	s := n.sim
	if n.pull == nil || n.pull.ID != a.ID {
		return
	}
	for _, e := range give {
		w := v.Write(e)
		w.Age, w.Left = w.Age+ago, w.Left-ago
		w.Size, w.Sum = len(w.Value), 0
		if s.limits.Merge && w.State == Live {
			w.Sum = Hash(w.Value)
		}
		switch n.take(w, &n.pull.Filter) {
		case Full:
			n.pull.Incomplete = true
		case Taken: // whatever becomes of the comparison
			for number := range known {
				given := s.writes[number]
				part := given.State == Deleted && given.Base <= w.Base || given.State == Live && union(w.Value, given.Value) == w.Value
				if given.Key == w.Key && (part || !s.limits.Merge) {
					n.known[number] = true
				}
			}
		}
	}
	now := n.store.View(true, s.now)
	if q := n.pull.Next(now, a, !n.sched.Synced(), n.census.Standing(s.now)); q != nil {
		n.ask(q)
		return
	}
	if n.pull.Vain {
		n.sched.Failed(n.pullFrom(), s.now)
		n.pull = nil
		return
	}
	for _, e := range n.pull.Drops {
		if c, ok := n.store.Drop(e); ok {
			n.drops++
			n.note(c)
		}
	}
	if !n.pull.Incomplete {
		n.store.Covered(n.pull)
		n.away = n.away && s.group[n.id] != 0
		if n.pull.Filter.Ours != nil { // what gave way is known no more
			maps.DeleteFunc(n.known, func(number uint64, _ bool) bool {
				return !n.learned[number] && s.now.Sub(s.writes[number].at) >= s.limits.Tombstones
			})
		}
		maps.Copy(n.known, n.learned)
		if !n.sched.Synced() {
			n.census.Adopt(n.pull.Standing, s.now)
		}
	}
	n.sched.Done(n.pullFrom(), !n.pull.Incomplete, n.pull.Partial, s.now)
	n.pull = nil
}

// union merges two sets of letters.
func union(a, b string) string {
	letters := map[rune]bool{}
	for _, r := range a + b {
		letters[r] = true
	}
	return string(slices.Sorted(maps.Keys(letters)))
}

// take applies a write, merging as often as needed.
func (n *simNode) take(w Write[string], f *Filter) Verdict {
	s := n.sim
	n.store.Clock.See(w.Stamp, s.now.Add(n.wrong))
	was := n.store.Get(w.Key, w.Origin)
	if n.store.Merges(&w, was, f, s.now) {
		v := union(was.Value, w.Value)
		n.store.Merged(&w, was, v, len(v), Hash(v), s.now)
	}
	verdict, c := n.store.Put(&w, was, f, s.now)
	switch verdict {
	case Taken:
		n.note(c)
	case Full:
		n.full++
	}
	return verdict
}

// write writes as a user does, and broadcasts.
func (n *simNode) write(key, value string, state State, ttl time.Duration) {
	s := n.sim
	old := n.store.Get(key, n.id)
	w := Write[string]{Key: key, Value: value, State: state, TTL: ttl > 0, Left: ttl}
	if s.limits.Merge && state == Live {
		if old.live() {
			w.Value = union(old.Value, value)
		}
		w.Sum = Hash(w.Value)
	}
	w.Size = len(w.Value)
	prev := n.store.Next(&w, old, s.now.Add(n.wrong))
	verdict, c := n.store.Put(&w, old, nil, s.now)
	if verdict != Taken {
		s.t.Fatalf("%d: own write: verdict %d", n.id, verdict)
	}
	n.note(c)
	n.store.Seen(n.id, prev, w.Stamp)
	s.made++
	number := s.made
	made := simWrite{Write: w, at: s.now}
	if state == Deleted {
		s.deleted[w.Stamp] = s.now
	}
	s.writes[number] = made
	n.known[number] = true
	at := s.now
	for _, m := range s.nodes {
		if m == n || !s.reaches(n, m) {
			continue
		}
		s.send(n, m, true, func() {
			got := w
			got.Age, got.Left = s.now.Sub(at), got.Left-s.now.Sub(at)
			if v := m.take(got, nil); v == Taken || v == Stale {
				m.store.Seen(n.id, prev, w.Stamp)
				m.known[number] = true
			}
		})
	}
}

// read lets the reader of the watcher read all that there is.
func (n *simNode) read() {
	for {
		news, ok := n.watcher.Next()
		if !ok {
			return
		}
		if news.Synced {
			continue
		}
		told, has := n.watched[news.Key]
		if news.Was.live() != has || has && told != news.Was.Value {
			n.sim.t.Fatalf("%d: a reader who knows %q of %s (%v) is told of a change from %v", n.id, told, news.Key, has, news.Was)
		}
		if news.Is.live() {
			n.watched[news.Key] = news.Is.Value
		} else if has {
			delete(n.watched, news.Key)
		} else {
			n.sim.t.Fatalf("%d: a reader who knows no %s is told that it is gone", n.id, news.Key)
		}
	}
}

// content is what a member has, as one text.
func (n *simNode) content() string {
	var b strings.Builder
	n.store.View(false, n.sim.now).Ascend("", func(e *Entry[string]) bool {
		fmt.Fprintf(&b, "%s=%s ", e.Key, e.Value)
		return true
	})
	return b.String()
}

// check lets the members find to each other, and holds what they have against what they must have, if
// that is known.
func (s *sim) check(limit time.Duration, exact bool) {
	s.t.Helper()
	s.heal()
	s.loss = 0
	equal := func() bool {
		for _, n := range s.nodes {
			if n.store.root != s.nodes[0].store.root || n.content() != s.nodes[0].content() || !n.sched.Synced() {
				return false
			}
		}
		return true
	}
	for end := s.now.Add(limit); !equal() && s.now.Before(end); {
		s.run(100 * time.Millisecond)
	}
	for _, n := range s.nodes {
		n.expire()
	}
	for _, n := range s.nodes {
		if !equal() {
			s.t.Errorf("%v after the last trouble %d (synced %v) has %s", limit, n.id, n.sched.Synced(), n.content())
		}
		n.read()
		has := map[string]string{}
		n.store.View(false, s.now).Ascend("", func(e *Entry[string]) bool { has[e.Key] = e.Value; return true })
		if !maps.Equal(has, n.watched) {
			s.t.Errorf("%d has %v, and its reader was told of %v", n.id, has, n.watched)
		}
		counts, live, bytes := n.store.Counts(), 0, 0
		n.store.tree.Ascend(func(e *Entry[string]) bool {
			if e.live() {
				live, bytes = live+1, bytes+int(e.size)
			}
			return true
		})
		if counts.Entries != live || counts.Bytes != bytes || counts.Entries+counts.Tombstones != n.store.tree.Len() {
			s.t.Errorf("%d counts %+v, has %d of %d bytes among %d", n.id, counts, live, bytes, n.store.tree.Len())
		}
	}
	if exact && equal() {
		s.exact(s.nodes[0])
	}
}

// exact holds what all have against what they must have: of each key the latest of the writes that any member has seen. Where values are
// merged: at least what they have seen, and at most all that was written, on the latest base.
func (s *sim) exact(n *simNode) {
	seen, ever := map[string][]simWrite{}, map[string][]simWrite{}
	for number, w := range s.writes {
		ever[w.Key] = append(ever[w.Key], w)
		if slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n.known[number] }) {
			seen[w.Key] = append(seen[w.Key], w)
		}
	}
	for key := range ever {
		least, most := s.latest(seen[key]), ""
		if s.limits.Merge {
			// For a while some members write on top of a deletion that those who came meanwhile were not told of: see Store.letGoAt.
			least, most = s.merged(seen[key], s.limits.Tombstones*5/4), s.merged(ever[key], s.limits.Tombstones)
		} else {
			most = least
		}
		has := ""
		if e := n.store.Get(key, n.id); e.live() {
			has = e.Value
		}
		if most != least && union(has, least) == has && union(has, most) == most {
			continue
		}
		if has != least {
			s.t.Errorf("all have %s=%q, and should have %q (at most %q)", key, has, least, most)
		}
	}
}

// latest is the value of the latest of writes of one key; "" if it is none, or has expired.
func (s *sim) latest(writes []simWrite) string {
	if len(writes) == 0 {
		return ""
	}
	w := slices.MaxFunc(writes, func(a, b simWrite) int {
		return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Origin, b.Origin))
	})
	if w.TTL && !w.at.Add(w.Left).After(s.now) {
		return ""
	}
	return w.Value
}

// merged is what writes of one key make together. A deletion takes away what was not written on top of it, as long as it is remembered.
func (s *sim) merged(writes []simWrite, remembered time.Duration) (all string) {
	for _, w := range writes {
		gone := slices.ContainsFunc(writes, func(d simWrite) bool { // d is the deletion, or was written on top of it
			return w.Base < d.Base && w.at.Before(s.deleted[d.Base].Add(remembered))
		})
		if !gone {
			all = union(all, w.Value)
		}
	}
	return all
}
