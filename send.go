package starling

import (
	"context"
	"errors"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Send gives a message to one member, and returns nil only when that member has acknowledged that it waits for the
// handler of its channel. It chooses packet or stream by size, and tries until ctx ends. A message that was tried more
// than once is handled once. The member may be a newcomer that has sent this one a message as soon as its Join had returned, and that Members does
// not return yet. Messages that were sent and those that were broadcast keep no order among each other. Sent to
// this very member, it goes to its own handler, Echo or not. That it waits is all that is known: a codec that refuses it there is
// counted there.
//
// A message of more than 512 KiB travels in pieces: where a stream breaks, only what was lost with it is sent again, and what others send
// to that member does not wait for the end of it. The receiver gathers two of the largest size from one sender at a time, and four
// from all together; further ones wait until there is room (SendBusy, if ctx ends before). What it has gathered of a message is given up when it
// hears nothing of it for two minutes. How far it is, Progress tells. To a member without FeaturePieces it goes whole,
// up to 20 MiB.
//
// Errors: *SendError with the reason (unknown or foreign member, channel not open there or of another type, member gone, no answer, larger than
// the member takes; where ctx ended the wait it unwraps to the context's error), *TooLargeError above Config.MaxMessageSize, ErrNilMessage,
// what the codec says, ErrClosed.
func (ch *Channel[T]) Send(ctx context.Context, member string, v T) error {
	return ch.send(ctx, member, 0, v)
}

// SendMember is Send to one run of a member: m as Members, an Event or a Message gave it. If that run is gone, and be it that
// another one has its name, it returns a *SendError with SendMemberGone.
func (ch *Channel[T]) SendMember(ctx context.Context, m Member, v T) error {
	return ch.send(ctx, m.Name, m.ID, v)
}

func (ch *Channel[T]) send(ctx context.Context, name string, run uint64, v T) error {
	data, err := ch.codec.Append(nil, v)
	if err != nil {
		return ch.core.wrapCodec(err)
	}
	return ch.core.send(ctx, name, run, data, ch.trace.append(ctx, nil))
}

// maxWholeSend is the largest message that goes to one member whole: one frame, which is one stream of memberlist.
const maxWholeSend = wire.MaxStreamSize - 1<<10

// verdicts is where the verdicts on a call arrive. It has room for one.
type verdicts chan starlingpb.DirectAck_Verdict

// put leaves a verdict. It replaces one that was not read yet. Only one goroutine may put at a time.
func (vs verdicts) put(v starlingpb.DirectAck_Verdict) {
	select {
	case <-vs:
	default:
	}
	vs <- v
}

// send sends to the member of that name; if run is not 0, to that run of it alone.
func (ch *channel) send(ctx context.Context, name string, run uint64, data, trace []byte) error {
	if err := ch.checkSize(len(data)); err != nil {
		return err
	}
	c := ch.c
	toSelf := run == c.id || run == 0 && name == c.cfg.Name
	sd := &sending{ch: ch, to: wire.Peer{Name: name}, data: data, trace: trace, verdicts: make(verdicts, 1)}
	sd.call.Owner = sd.verdicts
	var err error
	known := false
	c.do(func(r *replica.Replica, now time.Time) {
		if err = ch.usable(); err != nil || toSelf {
			return
		}
		var to wire.Peer
		if to, known = r.Membership.Find(name, run, now); known {
			sd.to = to
			sd.begun = r.Calls.Begin(&sd.call, to.ID, now)
		}
	})
	pieces := sd.to.Features.Has(wire.FeaturePieces)
	switch {
	case err != nil:
		return err
	case toSelf:
		return ch.sendSelf(ctx, name, &starlingpb.Direct{Data: data, TraceContext: trace})
	case !known && run != 0:
		return sd.failed(SendMemberGone, nil)
	case !known:
		return sd.failed(SendUnknown, nil)
	case !sd.begun:
		return sd.failed(SendForeign, nil)
	}
	switch {
	case len(data) <= replica.WholeSend || len(data) <= maxWholeSend && !pieces:
		err = sd.await(ctx)
	case !pieces && !c.table.knows(sd.to.ID):
		err = sd.failed(SendUnknown, nil) // memberlist has yet to tell what it can
	case !pieces:
		err = sd.failed(SendTooLarge, nil)
	default:
		err = sd.awaitPieces(ctx)
	}
	sd.end(endOf(err))
	return err
}

// end ends the call: nobody waits for a verdict any more.
func (sd *sending) end(state replica.ProgressState) {
	sd.ch.c.do(func(r *replica.Replica, _ time.Time) { r.Calls.End(&sd.call, state) })
}

// endOf is how it stands at its receiver with a message, when Send returns.
func endOf(err error) replica.ProgressState {
	var failed *SendError
	switch {
	case err == nil:
		return replica.ProgressHeld
	case errors.As(err, &failed) && failed.Reason == SendMemberGone:
		return replica.ProgressGone
	}
	return replica.ProgressGivenUp
}

// sending is a message on its way to one run of a member.
type sending struct {
	ch       *channel
	to       wire.Peer
	data     []byte
	trace    []byte
	call     replica.Call
	verdicts verdicts
	moved    chan struct{} // in pieces: holds a token when one of them was written, or could not be
	begun    bool          // false: its receiver is no member
	open     int           // tries without a verdict: any of them may yet be taken
}

// placed waits until the receiver is a member, or one to come that has shown where it is, for which it has a round trip. An error says that it is
// gone, or that the wait has ended.
func (sd *sending) placed(ctx context.Context) error {
	pauses := backoff{first: placedFirst, longest: placedLongest}
	for {
		var there, placed bool
		sd.ch.c.do(func(r *replica.Replica, now time.Time) {
			if sd.begun {
				sd.to, there, placed = r.Calls.Reaches(&sd.call, now)
			}
		})
		switch {
		case !there:
			return sd.failed(SendMemberGone, nil)
		case placed:
			return nil
		}
		if err := pause(ctx, sd.ch, pauses.pause()); errors.Is(err, ErrClosed) {
			return err
		} else if err != nil {
			return sd.failed(SendNoAnswer, err)
		}
	}
}

const (
	placedFirst   = time.Millisecond // between looks whether a newcomer has shown where it is; it doubles up to the longest
	placedLongest = 50 * time.Millisecond
)

// await sends the frame again and again until there is a verdict that ends the matter.
func (sd *sending) await(ctx context.Context) error {
	large := len(sd.frame(false)) > sd.ch.c.outlet.packetRoom
	for try := 0; ; try++ {
		if err := sd.placed(ctx); err != nil {
			return err
		}
		if done, err := sd.verdict(ctx, sd.try(try, large), sd.retryAfter(try, large)); done {
			return err
		}
	}
}

// awaitPieces sends the message in pieces until there is a verdict that ends the matter.
func (sd *sending) awaitPieces(ctx context.Context) error {
	sd.moved = make(chan struct{}, 1)
	sd.ch.c.do(func(r *replica.Replica, _ time.Time) {
		r.Calls.Cut(&sd.call, &sd.ch.core, len(sd.data), replica.SendPiece(len(sd.data)))
	})
	for {
		if err := sd.placed(ctx); err != nil {
			return err
		}
		var frames []replica.Shipped
		var again time.Time
		sd.ch.c.do(func(r *replica.Replica, now time.Time) { frames, again = r.Calls.Ship(&sd.call, now) })
		for _, f := range frames {
			sd.ship(f)
		}
		if done, err := sd.verdictOnPieces(ctx, again); done {
			return err
		}
	}
}

// ship sends a piece, or a question about one. A piece is encoded when it leaves its lane: those that wait take no memory.
func (sd *sending) ship(f replica.Shipped) {
	c := sd.ch.c
	f.Key = sd.ch.core.Key
	encode := func(time.Time) []byte { return wire.EncodeControl(c.sender(), wire.BodyDirect, f.Direct) }
	switch {
	case f.Asks && !f.Stream:
		c.outlet.packet(sd.to, encode(time.Time{}))
		return
	case f.Asks:
		c.outlet.streams.Put(wire.RawStream(sd.to, encode(time.Time{})), nil)
		return
	}
	at := int(f.Chunk.Index) * int(f.Chunk.Size)
	if f.Data = sd.data[at:][:f.Chunk.Len()]; at == 0 {
		f.TraceContext = sd.trace
	}
	c.outlet.streams.Put(wire.Stream{To: sd.to, Size: f.Chunk.Len(), Bulk: true, Encode: encode}, func(err error) {
		c.do(func(r *replica.Replica, now time.Time) { r.Calls.Written(&sd.call, f.Chunk, err == nil, now) })
		signal(sd.moved)
	})
}

// verdictOnPieces waits until something happens to the pieces, or for the time when they are to be looked at again. It reports whether there
// is a verdict that ends the matter.
func (sd *sending) verdictOnPieces(ctx context.Context, at time.Time) (done bool, err error) {
	var again <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		again = timer.C
	}
	select {
	case v := <-sd.verdicts:
		return sd.conclude(v)
	case <-sd.moved:
	case <-again:
	case <-ctx.Done():
		reason := SendNoAnswer
		sd.ch.c.do(func(r *replica.Replica, _ time.Time) {
			if r.Calls.Busy(&sd.call) {
				reason = SendBusy
			}
		})
		return true, sd.failed(reason, ctx.Err())
	case <-sd.ch.ctx.Done():
		return true, ErrClosed
	}
	return false, nil
}

