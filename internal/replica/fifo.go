package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/store"
)

// fifo holds back the parts of a FIFO channel until their turn. Each part names the one before it on its channel, so nothing but
// that one is waited for. The zero value holds nothing back.
type fifo struct{ streams map[uint64]*fifoStream }

// fifoStream is what one origin sent on the channel.
type fifoStream struct {
	last    uint64        // the newest part that went to the inbox
	waiting []*store.Item // by seq; Invariant: waiting[i].ID.Seq > last
	since   time.Time     // when the first of them began to wait

	// late is what came after a newer part had gone to the inbox, while no baseline told whether it is owed.
	// Invariant: late.Count() ≤ receipt.MaxRanges.
	late seqset.Set
}

func (f *fifo) stream(origin uint64) *fifoStream {
	s, ok := f.streams[origin]
	if !ok {
		if f.streams == nil {
			f.streams = map[uint64]*fifoStream{}
		}
		s = new(fifoStream)
		f.streams[origin] = s
	}
	return s
}

func (f *fifo) forget(origin uint64) { delete(f.streams, origin) }

// waiting returns how many parts are held back.
func (f *fifo) waiting() (n int) {
	for _, s := range f.streams {
		n += len(s.waiting)
	}
	return n
}

// evict takes out a part that is not kept any more; it may come again.
func (f *fifo) evict(it *store.Item) {
	if s, ok := f.streams[it.ID.Origin]; ok {
		s.waiting = slices.DeleteFunc(s.waiting, func(w *store.Item) bool { return w == it })
	}
}

// isLate reports whether a newer part went to the inbox already.
func (s *fifoStream) isLate(seq uint64) bool { return seq <= s.last }

// noteLate remembers a late part until it is known whether it is owed.
func (s *fifoStream) noteLate(seq uint64) {
	if s.late.Count() < receipt.MaxRanges || s.late.Joins(seq) {
		s.late.Add(seq)
	}
}

// takeLate returns the late parts from seq next on, and forgets all.
func (s *fifoStream) takeLate(next uint64) []seqset.Span {
	s.late.Trim(next - 1)
	owed := s.late.All()
	s.late = seqset.Set{}
	return owed
}

// put inserts a part among those that wait.
func (s *fifoStream) put(it *store.Item, now time.Time) {
	at, _ := slices.BinarySearchFunc(s.waiting, it.ID.Seq, func(w *store.Item, seq uint64) int { return cmp.Compare(w.ID.Seq, seq) })
	s.waiting = slices.Insert(s.waiting, at, it)
	if at == 0 {
		s.since = now
	}
}

// next takes the first part that waits if its turn has come: the part before it went to the inbox, or is not to come.
func (s *fifoStream) next(done func(seq uint64) bool, now time.Time) *store.Item {
	if len(s.waiting) == 0 {
		return nil
	}
	it := s.waiting[0]
	if it.Prev > s.last && !done(it.Prev) {
		return nil
	}
	return s.first(now)
}

// first takes the first part that waits, whether its turn has come or not.
func (s *fifoStream) first(now time.Time) *store.Item {
	it := s.waiting[0]
	s.waiting[0] = nil
	s.waiting = s.waiting[1:]
	s.last = it.ID.Seq
	s.since = now
	return it
}

// overdue reports whether the first part has waited longer than hold.
func (s *fifoStream) overdue(hold time.Duration, now time.Time) bool {
	return len(s.waiting) > 0 && now.Sub(s.since) >= hold
}

// expiring reports whether the first part has come so close to the end of its retention that it would be lost for waiting.
func (s *fifoStream) expiring(age time.Duration, now time.Time) bool {
	return len(s.waiting) > 0 && now.Sub(s.waiting[0].Born) >= age/10*9
}
