package kv

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A Schedule says whom to compare with, and when: with those that come, after trouble, and now and then, without end.
type Schedule struct {
	rng     *rand.Rand
	members map[uint64]*candidate
	due     []uint64 // whom to compare with as soon as may be
	at      time.Time
	pause   time.Duration
	began   time.Time

	joined  bool // whoever is to be seen after the join is there
	synced  bool
	partial map[uint64]bool // compared with, and they had no first state themselves
}

// candidate is a member that can be compared with.
type candidate struct {
	after  time.Time // not before: it did not answer
	failed int
	noMap  bool // it has not opened the map
}

const (
	firstDelay = 50 * time.Millisecond  // after members were met, so that those who come together are met together
	spacing    = 150 * time.Millisecond // between two comparisons at least: so others get what was new to one of them
	retryFirst = 500 * time.Millisecond // after a comparison failed
	retryMost  = 30 * time.Second
	noMapAgain = 30 * time.Second // after a member said that it has not opened the map
	pauseFirst = 2 * time.Second  // until the next comparison when there was trouble; then twice as long each time
	pauseMost  = time.Minute
	dueMost    = 16 // of many that come at once
	// partialMost is how many members that have no first state themselves are enough for the first one: then nobody has one.
	partialMost = 8
)

// NewSchedule returns a Schedule of a member that knows nobody.
func NewSchedule(rng *rand.Rand, now time.Time) *Schedule {
	return &Schedule{rng: rng, members: map[uint64]*candidate{}, partial: map[uint64]bool{}, pause: pauseFirst, at: now, began: now}
}

// Synced reports whether the first state is here, or nobody has one.
func (s *Schedule) Synced() bool { return s.synced }

// Arrived notes a member that came, or came back.
func (s *Schedule) Arrived(id uint64, now time.Time) {
	s.members[id] = new(candidate)
	s.want(id, now)
}

// Knows reports whether a member has come that is not gone.
func (s *Schedule) Knows(id uint64) bool { return s.members[id] != nil }

// Departed notes a member that is gone.
func (s *Schedule) Departed(id uint64) {
	delete(s.members, id)
	s.due = slices.DeleteFunc(s.due, func(d uint64) bool { return d == id })
}

// Differs notes that a member has asked and was not equal.
func (s *Schedule) Differs(id uint64, now time.Time) { s.want(id, now) }

// Trouble notes that something may have been missed.
func (s *Schedule) Trouble(now time.Time) {
	s.pause = pauseFirst
	s.sooner(now.Add(s.jitter(firstDelay)))
}

// Joined notes that Join has returned without an error: if nobody is there now, this member is alone.
func (s *Schedule) Joined() { s.joined = true }

func (s *Schedule) want(id uint64, now time.Time) {
	if slices.Contains(s.due, id) || s.members[id] == nil {
		return
	}
	if len(s.due) == dueMost {
		s.due[s.rng.IntN(dueMost)] = id
	} else {
		s.due = append(s.due, id)
	}
	s.pause = pauseFirst
	if s.synced {
		now = now.Add(s.jitter(firstDelay))
	}
	s.sooner(now)
}

// sooner lets the next comparison be no later than that.
func (s *Schedule) sooner(at time.Time) {
	if s.at.After(at) {
		s.at = at
	}
}

// jitter returns between one and two times d.
func (s *Schedule) jitter(d time.Duration) time.Duration {
	return d + time.Duration(s.rng.Int64N(int64(d)))
}

// Next returns whom to compare with now, or else when to ask again.
func (s *Schedule) Next(now time.Time) (id uint64, ok bool, again time.Time) {
	if !s.synced && s.joined && s.alone() {
		s.synced = true
	}
	if now.Before(s.at) {
		return 0, false, s.at
	}
	ready := func(id uint64) bool { c := s.members[id]; return c != nil && !now.Before(c.after) }
	if i := slices.IndexFunc(s.due, ready); i >= 0 {
		id = s.due[i]
		s.due = slices.Delete(s.due, i, i+1)
		return id, true, now
	}
	var able []uint64
	for id := range s.members {
		if ready(id) {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		return 0, false, now.Add(retryFirst)
	}
	slices.Sort(able)
	return able[s.rng.IntN(len(able))], true, now
}

// Awaited returns the members that may have a first state, and have not given it, by id.
func (s *Schedule) Awaited() (ids []uint64) {
	for id, c := range s.members {
		if !c.noMap && !s.partial[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// alone reports whether nobody has a state that could be asked for.
func (s *Schedule) alone() bool {
	for _, c := range s.members {
		if !c.noMap {
			return false
		}
	}
	return true
}

// Done notes that a comparison was brought to its end. complete: all that the member had is here. partial: it had no first state itself.
func (s *Schedule) Done(id uint64, complete, partial bool, now time.Time) {
	if c := s.members[id]; c != nil {
		*c = candidate{}
	}
	if !s.synced {
		s.partial[id] = true
		others := 0
		for m, c := range s.members {
			if !c.noMap && !s.partial[m] {
				others++
			}
		}
		s.synced = complete && !partial || others == 0 || len(s.partial) >= partialMost
	}
	s.rest(now)
}

// Failed notes that a member has not answered, or not to the end: others come first, and it is tried again later.
func (s *Schedule) Failed(id uint64, now time.Time) {
	if c := s.members[id]; c != nil {
		c.after = now.Add(s.jitter(min(retryFirst<<min(c.failed, 10), retryMost)))
		c.failed++
		if !slices.Contains(s.due, id) && len(s.due) < dueMost {
			s.due = append(s.due, id)
		}
	}
	s.at = now.Add(s.jitter(firstDelay))
}

// NoMap notes that a member has not opened the map: when it does, it asks itself.
func (s *Schedule) NoMap(id uint64, now time.Time) {
	if c := s.members[id]; c != nil {
		c.noMap, c.after = true, now.Add(s.jitter(noMapAgain))
	}
	s.at = now
	if s.synced {
		s.rest(now)
	}
}

// rest sets the time of the next comparison: soon if there are members to be compared with.
func (s *Schedule) rest(now time.Time) {
	switch {
	case !s.synced:
		s.at = now
	case len(s.due) > 0:
		s.at = now.Add(s.jitter(spacing))
	default:
		s.at = now.Add(s.jitter(s.pause))
		s.pause = min(2*s.pause, pauseMost)
	}
}