// verdict waits for a verdict on the last try, until pause after the try was written is over. It reports whether that ends the matter.
func (sd *sending) verdict(ctx context.Context, written <-chan error, pause time.Duration) (done bool, err error) {
	var again <-chan time.Time
	for {
		select {
		case <-written: // or cannot be
			written, again = nil, time.After(pause)
		case v := <-sd.verdicts:
			return sd.judge(ctx, v, pause)
		case <-again:
			return false, nil
		case <-ctx.Done():
			return true, sd.failed(SendNoAnswer, ctx.Err())
		case <-sd.ch.ctx.Done():
			return true, ErrClosed
		}
	}
}

// try sends the message once, and returns where a value comes when it was written, or could not be. Two packets may be lost; a member that
// packets do not reach is reached by stream, and answers by stream.
func (sd *sending) try(try int, large bool) (written <-chan error) {
	frame := sd.frame(try >= 2 || large && try > 0)
	done := make(chan error, 1)
	if large || try >= 2 {
		stream := wire.RawStream(sd.to, frame)
		stream.Bulk = large
		sd.ch.c.outlet.streams.Put(stream, func(err error) {
			if large {
				done <- err
			}
		})
	} else {
		sd.ch.c.outlet.packet(sd.to, frame)
	}
	if !large { // a packet may go beside it at any time
		done <- nil
	}
	sd.open++
	return done
}

