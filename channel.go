package starling

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

// A Channel carries messages of one type between the members that have it open. Its methods may be called concurrently,
// and from any callback except where they say otherwise.
//
// The type parameter ends here: a Channel encodes and decodes, all else is done by the untyped core below it.
type Channel[T any] struct {
	core      *channel
	codec     Codec[T]
	supersede func(T) string
}

// A Message is one message as a handler gets it.
type Message[T any] struct {
	Value T
	// From is who broadcast or sent it: as it was known last if it is gone, and with nothing but an ID if it was never
	// seen. The zero Member: a foreign member, which does not say who it is.
	From Member
	// Seq counts the messages of From over all its channels, from 1; 0 if the message has no identity.
	Seq uint64
	// Age is how long ago it was broadcast, up to the call of the handler.
	Age time.Duration
	// Via is the way it came.
	Via Via
}

// Via is the way by which a message reached this member.
type Via int

const (
	Gossip Via = iota // in a packet
	Stream            // in a stream
	Repair            // asked for, because it was missing
	Sync              // in a snapshot of state
	Direct            // sent to this member alone
	Echo              // broadcast by this member itself
)

var vias = [...]string{"gossip", "stream", "repair", "sync", "direct", "echo"}

func (v Via) String() string {
	if v < 0 || int(v) >= len(vias) {
		return fmt.Sprintf("Via(%d)", int(v))
	}
	return vias[v]
}

// ChannelOptions says how a channel behaves on this member. A nil pointer means the zero value.
type ChannelOptions[T any] struct {
	// Echo delivers this member's own messages to its own handler too.
	Echo bool
	// Supersede, if set, names a message. One that has not left this member yet is replaced by a newer one of the same
	// name; "" is never replaced. It is called by Broadcast, on the caller's goroutine.
	Supersede func(T) string
	// FIFO hands on the messages of one member in the order in which it broadcast them. A message that is missing holds
	// back those after it, for at most FIFOHold (default Retention.Age); if it comes later than that, it is reported lost.
	FIFO     bool
	FIFOHold time.Duration
	// Snapshot, if set, yields messages that bring a newcomer to this member's state. They arrive through the same handler,
	// by Sync, before anything newer; so handling a message twice, or after a later one, must do no harm. It is called on the
	// channel's goroutine, never while the handler runs: what was handled is what it should tell.
	Snapshot func() iter.Seq[T]
	// AlwaysStream sends messages of every size by streams.
	AlwaysStream bool
	// Inbox bounds what waits for the handler and is not kept elsewhere.
	Inbox Inbox
}

// NewChannel opens a channel of protobuf messages, such as NewChannel(c, "prices", func(ctx context.Context, m
// starling.Message[*pb.Price]) { … }, nil). Open channels before Join: one opened later is told nothing older.
//
// handle is called for one message at a time, on a goroutine of the channel. Its context ends with Close or Leave of the
// cluster and with Close of the channel. It may take its time: it holds up nothing but this channel on this member.
//
// A key that is empty, longer than 255 bytes or open already gives a *ConfigError that matches ErrChannelKey; a closed
// cluster gives ErrClosed. A nil handle gives a *ConfigError.
func NewChannel[T proto.Message](c *Cluster, key string, handle func(context.Context, Message[T]), o *ChannelOptions[T]) (*Channel[T], error) {
	return NewChannelOf(c, key, handle, Proto[T](), o)
}

// NewChannelOf opens a channel of any type, encoded by codec: Proto, JSON, Bytes or one of your own. Otherwise it is like
// NewChannel.
func NewChannelOf[T any](c *Cluster, key string, handle func(context.Context, Message[T]), codec Codec[T], o *ChannelOptions[T]) (*Channel[T], error) {
	if o == nil {
		o = new(ChannelOptions[T])
	}
	if handle == nil {
		return nil, &ConfigError{Field: "handle", Value: nil, Err: errors.New("a channel needs a handler")}
	}
	if codec == nil {
		return nil, &ConfigError{Field: "codec", Value: nil, Err: errors.New("a channel needs a codec")}
	}
	core := &channel{
		key: key, echo: o.Echo, stream: o.AlwaysStream, supersedes: o.Supersede != nil,
		inbox: inbox{limit: o.Inbox},
		handle: func(ctx context.Context, d delivery, from Member) error {
			v, err := codec.Decode(d.data)
			if err != nil {
				return err
			}
			handle(ctx, Message[T]{Value: v, From: from, Seq: d.seq, Age: time.Since(d.born), Via: d.via})
			return nil
		},
	}
	core.order.enabled, core.order.hold = o.FIFO, o.FIFOHold
	if o.Snapshot != nil {
		core.sync.enabled = true
		core.snapshot = func(yield func([]byte) bool) error { return encodeAll(codec, o.Snapshot(), yield) }
	}
	if err := c.open(core); err != nil {
		return nil, err
	}
	return &Channel[T]{core: core, codec: codec, supersede: o.Supersede}, nil
}

