package store

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/wire"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// keptList is what a history must be equal to: an unordered list, and loops over it.
type keptList struct {
	maxBytes int
	maxAge   time.Duration
	items    []*Item
}

func (k *keptList) bytes() (n int) {
	for _, it := range k.items {
		n += it.cost()
	}
	return n
}

// oldest returns the index of the item that is evicted first of those that are handled, or of those that are not.
func (k *keptList) oldest(handled bool) int {
	best := -1
	for i, it := range k.items {
		if it.Handled != handled {
			continue
		}
		if best < 0 || it.Born.Before(k.items[best].Born) ||
			it.Born.Equal(k.items[best].Born) && it.ID.Less(k.items[best].ID) {
			best = i
		}
	}
	return best
}

func (k *keptList) take(i int) *Item {
	it := k.items[i]
	k.items = slices.Delete(k.items, i, i+1)
	return it
}

func (k *keptList) expire(now time.Time) (evicted []*Item) {
	for _, handled := range []bool{true, false} {
		for {
			i := k.oldest(handled)
			if i < 0 || now.Sub(k.items[i].Born) < k.maxAge {
				break
			}
			evicted = append(evicted, k.take(i))
		}
	}
	return evicted
}

func (k *keptList) add(it *Item, now time.Time) []*Item {
	evicted := k.expire(now)
	for k.bytes()+it.cost() > k.maxBytes {
		i := k.oldest(true)
		if i < 0 {
			i = k.oldest(false)
		}
		evicted = append(evicted, k.take(i))
	}
	k.items = append(k.items, it)
	return evicted
}

func (k *keptList) find(id wire.PartID) *Item {
	for _, it := range k.items {
		if it.ID == id {
			return it
		}
	}
	return nil
}

func (k *keptList) compare(t *testing.T, h *History, now time.Time) {
	t.Helper()
	byID := slices.SortedFunc(slices.Values(k.items), func(a, b *Item) int {
		return cmp.Or(cmp.Compare(a.ID.Origin, b.ID.Origin), cmp.Compare(a.ID.Seq, b.ID.Seq))
	})
	var got []*Item
	for origin := range h.Origins() {
		got = slices.AppendSeq(got, h.Ascend(origin, 0, 1<<63))
	}
	if !slices.Equal(got, byID) {
		t.Fatalf("%d parts kept in other order or number than %d", len(got), len(byID))
	}
	if h.Len() != len(byID) || h.Bytes() != k.bytes() || h.Bytes() > k.maxBytes {
		t.Fatalf("len %d, bytes %d; want %d, %d", h.Len(), h.Bytes(), len(byID), k.bytes())
	}
	h.parts.pages.Ascend(func(p *page) bool {
		n := 0
		for _, it := range p.items {
			if it != nil {
				n++
			}
		}
		if n != p.kept || n == 0 {
			t.Fatalf("a page has %d items, and counts %d", n, p.kept)
		}
		return true
	})
	if h.done.Len()+h.due.Len() != len(byID) {
		t.Fatalf("%d handled, %d not, of %d", h.done.Len(), h.due.Len(), len(byID))
	}
}

// TestHistoryModel compares the history with a plain list, while ages come in any order.
func TestHistoryModel(t *testing.T) {
	rnd := seedtest.Rand(t)
	for range 400 {
		const maxAge = time.Second
		maxBytes := ItemOverhead * (2 + rnd.IntN(20))
		h, model := New(maxBytes, maxAge), &keptList{maxBytes: maxBytes, maxAge: maxAge}
		now := start
		var seen []*Item
		for range 120 {
			switch op := rnd.IntN(10); {
			case op < 5:
				it := &Item{
					ID:      wire.PartID{Origin: 1 + rnd.Uint64N(3), Seq: 1 + rnd.Uint64N(60)},
					Frame:   make([]byte, rnd.IntN(ItemOverhead)),
					Born:    now.Add(-time.Duration(rnd.IntN(8)) * 100 * time.Millisecond),
					Handled: rnd.IntN(4) == 0,
				}
				if h.Get(it.ID) != nil {
					break
				}
				got, want := h.Add(it, now), model.add(it, now)
				if !slices.Equal(got, want) {
					t.Fatalf("evicted %d parts, want %d, or in another order", len(got), len(want))
				}
				seen = append(seen, it)
			case op < 8 && len(seen) > 0:
				h.SetHandled(seen[rnd.IntN(len(seen))]) // evicted ones too
			case op == 8:
				now = now.Add(time.Duration(rnd.IntN(300)) * time.Millisecond)
			default:
				got, want := h.Expire(now), model.expire(now)
				if !slices.Equal(got, want) {
					t.Fatalf("expired %d parts, want %d, or in another order", len(got), len(want))
				}
			}
			for range 3 {
				id := wire.PartID{Origin: 1 + rnd.Uint64N(3), Seq: 1 + rnd.Uint64N(60)}
				if h.Get(id) != model.find(id) {
					t.Fatalf("get(%v) is wrong", id)
				}
			}
			model.compare(t, h, now)
		}
	}
}

