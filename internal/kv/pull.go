package kv

import (
	"cmp"
	"slices"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/wire"
)

// A Pull is one comparison with one other member, the donor, to get what is newer there. First it asks for all writes that are later than
// what this member has seen of each run. Usually nothing differs after that. Otherwise it narrows down where the two differ, from the whole map
// to ranges of few entries; of these it says what is here, and is given the rest. What is newer here the donor gets by a Pull of its own.
//
// Ask with First, give each answer to Next, and ask what that returns, until there is nothing more to ask.
type Pull[V any] struct {
	ID uint64
	// Filter says what is to be made of the entries that come with the next answer.
	Filter Filter
	// Drops are entries that the donor lacks and that have been deleted, as far as can be known.
	Drops []*Entry[V]
	// Reset: this member was behind, and is brought to the donor's state.
	Reset bool
	// Partial: the donor had no first state itself.
	Partial bool
	// Equal: the first answer was that all is equal.
	Equal bool
	// Incomplete: the donor, or this member, could not take part in all of it. Whoever applies the entries may set it.
	Incomplete bool
	// Vain: whose entries count has changed meanwhile. Nothing is known of what the donor has; ask again.
	Vain bool
	// Cover and Horizon are what this member has covered and let go of, once all is here. Standing is the donor's.
	Cover    []wire.MapRun
	Horizon  Horizon
	Standing Standing

	here, there uint64 // the sums of whose entries counted at the first question and answer, in an owned map
	begun       bool   // there is known

	work   []span               // what is still to be asked
	asked  map[node]int         // nodes of the last question, and how many entries are here
	listed map[uint64]*Entry[V] // what is in the last question's leaves, by the hashes, if some of it may go
}

// span is a node that differs, and what each side has there.
type span struct {
	node
	mine, theirs int
}

const (
	// leafItems is how many entries of both sides are told one by one rather than compared once more: the children's hashes would be
	// about as long.
	leafItems = 16
	// askNodes, askItems and askLeaves bound one question. The rest is asked in the next.
	askNodes  = 2048
	askLeaves = 1024
	askItems  = 8192
)

// First returns the first question.
func (p *Pull[V]) First(v *View[V], partial bool) *wire.MapQuestion {
	p.asked, p.here = map[node]int{{}: v.count}, v.visibility.sum
	return &wire.MapQuestion{
		ID: p.ID, First: true, Partial: partial,
		Root: v.root, Count: uint64(v.count), Cover: v.covered, Owned: v.owned,
	}
}

// Next takes the last frame of an answer and returns the next question; nil: that was all. v is this member as it is now, with its
// coverage.
func (p *Pull[V]) Next(v *View[V], a *wire.MapAnswer, partial bool, mine Standing) *wire.MapQuestion {
	first := !p.begun
	if first {
		p.begun, p.there = true, a.Members
	}
	if p.here != v.visibility.sum || p.there != a.Members {
		// Whose entries count has changed meanwhile, here or there: what was covered then is not what is compared now.
		p.Vain = true
		return nil
	}
	if first && a.Cover != nil {
		p.compare(v, a, mine)
	}
	p.Equal = p.Equal || a.Equal
	p.Partial = p.Partial || a.Partial
	p.Incomplete = p.Incomplete || a.Incomplete
	for _, key := range a.Lacks {
		if e, ok := p.listed[key]; ok {
			p.missing(v, e)
		}
	}
	for _, n := range a.Nodes {
		own, asked := p.asked[node{n.Level, n.Prefix}]
		if !asked {
			continue
		}
		p.work = append(p.work, span{node{n.Level, n.Prefix}, own, int(n.Value)})
		delete(p.asked, node{n.Level, n.Prefix}) // said twice it counts once
	}
	if a.Partial && !partial {
		// It is about to be given all that we have. What it has written itself is broadcast.
		p.Incomplete, p.work = true, nil
	}
	if first && a.Cover != nil && len(p.work) > 0 && !a.Partial && len(v.since) > 0 {
		p.asked = nil
		return &wire.MapQuestion{ID: p.ID, Since: v.since}
	}
	return p.ask(v)
}