// encodeAll yields each value, encoded.
func encodeAll[T any](codec Codec[T], values iter.Seq[T], yield func([]byte) bool) error {
	for v := range values {
		data, err := codec.Append(nil, v)
		if err != nil {
			return err
		}
		if !yield(data) {
			return nil
		}
	}
	return nil
}

// Key returns the key that the channel was opened with.
func (ch *Channel[T]) Key() string { return ch.core.key }

// Broadcast accepts a message for every live member that has the channel open, and returns: accepted is not received
// (Send tells more). It waits only for room among what this member has yet to send, until ctx ends, and then
// returns the context's error; with room, a context that has ended keeps nothing. v is encoded before Broadcast returns and may be changed afterwards.
//
// Errors: *TooLargeError above Config.MaxMessageSize, ErrNilMessage, what the codec says, ErrClosed. With an error nothing
// was accepted.
func (ch *Channel[T]) Broadcast(ctx context.Context, v T) error {
	return ch.broadcast(ctx, v, true)
}

// TryBroadcast is Broadcast that never waits: without room it returns ErrQueueFull, and the message was not accepted.
func (ch *Channel[T]) TryBroadcast(v T) error {
	return ch.broadcast(context.Background(), v, false)
}

func (ch *Channel[T]) broadcast(ctx context.Context, v T, wait bool, confirm ...chan<- landing) error {
	o := &outgoing{ch: ch.core, confirm: confirm}
	if ch.supersede != nil {
		o.name = ch.supersede(v)
	}
	c := ch.core.c
	scratch := c.scratch.Get().(*[]byte)
	data, err := ch.codec.Append((*scratch)[:0], v)
	if err == nil {
		if err = c.checkSize(ch.core.key, len(data)); err == nil {
			o.size = len(data)
			o.body = appendBody(make([]byte, 0, bodySize(ch.core.key, len(data))+identityRoom), ch.core.key, data)
		}
		*scratch = data[:0]
	}
	c.scratch.Put(scratch)
	if err != nil {
		return wrapCodec(ch.core.key, err)
	}
	return c.broadcast(ctx, o, wait)
}

// Send gives a message to one member, and returns nil only when that member has acknowledged that it waits for the
// handler of its channel. It chooses packet or stream by size, and tries until ctx ends. A message that was tried more
// than once is handled once. Messages that were sent and those that were broadcast keep no order among each other. Sent to
// this very member, it goes to its own handler, Echo or not. That it waits is all that is known: a codec that refuses it there is
// counted there.
//
// Errors: *SendError with the reason (unknown or foreign member, channel not open there, member gone, no answer; where
// ctx ended the wait it unwraps to the context's error), *TooLargeError, ErrNilMessage, what the codec says, ErrClosed.
func (ch *Channel[T]) Send(ctx context.Context, member string, v T) error {
	data, err := ch.codec.Append(nil, v)
	if err != nil {
		return wrapCodec(ch.core.key, err)
	}
	c := ch.core.c
	if err := c.checkSize(ch.core.key, len(data)); err != nil {
		return err
	}
	return c.send(ctx, ch.core, member, data)
}

// Flush waits until every message of this channel that was accepted here before is held by every live member or was given up, or
// ctx ends, whose error it then returns. If any was given up it returns a *FlushError with their number since the channel was opened.
// It must not be called by the handler of a channel with Echo, whose own messages it would wait for.
func (ch *Channel[T]) Flush(ctx context.Context) error { return ch.core.c.flush(ctx, ch.core) }

