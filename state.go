package starling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// A State is what a channel keeps equal on all members: bytes that any two members can merge, in any order and any number
// of times, with the same result. Its methods are called on the goroutine of its channel, one at a time.
type State interface {
	// MarshalBinary returns the whole state.
	MarshalBinary() ([]byte, error)
	// Merge merges the state, or a change of it, of another member. It must not keep or write to b. It may call
	// StateChannel.Broadcast.
	Merge(b []byte) error
}

// A StateChannel carries a State. Its methods may be called concurrently.
type StateChannel struct{ core *channel }

// AddState opens a channel that keeps s equal on all members: what StateChannel.Broadcast sends is merged by the others,
// and whole states are exchanged when members join, when they come back from a partition, and by push/pull, where they
// travel as Alertmanager's do. Add states before Join. The errors are those of NewChannel.
//
// A state whose MarshalBinary or Merge fails harms no other; a failure is logged and counted. Push/pull carries the last
// marshalled state if MarshalBinary takes longer than 200 ms.
func (c *Cluster) AddState(key string, s State) (*StateChannel, error) {
	if s == nil {
		return nil, &ConfigError{Field: "state", Value: nil, Err: errors.New("nil")}
	}
	ch := &channel{key: key, bytesState: true}
	ch.sync.enabled = true
	ch.handle = func(_ context.Context, d delivery, _ Member) error {
		if d.item != nil {
			ch.merging.Store(&d.data)
			defer ch.merging.Store(nil)
		}
		return s.Merge(d.data)
	}
	ch.snapshot = func(yield func([]byte) bool) error {
		b, err := s.MarshalBinary()
		if err == nil {
			yield(b)
		}
		return err
	}
	if err := c.open(ch); err != nil {
		return nil, err
	}
	return &StateChannel{ch}, nil
}

// Broadcast sends a change of the state, or all of it, to every member. It never waits: without room it returns
// ErrQueueFull, and the next exchange of states makes up for it. Called from within Merge with the bytes being merged,
// which have reached everybody as they are, it does nothing. b is copied.
//
// Errors: *TooLargeError, ErrQueueFull, ErrClosed.
func (sc *StateChannel) Broadcast(b []byte) error {
	ch := sc.core
	if m := ch.merging.Load(); m != nil && bytes.Equal(*m, b) {
		return nil
	}
	if err := ch.c.checkSize(ch.key, len(b)); err != nil {
		return err
	}
	body := appendBody(make([]byte, 0, bodySize(ch.key, len(b))+identityRoom), ch.key, b)
	return ch.c.broadcast(context.Background(), &outgoing{ch: ch, body: body, size: len(b)}, false)
}

// Close closes the channel; see Channel.Close.
func (sc *StateChannel) Close() { sc.core.c.closeChannel(sc.core) }

// snapshotJob asks a channel's goroutine for its state, because there the state is exactly what was handled.
type snapshotJob struct {
	to Member // who asked
	id uint64
	// done, if set, gets the first item instead: for push/pull.
	done chan<- []byte
}

// maxSnapshotJobs bounds the questions that wait for one channel's goroutine.
const maxSnapshotJobs = 64

