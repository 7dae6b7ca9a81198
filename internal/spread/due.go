package spread

import (
	"time"

	"github.com/starling-go/starling/internal/timeheap"
)

// dueHops orders the hops by when they are due. A hop that was answered stays in until its old time and is passed over then:
// that is cheaper than taking it out, since nearly every hop is answered.
type dueHops struct {
	heap  timeheap.Heap[*Hop] // by time since epoch
	epoch time.Time           // when the first hop ever pushed was due
}

// push puts a hop in, with the time that it is due now.
func (d *dueHops) push(h *Hop) {
	if d.epoch.IsZero() {
		d.epoch = h.due
	}
	d.heap.Push(h.due.Sub(d.epoch), h)
}

// next returns when the first hop is due, if there is one.
func (d *dueHops) next() (time.Time, bool) {
	for d.heap.Len() > 0 {
		since, h := d.heap.First()
		if at := d.epoch.Add(since); h.state != hopEnded && !h.due.After(at) {
			return at, true
		}
		d.heap.Pop()
	}
	return time.Time{}, false
}

// pop takes out a hop that is due, or returns nil.
func (d *dueHops) pop(now time.Time) *Hop {
	for d.heap.Len() > 0 {
		if since, _ := d.heap.First(); since > now.Sub(d.epoch) {
			return nil
		}
		if _, h := d.heap.Pop(); h.state != hopEnded && !now.Before(h.due) {
			return h
		}
	}
	return nil
}
