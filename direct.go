package starling

import (
	"context"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// Direct messages go to one member, which acknowledges them. Each pair of members counts its own, apart from what is
// broadcast; the receiver remembers the numbers it has taken, so that a retry is handled once.

// calls is the sending side: the messages to one member that wait for their acknowledgement.
type calls struct {
	last    uint64
	waiting map[uint64]chan starlingpb.DirectAck_Verdict
}

// begin numbers a message and returns where its verdicts arrive.
func (c *calls) begin() (id uint64, verdicts chan starlingpb.DirectAck_Verdict) {
	if c.waiting == nil {
		c.waiting = map[uint64]chan starlingpb.DirectAck_Verdict{}
	}
	c.last++
	verdicts = make(chan starlingpb.DirectAck_Verdict, 1)
	c.waiting[c.last] = verdicts
	return c.last, verdicts
}

func (c *calls) end(id uint64) { delete(c.waiting, id) }

// floor is the number up to which nothing will be tried again.
func (c *calls) floor() uint64 {
	low := c.last + 1
	for id := range c.waiting {
		low = min(low, id)
	}
	return low - 1
}

// answer passes a verdict on to whoever waits for it; a later one replaces one not read yet.
func (c *calls) answer(id uint64, v starlingpb.DirectAck_Verdict) {
	if ch, ok := c.waiting[id]; ok {
		select {
		case <-ch:
		default:
		}
		ch <- v
	}
}

// taken is the receiving side: which numbers of one sender were taken already.
type taken struct {
	floor uint64
	above intervals // Invariant: each range lies above floor, and count() ≤ maxRanges
}

// has reports whether the message was taken before, or can no longer be told from one that was.
func (t *taken) has(id uint64) bool { return id <= t.floor || t.above.contains(id) }

// full reports whether there is no room to remember another.
func (t *taken) full() bool { return t.above.count() >= maxRanges }

func (t *taken) add(id uint64) { t.above.add(id) }

// raise forgets the numbers up to floor, which their sender never repeats.
func (t *taken) raise(floor uint64) {
	if floor > t.floor {
		t.floor = floor
		t.above.trim(floor)
	}
}

// direct takes a message that was sent to this member alone, and returns the verdict on it.
func (r *replica) direct(from sender, m *starlingpb.Direct, via Via, now time.Time) starlingpb.DirectAck_Verdict {
	t, ok := r.directs[from.id]
	if !ok {
		t = new(taken)
		r.directs[from.id] = t
	}
	t.raise(min(m.GetFloor(), max(m.GetId(), 1)-1))
	ch := r.channels[m.GetKey()]
	switch {
	case t.has(m.GetId()):
		if ch != nil {
			ch.stats.Duplicates++
		}
		return starlingpb.DirectAck_ACCEPTED
	case ch == nil:
		r.drops.add(DropUnknownKey)
		return starlingpb.DirectAck_NO_CHANNEL
	case len(m.GetData()) > r.lim.message:
		r.drops.add(DropTooLarge)
		return starlingpb.DirectAck_NO_CHANNEL
	case t.full() || !ch.offer(delivery{data: m.GetData(), origin: from.id, born: now, via: via}):
		r.drops.add(DropInboxFull)
		return starlingpb.DirectAck_BUSY
	}
	t.add(m.GetId())
	ch.stats.Received++
	return starlingpb.DirectAck_ACCEPTED
}

// send is Channel.Send, encoded.
func (c *Cluster) send(ctx context.Context, ch *channel, name string, data []byte) error {
	if err := c.usable(ch); err != nil {
		return err
	}
	m, ok := c.table.lookup(name)
	switch {
	case !ok:
		return &SendError{Member: name, Reason: SendUnknown}
	case m.ID == c.id:
		return c.sendSelf(ctx, ch, name, data)
	case m.Foreign():
		return &SendError{Member: name, Reason: SendForeign}
	}
	c.mu.Lock()
	out, ok := c.replica.calls[m.ID]
	if !ok {
		out = new(calls)
		c.replica.calls[m.ID] = out
	}
	id, verdicts := out.begin()
	floor := out.floor()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		out.end(id)
	}()
	frame := encodeControl(c.sender(), bodyDirect, &starlingpb.Direct{Key: ch.key, Data: data, Id: id, Floor: floor})
	return c.await(ctx, ch, m, frame, verdicts)
}

// await sends frame again and again until there is a verdict that ends the matter.
func (c *Cluster) await(ctx context.Context, ch *channel, m Member, frame []byte, verdicts <-chan starlingpb.DirectAck_Verdict) error {
	large := len(frame) > c.packetRoom
	open := 0 // tries without a verdict: any of them may yet be taken
	for try := 0; ; try++ {
		if !c.table.knows(m.ID) {
			return &SendError{Member: m.Name, Reason: SendMemberGone}
		}
		// Two packets may be lost; a member that packets do not reach is reached by stream.
		if large || try >= 2 {
			c.lanes.put(rawParcel(m, frame))
		} else {
			c.packet(m, frame)
		}
		open++
		again := time.NewTimer(retryAfter(try, large))
		select {
		case v := <-verdicts:
			again.Stop()
			open--
			switch v {
			case starlingpb.DirectAck_ACCEPTED:
				return nil
			case starlingpb.DirectAck_NO_CHANNEL:
				return &SendError{Member: m.Name, Reason: SendNoChannel}
			}
			if err := pause(ctx, ch, retryAfter(try, large)); err != nil {
				reason := SendBusy
				if open > 0 {
					reason = SendNoAnswer
				}
				return &SendError{Member: m.Name, Reason: reason, Err: err}
			}
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return &SendError{Member: m.Name, Reason: SendNoAnswer, Err: ctx.Err()}
		case <-ch.ctx.Done():
			again.Stop()
			return ErrClosed
		}
	}
}

// sendSelf gives a message to this member's own handler, without the network.
func (c *Cluster) sendSelf(ctx context.Context, ch *channel, name string, data []byte) error {
	for try := 0; ; try++ {
		c.mu.Lock()
		ok := ch.offer(delivery{data: data, origin: c.id, born: time.Now(), via: Direct})
		c.mu.Unlock()
		if ok {
			return nil
		}
		if err := pause(ctx, ch, retryAfter(try, false)); err != nil {
			return &SendError{Member: name, Reason: SendBusy, Err: err}
		}
	}
}

// pause waits for d, or for the end of ctx or of the channel.
func pause(ctx context.Context, ch *channel, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-ch.ctx.Done():
		return ErrClosed
	}
}

// retryAfter is how long to wait for the acknowledgement of the n-th try, from 0, before the next.
func retryAfter(n int, large bool) time.Duration {
	first := 50 * time.Millisecond
	if large {
		first = time.Second
	}
	return min(first<<min(n, 10), 5*time.Second)
}
