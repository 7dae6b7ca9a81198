package starling

import (
	"context"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// ConfirmOptions says what Confirm waits for.
type ConfirmOptions struct {
	// Handled waits until every member that has the channel open has handled the message, instead of holding it.
	Handled bool
}

// Confirm broadcasts a message and waits until every live member holds it: it is kept there for the handler, which has
// perhaps not run. With ConfirmOptions.Handled it waits until the handler has returned on every member that has the
// channel open; on this one too, if the channel has Echo. A nil o means the zero value. A member whose channel carries another type is named in either case, once that is
// known (EventOtherType): it holds the message, and its handler is not given it.
//
// It waits for the members that Members returned when the message was accepted, but for foreign ones, and for newcomers whose Join has returned
// though memberlist has not told of them yet. Members beyond a partition are not among those once they count as failed. So on a member that is cut off nil says nothing of the other side, and alone it says nothing at
// all. Members that have not opened the channel have nothing to handle. Of a message that a newer one has superseded before it left, it is the newer
// one that is confirmed. Of newcomers that join at the same moment, more than a few, one may not know another yet.
//
// A *UnconfirmedError names the members that are not known to hold (or to have handled) the message: when ctx ends before, and
// unwraps to the context's error then; when the channel or the cluster is closed before, and unwraps to ErrClosed; or when members left, failed
// or refused the message meanwhile. The message is accepted,
// and will reach members like any other. All other errors mean that it was not accepted; they are those of Broadcast. The handler
// of the channel must not call Confirm with Handled.
func (ch *Channel[T]) Confirm(ctx context.Context, v T, o *ConfirmOptions) error {
	cf := newConfirmation(ch.core, o)
	if err := ch.broadcast(ctx, v, true, cf); err != nil {
		return err
	}
	return cf.wait(ctx)
}

const (
	askHeldFirst   = time.Millisecond // between questions to members that have not confirmed; it doubles up to the longest
	askHeldLongest = 250 * time.Millisecond
	askHeldPackets = 50 * time.Millisecond // after so long packets may not get through: some questions are asked by stream too
)

// confirmation is one call of Confirm.
type confirmation struct {
	ch      *channel
	handled bool
	members []wire.Peer   // those at acceptance; set under do before spread is closed
	spread  chan struct{} // closed when the spread is done
	first   uint64        // set before that: the seqs of the message's parts
	last    uint64
	waiting []wire.Peer // likewise: who is not known to hold, or to have handled, the message
	query   replica.Inquiry
	lacking []lacking
}

// lacking is a member that will not confirm.
type lacking struct {
	id     uint64
	reason MissingReason
}

func newConfirmation(ch *channel, o *ConfirmOptions) *confirmation {
	return &confirmation{ch: ch, handled: o != nil && o.Handled, spread: make(chan struct{})}
}

// spreadDone notes the end of the spread. Call it under do.
func (cf *confirmation) spreadDone(f replica.Finished) {
	cf.first, cf.last = f.Span()
	for _, m := range cf.members {
		if cf.ch.c.replica.Inquiries.Differs(&cf.ch.core, m.ID) {
			cf.lacking = append(cf.lacking, lacking{m.ID, MissingOtherType})
		} else if cf.handled || !f.Holds(m.ID) {
			cf.waiting = append(cf.waiting, m)
		}
	}
	close(cf.spread)
}

// wait waits for the end of the spread, and then asks those that are not known to have the message.
func (cf *confirmation) wait(ctx context.Context) error {
	select {
	case <-cf.spread:
	case <-ctx.Done():
		return cf.cut(ctx.Err())
	case <-cf.ch.ctx.Done():
		return cf.cut(ErrClosed)
	}
	if cf.handled && cf.ch.core.Echo {
		cf.waiting = append(cf.waiting, cf.ch.c.sender())
	}
	if len(cf.waiting) == 0 {
		return cf.result(nil)
	}
	return cf.inquire(ctx)
}

// cut ends the wait for the end of the spread: nobody is known to have the message.
func (cf *confirmation) cut(why error) error {
	cf.ch.c.do(func(*replica.Replica, time.Time) { cf.waiting = cf.members }) // without this one, and nobody has been asked
	return cf.result(why)
}

// inquire asks members about a part until each has confirmed it, or is gone, or ctx ends.
func (cf *confirmation) inquire(ctx context.Context) error {
	c := cf.ch.c
	news := make(chan struct{}, 1)
	cf.query.Owner = news
	c.do(func(r *replica.Replica, _ time.Time) { r.Inquiries.Begin(&cf.query, cf.first, cf.last, &cf.ch.core) })
	defer c.do(func(r *replica.Replica, _ time.Time) { r.Inquiries.End(&cf.query) })
	pauses := backoff{first: askHeldFirst, longest: askHeldLongest}
	began := time.Now()
	for try := 1; ; try++ {
		stream := try%3 == 0 && time.Since(began) > askHeldPackets
		c.do(func(r *replica.Replica, now time.Time) {
			for _, m := range cf.waiting {
				r.Inquiries.Ask(&cf.query, m, stream, now)
			}
		})
		again := time.After(pauses.pause())
		for asked := false; !asked; {
			select {
			case <-again:
				asked = true
			case <-news:
			case <-ctx.Done():
				return cf.result(ctx.Err())
			case <-cf.ch.ctx.Done():
				return cf.result(ErrClosed)
			}
			if cf.review(); len(cf.waiting) == 0 {
				return cf.result(nil)
			}
		}
	}
}

// review takes out the members that have confirmed, and those that will not.
func (cf *confirmation) review() {
	cf.ch.c.do(func(r *replica.Replica, now time.Time) {
		cf.waiting = slices.DeleteFunc(cf.waiting, func(m wire.Peer) bool {
			status, there := r.Inquiries.StatusAt(&cf.query, m.ID, now)
			switch {
			case status == starlingpb.HeldAnswer_HANDLED || status == starlingpb.HeldAnswer_NO_CHANNEL:
			case status == starlingpb.HeldAnswer_LOST:
				cf.lacking = append(cf.lacking, lacking{m.ID, MissingLost})
			case status == starlingpb.HeldAnswer_REFUSED:
				cf.lacking = append(cf.lacking, lacking{m.ID, MissingRefused})
			case status == starlingpb.HeldAnswer_OTHER_TYPE:
				cf.lacking = append(cf.lacking, lacking{m.ID, MissingOtherType})
			case status == starlingpb.HeldAnswer_UNDECODABLE && cf.handled:
				cf.lacking = append(cf.lacking, lacking{m.ID, MissingUndecodable})
			case status != starlingpb.HeldAnswer_LACKING && !cf.handled:
			case !there:
				cf.lacking = append(cf.lacking, lacking{m.ID, MissingGone})
			default:
				return false
			}
			return true
		})
	})
}

// result is nil if nobody is missing. cause is why it ends before everybody has confirmed.
func (cf *confirmation) result(cause error) error {
	c := cf.ch.c
	c.do(func(r *replica.Replica, now time.Time) {
		for _, m := range cf.waiting {
			reason := MissingLate
			switch status, _ := r.Inquiries.StatusAt(&cf.query, m.ID, now); {
			case r.Membership.Silent(m.ID):
				reason = MissingSilent
			case status == starlingpb.HeldAnswer_HELD:
				reason = MissingUnhandled
			}
			cf.lacking = append(cf.lacking, lacking{m.ID, reason})
		}
	})
	if len(cf.lacking) == 0 {
		return nil
	}
	err := &UnconfirmedError{Channel: cf.ch.core.Key, OfMap: cf.ch.ofMap, Err: cause}
	for _, l := range cf.lacking {
		err.Missing = append(err.Missing, Missing{runOf(c, l.id).clone(), l.reason})
	}
	slices.SortFunc(err.Missing, func(a, b Missing) int { return byName(a.Member, b.Member) })
	return err
}
