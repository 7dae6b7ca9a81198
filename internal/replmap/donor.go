package replmap

import (
	"time"

	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/wire"
)

// donor answers those who compare with this member. The Sync's mu guards its fields.
type donor[V any] struct {
	*Sync[V]
	questions map[uint64]*wire.MapQuestion // that wait, by who asks
	answering int                          // goroutines that answer
}

// asked notes a question; a newer one of the same member takes its place. Beyond a bound it is dropped: the member asks another one.
func (s *donor[V]) asked(from uint64, q *wire.MapQuestion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.questions[from] == nil && len(s.questions) >= maxQuestions {
		return
	}
	s.questions[from] = q
	if s.answering < maxAnswering && s.spawn(s.answerLoop) {
		s.answering++
	}
}

// nextQuestion takes a question that waits; nil: none does, and the caller is to end.
func (s *donor[V]) nextQuestion() (from uint64, q *wire.MapQuestion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		for from, q = range s.questions {
			delete(s.questions, from)
			return from, q
		}
	}
	s.answering--
	return 0, nil
}

// answerLoop answers questions until none waits.
func (s *donor[V]) answerLoop() {
	for {
		from, q := s.nextQuestion()
		if q == nil {
			return
		}
		if !s.met(from) {
			continue // before the view, or whose entries count here would change while it asks
		}
		if q.Owned != s.held.o.Limits.Owned {
			s.mismatched(from)
		}
		now := time.Now()
		s.mu.Lock()
		partial, standing := !s.schedule.Synced(), s.census.Standing(now)
		s.mu.Unlock()
		view := s.held.View(true)
		a, give := kv.Answer(view, q, partial, standing)
		if q.First && !a.Equal && !partial && !q.Partial && q.Owned == s.held.o.Limits.Owned {
			s.mu.Lock()
			s.schedule.Differs(from, now)
			s.mu.Unlock()
			s.stir()
		}
		s.give(from, view, now, &a, give)
	}
}

// met waits a little until the membership knows a member that has asked: it may have met us, and we not yet it.
func (s *donor[V]) met(id uint64) bool {
	for range metTries {
		if s.net.Met(id) {
			return true
		}
		select {
		case <-time.After(metAgain):
		case <-s.ctx.Done():
			return false
		}
	}
	return false
}

// give sends an answer, its entries first. A frame that does not get through ends it: the member asks again, or another one.
func (s *donor[V]) give(to uint64, view *kv.View[V], at time.Time, a *wire.MapAnswer, give []*kv.Entry[V]) {
	var frame []byte
	for _, e := range give {
		w := view.Write(e)
		late := time.Since(at)
		w.Age, w.Left = w.Age+late, w.Left-late
		var data []byte
		if w.State == kv.Live {
			var err error
			if data, err = s.held.o.Append(nil, w.Value); err != nil {
				a.Incomplete = true
				s.net.Log.Warn("map: an entry cannot be encoded for another member, which lacks it", "key", e.Key, "error", err)
				continue
			}
		}
		if len(frame) > 0 && len(frame)+wire.MapEntrySize(len(e.Key), len(data)) > frameSize {
			if s.send(s.ctx, to, wire.AppendMapAnswer(frame, &wire.MapAnswer{ID: a.ID}), sendWithin) != nil {
				return
			}
			frame = nil
		}
		frame = wire.AppendMapEntry(frame, Entry(&w, data, 0))
	}
	_ = s.send(s.ctx, to, wire.AppendMapAnswer(frame, a), sendWithin) // in vain: it asks again
}