// compare decides by what both have covered and let go of whether one may have missed deletions.
func (p *Pull[V]) compare(v *View[V], a *wire.MapAnswer, mine Standing) {
	p.Cover = a.Cover
	p.Horizon = Horizon{hlc.Stamp(a.Aged), hlc.Stamp(a.Forced)}
	p.Standing = Standing{int(a.Weight), a.Least}
	theirs := make([]Version, len(a.Cover))
	for i, r := range a.Cover {
		theirs[i] = Version{hlc.Stamp(r.Stamp), r.ID}
	}
	here := behind(v.cover, theirs, p.Horizon)
	there := behind(theirs, v.cover, v.horizon)
	if v.owned {
		delete(here, v.self) // a member never drops what is its own
	}
	reset, doubt := len(here) > 0, len(there) > 0
	if !v.owned {
		if reset && doubt {
			reset = mine.yields(p.Standing)
			doubt = !reset
		}
		here, there = nil, nil
	}
	if doubt {
		p.Filter.Theirs = &Suspects{v.horizon, v.limits.Tombstones, there}
	}
	if reset {
		p.Reset = true
		p.Filter.Ours = &Suspects{p.Horizon, v.limits.Tombstones, here}
	}
}

// missing notes that the donor lacks what was listed.
func (p *Pull[V]) missing(v *View[V], listed *Entry[V]) {
	if e, ok := v.tree.Get(listed); ok {
		p.lack(v, e)
	}
}

// lack notes an entry that the donor lacks. What is said of a tombstone does no harm: it stays.
func (p *Pull[V]) lack(v *View[V], e *Entry[V]) {
	if e.state == Live && p.Filter.Ours.suspect(e.Version, v.age(e)) {
		p.Drops = append(p.Drops, e)
	}
}

// ask makes the next question out of what is still to be asked.
func (p *Pull[V]) ask(v *View[V]) *wire.MapQuestion {
	q := &wire.MapQuestion{ID: p.ID, Lacks: p.Filter.Ours != nil, Owned: v.owned}
	leaves, gone := map[node]*wire.MapLeaf{}, map[node]bool{}
	children := map[node]*tally{}
	var wanted levels
	items := 0
	p.asked, p.listed = map[node]int{}, map[uint64]*Entry[V]{}
	for len(p.work) > 0 && len(children)+fan <= askNodes && len(leaves) < askLeaves && items < askItems {
		s := p.work[0]
		p.work = p.work[1:]
		if s.level == 0 {
			s.mine = v.count // what was written since has come meanwhile
		}
		switch {
		case s.theirs == 0: // nothing can be given
			if p.Filter.Ours != nil {
				gone[s.node] = true
				wanted.add(s.level)
			}
		case s.mine == 0 || s.mine+s.theirs <= leafItems || s.level == maxLevel:
			leaves[s.node] = &wire.MapLeaf{Level: s.level, Prefix: s.prefix}
			items += s.mine
			wanted.add(s.level)
		default:
			for i := range uint32(fan) {
				children[s.child(i)] = new(tally)
			}
			wanted.add(s.level + 1)
		}
	}
	if wanted == 0 {
		return nil
	}
	v.each(wanted, func(e *Entry[V], key uint64, n node) {
		if t := children[n]; t != nil {
			t.sum += entrySum(key, e.mark())
			t.count++
		}
		if l := leaves[n]; l != nil && len(l.Items) < wire.MaxMapItems/2 {
			l.Items = append(l.Items, wire.MapItem{Key: key, Stamp: uint64(e.Stamp), Mark: uint32(e.mark())})
			if p.Filter.Ours != nil {
				p.listed[key] = e
			}
		}
		if gone[n] {
			p.lack(v, e)
		}
	})
	for n, t := range children {
		p.asked[n] = t.count
		q.Nodes = append(q.Nodes, wire.MapNode{Level: n.level, Prefix: n.prefix, Value: t.hash(p.ID)})
	}
	for _, l := range leaves {
		q.Leaves = append(q.Leaves, *l)
	}
	slices.SortFunc(q.Nodes, func(a, b wire.MapNode) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Prefix, b.Prefix))
	})
	if len(q.Nodes)+len(q.Leaves) == 0 {
		return p.ask(v) // only what nobody can give was left
	}
	return q
}
