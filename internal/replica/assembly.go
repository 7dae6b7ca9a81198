package replica

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
)

// assembly is the messages of a channel that came in pieces, until all pieces are here. The pieces are in history, which bounds them;
// here is only which belong together.
type assembly struct{ partial map[chunked]*partial }

// chunked names a message in pieces. Who lies about total or size names another one, which will never be complete.
type chunked struct {
	origin, first uint64
	total, size   uint32
}

func chunkedOf(it *store.Item) chunked {
	first, _ := it.Chunk.Span(it.ID.Seq)
	return chunked{it.ID.Origin, first, it.Chunk.Total, it.Chunk.Size}
}

// last is the seq of the last piece.
func (c chunked) last() uint64 {
	_, last := wire.Chunk{Total: c.total, Size: c.size}.Span(c.first)
	return last
}

// partial is the pieces that are here, by seq.
type partial struct{ items []*store.Item }

// add adds a piece. When it completes a message, add returns all pieces, and forgets them.
func (a *assembly) add(it *store.Item) (all []*store.Item) {
	key := chunkedOf(it)
	p := a.partial[key]
	if p == nil {
		p = new(partial)
		if a.partial == nil {
			a.partial = map[chunked]*partial{}
		}
		a.partial[key] = p
	}
	at, here := p.find(it.ID.Seq)
	if here {
		p.items[at] = it // the one before was evicted
		return nil
	}
	p.items = slices.Insert(p.items, at, it)
	if len(p.items) < it.Chunk.Count() {
		return nil
	}
	delete(a.partial, key)
	return p.items
}

func (p *partial) find(seq uint64) (at int, here bool) {
	return slices.BinarySearchFunc(p.items, seq, func(it *store.Item, seq uint64) int { return cmp.Compare(it.ID.Seq, seq) })
}

// evict takes out a piece that history let go of; it may come again.
func (a *assembly) evict(it *store.Item) {
	if it.Chunk.Whole() {
		return
	}
	if p := a.partial[chunkedOf(it)]; p != nil {
		if at, here := p.find(it.ID.Seq); here && p.items[at] == it {
			p.items = slices.Delete(p.items, at, at+1)
		}
		if len(p.items) == 0 {
			delete(a.partial, chunkedOf(it))
		}
	}
}

// sorted yields the messages by origin and seq. Those that it yields may be deleted meanwhile.
func (a *assembly) sorted() iter.Seq2[chunked, *partial] {
	return func(yield func(chunked, *partial) bool) {
		keys := make([]chunked, 0, len(a.partial))
		for key := range a.partial {
			keys = append(keys, key)
		}
		slices.SortFunc(keys, func(x, y chunked) int {
			return cmp.Or(cmp.Compare(x.origin, y.origin), cmp.Compare(x.first, y.first), cmp.Compare(x.total, y.total), cmp.Compare(x.size, y.size))
		})
		for _, key := range keys {
			if !yield(key, a.partial[key]) {
				return
			}
		}
	}
}

// drain forgets all, and returns the pieces that were here.
func (a *assembly) drain() (items []*store.Item) {
	for _, p := range a.sorted() {
		items = append(items, p.items...)
	}
	a.partial = nil
	return items
}

// assemblies gives up messages that will never be complete: a piece of them was lost, or was never owed.
type assemblies struct {
	roster   *roster
	channels *channelSet
	intake   *intake
}

// giveUpBefore is how long before the end of its retention a message is given up that is not complete: then at once, and not piece by
// piece as history lets go of them.
const giveUpBefore = time.Second

// sweep looks at every message that is not complete.
func (as *assemblies) sweep(now time.Time) {
	for _, ch := range as.channels.sorted() {
		for key, p := range ch.assembly.sorted() {
			old := now.Sub(p.items[0].Born) >= as.intake.age-min(giveUpBefore, as.intake.age/10)
			if origin := as.roster.get(key.origin); old || origin == nil || origin.lacksForGood(key.first, key.last()) {
				delete(ch.assembly.partial, key)
				as.giveUp(origin, key, p.items, now)
			}
		}
	}
}

// giveUp lets go of the pieces that are here. If the message was owed it is a gap, all of it that was not reported before.
func (as *assemblies) giveUp(origin *peer, key chunked, items []*store.Item, now time.Time) {
	for _, it := range items {
		as.intake.markHandled(it, now)
	}
	if !origin.based() || key.first < origin.next || !as.intake.plausible(key.origin, key.last()) {
		return
	}
	origin.log.Announce(key.last(), now) // a piece of which nobody has told is lost, too
	origin.log.GiveUp(key.first, key.last())
	var owed seqset.Set
	owed.AddRange(key.first, key.last())
	for _, s := range origin.lost.All() {
		owed.RemoveRange(s.Lo, s.Hi)
	}
	for _, s := range owed.All() {
		as.intake.report(key.origin, s.Lo, s.Hi, 1)
	}
	as.intake.release(key.origin, now)
}
