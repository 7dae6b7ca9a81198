package transport

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// Bounds of one lane.
const (
	// laneBytes bounds the frames that wait. Those in the open stream are not counted.
	laneBytes = 32 << 20
	// streamFill is how many bytes of waiting frames travel in one stream, if they are more than one frame.
	streamFill = 256 << 10
)

// ErrStreamQueueFull says that a frame was not queued, because too much waits for its member already.
var ErrStreamQueueFull = errors.New("too much waits for that member already")

// streamItem is a frame in a lane.
type streamItem struct {
	wire.Stream
	done func(error) // see StreamQueues.Put
}

func (it *streamItem) finish(err error) {
	if it.done != nil {
		it.done(err)
	}
}

// StreamQueues send frames to members by stream. Each member has two lanes, one for what is small and one for what is bulk, and
// each lane has at most one stream open: small frames never wait behind bulk ones, and a member that hangs holds up itself alone. What is bulk
// waits until the other end has read what was written before it: see window. Goroutines run only while frames wait or are in flight.
//
// What one member can cost, and so what one costs that hangs:
//
//	waiting ≤ 2 lanes × laneBytes = 64 MiB, or one frame that is larger
//	in flight ≤ 2 lanes × max(streamFill, one frame) × 5 copies = 2.5 MiB if no frame is larger than streamFill, and nothing
//	before its dial is answered
//	written, and not read by the other end ≤ windowLeast each 250 ms, until its stream has timed out
//
// The five copies are the frames, their bundle, memberlist's own copy, and one each if it compresses and encrypts. A part that
// waits is shared with history and with the lanes of other members. There is no bound for all members together, because those
// that hang would use it up for the others. It ends with the membership instead: Cancel frees all that a member holds.
//
// All methods may be called concurrently, and none waits for a stream.
type StreamQueues struct {
	send  sendStream
	spawn func(func()) bool
	small gate
	bulk  gate

	mu    sync.Mutex
	lanes map[laneKey]*lane // a lane is there from its first frame until it is empty; for its window, if it is of what is bulk, a little longer
	swept time.Time         // when forget looked at all lanes last
}

// laneKey is whom a lane is for, and for what. A name alone is not enough: whoever claims it would get what is for its owner.
type laneKey struct {
	id   uint64 // 0: a foreign member
	name string
	bulk bool
}

func laneTo(p wire.Peer, bulk bool) laneKey { return laneKey{p.ID, p.Name, bulk} }

// lane is what waits for one member, and what is in flight to it.
type lane struct {
	waiting []streamItem
	bytes   int                     // Invariant: bytes = Σ waiting[i].Size; and bytes ≤ laneBytes, or len(waiting) = 1
	running bool                    // a goroutine runs that sends what waits
	closed  bool                    // none will: the cluster has closed
	cancel  context.CancelCauseFunc // ends the stream in flight; of one that has ended it does nothing. nil before the first
	gone    bool                    // Cancel was called: what is under way is not waited for
	under   window                  // of what is bulk; whoever runs the lane owns it
	news    chan struct{}           // holds a token when waiting or gone has changed
}

func newLane() *lane { return &lane{news: make(chan struct{}, 1), under: newWindow()} }

func (l *lane) signal() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// sendStream writes frames, all for one lane, in one stream, and returns when they are written or cannot be, or soon after its context has
// ended. answered is closed when the other end has read them, or never will; nil: nobody can tell. moved is called whenever the other end says that
// it has read more, if it does.
type sendStream func(ctx context.Context, load []wire.Stream, moved func()) (answered <-chan struct{}, err error)

// NewStreamQueues returns queues that are empty. spawn runs its argument on a goroutine and returns true, or returns false if the cluster
// has closed.
func NewStreamQueues(send sendStream, spawn func(func()) bool) *StreamQueues {
	return &StreamQueues{send: send, spawn: spawn, small: newGate(), bulk: newGate(), lanes: map[laneKey]*lane{}}
}

// Put queues a frame. done, unless it is nil, is called once: with nil when the frame was written, which does not say that it
// was read; with ErrStreamQueueFull, before Put returns, if more than 32 MiB would wait in that lane; with net.ErrClosed if the
// cluster has closed; with the reason given to Cancel; or with the error of send. Neither done nor spawn is called under a lock
// of the queues.
func (qs *StreamQueues) Put(s wire.Stream, done func(error)) {
	it := streamItem{s, done}
	key := laneTo(s.To, s.Bulk)
	qs.mu.Lock()
	l, ok := qs.lanes[key]
	if !ok {
		qs.forget(time.Now())
		l = newLane()
		qs.lanes[key] = l
	}
	if len(l.waiting) > 0 && l.bytes+s.Size > laneBytes {
		qs.mu.Unlock()
		it.finish(ErrStreamQueueFull)
		return
	}
	l.waiting = append(l.waiting, it)
	l.bytes += s.Size
	l.gone = false
	l.signal()
	start := !l.running
	l.running = true
	qs.mu.Unlock()
	if start && !qs.spawn(func() { qs.run(key, l) }) {
		qs.mu.Lock()
		l.closed = true
		qs.mu.Unlock()
		qs.cancel(key, net.ErrClosed)
	}
}