// retryAfter is how long to wait for the acknowledgement of the n-th try, from 0, before the next. What was written of a large message may
// be in the buffers of the system for long.
func (sd *sending) retryAfter(n int, large bool) time.Duration {
	pause := retryAfter(n, large)
	if large {
		pause += time.Duration(len(sd.data)) * time.Second / slowLink
	}
	return pause
}

// slowLink is the slowest link, in bytes a second, over which no large Send goes twice.
const slowLink = 1 << 20

// frame returns the message as it is sent, with the wish to be answered by stream or without.
func (sd *sending) frame(stream bool) []byte {
	var m *starlingpb.Direct
	sd.ch.c.do(func(r *replica.Replica, _ time.Time) { m = r.Calls.Try(&sd.call, stream) })
	m.Key, m.Data, m.TraceContext = sd.ch.core.Key, sd.data, sd.trace
	return wire.EncodeControl(sd.ch.c.sender(), wire.BodyDirect, m)
}

// judge acts on a verdict, and reports whether that ends the matter.
func (sd *sending) judge(ctx context.Context, v starlingpb.DirectAck_Verdict, wait time.Duration) (done bool, err error) {
	sd.open--
	if done, err := sd.conclude(v); done || v == starlingpb.DirectAck_STALE {
		return done, err
	}
	// BUSY, or a verdict of a later version: the message was not taken.
	if err := pause(ctx, sd.ch, wait); errors.Is(err, ErrClosed) {
		return true, err
	} else if err != nil {
		reason := SendBusy
		if sd.open > 0 {
			reason = SendNoAnswer
		}
		return true, sd.failed(reason, err)
	}
	return false, nil
}

// conclude reports whether a verdict ends the matter. After STALE everything begins anew.
func (sd *sending) conclude(v starlingpb.DirectAck_Verdict) (done bool, err error) {
	switch v {
	case starlingpb.DirectAck_ACCEPTED:
		return true, nil
	case starlingpb.DirectAck_NO_CHANNEL:
		return true, sd.failed(SendNoChannel, nil)
	case starlingpb.DirectAck_TOO_LARGE:
		return true, sd.failed(SendTooLarge, nil)
	case starlingpb.DirectAck_OTHER_TYPE:
		return true, sd.failed(SendOtherType, nil)
	case starlingpb.DirectAck_OTHER_RUN:
		return true, sd.failed(SendMemberGone, nil)
	case starlingpb.DirectAck_STALE:
		// Somebody has told the receiver of numbers that we never gave. It took none of ours by this number.
		sd.ch.c.do(func(r *replica.Replica, now time.Time) { sd.begun = r.Calls.Renumber(&sd.call, now) })
		sd.open = 0 // of the new number nothing was sent yet
	}
	return false, nil
}

func (sd *sending) failed(reason SendReason, err error) error {
	return &SendError{Channel: sd.ch.core.Key, Member: sd.to.Name, Reason: reason, Err: err}
}

// sendSelf gives a message to this member's own handler, without the network.
func (ch *channel) sendSelf(ctx context.Context, name string, m *starlingpb.Direct) error {
	for try := 0; ; try++ {
		ok := false
		ch.c.do(func(r *replica.Replica, now time.Time) { ok = r.Calls.ToSelf(&ch.core, m, now) })
		if ok {
			return nil
		}
		if err := pause(ctx, ch, retryAfter(try, false)); errors.Is(err, ErrClosed) {
			return err
		} else if err != nil {
			return &SendError{Channel: ch.core.Key, Member: name, Reason: SendBusy, Err: err}
		}
	}
}

// pause waits for d, or for the end of ctx or of the channel.
func pause(ctx context.Context, ch *channel, d time.Duration) error {
	select {
	case <-time.After(d):
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
