package starling

import (
	"bytes"
	"context"
	"errors"

	"github.com/starling-go/starling/internal/replica"
)

// A State is what a channel keeps equal on all members: bytes that any two members can merge, in any order and any number
// of times, with the same result. Starling calls its methods on the goroutine of its channel, one at a time. Code of your own that
// reads or changes the state beside that needs a lock, which the methods must take too.
type State interface {
	// MarshalBinary returns the whole state.
	MarshalBinary() ([]byte, error)
	// Merge merges the state, or a change of it, of another member. It must not keep or write to b. It may call
	// StateChannel.Broadcast.
	Merge(b []byte) error
}

// MaxStateSize bounds the state of one channel, in bytes as it is encoded, with some 128 for each item that a Snapshot yields. A larger
// one is not given: members that lack it are told so (EventStateTooLarge), and stay without.
const MaxStateSize = replica.SyncBytes

// A StateChannel carries a State. Its methods may be called concurrently.
type StateChannel struct{ core *channel }

// NewState opens a channel that keeps s equal on all members: what StateChannel.Broadcast sends is merged by the others, and whole states
// are given to newcomers, to members that lack what others have merged, and by push/pull, where they travel as Alertmanager's do. Add
// states before Join. The errors are those of NewChannel. A State with a method ContentType() string says by it what it is, as a Codec does.
//
// A state whose MarshalBinary or Merge fails harms no other; a failure is logged and counted. Push/pull carries the last
// marshalled state if MarshalBinary takes longer than 200 ms.
func NewState(c *Cluster, key string, s State) (*StateChannel, error) {
	if c == nil {
		return nil, noCluster()
	}
	if s == nil {
		return nil, &ConfigError{Field: "state", Value: nil, Err: errors.New("nil")}
	}
	ch := &channel{core: replica.Channel{Key: key, Whole: true, Type: contentType("state", s)}, bytesState: true}
	ch.handle = func(_ context.Context, d replica.Delivery, _ Member) error {
		data := d.Payload()
		if d.Item != nil {
			ch.merging.Store(&data)
			defer ch.merging.Store(nil)
		}
		return s.Merge(data)
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

// Broadcast sends a change of the state, or all of it, to every other member. It does not merge it here: change your own state
// first. It never waits: without room it returns ErrQueueFull, and the next exchange of states makes up for it. If Merge
// calls it with the bytes that it was just given, it does nothing: everybody gets those anyway. b is copied.
//
// Errors: *TooLargeError, ErrQueueFull, ErrClosed.
func (sc *StateChannel) Broadcast(b []byte) error {
	if m := sc.core.merging.Load(); m != nil && bytes.Equal(*m, b) {
		return nil
	}
	return sc.broadcast(context.Background(), b, false)
}

func (sc *StateChannel) broadcast(ctx context.Context, b []byte, wait bool, confirm ...*confirmation) error {
	ch := sc.core
	if err := ch.checkSize(len(b)); err != nil {
		return err
	}
	o := &outgoing{confirm: confirm}
	o.Init(&ch.core, "", b, nil, ch.c.outlet.members()-1)
	return ch.accept(ctx, o, wait)
}

// Key returns the key that the channel was opened with.
func (sc *StateChannel) Key() string { return sc.core.core.Key }

// Confirm is Broadcast that waits for room, and then until every live member holds b; with ConfirmOptions.Handled, until every one
// that has the channel open has merged it. See Channel.Confirm.
func (sc *StateChannel) Confirm(ctx context.Context, b []byte, o *ConfirmOptions) error {
	cf := newConfirmation(sc.core, o)
	if err := sc.broadcast(ctx, b, true, cf); err != nil {
		return err
	}
	return cf.wait(ctx)
}

// Flush waits until what was broadcast here before is held by every live member; see Channel.Flush.
func (sc *StateChannel) Flush(ctx context.Context) error { return sc.core.flush(ctx) }

// Close closes the channel; see Channel.Close.
func (sc *StateChannel) Close() { sc.core.close() }