// forget forgets the lanes that are kept for windows of which nothing is known any more. There may be a thousand, and a new lane may be made for
// each small stream: it looks at them once in a while. Call it under mu.
func (qs *StreamQueues) forget(now time.Time) {
	if now.Sub(qs.swept) <= windowQuiet {
		return
	}
	qs.swept = now
	maps.DeleteFunc(qs.lanes, func(_ laneKey, l *lane) bool { return !l.running && l.under.stale(now) })
}

// run sends what waits in a lane until nothing waits, and of what is bulk nothing is under way.
func (qs *StreamQueues) run(key laneKey, l *lane) {
	if l.under.stale(time.Now()) {
		l.under = newWindow()
	}
	for {
		ctx, load, done := qs.nextLoad(key, l)
		switch {
		case done:
			return
		case len(load) == 0:
			l.await()
			continue
		}
		f := newFlight(load)
		answered, err := qs.sendLoad(ctx, key, load, f.move)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // whatever a broken stream calls it
		}
		for i := range load {
			load[i].finish(err)
		}
		if f.answered = answered; key.bulk && err == nil {
			l.under.add(f)
		}
	}
}

// await waits until something has changed in the lane, or of what it has under way. Something must be under way.
func (l *lane) await() {
	answered, patience := l.under.next(time.Now())
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-answered:
		l.under.over(true, time.Now())
	case now := <-timer.C:
		if _, patience := l.under.next(now); patience <= 0 { // else more of it was read meanwhile
			l.under.over(false, now)
		}
	case <-l.news:
	}
}

// sendLoad sends frames in one stream, when the gate lets it begin.
func (qs *StreamQueues) sendLoad(ctx context.Context, key laneKey, load []streamItem, moved func()) (answered <-chan struct{}, err error) {
	gate := qs.small
	if key.bulk {
		gate = qs.bulk
	}
	leave, err := gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	streams := make([]wire.Stream, len(load))
	for i := range load {
		streams[i] = load[i].Stream
	}
	return qs.send(ctx, streams, moved)
}

// nextLoad takes the frames that travel in the next stream out of a lane, with the context of that stream, if its window has room for them.
// done: nothing waits, and nothing is under way; then the lane is idle. It is kept, for its window, if it is of what is bulk.
func (qs *StreamQueues) nextLoad(key laneKey, l *lane) (ctx context.Context, load []streamItem, done bool) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if l.cancel != nil {
		l.cancel(nil) // only to free the last stream's context
		l.cancel = nil
	}
	if len(l.waiting) == 0 {
		if len(l.under.flights) > 0 && !l.gone {
			return nil, nil, false
		}
		l.running = false
		if qs.lanes[key] == l && (!key.bulk || l.gone) {
			delete(qs.lanes, key)
		}
		return nil, nil, true
	}
	if !l.under.room(l.waiting[0].Size) {
		return nil, nil, false
	}
	n, size := 1, l.waiting[0].Size
	for n < len(l.waiting) && size+l.waiting[n].Size <= streamFill && !l.waiting[n].To.Foreign() {
		size += l.waiting[n].Size
		n++
	}
	load = l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	l.bytes -= size
	ctx, l.cancel = context.WithCancelCause(context.Background())
	return ctx, load, false
}

// Cancel ends what is in both lanes of a member, and calls each done with why: of what waits, before it returns; of what is in
// flight, as soon as send has returned. It waits for nobody.
func (qs *StreamQueues) Cancel(to wire.Peer, why error) {
	qs.cancel(laneTo(to, false), why)
	qs.cancel(laneTo(to, true), why)
}

// CancelAll is Cancel for every member.
func (qs *StreamQueues) CancelAll(why error) {
	qs.mu.Lock()
	keys := slices.Collect(maps.Keys(qs.lanes))
	qs.mu.Unlock()
	for _, key := range keys {
		qs.cancel(key, why)
	}
}

func (qs *StreamQueues) cancel(key laneKey, why error) {
	var waiting []streamItem
	qs.mu.Lock()
	if l, ok := qs.lanes[key]; ok {
		waiting, l.waiting, l.bytes = l.waiting, nil, 0
		if l.cancel != nil {
			l.cancel(why)
		}
		l.gone = true
		l.signal()
		if l.closed || !l.running {
			delete(qs.lanes, key)
		}
	}
	qs.mu.Unlock()
	for i := range waiting {
		waiting[i].finish(why)
	}
}
