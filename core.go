package starling

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What the cluster does for the untyped core of a channel.

// open opens a channel and starts its handler loop.
func (c *Cluster) open(ch *channel) error {
	switch {
	case ch.key == "":
		return &ConfigError{Field: "key", Value: `""`, Err: fmt.Errorf("%w: empty", ErrChannelKey)}
	case len(ch.key) > maxKeySize:
		return &ConfigError{Field: "key", Value: ch.key, Err: fmt.Errorf("%w: %d bytes, limit %d", ErrChannelKey, len(ch.key), maxKeySize)}
	}
	setDefault(&ch.inbox.limit.Messages, DefaultInboxMessages)
	setDefault(&ch.inbox.limit.Bytes, DefaultInboxBytes)
	setDefault(&ch.order.hold, c.cfg.Retention.Age)
	if ch.inbox.limit.Messages < 0 || ch.inbox.limit.Bytes < 0 {
		return &ConfigError{Field: "Inbox", Value: ch.inbox.limit, Err: errors.New("negative")}
	}
	ch.c = c
	ch.done = make(chan struct{})
	ch.wake = make(chan struct{}, 1)

	c.mu.Lock()
	defer c.release()
	if c.leaving {
		return ErrClosed
	}
	if _, taken := c.replica.channels[ch.key]; taken {
		return &ConfigError{Field: "key", Value: ch.key, Err: fmt.Errorf("%w: open already", ErrChannelKey)}
	}
	ch.ctx, ch.cancel = context.WithCancel(c.ctx)
	c.replica.open(ch, time.Now())
	c.wg.Go(ch.serve)
	return nil
}

// closeChannel closes a channel and waits for its handler loop.
func (c *Cluster) closeChannel(ch *channel) {
	c.mu.Lock()
	if !ch.closed {
		ch.closed = true
		c.replica.close(ch, time.Now())
	}
	c.mu.Unlock()
	ch.cancel()
	<-ch.done
}

// usable reports whether the channel and its cluster are open.
func (c *Cluster) usable(ch *channel) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usableLocked(ch)
}

func (c *Cluster) usableLocked(ch *channel) error {
	if c.leaving || ch.closed {
		return ErrClosed
	}
	return nil
}

// checkSize holds the size of an encoded message against the limit.
func (c *Cluster) checkSize(key string, size int) error {
	if size > c.cfg.MaxMessageSize {
		return &TooLargeError{Channel: key, Size: size, Limit: c.cfg.MaxMessageSize}
	}
	return nil
}

// broadcast accepts an encoded message as soon as there is room.
func (c *Cluster) broadcast(ctx context.Context, o *outgoing, wait bool) error {
	for {
		turn, err := c.tryBroadcast(o)
		if turn == nil || !wait {
			return err
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		case <-o.ch.ctx.Done():
			return ErrClosed
		}
	}
}

// tryBroadcast accepts a message if there is room. If there is none, turn is closed when there may be.
func (c *Cluster) tryBroadcast(o *outgoing) (turn <-chan struct{}, err error) {
	c.mu.Lock()
	if err := c.usableLocked(o.ch); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if !c.replica.room.take(len(o.body)) {
		turn = c.replica.room.wait()
		c.mu.Unlock()
		return turn, ErrQueueFull
	}
	c.replica.broadcast(o, time.Now())
	c.release()
	return nil, nil
}

// flush waits for the messages that the channel has accepted so far.
func (c *Cluster) flush(ctx context.Context, ch *channel) error {
	c.mu.Lock()
	if err := c.usableLocked(ch); err != nil {
		c.mu.Unlock()
		return err
	}
	f := &flusher{upTo: ch.accepted, left: ch.outstanding, done: make(chan struct{})}
	if f.left == 0 {
		close(f.done)
	} else {
		ch.flushers = append(ch.flushers, f)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-ch.ctx.Done():
		return ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.writtenOff > 0 {
		return &FlushError{Channel: ch.key, WrittenOff: ch.writtenOff}
	}
	return nil
}

// take returns what the channel's goroutine is to do next: tell its state to all who ask, or handle a delivery. While
// there is something to handle, no more than half of the time goes into telling.
// Before, it notes the end of the last delivery: one turn of the lock does for both.
func (c *Cluster) take(ch *channel, last *outcome) (d delivery, jobs []snapshotJob, ok bool) {
	if last.err != nil {
		c.dropped(DropUndecodable, fmt.Errorf("channel %q: %w", ch.key, last.err))
	}
	c.mu.Lock()
	defer c.release()
	if !last.at.IsZero() {
		if last.err == nil {
			ch.stats.Delivered++
		} else if it := last.delivery.item; it != nil {
			ch.refused.add(it.id)
		}
		c.replica.handled(last.delivery, last.at)
		*last = outcome{}
	}
	if ch.closed || ch.ctx.Err() != nil {
		return delivery{}, nil, false
	}
	if len(ch.jobs) > 0 && (ch.inbox.len() == 0 || time.Now().After(ch.jobsAfter)) {
		jobs, ch.jobs = ch.jobs, nil
		return delivery{}, jobs, true
	}
	d, ok = c.replica.take(ch)
	return d, nil, ok
}

// Stats returns what this member has done so far and holds now. After Leave or Close: as it was.
func (c *Cluster) Stats() Stats {
	s := Stats{
		Members:  int(c.table.alive.Load()),
		Foreign:  int(c.table.foreign.Load()),
		Channels: map[string]ChannelStats{},
		Dropped:  c.drops.snapshot(),
		Traffic:  c.transport.traffic(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Queue = c.replica.queueStats(time.Now())
	s.History = HistoryStats{Messages: c.replica.history.len(), Bytes: c.replica.history.bytes()}
	s.Relayed, s.Repaired, s.Lost = c.replica.relayed, c.replica.repaired, c.replica.lost
	for key, ch := range c.replica.channels {
		cs := ch.stats
		cs.Inbox, cs.Deferred = ch.inbox.len(), len(ch.sync.deferred)
		for _, l := range ch.order.lines {
			cs.Deferred += len(l.waiting)
		}
		cs.HandlerTime = time.Duration(ch.handlerTime.Load())
		s.Channels[key] = cs
	}
	return s
}
