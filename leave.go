package starling

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

const (
	drainFor     = 2 * time.Second        // how long Leave lets accepted messages get out
	goodbyeFor   = time.Second            // how long Leave waits for the goodbye to be acknowledged
	goodbyeAgain = 150 * time.Millisecond // between two goodbyes to a member that has not acknowledged
	leaveHeard   = time.Second            // the same, when everybody has heard the goodbye
	leaveAtMost  = 5 * time.Second        // how long memberlist may take to spread the leave
)

// farewell is who has not acknowledged our goodbye yet. The cluster's mu guards it.
type farewell struct {
	waiting map[uint64]Member
	done    chan struct{} // closed when nobody is left
}

// Leave leaves the cluster politely: it lets what was accepted get out (2 s at most), says goodbye to every member (1 s at
// most), so that they see Left and not Failed, spreads the leave by memberlist, and closes. ctx bounds all but the closing.
// It returns when everything of ours is gone, with an error if the leave may not have been heard. After Leave or Close it
// returns nil, when those are done. No handler of a channel may call it, for it waits for them.
func (c *Cluster) Leave(ctx context.Context) error {
	c.mu.Lock()
	first := !c.leaving
	c.leaving = true
	c.replica.room.wakeAll()
	c.mu.Unlock()
	if !first {
		<-c.gone
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() // a concurrent Close cuts the politeness short
	c.drain(ctx)
	heard := c.sayGoodbye(ctx)
	err := c.leaveMemberlist(ctx, heard)
	return errors.Join(err, c.Close())
}

// Close ends this member at once: to the others it fails. It returns when every goroutine, connection and socket of ours is
// gone. Closing again, or concurrently, waits for the same and returns nil. No handler of a channel may call it, for it waits for
// them.
func (c *Cluster) Close() error {
	c.mu.Lock()
	first := !c.closing
	c.leaving, c.closing = true, true
	c.replica.room.wakeAll()
	c.mu.Unlock()
	if !first {
		<-c.gone
		return nil
	}
	defer close(c.gone)
	c.delegate.shut.Store(true)
	c.table.close()
	c.cancel()
	c.lanes.dropAll(ErrClosed)
	c.mlLeave.Lock()
	err := c.memberlist().Shutdown()
	c.mlLeave.Unlock()
	c.wg.Wait()
	if err != nil {
		return fmt.Errorf("starling: close: %w", err)
	}
	return nil
}

// drain waits until what was accepted has left, or time is up.
func (c *Cluster) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	for {
		c.mu.Lock()
		var turn <-chan struct{}
		if c.replica.room.messages > 0 {
			turn = c.replica.room.wait()
		}
		c.mu.Unlock()
		if turn == nil {
			return
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return
		}
	}
}

// sayGoodbye tells every member of ours that we leave on purpose, until each has acknowledged or time is up. It reports
// whether every member has heard it; foreign ones cannot.
func (c *Cluster) sayGoodbye(ctx context.Context) (heard bool) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeFor)
	defer cancel()
	f := farewell{waiting: map[uint64]Member{}, done: make(chan struct{})}
	for _, m := range c.table.list() {
		if !m.Foreign() && m.ID != c.id {
			f.waiting[m.ID] = m
		}
	}
	foreign := c.table.foreign.Load() > 0
	if len(f.waiting) == 0 {
		return !foreign
	}
	c.mu.Lock()
	c.farewell = f
	c.mu.Unlock()
	frame := encodeControl(c.sender(), bodyGoodbye, &starlingpb.Goodbye{})
	again := time.NewTicker(goodbyeAgain)
	defer again.Stop()
	for {
		for _, m := range c.unheard() {
			c.packet(m, frame)
		}
		select {
		case <-f.done:
			return !foreign
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
}

// unheard returns who has not acknowledged the goodbye.
func (c *Cluster) unheard() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := make([]Member, 0, len(c.farewell.waiting))
	for _, m := range c.farewell.waiting {
		ms = append(ms, m)
	}
	return ms
}

func (c *Cluster) goodbyeHeard(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.farewell
	if _, ok := f.waiting[id]; ok {
		if delete(f.waiting, id); len(f.waiting) == 0 {
			close(f.done)
		}
	}
}

// leaveMemberlist lets memberlist spread the leave. memberlist panics when it is left after its shutdown. It waits in vain
// when the others leave at the same time; that is no fault if they have heard our goodbye.
func (c *Cluster) leaveMemberlist(ctx context.Context, heard bool) error {
	c.mlLeave.Lock()
	defer c.mlLeave.Unlock()
	if c.ctx.Err() != nil {
		return nil
	}
	timeout := leaveAtMost
	if heard {
		timeout = leaveHeard
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(deadline)), time.Millisecond)
	}
	if err := c.memberlist().Leave(timeout); err != nil && !heard {
		return fmt.Errorf("starling: leave: %w", err)
	}
	return nil
}
