package starling

import (
	"context"
	"slices"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// A Receipt tells what is known of a confirmed message.
type Receipt struct {
	// Missing names the live members that are not known to hold the message (or to have handled it), by name. Empty: every
	// member does that this one believed alive.
	Missing []Missing
}

// Missing is a member without a confirmed message.
type Missing struct {
	Member Member // as it was when it was last seen alive
	Reason MissingReason
}

// MissingReason tells why a member is not known to have a message.
type MissingReason int

const (
	MissingLate        MissingReason = iota // it has not said so in time
	MissingSilent                           // it has answered nothing for a while
	MissingGone                             // it left or failed while it was waited for
	MissingUndecodable                      // its codec refused the message: no handler saw it
)

var missingReasons = [...]string{"late", "silent", "gone", "undecodable"}

func (r MissingReason) String() string {
	if r < 0 || int(r) >= len(missingReasons) {
		return "MissingReason(?)"
	}
	return missingReasons[r]
}

// ConfirmOptions says what Confirm waits for.
type ConfirmOptions struct {
	// Handled waits until every member that has the channel open has handled the message, instead of holding it.
	Handled bool
}

// Confirm broadcasts a message and waits until every live member holds it: it is kept there for the handler, which has
// perhaps not run. With ConfirmOptions.Handled it waits until the handler has returned on every member that has the
// channel open; on this one too, if the channel has Echo. A nil o means the zero value.
//
// Live are the members that this one sees; those it believes failed, alive beyond a partition perhaps, are neither waited for nor
// named: it is no barrier across a partition. Nor are members of other systems, and members without the channel have nothing
// to handle. All went well if err is nil and the receipt is empty.
//
// When ctx ends before, the receipt names the members that are missing, and the error is nil: the message is accepted, and
// will reach them like any other. Members that leave or fail meanwhile are not waited for, and named. An error means that
// the message was not accepted; they are those of Broadcast. The handler of the channel must not call Confirm with Handled.
func (ch *Channel[T]) Confirm(ctx context.Context, v T, o *ConfirmOptions) (Receipt, error) {
	landed := make(chan landing, 1)
	if err := ch.broadcast(ctx, v, true, landed); err != nil {
		return Receipt{}, err
	}
	return ch.core.c.confirm(ctx, ch.core, landed, o != nil && o.Handled)
}

const (
	askHeldFirst   = 5 * time.Millisecond // between questions to members that have not confirmed
	askHeldLongest = 250 * time.Millisecond
)

// inquiry is what members have said of one part.
type inquiry struct {
	fates map[uint64]starlingpb.HeldAnswer_Fate
	news  chan struct{} // holds a token when there is another answer
}

// confirm waits for the end of the spread, and then asks those that are not known to have the part.
func (c *Cluster) confirm(ctx context.Context, ch *channel, landed <-chan landing, handled bool) (Receipt, error) {
	var l landing
	select {
	case l = <-landed:
	case <-ctx.Done():
		return c.receipt(nil, c.others()), nil
	case <-ch.ctx.Done():
		return Receipt{}, ErrClosed
	}
	waiting := l.missing
	if handled {
		waiting = c.others()
		if ch.echo {
			waiting = append(waiting, c.Self())
		}
	}
	if len(waiting) == 0 {
		return Receipt{}, nil
	}
	return c.inquire(ctx, ch, l.seq, waiting, handled)
}

// inquire asks members about a part until each has confirmed it, or is gone, or ctx ends.
func (c *Cluster) inquire(ctx context.Context, ch *channel, seq uint64, waiting []Member, handled bool) (Receipt, error) {
	q := &inquiry{fates: map[uint64]starlingpb.HeldAnswer_Fate{}, news: make(chan struct{}, 1)}
	c.mu.Lock()
	c.replica.inquiries[seq] = q
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.replica.inquiries, seq)
	}()
	pauses := backoff{first: askHeldFirst, longest: askHeldLongest}
	var missing []Missing
	for try := 1; ; try++ {
		c.ask(waiting, seq, ch.key, try%3 == 0)
		again := time.NewTimer(pauses.pause())
		for asked := false; !asked; {
			select {
			case <-again.C:
				asked = true
			case <-q.news:
			case <-ctx.Done():
				again.Stop()
				return c.receipt(missing, waiting), nil
			case <-ch.ctx.Done():
				again.Stop()
				return Receipt{}, ErrClosed
			}
			waiting, missing = c.stillWaiting(q, partID{c.id, seq}, waiting, missing, handled)
			if len(waiting) == 0 {
				again.Stop()
				return c.receipt(missing, nil), nil
			}
		}
	}
}

