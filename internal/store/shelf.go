package store

import (
	"iter"
	"math"

	"github.com/google/btree"

	"github.com/starling-go/starling/internal/wire"
)

// shelf keeps items in the order of their origins and seqs. An origin's seqs follow each other, so they stand on pages, and a page is
// looked up in the tree once for several of them.
type shelf struct {
	pages *btree.BTreeG[*page] // Invariant: none is empty
	near  *page                // the one that was looked up last; nil: none, or it is gone
	len   int                  // items
	probe page                 // the key of lookups: a local one would be allocated each time
}

// pageSize is how many seqs a page has. A page of a single item takes 160 bytes, so a shelf of such takes about twice the memory.
const pageSize = 16

// page is the items of one origin with the seqs from no × pageSize on.
type page struct {
	origin, no uint64
	kept       int
	items      [pageSize]*Item
}

func newShelf() shelf {
	return shelf{pages: btree.NewG(32, func(a, b *page) bool {
		return a.origin < b.origin || a.origin == b.origin && a.no < b.no
	})}
}

// find returns the page that an item of that identity stands on, or nil.
func (s *shelf) find(id wire.PartID) *page {
	origin, no := id.Origin, id.Seq/pageSize
	if p := s.near; p != nil && p.origin == origin && p.no == no {
		return p
	}
	s.probe.origin, s.probe.no = origin, no
	p, ok := s.pages.Get(&s.probe)
	if ok {
		s.near = p
	}
	return p
}

func (s *shelf) get(id wire.PartID) *Item {
	if p := s.find(id); p != nil {
		return p.items[id.Seq%pageSize]
	}
	return nil
}

// put adds an item, and returns the one in whose place it stands, if any.
func (s *shelf) put(it *Item) (old *Item) {
	p := s.find(it.ID)
	if p == nil {
		p = &page{origin: it.ID.Origin, no: it.ID.Seq / pageSize}
		s.pages.ReplaceOrInsert(p)
		s.near = p
	}
	at := &p.items[it.ID.Seq%pageSize]
	if old = *at; old == nil {
		p.kept++
		s.len++
	}
	*at, it.page = it, p
	return old
}

// remove takes an item off that stands there.
func (s *shelf) remove(it *Item) {
	p := it.page
	p.items[it.ID.Seq%pageSize], it.page = nil, nil
	s.len--
	if p.kept--; p.kept == 0 {
		s.pages.Delete(p)
		if s.near == p {
			s.near = nil
		}
	}
}

// ascend yields the items of an origin from seq from to seq to, both included, in ascending order.
func (s *shelf) ascend(origin, from, to uint64) iter.Seq[*Item] {
	return func(yield func(*Item) bool) {
		first := &page{origin: origin, no: from / pageSize}
		s.pages.AscendGreaterOrEqual(first, func(p *page) bool {
			if p.origin != origin || p.no > to/pageSize {
				return false
			}
			for _, it := range p.items {
				if it != nil && it.ID.Seq >= from && it.ID.Seq <= to && !yield(it) {
					return false
				}
			}
			return true
		})
	}
}

// origins yields each origin of which there is any item, ascending. Each takes logarithmic time.
func (s *shelf) origins() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		pivot := &page{}
		for {
			var first *page
			s.pages.AscendGreaterOrEqual(pivot, func(p *page) bool {
				first = p
				return false
			})
			if first == nil || !yield(first.origin) || first.origin == math.MaxUint64 {
				return
			}
			pivot.origin = first.origin + 1
		}
	}
}
