package starling

import "time"

// timers are the times at which legs of a spread are due: a heap, the earliest on top. A leg that was answered stays until
// its time, and is passed over then: that is cheaper than taking it out, since nearly every leg is answered.
type timers struct{ heap []timer }

type timer struct {
	at  time.Time
	leg *leg
}

func (t *timers) push(at time.Time, l *leg) {
	t.heap = append(t.heap, timer{at, l})
	for i := len(t.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !t.heap[i].at.Before(t.heap[up].at) {
			return
		}
		t.heap[i], t.heap[up] = t.heap[up], t.heap[i]
		i = up
	}
}

// pop takes a leg whose time has come, or nil.
func (t *timers) pop(now time.Time) *leg {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return nil
	}
	return t.take()
}

// next returns the earliest time at which a leg that still waits is due.
func (t *timers) next() (time.Time, bool) {
	for len(t.heap) > 0 {
		first := t.heap[0]
		if first.leg.state != legOver && !first.leg.due.After(first.at) {
			return first.at, true
		}
		t.take()
	}
	return time.Time{}, false
}

// take takes the earliest. There must be one.
func (t *timers) take() *leg {
	first := t.heap[0].leg
	last := len(t.heap) - 1
	t.heap[0], t.heap[last] = t.heap[last], timer{}
	t.heap = t.heap[:last]
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < last && t.heap[child].at.Before(t.heap[least].at) {
				least = child
			}
		}
		if least == i {
			return first
		}
		t.heap[i], t.heap[least] = t.heap[least], t.heap[i]
		i = least
	}
}
