package starlingtest

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxInFlight bounds the packets on their way to one member.
const maxInFlight = 1 << 16

// flight holds the packets that are on their way, as a heap by arrival. One timer, set to the first arrival, runs one
// goroutine that hands over all that has arrived: no goroutine is there while nothing flies, and none per packet.
type flight struct {
	heap    []parcel
	sent    uint64
	timer   *time.Timer // set if and only if the heap is not empty
	wakes   time.Time   // Invariant: wakes ≤ heap[0].arrival while the timer is set
	round   uint64      // a timer of an earlier round, too late to be stopped, does nothing
	landing sync.WaitGroup
}

// parcel is a packet on its way.
type parcel struct {
	arrival  time.Time
	order    uint64 // the first sent of two that arrive together comes first
	from, to *host
	packet   *memberlist.Packet
}

func (p *parcel) before(q *parcel) bool {
	if p.arrival.Equal(q.arrival) {
		return p.order < q.order
	}
	return p.arrival.Before(q.arrival)
}

func (f *flight) push(p parcel) {
	p.order = f.sent
	f.sent++
	p.to.inFlight++
	f.heap = append(f.heap, p)
	for i := len(f.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !f.heap[i].before(&f.heap[parent]) {
			return
		}
		f.heap[i], f.heap[parent] = f.heap[parent], f.heap[i]
		i = parent
	}
}

func (f *flight) pop() parcel {
	first, last := f.heap[0], len(f.heap)-1
	f.heap[0] = f.heap[last]
	f.heap[last] = parcel{}
	f.heap = f.heap[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && f.heap[child+1].before(&f.heap[child]) {
			child++
		}
		if !f.heap[child].before(&f.heap[i]) {
			break
		}
		f.heap[i], f.heap[child] = f.heap[child], f.heap[i]
		i = child
	}
	first.to.inFlight--
	return first
}

// schedule sees to it that somebody comes for the first arrival. The timer is a new one each time, since one that was made
// in a bubble may not be reset from elsewhere.
func (n *Network) schedule(now time.Time) {
	f := &n.flight
	if len(f.heap) == 0 {
		return
	}
	first := f.heap[0].arrival
	if f.timer != nil {
		if !first.Before(f.wakes) {
			return
		}
		f.unset()
	}
	f.round++
	f.wakes = first
	round := f.round
	f.landing.Add(1)
	f.timer = time.AfterFunc(first.Sub(now), func() {
		defer f.landing.Done()
		n.land(round)
	})
}

func (f *flight) unset() {
	if f.timer != nil && f.timer.Stop() {
		f.landing.Done()
	}
	f.timer = nil
}

// land hands over every packet that has arrived.
func (n *Network) land(round uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := &n.flight
	if round != f.round {
		return
	}
	f.timer = nil
	now := time.Now()
	for len(f.heap) > 0 && !f.heap[0].arrival.After(now) {
		p := f.pop()
		n.deliver(p.from, p.to, p.packet, now)
	}
	n.schedule(now)
}

func (n *Network) abandonFlight() {
	f := &n.flight
	f.round++
	f.unset()
	for len(f.heap) > 0 {
		f.pop().to.counters.Dropped.Down++
	}
}
