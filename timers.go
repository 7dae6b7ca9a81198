package starling

import (
	"container/heap"
	"time"
)

// timers are the times at which legs of a spread are due. A leg that was answered stays until its time, and is passed over
// then: that is cheaper than taking it out, since nearly every leg is answered.
type timers struct{ heap timerHeap }

type timer struct {
	at  time.Time
	leg *leg
}

func (t *timers) push(at time.Time, l *leg) { heap.Push(&t.heap, timer{at, l}) }

// pop takes a leg whose time has come, or nil.
func (t *timers) pop(now time.Time) *leg {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return nil
	}
	return heap.Pop(&t.heap).(timer).leg
}

// next returns the earliest time at which a leg that still waits is due.
func (t *timers) next() (time.Time, bool) {
	for len(t.heap) > 0 {
		first := t.heap[0]
		if first.leg.state != legOver && !first.leg.due.After(first.at) {
			return first.at, true
		}
		heap.Pop(&t.heap)
	}
	return time.Time{}, false
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}