// TestHistoryAscend: the parts of one origin come in order, within their bounds, and each origin once.
func TestHistoryAscend(t *testing.T) {
	h := New(1<<20, time.Minute)
	for _, id := range []wire.PartID{
		{Origin: 5, Seq: 1}, {Origin: 5, Seq: 9}, {Origin: 5, Seq: 3}, {Origin: 5, Seq: 1<<64 - 1},
		{Origin: 4, Seq: 3}, {Origin: 6, Seq: 3}, {Origin: 1<<64 - 1, Seq: 2},
	} {
		h.Add(&Item{ID: id, Born: start}, start)
	}
	seqs := func(from, to uint64) (got []uint64) {
		for it := range h.Ascend(5, from, to) {
			if h.Get(it.ID) != it {
				t.Errorf("get within ascend: not %v", it.ID)
			}
			got = append(got, it.ID.Seq)
		}
		return got
	}
	for _, c := range []struct {
		from, to uint64
		want     []uint64
	}{
		{0, 1<<64 - 1, []uint64{1, 3, 9, 1<<64 - 1}},
		{3, 9, []uint64{3, 9}},
		{4, 8, nil},
		{9, 3, nil},
		{1<<64 - 1, 1<<64 - 1, []uint64{1<<64 - 1}},
	} {
		if got := seqs(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("ascend from %d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
	for range h.Ascend(5, 0, 9) {
		break
	}
	if got, want := slices.Collect(h.Origins()), []uint64{4, 5, 6, 1<<64 - 1}; !slices.Equal(got, want) {
		t.Errorf("origins %v, want %v", got, want)
	}
	for range h.Origins() {
		break
	}
}

// TestHistoryTooLarge: a part that can never fit evicts no other.
func TestHistoryTooLarge(t *testing.T) {
	h := New(1000, time.Minute)
	small := &Item{ID: wire.PartID{Origin: 1, Seq: 1}, Born: start}
	h.Add(small, start)
	big := &Item{ID: wire.PartID{Origin: 1, Seq: 2}, Frame: make([]byte, 1000-ItemOverhead+1), Born: start}
	if got := h.Add(big, start); !slices.Equal(got, []*Item{big}) || h.Len() != 1 {
		t.Errorf("evicted %d, %d kept", len(got), h.Len())
	}
	exact := &Item{ID: wire.PartID{Origin: 1, Seq: 3}, Frame: make([]byte, 1000-ItemOverhead), Born: start}
	if got := h.Add(exact, start); !slices.Equal(got, []*Item{small}) || h.Bytes() != 1000 {
		t.Errorf("evicted %d, %d bytes kept", len(got), h.Bytes())
	}
}

// TestHistoryReplaced: the same part twice is a mistake of the owner; the history counts right all the same.
func TestHistoryReplaced(t *testing.T) {
	h := New(1000, time.Minute)
	first := &Item{ID: wire.PartID{Origin: 1, Seq: 1}, Frame: make([]byte, 10), Born: start}
	second := &Item{ID: wire.PartID{Origin: 1, Seq: 1}, Frame: make([]byte, 20), Born: start, Handled: true}
	h.Add(first, start)
	h.Add(second, start)
	h.Add(second, start)
	if h.Get(first.ID) != second || h.Len() != 1 || h.Bytes() != second.cost() {
		t.Errorf("%d kept, %d bytes", h.Len(), h.Bytes())
	}
	h.SetHandled(first)
	if h.done.Len() != 1 || h.due.Len() != 0 {
		t.Errorf("%d handled, %d not", h.done.Len(), h.due.Len())
	}
	if got := h.Expire(start.Add(time.Minute)); len(got) != 1 || h.Bytes() != 0 {
		t.Errorf("%d expired, %d bytes left", len(got), h.Bytes())
	}
}

// BenchmarkHistoryAdd: the newest part of one of 50 origins comes in and is handled, and the oldest makes room for it. That is
// two insertions and two removals; a part that is added to a history that is not full costs half.
func BenchmarkHistoryAdd(b *testing.B) {
	inOrder := func(int) time.Duration { return 0 }
	anyAge := func(i int) time.Duration { return time.Duration(i*7919%60000) * time.Millisecond }
	for _, kept := range []int{1_000, 50_000, 200_000} {
		b.Run(fmt.Sprintf("inOrder/%d", kept), func(b *testing.B) { benchmarkAdd(b, kept, inOrder) })
		b.Run(fmt.Sprintf("anyAge/%d", kept), func(b *testing.B) { benchmarkAdd(b, kept, anyAge) })
	}
}

func benchmarkAdd(b *testing.B, kept int, age func(i int) time.Duration) {
	const origins = 50
	frame := make([]byte, 200)
	h := New(kept*(len(frame)+ItemOverhead), time.Hour)
	free := make([]*Item, kept+1)
	for i := range free {
		free[i] = new(Item)
	}
	i, now := 0, start
	add := func() {
		it := free[len(free)-1]
		free = free[:len(free)-1]
		*it = Item{ID: wire.PartID{Origin: uint64(i % origins), Seq: uint64(i / origins)}, Frame: frame, Born: now.Add(-age(i))}
		free = append(free, h.Add(it, now)...)
		h.SetHandled(it)
		now = now.Add(time.Microsecond)
		i++
	}
	for range kept {
		add()
	}
	b.ReportAllocs()
	for b.Loop() {
		add()
	}
}

// BenchmarkHistoryFill: the same while nothing is evicted.
func BenchmarkHistoryFill(b *testing.B) {
	const origins, kept = 50, 50_000
	items := make([]Item, kept)
	frame := make([]byte, 200)
	b.ReportAllocs()
	h, i := New(1<<40, time.Hour), 0
	for b.Loop() {
		if i == kept {
			b.StopTimer()
			h, i = New(1<<40, time.Hour), 0
			clear(items)
			b.StartTimer()
		}
		it := &items[i]
		it.ID = wire.PartID{Origin: uint64(i % origins), Seq: uint64(i / origins)}
		it.Frame, it.Born = frame, start.Add(time.Duration(i))
		h.Add(it, start)
		i++
	}
}
