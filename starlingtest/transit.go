package starlingtest

import (
	"sync"
	"time"

	"github.com/starling-go/starling/internal/timeheap"
)

// maxInTransit bounds the packets that are on their way to one member.
const maxInTransit = 1 << 16

// transit is the loads that are on their way, or pass a rate, the next that is due first. One timer, set to that, runs one
// goroutine that takes all further that are due. So there is no goroutine per packet, and none while nothing is on its way.
type transit struct {
	net *Network // whose mu guards all of this

	queue timeheap.Heap[*load] // by the time since epoch at which they are due
	epoch time.Time            // when the first load ever was due
	sent  uint64

	timer    *time.Timer    // set if and only if the queue is not empty
	wakes    time.Time      // when the timer fires. Invariant: not after the next arrival
	round    uint64         // of the timer: one of an earlier round that could not be stopped any more does nothing
	delivery sync.WaitGroup // the timer, or the goroutine that it runs
}

func sentBefore(a, b *load) bool { return a.order < b.order }

// push puts a load on its way.
func (tr *transit) push(ld *load, due time.Time) {
	if tr.sent == 0 {
		tr.epoch, tr.queue.Before = due, sentBefore
	}
	tr.sent++
	ld.order = tr.sent
	tr.queue.Push(due.Sub(tr.epoch), ld)
}

// next returns when the next load is due. There must be one.
func (tr *transit) next() time.Time {
	at, _ := tr.queue.First()
	return tr.epoch.Add(at)
}

// stopTimer unsets the timer.
func (tr *transit) stopTimer() {
	if tr.timer != nil && tr.timer.Stop() {
		tr.delivery.Done()
	}
	tr.timer = nil
}

// schedule sets the timer to the load that is due next. It makes a new timer each time, because a timer that was made inside a bubble
// may not be reset outside.
func (tr *transit) schedule(now time.Time) {
	if tr.queue.Len() == 0 {
		return
	}
	next := tr.next()
	if tr.timer != nil {
		if !next.Before(tr.wakes) {
			return
		}
		tr.stopTimer()
	}
	tr.round++
	tr.wakes = next
	round := tr.round
	tr.delivery.Add(1)
	tr.timer = time.AfterFunc(next.Sub(now), func() {
		defer tr.delivery.Done()
		tr.deliverDue(round)
	})
}

// deliverDue takes every load further that is due. It is told the time at which that was, and not how late the timer is, so that
// a rate is kept in real time too.
func (tr *transit) deliverDue(round uint64) {
	tr.net.mu.Lock()
	defer tr.net.mu.Unlock()
	if round != tr.round {
		return
	}
	tr.timer = nil
	now := time.Now()
	for tr.queue.Len() > 0 && !tr.next().After(now) {
		due, ld := tr.queue.Pop()
		at := tr.epoch.Add(due)
		if r := ld.passes; r != nil {
			r.passed(tr.net, ld, at)
		} else {
			ld.advance(tr.net, at)
		}
	}
	tr.schedule(now)
}

// drop drops everything that is on its way.
func (tr *transit) drop() {
	tr.round++
	tr.stopTimer()
	for tr.queue.Len() > 0 {
		if _, ld := tr.queue.Pop(); ld.writer == nil {
			ld.drop(&ld.to.counters.Dropped.Down)
		}
	}
}
