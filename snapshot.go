package starling

import (
	"bytes"
	"fmt"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// tellState takes the channel's state and gives it to all who asked. It runs on the channel's goroutine: so the state is exactly
// what was handled.
func (ch *channel) tellState(j job) {
	start := time.Now()
	items, err := ch.takeState()
	if err != nil {
		ch.c.drops.noteOn(DropNoSnapshot, ch.core.Key, err)
	}
	for _, reply := range j.pushPull {
		if len(items) > 0 {
			reply <- items[0]
		}
		close(reply)
	}
	if err == nil {
		for _, who := range j.asked {
			ch.sendState(who, j.snapshot, items)
		}
	}
	ch.c.do(func(_ *replica.Replica, now time.Time) { ch.handlersFirst = now.Add(now.Sub(start)) })
}

// takeState returns the encoded items of the state.
func (ch *channel) takeState() (items [][]byte, err error) {
	size := 0
	err = ch.snapshot(func(data []byte) bool {
		items = append(items, data)
		size += len(data) + store.ItemOverhead
		return size <= replica.SyncBytes
	})
	if err == nil && size > replica.SyncBytes {
		err = fmt.Errorf("state of more than %d bytes", replica.SyncBytes)
	}
	if err != nil {
		return nil, err
	}
	return items, nil
}

// sendState sends a state in frames of bounded size.
func (ch *channel) sendState(who replica.SnapshotRequest, s replica.Snapshot, items [][]byte) {
	c, key := ch.c, ch.core.Key
	m := &starlingpb.Sync{Id: who.ID, Key: key, Handled: s.Handled, Partial: s.Partial}
	size := 0
	send := func() {
		frame := wire.RawStream(who.From, wire.EncodeControl(c.sender(), wire.BodySync, m))
		frame.Bulk = true
		c.outlet.streams.Put(frame, nil)
		m = &starlingpb.Sync{Id: who.ID, Key: key, Partial: s.Partial, Index: m.Index + 1}
		size = 0
	}
	for _, data := range items {
		if size > 0 && (size+len(data) > replica.SyncFrame || len(m.Items) == wire.MaxSyncItems) {
			send()
		}
		m.Items = append(m.Items, data)
		size += len(data)
	}
	m.Last = true
	send()
}

// localStateWait bounds how long push/pull waits for all states together.
const localStateWait = 200 * time.Millisecond

// pushPull is what memberlist's push/pull carries for us.
type pushPull struct{ c *Cluster }

// localState is what push/pull carries: the states that are bytes, as Alertmanager's full state. A state that does not
// answer in time is given as it was last.
func (pp *pushPull) localState(bool) []byte {
	deadline := time.NewTimer(localStateWait)
	defer deadline.Stop()
	var states []*channel
	pp.c.do(func(r *replica.Replica, _ time.Time) {
		for _, core := range r.Channels() {
			if ch := core.Owner.(*channel); ch.bytesState {
				states = append(states, ch)
			}
		}
	})
	var b []byte
	for _, ch := range states {
		if data := ch.stateBy(deadline); data != nil && len(b)+len(data) < wire.MaxStreamSize {
			b = wire.AppendFullState(b, ch.core.Key, data)
		}
	}
	return b
}

// maxPushPulls bounds the push/pulls that wait for one channel's goroutine.
const maxPushPulls = 64

// stateBy returns a channel's state, as it is or, when the deadline has passed, as it was last.
func (ch *channel) stateBy(deadline *time.Timer) (last []byte) {
	reply := make(chan []byte, 1)
	asked := false
	ch.c.do(func(*replica.Replica, time.Time) {
		if asked = len(ch.pushPulls) < maxPushPulls && !ch.core.Closed(); asked {
			ch.pushPulls = append(ch.pushPulls, reply)
			signal(ch.wake)
		}
	})
	var data []byte
	if asked {
		select {
		case data = <-reply:
		case <-deadline.C:
			deadline.Reset(0) // the other channels are not waited for either
		case <-ch.ctx.Done():
		}
	}
	ch.c.do(func(*replica.Replica, time.Time) {
		if data != nil {
			ch.lastState = data
		}
		last = ch.lastState
	})
	return last
}

// mergeState passes on the states that push/pull brought. One that is malformed harms no other.
func (pp *pushPull) mergeState(state []byte, _ bool) {
	for p, err := range wire.FullState(state) {
		if err != nil {
			pp.c.drops.note(DropMalformed, err)
			continue
		}
		pp.c.do(func(r *replica.Replica, now time.Time) {
			ch := r.Channel(string(p.Key))
			if ch == nil || !ch.Owner.(*channel).bytesState {
				pp.c.drops.count(DropUnknownKey)
			} else if !r.Deliver(ch, replica.Delivery{Data: bytes.Clone(p.Data), Born: now, Route: wire.RouteSync}) {
				pp.c.drops.count(DropInboxFull)
			}
		})
	}
}
