package starlingtest

import (
	"sync"
	"time"
)

// signal wakes those who wait for a change. It is a condition variable with a deadline, whose channel is made by the first
// who waits: so it costs nothing while nobody does, and belongs to the bubble of those who do.
type signal struct {
	ch chan struct{} // guarded by Network.mu
}

func (s *signal) raise() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// wait releases Network.mu, which is given to it, until s is raised or the clock reaches until; the zero time is never.
func (s *signal) wait(mu *sync.Mutex, until time.Time) {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	ch := s.ch
	mu.Unlock()
	defer mu.Lock()
	if until.IsZero() {
		<-ch
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	}
}

// earlier returns the earlier of two times, where the zero time is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
