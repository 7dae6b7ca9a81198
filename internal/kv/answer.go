package kv

import (
	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/wire"
)

// Answer answers a question. give are the entries that the asker lacks, or has an older state of; they go before the answer.
func Answer[V any](v *View[V], q *wire.MapQuestion, partial bool, st Standing) (a wire.MapAnswer, give []*Entry[V]) {
	a = wire.MapAnswer{ID: q.ID, Last: true, Partial: partial, Members: v.visibility.sum}
	if q.First {
		v.answerFirst(q, &a, st)
		return a, nil
	}
	if q.Since != nil {
		return a, v.later(q.Since)
	}
	r := newRespondent(q)
	v.each(r.levels, func(e *Entry[V], key uint64, n node) {
		if t := r.nodes[n]; t != nil {
			t.sum += entrySum(key, e.mark())
			t.count++
		}
		if l := r.leaves[n]; l != nil {
			if it, ok := l.has(key); !ok || v.newer(e, it) {
				give = append(give, e)
			}
		}
	})
	for _, n := range q.Nodes {
		if t := r.nodes[node{n.Level, n.Prefix}]; t.hash(q.ID) != n.Value {
			a.Nodes = append(a.Nodes, wire.MapNode{Level: n.Level, Prefix: n.Prefix, Value: uint32(t.count)})
		}
	}
	if q.Lacks && q.Owned == v.owned { // else nothing is found by what the asker calls it
		a.Lacks = r.lacking()
	}
	return a, give
}

// answerFirst says whether all is equal, and what this member has covered and let go of.
func (v *View[V]) answerFirst(q *wire.MapQuestion, a *wire.MapAnswer, st Standing) {
	a.Equal = q.Root == v.root
	if a.Equal && q.Cover == v.covered {
		return
	}
	a.Cover = make([]wire.MapRun, 0, len(v.cover))
	for _, r := range v.cover {
		if v.visibility.of(r.Origin) { // else what is here of it is not given
			a.Cover = append(a.Cover, wire.MapRun{ID: r.Origin, Stamp: uint64(r.Stamp)})
		}
	}
	a.Aged, a.Forced = uint64(v.horizon.Aged), uint64(v.horizon.Forced)
	a.Weight, a.Least = uint64(st.Weight), st.Least
	if !a.Equal {
		a.Nodes = []wire.MapNode{{Value: uint32(min(v.count, 1<<31))}}
	}
}

// later returns what was written later than what the asker has seen of each run.
func (v *View[V]) later(since []wire.MapRun) (give []*Entry[V]) {
	seen := make(map[uint64]hlc.Stamp, len(since))
	for _, r := range since {
		seen[r.ID] = hlc.Stamp(r.Stamp)
	}
	v.tree.Ascend(func(e *Entry[V]) bool {
		if v.counts(e) && e.Stamp > seen[e.Origin] {
			give = append(give, e)
		}
		return true
	})
	return give
}

// newer reports whether an entry is to be given to who has it. Where values are merged, the other's may be the newer part of both.
func (v *View[V]) newer(e *Entry[V], it *heldItem) bool {
	if uint32(e.mark()) == it.mark {
		return false
	}
	return v.limits.Merge || e.Stamp >= it.stamp
}

// respondent is a question, as it is looked through.
type respondent struct {
	levels levels
	nodes  map[node]*tally
	leaves map[node]*heldLeaf
}

// heldLeaf is what the asker has in a leaf, by the hash of the key.
type heldLeaf struct{ items map[uint64]*heldItem }

type heldItem struct {
	stamp hlc.Stamp
	mark  uint32
	seen  bool // it is here too
}

func (l *heldLeaf) has(key uint64) (it *heldItem, ok bool) {
	if it, ok = l.items[key]; ok {
		it.seen = true
	}
	return it, ok
}

func newRespondent(q *wire.MapQuestion) *respondent {
	r := &respondent{nodes: map[node]*tally{}, leaves: map[node]*heldLeaf{}}
	for _, n := range q.Nodes {
		r.levels.add(n.Level)
		r.nodes[node{n.Level, n.Prefix}] = new(tally)
	}
	for i := range q.Leaves {
		l := &q.Leaves[i]
		r.levels.add(l.Level)
		held := &heldLeaf{make(map[uint64]*heldItem, len(l.Items))}
		for _, it := range l.Items {
			held.items[it.Key] = &heldItem{stamp: hlc.Stamp(it.Stamp), mark: it.Mark}
		}
		r.leaves[node{l.Level, l.Prefix}] = held
	}
	return r
}

// lacking returns the keys of the leaves that were not met.
func (r *respondent) lacking() (keys []uint64) {
	for _, l := range r.leaves {
		for key, it := range l.items {
			if !it.seen {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