// runJobs takes the channel's state and sends it to all who asked. It runs on the channel's goroutine.
func (c *Cluster) runJobs(ch *channel, jobs []snapshotJob) {
	start := time.Now()
	c.mu.Lock()
	handled := c.replica.handledDigests(ch, start)
	partial := ch.sync.first()
	c.mu.Unlock()
	var items [][]byte
	size := 0
	err := ch.snapshot(func(data []byte) bool {
		items = append(items, data)
		size += len(data) + itemOverhead
		return size <= syncBytes
	})
	switch {
	case err != nil:
		items = nil
	case size > syncBytes:
		items, err = nil, fmt.Errorf("state of more than %d bytes", syncBytes)
	}
	if err != nil {
		c.dropped(DropNoSnapshot, fmt.Errorf("channel %q: %w", ch.key, err))
	}
	for _, j := range jobs {
		switch {
		case j.done != nil:
			if len(items) > 0 {
				j.done <- items[0]
			}
			close(j.done)
		case err == nil:
			c.sendSnapshot(j, ch.key, handled, items, partial)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.jobsAfter = time.Now().Add(time.Since(start))
}

// sendSnapshot sends a state in frames of bounded size.
func (c *Cluster) sendSnapshot(j snapshotJob, key string, handled []*starlingpb.OriginDigest, items [][]byte, partial bool) {
	m := &starlingpb.Sync{Id: j.id, Key: key, Handled: handled, Partial: partial}
	size := 0
	send := func() {
		c.lanes.put(rawParcel(j.to, encodeControl(c.sender(), bodySync, m)))
		m = &starlingpb.Sync{Id: j.id, Key: key, Partial: partial, Index: m.Index + 1}
		size = 0
	}
	for _, data := range items {
		if size > 0 && size+len(data) > syncFrame {
			send()
		}
		m.Items = append(m.Items, data)
		size += len(data)
	}
	m.Last = true
	send()
}

// handledDigests describes what a state taken now contains, as far as handlers have seen it: whether it contains what we
// broadcast is up to the user. Who came lately says nothing: what is older than its baselines counts as handled and is
// not, and may be on its way to others still.
func (r *replica) handledDigests(ch *channel, now time.Time) []*starlingpb.OriginDigest {
	if now.Sub(ch.sync.since) < r.lim.retention.Age {
		return nil
	}
	var out []*starlingpb.OriginDigest
	for origin, w := range r.windows {
		out = append(out, encodeDigest(origin, w.handledDigest(digestSpans)))
	}
	return out
}

// askedForState passes the question for a channel's state to its goroutine.
func (r *replica) askedForState(from Member, m *starlingpb.SyncAsk) {
	for _, key := range m.GetKeys() {
		if ch := r.channels[key]; ch == nil || !ch.ask(snapshotJob{to: from, id: m.GetId()}) {
			r.tell(from, bodySync, &starlingpb.Sync{Id: m.GetId(), Key: key, Last: true, Partial: true}, true)
		}
	}
}

// localState is what push/pull carries: the states that are bytes, as Alertmanager's full state. A state that does not
// answer in time is given as it was last.
func (c *Cluster) localState(bool) []byte {
	deadline := time.NewTimer(localStateWait)
	defer deadline.Stop()
	var b []byte
	for _, ch := range c.stateChannels() {
		if data := c.stateOf(ch, deadline); data != nil && len(b)+len(data) < maxStreamSize {
			b = appendFullState(b, ch.key, data)
		}
	}
	return b
}

// stateOf returns a channel's state, as it is or as it was last.
func (c *Cluster) stateOf(ch *channel, deadline *time.Timer) []byte {
	reply := make(chan []byte, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.ask(snapshotJob{done: reply}) {
		c.mu.Unlock()
		var data []byte
		select {
		case data = <-reply:
		case <-deadline.C:
			deadline.Reset(0) // the other channels are not waited for either
		case <-ch.ctx.Done():
		}
		c.mu.Lock()
		if data != nil {
			ch.cached = data
		}
	}
	return ch.cached
}

// localStateWait bounds how long push/pull waits for all states together.
const localStateWait = 200 * time.Millisecond

func (c *Cluster) stateChannels() []*channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	var chs []*channel
	for _, ch := range c.replica.channels {
		if ch.bytesState {
			chs = append(chs, ch)
		}
	}
	return chs
}

// mergeState passes on the states that push/pull brought. One that is malformed harms no other.
func (c *Cluster) mergeState(state []byte, _ bool) {
	for p, err := range fullState(state) {
		if err != nil {
			c.dropped(DropMalformed, err)
			continue
		}
		c.mu.Lock()
		if ch := c.replica.channels[string(p.key)]; ch == nil || !ch.bytesState {
			c.drops.add(DropUnknownKey)
		} else if !ch.offer(delivery{data: bytes.Clone(p.data), born: time.Now(), via: Sync}) {
			c.drops.add(DropInboxFull)
		}
		c.mu.Unlock()
	}
}
