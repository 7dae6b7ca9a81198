package starling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

var genesis = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// keptList is what a history must be equal to: an unordered list and loops.
type keptList struct {
	maxBytes int
	maxAge   time.Duration
	items    []*item
}

func (k *keptList) bytes() (n int) {
	for _, it := range k.items {
		n += it.cost()
	}
	return n
}

// oldest returns the index of what goes first among those of one kind.
func (k *keptList) oldest(handled bool) int {
	best := -1
	for i, it := range k.items {
		if it.handled != handled {
			continue
		}
		if best < 0 || it.born.Before(k.items[best].born) ||
			it.born.Equal(k.items[best].born) && it.id.less(k.items[best].id) {
			best = i
		}
	}
	return best
}

func (k *keptList) take(i int) *item {
	it := k.items[i]
	k.items = slices.Delete(k.items, i, i+1)
	return it
}

func (k *keptList) expire(now time.Time) (evicted []*item) {
	for _, handled := range []bool{true, false} {
		for {
			i := k.oldest(handled)
			if i < 0 || now.Sub(k.items[i].born) < k.maxAge {
				break
			}
			evicted = append(evicted, k.take(i))
		}
	}
	return evicted
}

func (k *keptList) add(it *item, now time.Time) []*item {
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

func (k *keptList) find(id partID) *item {
	for _, it := range k.items {
		if it.id == id {
			return it
		}
	}
	return nil
}

func (k *keptList) compare(t *testing.T, h *history, now time.Time) {
	t.Helper()
	byID := slices.SortedFunc(slices.Values(k.items), func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.id.origin, b.id.origin), cmp.Compare(a.id.seq, b.id.seq))
	})
	var got []*item
	for origin := range h.origins() {
		got = slices.AppendSeq(got, h.ascend(origin, 0, 1<<63))
	}
	if !slices.Equal(got, byID) {
		t.Fatalf("%d parts kept in other order or number than %d", len(got), len(byID))
	}
	if h.len() != len(byID) || h.bytes() != k.bytes() || h.bytes() > k.maxBytes {
		t.Fatalf("len %d, bytes %d; want %d, %d", h.len(), h.bytes(), len(byID), k.bytes())
	}
	if len(h.done)+len(h.due) != len(byID) {
		t.Fatalf("%d handled, %d not, of %d", len(h.done), len(h.due), len(byID))
	}
	at, ok := h.nextExpiry()
	if ok != (len(byID) > 0) {
		t.Fatalf("nextExpiry: %t with %d parts", ok, len(byID))
	}
	for _, it := range byID {
		if it.born.Add(k.maxAge).Before(at) {
			t.Fatalf("part of %v expires before %v", it.born, at)
		}
	}
	if ok && at.After(now) {
		if i := slices.IndexFunc(byID, func(it *item) bool { return it.born.Add(k.maxAge).Equal(at) }); i < 0 {
			t.Fatalf("nothing expires at %v", at)
		}
	}
}

// TestHistoryModel compares the history with a plain list, while ages come in
// any order.
func TestHistoryModel(t *testing.T) {
	rnd := seeded(t)
	for range 400 {
		const maxAge = time.Second
		maxBytes := itemOverhead * (2 + rnd.IntN(20))
		h, model := newHistory(maxBytes, maxAge), &keptList{maxBytes: maxBytes, maxAge: maxAge}
		now := genesis
		var seen []*item
		for range 120 {
			switch op := rnd.IntN(10); {
			case op < 5:
				it := &item{
					id:      partID{1 + rnd.Uint64N(3), 1 + rnd.Uint64N(60)},
					frame:   make([]byte, rnd.IntN(itemOverhead)),
					born:    now.Add(-time.Duration(rnd.IntN(8)) * 100 * time.Millisecond),
					handled: rnd.IntN(4) == 0,
				}
				if h.has(it.id) {
					break
				}
				got, want := h.add(it, now), model.add(it, now)
				if !slices.Equal(got, want) {
					t.Fatalf("evicted %d parts, want %d, or in another order", len(got), len(want))
				}
				seen = append(seen, it)
			case op < 8 && len(seen) > 0:
				h.setHandled(seen[rnd.IntN(len(seen))]) // evicted ones too
			case op == 8:
				now = now.Add(time.Duration(rnd.IntN(300)) * time.Millisecond)
			default:
				got, want := h.expire(now), model.expire(now)
				if !slices.Equal(got, want) {
					t.Fatalf("expired %d parts, want %d, or in another order", len(got), len(want))
				}
				if at, ok := h.nextExpiry(); ok && !at.After(now) {
					t.Fatalf("next expiry %v is not after %v", at, now)
				}
			}
			for range 3 {
				id := partID{1 + rnd.Uint64N(3), 1 + rnd.Uint64N(60)}
				if h.get(id) != model.find(id) || h.has(id) != (model.find(id) != nil) {
					t.Fatalf("get(%v) is wrong", id)
				}
			}
			model.compare(t, h, now)
		}
	}
}

