package starling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

const (
	drainFor       = 10 * time.Second       // how long Leave lets accepted messages get out, if its context does not say
	goodbyeFor     = time.Second            // how long Leave waits for the goodbye to be acknowledged
	goodbyeAgain   = 150 * time.Millisecond // between two goodbyes to a member that has not acknowledged
	unheldAgain    = 200 * time.Millisecond // between two looks whether somebody has what nobody had
	newcomersAgain = 10 * time.Millisecond  // between two looks whether newcomers have asked what they are owed, and shown where they are
	leaveAtMost    = 5 * time.Second        // how long memberlist may take to spread the leave
	leaveHeard     = time.Second            // the same, when everybody has heard the goodbye
)

// leaveAcks is who has not acknowledged our goodbye yet. The cluster's mu guards it.
type leaveAcks struct {
	waiting map[uint64]wire.Peer
	done    chan struct{} // closed when nobody is left
}

// acked notes that a member has acknowledged our goodbye.
func (l *leaveAcks) acked(id uint64) {
	if _, ok := l.waiting[id]; ok {
		if delete(l.waiting, id); len(l.waiting) == 0 {
			close(l.done)
		}
	}
}

// departure is the first call of Leave, which those after it wait for.
type departure struct {
	done chan struct{} // closed when err is set
	err  error
}

// leave is how this member says farewell.
type leave struct {
	c *Cluster
	// ml lets memberlist be left, or shut down, by one at a time: it panics when it is left after its shutdown.
	ml sync.Mutex

	// The cluster's mu guards what follows.
	departure *departure // nil: Leave has not been called, or Close was first
	acks      leaveAcks
}

// Leave leaves the cluster politely: it waits until what was accepted is held by others (10 s at most, if ctx has no
// deadline; what was given up for every member may still reach one by repair) and, for 1 s at most, until members that have just come have asked what they are owed, says goodbye to every member (1 s at most), so that they see EventLeft and not EventFailed and know what this
// one owes to whom, spreads the leave by memberlist, and closes. ctx bounds all but the closing; when it has ended already,
// all that is left out. Leave returns when everything of ours is gone. Called while the first Join runs, it may leave others that see a failure.
//
// It returns a *LeaveError if messages of this member may be held by nobody else, or if no member has acknowledged the goodbye.
// Called again it returns, when the first call is done, the same; after Close nil. No handler of a channel may call it, for it
// waits for them, whatever ctx says: with the handler's context, or one made of it, it returns ErrInHandler at once, and does nothing. While
// a handler keeps it waiting, Config.Logger gets a line that names the channel, after 1 s.
func (c *Cluster) Leave(ctx context.Context) error {
	if inHandler(ctx, c) {
		return ErrInHandler
	}
	d := &departure{done: make(chan struct{})}
	first := false
	c.ending.Store(true)
	c.do(func(*replica.Replica, time.Time) {
		if first = !c.leaving; first {
			c.leaving, c.leave.departure = true, d
			c.line.wake()
		}
		d = c.leave.departure
	})
	switch {
	case d == nil: // Close came first
		<-c.gone
		return nil
	case !first:
		<-d.done
		return d.err
	}
	defer close(d.done)
	polite, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() // a concurrent Close cuts the politeness short
	unheld := c.leave.drain(polite)
	acked, members := c.leave.sayGoodbye(polite)
	err := c.leave.leaveMemberlist(polite, acked == members)
	switch {
	case c.ctx.Err() != nil: // Close came between
		err = nil
	case unheld > 0 || acked == 0 && members > 0:
		err = &LeaveError{Unheld: unheld, Unheard: members - acked, Err: cmp.Or(ctx.Err(), err)}
	case acked > 0:
		err = nil // who has heard the goodbye passes the leave on
	}
	d.err = errors.Join(err, c.Close())
	return d.err
}

// Close ends this member at once: to the others it fails. It returns when every goroutine, connection and socket of ours is
// gone. Closing again, or concurrently, waits for the same and returns nil. No handler of a channel may call it, nor may anything else that a
// channel's goroutine calls (Codec.Decode, Snapshot, the methods of a State, MapOptions.Merge), nor Config.KeySource, for it waits for
// them; while a handler keeps it waiting, Config.Logger gets a line that names its channel, after 1 s.
func (c *Cluster) Close() error {
	first := false
	c.ending.Store(true)
	c.do(func(*replica.Replica, time.Time) {
		first = !c.closing
		c.leaving, c.closing = true, true
		c.line.wake()
	})
	if !first {
		<-c.gone
		return nil
	}
	defer close(c.gone)
	c.delegate.shut.Store(true)
	c.table.close()
	c.cancel()
	c.outlet.streams.CancelAll(ErrClosed)
	err := c.leave.shutDown()
	var open []*replica.Channel
	c.do(func(r *replica.Replica, _ time.Time) { open = r.Channels() })
	c.awaitHandlers(open...)
	c.wg.Wait()
	c.logs.close()
	if err != nil {
		return fmt.Errorf("starling: close: %w", err)
	}
	return nil
}

