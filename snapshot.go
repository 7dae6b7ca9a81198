package starling

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// tellState takes the channel's state and gives it to all who asked. It runs on the channel's goroutine: so the state is exactly
// what was handled.
func (ch *channel) tellState(j job) {
	start := time.Now()
	items, tooLarge, err := ch.takeState()
	if err != nil {
		ch.drop(DropNoSnapshot, err)
	}
	for _, reply := range j.pushPull {
		if len(items) > 0 {
			reply <- items[0]
		}
		close(reply)
	}
	ch.c.do(func(r *replica.Replica, now time.Time) {
		if err == nil {
			r.States.Give(&ch.core, j.asked, j.snapshot, items, now)
		} else {
			r.States.GiveNone(&ch.core, j.asked, tooLarge)
		}
		ch.handlersFirst = now.Add(now.Sub(start))
	})
}

// weighState looks whether the state has anything in it before that of any other member comes. A State always has something: it is not
// asked, since push/pull gives it to everybody.
func (ch *channel) weighState() {
	something := false
	if !ch.bytesState {
		_ = ch.snapshot(func([]byte) bool {
			something = true
			return false
		}) // an error is told of when the state is given
	}
	ch.c.do(func(r *replica.Replica, _ time.Time) { r.States.Weighed(&ch.core, something) })
}

// takeState returns the encoded items of the state. If there is an error because it is too large, size is its size as far as it was
// counted; else it is 0.
func (ch *channel) takeState() (items [][]byte, size int, err error) {
	err = ch.snapshot(func(data []byte) bool {
		items = append(items, data)
		size += len(data) + store.ItemOverhead
		return size <= replica.SyncBytes
	})
	switch {
	case err != nil:
		return nil, 0, err
	case size > replica.SyncBytes:
		return nil, size, fmt.Errorf("state of more than %d bytes", replica.SyncBytes)
	}
	return items, 0, nil
}

// localStateWait bounds how long push/pull waits for all states together.
const localStateWait = 200 * time.Millisecond

// pushPull is what memberlist's push/pull carries for us.
type pushPull struct{ c *Cluster }

// localState is what push/pull carries: what the states of all channels contain, in a few bytes, and the states that are bytes, as
// Alertmanager's full state. A state that does not answer in time is given as it was last.
func (pp *pushPull) localState(bool) []byte {
	deadline := time.NewTimer(localStateWait)
	defer deadline.Stop()
	var states []*channel
	var contain []byte
	pp.c.do(func(r *replica.Replica, _ time.Time) {
		contain = r.States.Digest()
		for _, core := range r.Channels() {
			if ch := core.Owner.(*channel); ch.bytesState {
				states = append(states, ch)
			}
		}
	})
	var b []byte
	if contain != nil {
		b = wire.AppendFullStateControl(b, contain)
	}
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
	var types uint64 // what its sender's channels carry, if it says so
	for p, err := range wire.FullState(state) {
		if err != nil {
			pp.c.drops.note(DropMalformed, err)
			continue
		}
		if len(p.Key) == 0 {
			types = pp.compare(p)
			continue
		}
		pp.c.do(func(r *replica.Replica, now time.Time) {
			ch := r.Channel(string(p.Key))
			if ch == nil || !ch.Owner.(*channel).bytesState {
				pp.c.drops.count(DropUnknownKey)
			} else if r.States.Takes(ch, types) && !r.Deliver(ch, replica.Delivery{Data: bytes.Clone(p.Data), Born: now, Route: wire.RouteSync}) {
				pp.c.drops.count(DropInboxFull)
				ch.Owner.(*channel).dropped[DropInboxFull].Add(1)
			}
		})
	}
}

// compare compares what the states of the other member contain with what ours do, and returns the sum of its types.
func (pp *pushPull) compare(p wire.Part) (types uint64) {
	ctl, err := wire.ParseControl(p.Control)
	switch {
	case err != nil:
		pp.c.drops.note(DropMalformed, err)
	case ctl.Body == wire.BodyStates && ctl.From.ID != pp.c.id:
		pp.c.inlet.replicaControl(ctl)
	}
	var m starlingpb.StateDigest
	if err != nil || ctl.Body != wire.BodyStates || proto.Unmarshal(ctl.Content, &m) != nil {
		return 0
	}
	return m.GetTypes()
}