// Close closes the channel on this member and waits for its handler to return; what waited for the handler is dropped.
// The handler must not call it. Closing twice, or after the cluster, does nothing.
func (ch *Channel[T]) Close() { ch.core.c.closeChannel(ch.core) }

func wrapCodec(key string, err error) error {
	var large *TooLargeError
	if errors.As(err, &large) || errors.Is(err, ErrNilMessage) {
		return err
	}
	return fmt.Errorf("starling: channel %q: encode: %w", key, err)
}

// channel is the untyped core of a Channel. The cluster's mu guards all but what is set before it is opened.
type channel struct {
	c          *Cluster
	key        string
	echo       bool
	stream     bool
	supersedes bool
	// handle decodes a delivery and runs the user's handler. An error means that it could not be decoded.
	handle func(context.Context, delivery, Member) error
	// snapshot yields the encoded items of the channel's state; nil: it has none. It runs on the channel's goroutine.
	snapshot   func(yield func([]byte) bool) error
	bytesState bool                   // it is a State, which push/pull carries too
	merging    atomic.Pointer[[]byte] // the bytes that a State merges right now, if others have them as they are

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when the handler loop has ended
	wake   chan struct{} // holds a token when the inbox may have something

	inbox       inbox
	order       order
	refused     refused
	sync        syncState
	jobs        []snapshotJob // who asks for the state
	jobsAfter   time.Time     // until then what waits in the inbox goes first
	cached      []byte        // the state as it was given last
	closed      bool
	last        uint64 // seq of our own last part on this channel
	accepted    uint64 // own messages accepted, which numbers them
	outstanding int    // of those, how many have not finished
	writtenOff  uint64 // of those that finished, how many were given up
	flushers    []*flusher
	stats       ChannelStats
	handlerTime atomic.Int64
}

// flusher waits for the messages that were accepted before it came.
type flusher struct {
	upTo uint64 // the last of them
	left int    // how many of them have not finished
	done chan struct{}
}

// offer puts a delivery into the inbox and wakes the handler loop.
func (ch *channel) offer(d delivery) bool {
	if !ch.inbox.push(d) {
		return false
	}
	ch.poke()
	return true
}

func (ch *channel) poke() {
	select {
	case ch.wake <- struct{}{}:
	default:
	}
}

// ask asks the channel's goroutine for its state, if it has any.
func (ch *channel) ask(j snapshotJob) bool {
	if ch.snapshot == nil {
		return false
	}
	if at := slices.IndexFunc(ch.jobs, func(o snapshotJob) bool { return j.done == nil && o.to.ID == j.to.ID }); at >= 0 {
		ch.jobs[at] = j // its last question is the one it waits for
		return true
	}
	if len(ch.jobs) >= maxSnapshotJobs {
		return false
	}
	ch.jobs = append(ch.jobs, j)
	ch.poke()
	return true
}

// accept numbers a message of our own.
func (ch *channel) accept() uint64 {
	ch.accepted++
	ch.outstanding++
	ch.stats.Accepted++
	return ch.accepted
}

// finish notes the end of the message of that number.
func (ch *channel) finish(number uint64, ok bool) {
	ch.outstanding--
	if !ok {
		ch.writtenOff++
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

// outcome is a delivery that its handler has returned from. The zero outcome: there is none.
type outcome struct {
	delivery
	err error // it could not be decoded
	at  time.Time
}

// serve runs the handler for one delivery after the other until the channel closes. It is the channel's only goroutine.
func (ch *channel) serve() {
	defer close(ch.done)
	var last outcome
	for {
		d, jobs, ok := ch.c.take(ch, &last)
		if len(jobs) > 0 {
			ch.c.runJobs(ch, jobs)
			continue
		}
		if !ok {
			select {
			case <-ch.wake:
				continue
			case <-ch.ctx.Done():
				return
			}
		}
		start := time.Now()
		err := ch.handle(ch.ctx, d, ch.c.table.origin(d.origin))
		last = outcome{d, err, time.Now()}
		ch.handlerTime.Add(int64(last.at.Sub(start)))
		if ch.ctx.Err() != nil {
			ch.c.take(ch, &last)
			return
		}
	}
}