func TestHistoryAscend(t *testing.T) {
	h := newHistory(1<<20, time.Minute)
	for _, id := range []partID{{5, 1}, {5, 9}, {5, 3}, {5, 1<<64 - 1}, {4, 3}, {6, 3}, {1<<64 - 1, 2}} {
		h.add(&item{id: id, born: genesis}, genesis)
	}
	seqs := func(from, to uint64) (got []uint64) {
		for it := range h.ascend(5, from, to) {
			if h.get(it.id) != it {
				t.Errorf("get within ascend: not %v", it.id)
			}
			got = append(got, it.id.seq)
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
	for range h.ascend(5, 0, 9) {
		break
	}
	if got, want := slices.Collect(h.origins()), []uint64{4, 5, 6, 1<<64 - 1}; !slices.Equal(got, want) {
		t.Errorf("origins %v, want %v", got, want)
	}
	for range h.origins() {
		break
	}
}

// TestHistoryTooLarge: what can never fit costs nothing else its place.
func TestHistoryTooLarge(t *testing.T) {
	h := newHistory(1000, time.Minute)
	small := &item{id: partID{1, 1}, born: genesis}
	h.add(small, genesis)
	big := &item{id: partID{1, 2}, frame: make([]byte, 1000-itemOverhead+1), born: genesis}
	if got := h.add(big, genesis); !slices.Equal(got, []*item{big}) || h.len() != 1 {
		t.Errorf("evicted %d, %d kept", len(got), h.len())
	}
	exact := &item{id: partID{1, 3}, frame: make([]byte, 1000-itemOverhead), born: genesis}
	if got := h.add(exact, genesis); !slices.Equal(got, []*item{small}) || h.bytes() != 1000 {
		t.Errorf("evicted %d, %d bytes kept", len(got), h.bytes())
	}
}

// TestHistoryReplaced: the same part twice is a bug elsewhere, but the books
// stay right.
func TestHistoryReplaced(t *testing.T) {
	h := newHistory(1000, time.Minute)
	first := &item{id: partID{1, 1}, frame: make([]byte, 10), born: genesis}
	second := &item{id: partID{1, 1}, frame: make([]byte, 20), born: genesis, handled: true}
	h.add(first, genesis)
	h.add(second, genesis)
	h.add(second, genesis)
	if h.get(first.id) != second || h.len() != 1 || h.bytes() != second.cost() {
		t.Errorf("%d kept, %d bytes", h.len(), h.bytes())
	}
	h.setHandled(first)
	if len(h.done) != 1 || len(h.due) != 0 {
		t.Errorf("%d handled, %d not", len(h.done), len(h.due))
	}
	if got := h.expire(genesis.Add(time.Minute)); len(got) != 1 || h.bytes() != 0 {
		t.Errorf("%d expired, %d bytes left", len(got), h.bytes())
	}
}

// TestAgesOrder drains heaps that were filled in hostile orders.
func TestAgesOrder(t *testing.T) {
	const n = 2000
	rnd := seeded(t)
	orders := map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return -i },
		"equal":      func(int) int { return 0 },
		"sawtooth":   func(i int) int { return i % 7 },
		"random":     func(int) int { return rnd.IntN(n) },
	}
	for name, born := range orders {
		var a ages
		items := map[*item]aged{}
		for i := range n {
			it := &item{id: partID{1, rnd.Uint64()}}
			items[it] = aged{time.Duration(born(i)), it}
			a.push(items[it])
		}
		for it, e := range maps.Clone(items) {
			if rnd.IntN(3) == 0 {
				if a.remove(it) != e || it.place != 0 {
					t.Fatalf("%s: removed something else", name)
				}
				delete(items, it)
			}
		}
		var last aged
		for len(a) > 0 {
			top := a.remove(a[0].it)
			if last.it != nil && older(top, last) {
				t.Fatalf("%s: %v came after %v", name, top.born, last.born)
			}
			delete(items, top.it)
			last = top
		}
		if len(items) != 0 {
			t.Errorf("%s: %d items went missing", name, len(items))
		}
	}
}

// BenchmarkHistoryAdd: the newest part of one of 50 origins comes in and is
// handled, and the oldest makes room for it. That is two insertions and two
// removals; what stays in a history that is not full costs half.
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
	h := newHistory(kept*(len(frame)+itemOverhead), time.Hour)
	free := make([]*item, kept+1)
	for i := range free {
		free[i] = new(item)
	}
	i, now := 0, genesis
	add := func() {
		it := free[len(free)-1]
		free = free[:len(free)-1]
		*it = item{id: partID{uint64(i % origins), uint64(i / origins)}, frame: frame, born: now.Add(-age(i))}
		free = append(free, h.add(it, now)...)
		h.setHandled(it)
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

// BenchmarkHistoryFill: the same while nothing has to go.
func BenchmarkHistoryFill(b *testing.B) {
	const origins, kept = 50, 50_000
	items := make([]item, kept)
	frame := make([]byte, 200)
	b.ReportAllocs()
	h, i := newHistory(1<<40, time.Hour), 0
	for b.Loop() {
		if i == kept {
			b.StopTimer()
			h, i = newHistory(1<<40, time.Hour), 0
			clear(items)
			b.StartTimer()
		}
		it := &items[i]
		it.id, it.frame, it.born = partID{uint64(i % origins), uint64(i / origins)}, frame, genesis.Add(time.Duration(i))
		h.add(it, genesis)
		i++
	}
}
