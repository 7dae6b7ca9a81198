package starling

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// outgoing is a message of this member's own until every member has it.
type outgoing struct {
	replica.Message
	entry   entry           // its place in the gossip queue
	confirm []*confirmation // who waits for the end
}

// Broadcast accepts a message for every other live member that has the channel open, and returns: accepted is not received
// (Send and Confirm tell more). This member's own handler is given it only with ChannelOptions.Echo. Broadcast waits only for room among
// what this member has yet to send, in the order of the calls, until ctx ends, and then returns an error that wraps the context's; at once
// where ctx has ended before. v is encoded before Broadcast returns and may be changed afterwards.
//
// Errors: *TooLargeError above Config.MaxMessageSize, ErrNilMessage, what the codec says, ErrClosed. With an error nothing
// was accepted.
func (ch *Channel[T]) Broadcast(ctx context.Context, v T) error {
	return ch.broadcast(ctx, v, true)
}

// TryBroadcast is Broadcast that never waits: without room, or while others wait for it, it returns ErrQueueFull, and the message was
// not accepted.
func (ch *Channel[T]) TryBroadcast(v T) error {
	return ch.broadcast(context.Background(), v, false)
}

func (ch *Channel[T]) broadcast(ctx context.Context, v T, wait bool, confirm ...*confirmation) error {
	name := ""
	if ch.supersede != nil {
		name = ch.supersede(v)
	}
	core := ch.core
	c := core.c
	scratch := c.scratch.Get().(*[]byte)
	data, err := ch.codec.Append((*scratch)[:0], v)
	o := &outgoing{confirm: confirm}
	if err == nil {
		size := len(data)
		if err = core.checkSize(size); err == nil {
			if wait { // TryBroadcast has no context
				data = ch.trace.append(ctx, data)
			}
			o.Init(&core.core, name, data[:size], data[size:], c.outlet.members()-1)
		}
		*scratch = data[:0]
	}
	c.scratch.Put(scratch)
	if err != nil {
		return core.wrapCodec(err)
	}
	return core.accept(ctx, o, wait)
}

// checkSize holds the size of an encoded message against the limit.
func (ch *channel) checkSize(size int) error {
	if limit := ch.c.cfg.MaxMessageSize; size > limit {
		return &TooLargeError{Channel: ch.core.Key, OfMap: ch.ofMap, Size: size, Limit: limit}
	}
	return nil
}

// accept accepts an encoded message as soon as there is room; without wait at once or not at all. With a context that has
// ended it accepts nothing.
func (ch *channel) accept(ctx context.Context, o *outgoing, wait bool) (err error) {
	if err := ctx.Err(); err != nil {
		return ch.ended(err)
	}
	c := ch.c
	o.Owner = o
	var t *turn // nil: we are not in the line
	for {
		c.do(func(r *replica.Replica, now time.Time) {
			accepted := false
			if err = ch.usable(); err == nil && c.line.first(t) {
				var superseded *replica.Message
				superseded, accepted = r.Sender.Accept(&o.Message, now)
				if accepted {
					o.watch(r, superseded, now)
				}
			}
			switch {
			case err != nil || accepted:
			case wait:
				t = c.line.join(t)
				return
			default:
				err = ErrQueueFull
			}
			c.line.leave(t)
			t = nil
		})
		if t == nil {
			return err
		}
		select {
		case <-t.come:
			continue
		case <-ctx.Done():
			err = ch.ended(ctx.Err())
		case <-ch.ctx.Done():
			err = ErrClosed
		}
		c.do(func(*replica.Replica, time.Time) { c.line.leave(t) })
		return err
	}
}

// watch notes the members that the confirmations of an accepted message wait for. If a queued message, superseded, has taken over its content,
// that one takes over its confirmations too.
func (o *outgoing) watch(r *replica.Replica, superseded *replica.Message, now time.Time) {
	for _, cf := range o.confirm {
		cf.members = r.Membership.Owed(now)
	}
	if superseded != nil {
		old := superseded.Owner.(*outgoing)
		old.confirm = append(old.confirm, o.confirm...)
	}
}

// ended says what a context has ended.
func (ch *channel) ended(err error) error {
	what := "broadcast"
	if ch.ofMap {
		what = "change"
	}
	return fmt.Errorf("starling: %s: %s: %w", named(ch.ofMap, ch.core.Key), what, err)
}

// finished tells those who wait for a message of our own that it is done. Call it under do.
func finished(f replica.Finished) {
	o := f.Owner.(*outgoing)
	o.entry.done()
	ch := f.Channel().Owner.(*channel)
	ch.finish(f.Number(), f.Missing)
	if len(f.Missing) > 0 {
		ch.drop(DropWrittenOff, fmt.Errorf("for %s, such as %s", count(len(f.Missing), "member"), f.Missing[0].Name))
	}
	for _, cf := range o.confirm {
		cf.spreadDone(f)
	}
}

// flusher waits for the messages that were accepted before it came.
type flusher struct {
	upTo uint64 // the last of them
	left int    // how many of them are not done
	done chan struct{}
}

// maxLacking bounds the members that a FlushError names.
const maxLacking = 64

// finish notes the end of the message of that number, and for whom it was given up.
func (ch *channel) finish(number uint64, missing []wire.Peer) {
	if len(missing) > 0 {
		ch.writtenOff++
	}
	for _, p := range missing {
		if ch.lacking == nil {
			ch.lacking = map[uint64]wire.Peer{}
		}
		if len(ch.lacking) < maxLacking {
			ch.lacking[p.ID] = p
		}
	}
	ch.flushers = slices.DeleteFunc(ch.flushers, func(f *flusher) bool {
		if number > f.upTo {
			return false
		}
		if f.left--; f.left == 0 {
			close(f.done)
		}
		return f.left == 0
	})
}

// Flush waits until every message of this channel that was accepted here before is held by every live member or was given up, or
// ctx ends, whose error it then returns. Those are the members that were known when the message left: who has come, or come back, since then
// gets what it is owed by repair, which Flush does not wait for, and Confirm does. If any was given up it returns a *FlushError with their number since the channel was
// opened, and the members that they were given up for. It must not be called by the handler of a channel with Echo, whose own messages it would wait for.
func (ch *Channel[T]) Flush(ctx context.Context) error { return ch.core.flush(ctx) }

func (ch *channel) flush(ctx context.Context) error {
	f := &flusher{done: make(chan struct{})}
	var err error
	ch.c.do(func(*replica.Replica, time.Time) {
		if err = ch.usable(); err != nil {
			return
		}
		if f.upTo, f.left = ch.core.Accepted(); f.left == 0 {
			close(f.done)
		} else {
			ch.flushers = append(ch.flushers, f)
		}
	})
	if err != nil {
		return err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-ch.ctx.Done():
		return ErrClosed
	}
	e := &FlushError{Channel: ch.core.Key, OfMap: ch.ofMap}
	var lacking []wire.Peer
	ch.c.do(func(*replica.Replica, time.Time) {
		e.WrittenOff, lacking = ch.writtenOff, slices.Collect(maps.Values(ch.lacking))
	})
	if e.WrittenOff == 0 {
		return nil
	}
	e.Members = ch.c.readiness.named(lacking)
	return e
}
