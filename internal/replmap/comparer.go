package replmap

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/wire"
)

// comparer compares with other members, one after the other, and brings here what is newer there.
type comparer[V any] struct {
	*Sync[V]
	answers chan *wire.MapAnswer
	pull    pulling // what is under way. The Sync's mu guards it
}

// pulling is what the handler knows of the comparison that is under way. The zero value: none is.
type pulling struct {
	id      uint64
	donor   uint64
	end     func() // ends it in vain
	filter  kv.Filter
	lacking bool // an entry that came could not be taken
	fetched int
}

// compareLoop compares with other members, one after the other.
func (s *comparer[V]) compareLoop() {
	for {
		id, ok, again := s.next(time.Now())
		if ok {
			s.compare(id)
			continue
		}
		select {
		case <-time.After(max(time.Until(again), time.Millisecond)):
			if time.Since(again) > overslept {
				s.Trouble()
			}
		case <-s.stirred:
		case <-s.ctx.Done():
			return
		}
	}
}

// next returns whom to compare with now, or when to look again.
func (s *comparer[V]) next(now time.Time) (id uint64, ok bool, again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok, again = s.schedule.Next(now)
	s.tell()
	return id, ok, again
}

// tell tells whoever waits that the Map has its first values, once. Call it under mu.
func (s *comparer[V]) tell() {
	if !s.told && s.schedule.Synced() {
		s.told = true
		s.held.Synced()
		close(s.done)
	}
}

// compare compares with one member, and brings here what is newer there.
func (s *comparer[V]) compare(donor uint64) {
	p := &kv.Pull[V]{ID: max(rand.Uint64(), 1)}
	ctx, end := context.WithCancel(s.ctx)
	defer end()
	s.begin(pulling{id: p.ID, donor: donor, end: end})
	defer s.begin(pulling{})
	view := s.held.View(true)
	for q := p.First(view, !s.synced()); q != nil; {
		within, patience := sendWithin, silence
		if q.First { // it is short, and there is not much to be said to it
			within, patience = silenceFirst, silenceFirst
		}
		if err := s.send(ctx, donor, wire.AppendMapQuestion(nil, q), within); err != nil {
			s.failed(donor, errors.Is(err, ErrNotOpen))
			return
		}
		a := s.await(ctx, p.ID, patience)
		if a == nil {
			s.failed(donor, false)
			return
		}
		q = p.Next(s.held.View(true), a, !s.synced(), s.standing())
		s.mu.Lock()
		s.pull.filter = p.Filter
		s.mu.Unlock()
	}
	s.finish(p, donor)
}

// begin lets the handler know what answers to expect.
func (s *comparer[V]) begin(p pulling) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pull = p
	for len(s.answers) > 0 {
		<-s.answers
	}
}

// await waits for the last frame of an answer; nil: nothing came for a while, or the donor is gone.
func (s *comparer[V]) await(ctx context.Context, id uint64, patience time.Duration) *wire.MapAnswer {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case a := <-s.answers:
			if a.ID == id && a.Last {
				return a
			}
			timer.Reset(silence)
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// departed ends a comparison with a member that is gone. Call it under mu.
func (s *comparer[V]) departed(id uint64) {
	if s.pull.donor == id {
		s.pull.end()
	}
}

func (s *comparer[V]) failed(donor uint64, noMap bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if noMap {
		s.schedule.NoMap(donor, time.Now())
	} else {
		s.schedule.Failed(donor, time.Now())
	}
}

// finish notes what a comparison has come to.
func (s *comparer[V]) finish(p *kv.Pull[V], donor uint64) {
	if p.Vain {
		s.mu.Lock()
		s.counts.Fetched += uint64(s.pull.fetched)
		s.mu.Unlock()
		s.failed(donor, false)
		return
	}
	s.mu.Lock()
	complete := !p.Incomplete && !s.pull.lacking
	s.mu.Unlock()
	dropped := s.held.Finish(p, complete)
	s.mu.Lock()
	now := time.Now()
	if complete && !s.schedule.Synced() && !p.Partial && p.Standing.Weight > 0 {
		s.census.Adopt(p.Standing, now)
	}
	s.counts.Compared++
	s.counts.Fetched += uint64(s.pull.fetched)
	s.counts.Dropped += uint64(dropped)
	if !p.Equal {
		s.counts.Unequal++
	}
	s.schedule.Done(donor, complete, p.Partial, now)
	s.tell()
	s.mu.Unlock()
	if dropped > 0 {
		s.net.Log.Warn("map: this member was away for longer than deletions are remembered, and has dropped what the others do not have",
			"entries", dropped)
	}
}

// answered takes a frame of the answer that is waited for.
func (s *comparer[V]) answered(from uint64, frame *wire.MapFrame, ago time.Duration) {
	s.mu.Lock()
	pull := s.pull
	s.mu.Unlock()
	if pull.id != frame.Answer.ID || pull.donor != from {
		return // of a comparison that is over
	}
	lacking, fetched := false, 0
	for i := range frame.Entries {
		w, err := s.held.Read(&frame.Entries[i], ago)
		verdict := kv.Full
		if err == nil {
			verdict, err = s.apply(w, &pull.filter, 0)
		}
		if err != nil {
			s.refused("cannot be decoded or merged", err)
		}
		lacking = lacking || verdict == kv.Full
		if verdict == kv.Taken {
			fetched++
		}
	}
	s.mu.Lock()
	if s.pull.id == pull.id {
		s.pull.lacking = s.pull.lacking || lacking
		s.pull.fetched += fetched
	}
	s.mu.Unlock()
	select {
	case s.answers <- frame.Answer:
	default: // more than anybody waits for
	}
}