// stillWaiting takes out the members that have confirmed, and those that will not.
func (c *Cluster) stillWaiting(q *inquiry, id partID, waiting []Member, missing []Missing, handled bool) ([]Member, []Missing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var still []Member
	for _, m := range waiting {
		fate := q.fates[m.ID]
		_, live := c.replica.peerByID(m.ID)
		if m.ID == c.id {
			fate, live = c.replica.ownFate(id), true
		}
		switch {
		case fate == starlingpb.HeldAnswer_HANDLED || fate == starlingpb.HeldAnswer_NO_CHANNEL:
		case fate == starlingpb.HeldAnswer_UNDECODABLE && handled:
			missing = append(missing, Missing{m.clone(), MissingUndecodable})
		case fate != starlingpb.HeldAnswer_LACKING && !handled:
		case !live:
			missing = append(missing, Missing{m.clone(), MissingGone})
		default:
			still = append(still, m)
		}
	}
	return still, missing
}

// ask asks members what has become of a part of ours.
func (c *Cluster) ask(members []Member, seq uint64, key string, stream bool) {
	c.mu.Lock()
	defer c.release()
	for _, m := range members {
		if m.ID == c.id {
			continue // we know
		}
		c.replica.tell(m, bodyHeldAsk, &starlingpb.HeldAsk{Seq: seq, Key: key}, stream)
	}
}

// others returns the live members of ours, but ourselves.
func (c *Cluster) others() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.replica.ours)
}

// receipt names those that are known to be missing, and those that are still waited for.
func (c *Cluster) receipt(missing []Missing, waiting []Member) Receipt {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range waiting {
		reason := MissingLate
		if p := c.replica.spread.peers[m.ID]; p != nil && p.silent {
			reason = MissingSilent
		}
		missing = append(missing, Missing{m.clone(), reason})
	}
	slices.SortFunc(missing, func(a, b Missing) int { return byName(a.Member, b.Member) })
	return Receipt{Missing: missing}
}

// fate tells what has become of a part of an origin's.
func (r *replica) fate(origin uint64, m *starlingpb.HeldAsk) *starlingpb.HeldAnswer {
	a := &starlingpb.HeldAnswer{Seq: m.GetSeq()}
	w := r.windows[origin]
	switch {
	case w == nil || !w.seen(m.GetSeq()) || w.lost.contains(m.GetSeq()):
	case r.channels[m.GetKey()] == nil:
		a.Fate = starlingpb.HeldAnswer_NO_CHANNEL
	case r.channels[m.GetKey()].refused.has(partID{origin, m.GetSeq()}):
		a.Fate = starlingpb.HeldAnswer_UNDECODABLE
	case w.pending.contains(m.GetSeq()):
		a.Fate = starlingpb.HeldAnswer_HELD
	default:
		a.Fate = starlingpb.HeldAnswer_HANDLED
	}
	return a
}

// ownFate tells what has become of a part of our own on a channel with Echo.
func (r *replica) ownFate(id partID) starlingpb.HeldAnswer_Fate {
	it := r.history.get(id)
	switch {
	case it == nil:
		return starlingpb.HeldAnswer_LACKING // its turn never came
	case !it.handled:
		return starlingpb.HeldAnswer_HELD
	case r.channels[it.key] != nil && r.channels[it.key].refused.has(id):
		return starlingpb.HeldAnswer_UNDECODABLE
	}
	return starlingpb.HeldAnswer_HANDLED
}

// fated passes a member's answer on to whoever asked.
func (r *replica) fated(from Member, m *starlingpb.HeldAnswer) {
	if q := r.inquiries[m.GetSeq()]; q != nil {
		q.fates[from.ID] = m.GetFate()
		signal(q.news)
	}
}