// drain waits until what was accepted is held by others or given up, and newcomers have asked what they are owed and shown where they are, or time
// is up. It returns how many messages are neither.
func (l *leave) drain(ctx context.Context) (unheld int) {
	ctx, cancel := context.WithTimeout(ctx, drainTime(ctx))
	defer cancel()
	for {
		var turn <-chan struct{}
		var again <-chan time.Time
		l.c.do(func(r *replica.Replica, now time.Time) {
			if unheld = r.Outstanding(); unheld > 0 {
				turn = l.c.freed.wait()
			}
			lost, hope := r.Unheld(now)
			if unheld += lost; lost > 0 && hope {
				again = time.After(unheldAgain)
			}
			if r.Membership.AwaitsNewcomer(now) {
				again = time.After(newcomersAgain)
			}
		})
		if turn == nil && again == nil {
			return unheld
		}
		select {
		case <-turn:
		case <-again:
		case <-ctx.Done():
			return unheld
		}
	}
}

// drainTime leaves some of the time that there is for the goodbye.
func drainTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return drainFor
	}
	left := time.Until(deadline)
	return left - min(left/4, goodbyeFor)
}

// sayGoodbye tells every member of ours that we leave on purpose, and what we owe to whom, until each has acknowledged or time is
// up. It returns how many have, and how many there are.
func (l *leave) sayGoodbye(ctx context.Context) (acked, members int) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeFor)
	defer cancel()
	acks := leaveAcks{waiting: map[uint64]wire.Peer{}, done: make(chan struct{})}
	var goodbye *starlingpb.Goodbye
	proofs := map[uint64]uint64{}
	l.c.do(func(r *replica.Replica, now time.Time) {
		for _, m := range r.Membership.Placed(now) {
			acks.waiting[m.ID], proofs[m.ID] = m, r.Membership.ProofTo(m.ID)
		}
		members = len(acks.waiting)
		l.acks, goodbye = acks, r.Membership.Goodbye()
	})
	if members == 0 {
		return 0, 0
	}
	frame := func(m wire.Peer, stream bool) []byte {
		goodbye.Stream, goodbye.Proof = stream, proofs[m.ID]
		return wire.EncodeControl(l.c.sender(), wire.BodyGoodbye, goodbye)
	}
	again := time.NewTicker(goodbyeAgain)
	defer again.Stop()
	for try := 0; ; try++ {
		unacked := l.unacked()
		for _, m := range unacked {
			packet := frame(m, false)
			if len(packet) > l.c.outlet.packetRoom || try%3 == 2 { // packets may not reach it
				l.c.outlet.streams.Put(wire.RawStream(m, frame(m, true)), nil)
			}
			l.c.outlet.packet(m, packet)
		}
		select {
		case <-acks.done:
			return members, members
		case <-again.C:
		case <-ctx.Done():
			return members - len(l.unacked()), members
		}
	}
}

// unacked returns who has not acknowledged the goodbye.
func (l *leave) unacked() (ms []wire.Peer) {
	l.c.do(func(*replica.Replica, time.Time) { ms = slices.Collect(maps.Values(l.acks.waiting)) })
	return ms
}

// leaveMemberlist lets memberlist spread the leave, unless it has been shut down or there is no time. It waits in vain when
// the others leave at the same time; that is no fault if they have heard our goodbye.
func (l *leave) leaveMemberlist(ctx context.Context, heard bool) error {
	l.ml.Lock()
	defer l.ml.Unlock()
	if l.c.ctx.Err() != nil || ctx.Err() != nil {
		return ctx.Err()
	}
	timeout := leaveAtMost
	if heard {
		timeout = leaveHeard
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(deadline)), time.Millisecond)
	}
	if err := l.c.memberlist().Leave(timeout); err != nil && !heard {
		return fmt.Errorf("starling: leave: %w", err)
	}
	return nil
}

// shutDown shuts memberlist down, and its transport with it.
func (l *leave) shutDown() error {
	l.ml.Lock()
	defer l.ml.Unlock()
	return l.c.memberlist().Shutdown()
}
