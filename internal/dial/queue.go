// Package dial joins through addresses: a few at once in all, however many there are, and however many of them are silent.
package dial

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// AtOnce is how many addresses are dialled at once.
	AtOnce = 8
	// patientAtOnce is how many of them may be dials of long patience, so that silent addresses leave room for others.
	patientAtOnce = AtOnce / 2
	// maxWaiting bounds the addresses that wait; further ones are refused.
	maxWaiting = 8192

	// The pace of pings: a burst of them, then a pause. So 1,000 take half a second, and no buffer overflows.
	pingBurst = 20
	pingPause = 10 * time.Millisecond

	growth       = 4 // of the patience from one round to the next
	exchangeTime = 8 // what follows the dial may take so many times as long
)

var errFull = errors.New("too many addresses wait to be dialled")

// Options are what a Queue works with.
type Options struct {
	// Join joins through an address: the dial may take as long as dial says, all together as long as all says. ctx ends with the Queue's.
	Join func(ctx context.Context, a netip.AddrPort, dial, all time.Duration) error
	// Ping asks by packet whether a member lives at an address, and waits for its answer. nil: packets cannot tell.
	Ping func(a netip.AddrPort) bool
	// Go runs a function on a goroutine, or returns false when nothing is to start any more.
	Go func(func()) bool
	// First and Longest are how long the dial of a first, and of a late round may take.
	First, Longest time.Duration
}

// A Queue dials addresses, AtOnce at a time, the first first. While more wait, each gets a ping, and who answers goes before the others: so one
// that lives is found soon among 1,000 that do not. An address that waits, or is being dialled, is not dialled twice: who asks for it again
// is told the same. Its methods may be called concurrently; none of them waits.
type Queue struct {
	Options
	ctx context.Context

	mu      sync.Mutex
	tries   map[netip.AddrPort]*try // Invariant: those that wait and those that run
	waiting []*try
	running int // Invariant: at most AtOnce
	patient int // of those, how many are of long patience. Invariant: at most patientAtOnce
}

// Done is told what became of an address. It must not wait.
type Done func(a netip.AddrPort, err error)

type try struct {
	addr netip.AddrPort
	wait time.Duration
	done []Done
}

// New returns a queue that begins nothing any more when ctx has ended; then it tells nobody of what waited.
func New(ctx context.Context, o Options) *Queue {
	return &Queue{Options: o, ctx: ctx, tries: map[netip.AddrPort]*try{}}
}

// Late is a round in which a dial may take as long as any.
const Late = 1 << 10

// patience is how long a dial may take. It begins short: a silent address holds up those behind it, and a live one answers at once or in a later
// round.
func (q *Queue) patience(round int) time.Duration {
	wait := q.First
	for ; round > 0 && wait < q.Longest; round-- {
		wait *= growth
	}
	return min(wait, q.Longest)
}

// Try dials addresses after those that wait. The patience grows with the round, from 0.
func (q *Queue) Try(addrs []netip.AddrPort, round int, done Done) {
	added, crowded := q.add(addrs, round, done, false)
	q.fill()
	if crowded && q.Ping != nil {
		q.Go(func() { q.ping(added, q.promote) })
	}
}

// Now dials an address before those that wait, with the longest patience.
func (q *Queue) Now(a netip.AddrPort, done Done) {
	q.add([]netip.AddrPort{a}, Late, done, true)
	q.fill()
}

// Knock dials those of the addresses that answer a ping, before those that wait.
func (q *Queue) Knock(addrs []netip.AddrPort, done Done) {
	if q.Ping != nil {
		q.Go(func() { q.ping(addrs, func(a netip.AddrPort) { q.Now(a, done) }) })
	}
}

// add puts addresses into the queue, and returns those that are new in it, and whether they have to wait for others.
func (q *Queue) add(addrs []netip.AddrPort, round int, done Done, first bool) (added []netip.AddrPort, crowded bool) {
	q.mu.Lock()
	room := maxWaiting - len(q.waiting)
	for i, a := range addrs {
		if t := q.tries[a]; t != nil {
			t.done = append(t.done, done)
			continue
		}
		if len(added) >= room {
			defer refuse(addrs[i:], done)
			break
		}
		t := &try{a, q.patience(round), []Done{done}}
		q.tries[a] = t
		if first {
			q.waiting = slices.Insert(q.waiting, 0, t)
		} else {
			q.waiting = append(q.waiting, t)
		}
		added = append(added, a)
	}
	crowded = len(q.waiting) > AtOnce-q.running
	q.mu.Unlock()
	return added, crowded
}

func refuse(addrs []netip.AddrPort, done Done) {
	for _, a := range addrs {
		done(a, errFull)
	}
}

// fill begins what there is room for.
func (q *Queue) fill() {
	for q.ctx.Err() == nil {
		t := q.next()
		if t == nil || !q.Go(func() { q.run(t) }) {
			return
		}
	}
}

// next takes the first try that may begin off the queue.
func (q *Queue) next() *try {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == AtOnce {
		return nil
	}
	i := slices.IndexFunc(q.waiting, func(t *try) bool { return !q.isPatient(t) || q.patient < patientAtOnce })
	if i < 0 {
		return nil
	}
	t := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.count(t, 1)
	return t
}

func (q *Queue) isPatient(t *try) bool { return t.wait > growth*q.First }

// count notes that a try begins or ends. mu is held.
func (q *Queue) count(t *try, by int) {
	q.running += by
	if q.isPatient(t) {
		q.patient += by
	}
}

func (q *Queue) run(t *try) {
	err := q.Join(q.ctx, t.addr, t.wait, min(exchangeTime*t.wait, 2*q.Longest))
	q.mu.Lock()
	q.count(t, -1)
	delete(q.tries, t.addr)
	q.mu.Unlock()
	for _, done := range t.done { // nobody adds to them any more
		done(t.addr, err)
	}
	q.fill()
}

// ping asks addresses whether a member lives there, without waiting for one before the next.
func (q *Queue) ping(addrs []netip.AddrPort, answered func(netip.AddrPort)) {
	for i, a := range addrs {
		if i%pingBurst == pingBurst-1 {
			select {
			case <-time.After(pingPause):
			case <-q.ctx.Done():
				return
			}
		}
		q.Go(func() {
			if q.Ping(a) {
				answered(a)
			}
		})
	}
}

// promote puts an address that has answered before those that have not.
func (q *Queue) promote(a netip.AddrPort) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.waiting, func(t *try) bool { return t.addr == a })
	if i < 0 {
		return
	}
	t := q.waiting[i]
	t.wait = max(t.wait, min(growth*q.First, q.Longest))
	q.waiting = slices.Insert(slices.Delete(q.waiting, i, i+1), 0, t)
}
