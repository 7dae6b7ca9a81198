package starling

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// A Progress tells how far one large message has come at one member.
type Progress struct {
	From Member // who broadcast or sent it: this member, unless it is Incoming
	Seq  uint64 // as in Message: From and Seq name the message; 0: it goes by Send
	// Send, if it is not 0, tells that the message goes by Send. It counts such messages, those that are sent and those that come, on this member
	// alone: Send names the message here, and the other side has another number for it.
	Send   uint64
	Member Member // who receives it: this member, if it is Incoming
	// Incoming: this member receives the message, and does not send it.
	Incoming    bool
	Done, Total int64 // bytes of the encoded message: those that Member is known to hold, and all
	State       ProgressState
	// Skipped is how many values before this one were dropped, because the reader was far behind.
	Skipped int
}

// ProgressState tells how it stands with a message at a member. All states but ProgressUnderWay are final.
type ProgressState int

const (
	ProgressUnderWay ProgressState = iota
	ProgressHeld                   // the member holds all of it, for its handler, which has perhaps not run
	ProgressGone                   // the member left or failed before it was known to hold all of it
	ProgressGivenUp                // the member does not answer (has it died?) or does not take the message; repair may yet bring it. Of a Send: it returns an error
	ProgressLost                   // Incoming: nobody has what is missing, and a Gap is reported if it was owed. Of a Send: it was given up, or begins anew
)

var progressStates = []string{"under way", "held", "gone", "given up", "lost"}

func (s ProgressState) String() string { return nameOf(s, progressStates) }

// Progress yields how far the large messages of the channel have come: those that this member broadcasts, at each member, those that it sends to
// one, and those of others as they arrive here. Only messages that travel in pieces are told of: those of more than 128 KiB that are broadcast,
// and those of more than 512 KiB that go by Send. What goes in a snapshot has none. It costs nothing where nobody asks, and no traffic.
//
// The subscription begins with the call of Progress. So call it before Broadcast, and range over the result, once, on a goroutine of your
// own; of what is under way already, changes are told. It ends with ctx, with the loop, or when the channel is closed, after what is
// left. A reader that is slow, or never reads, blocks nobody: what it has not been told is merged to the latest value for each message and
// member. At most 8,192 values wait; beyond that those that have waited longest are dropped, and counted in Skipped. The final state of a
// message at a member is told once, unless it was dropped so.
//
// What this member sends: of each member that was here when the message began to leave, first a value with Done 0. Who has come later, or joined a
// moment before and is not among Members yet, is not told of, be the message owed to it or not. Done grows with the pieces (of up to 256 KiB) that the member has acknowledged. Most acknowledgements
// are for a slice of the members together, so all of them may seem as slow as the slowest; the digest that each member sends us every few
// seconds corrects that. Done is never too high. A foreign member is given the message whole: Done is 0 until it was written to its
// connection, and then Total, for it acknowledges nothing.
//
// What it receives: Done is what is here. It falls only where Retention has no room for pieces that came, which come again. A
// message that is let go of when it is complete, before the handler comes to it, begins anew.
//
// What goes by Send: the sender is told of the receiver alone, and the final state comes before Send returns. Done is what the receiver has
// acknowledged; it falls to 0 where the receiver has let go of what it had (it had no room, or has heard nothing for long) and all goes again. There
// the message ends as ProgressLost then, and begins anew under another number. ProgressHeld means that it waits for the handler.
func (ch *Channel[T]) Progress(ctx context.Context) iter.Seq[Progress] { return ch.core.progress(ctx) }

// maxReaderProgress bounds the values that wait for one reader: some 2 MB.
const maxReaderProgress = 8192

// progressReader is one subscription: what its owner has not been told. The cluster's mu guards it.
type progressReader struct {
	ended   <-chan struct{} // of its context
	wake    chan struct{}
	latest  map[progressKey]replica.Progress
	queue   []progressKey // the one that has waited longest first. Invariant: the keys of latest; at most maxReaderProgress
	skipped int
}

// progressKey names a message at a member. A foreign member has no id.
type progressKey struct {
	from, seq, send, id uint64
	name                string
}

// put replaces what the reader has not been told of the same message and member.
func (r *progressReader) put(p replica.Progress) {
	key := progressKey{p.From.ID, p.Seq, p.Send, p.Member.ID, p.Member.Name}
	if _, waits := r.latest[key]; !waits {
		if len(r.queue) == maxReaderProgress {
			delete(r.latest, r.queue[0])
			r.queue = r.queue[1:]
			r.skipped++
		}
		r.queue = append(r.queue, key)
	}
	r.latest[key] = p
	signal(r.wake)
}

// next takes what has waited longest.
func (r *progressReader) next() (p replica.Progress, skipped int, ok bool) {
	if len(r.queue) == 0 {
		return p, 0, false
	}
	key := r.queue[0]
	r.queue = r.queue[1:]
	p = r.latest[key]
	delete(r.latest, key)
	skipped, r.skipped = r.skipped, 0
	return p, skipped, true
}

// tellProgress gives a value to all who watch the channel, and drops those whose context has ended. Call it under do.
func (ch *channel) tellProgress(r *replica.Replica, p replica.Progress) {
	for _, w := range slices.Clone(ch.watchers) {
		select {
		case <-w.ended:
			ch.unwatch(r, w)
		default:
			w.put(p)
		}
	}
}

// unwatch ends a subscription. Call it under do.
func (ch *channel) unwatch(r *replica.Replica, w *progressReader) {
	ch.watchers = slices.DeleteFunc(ch.watchers, func(o *progressReader) bool { return o == w })
	r.Observer.Watch(&ch.core, len(ch.watchers) > 0)
}

func (ch *channel) progress(ctx context.Context) iter.Seq[Progress] {
	w := &progressReader{ended: ctx.Done(), wake: make(chan struct{}, 1), latest: map[progressKey]replica.Progress{}}
	ch.c.do(func(r *replica.Replica, _ time.Time) {
		if ch.usable() == nil {
			ch.watchers = append(ch.watchers, w)
			r.Observer.Watch(&ch.core, true)
		}
	})
	return func(yield func(Progress) bool) {
		defer ch.c.do(func(r *replica.Replica, _ time.Time) { ch.unwatch(r, w) })
		for ctx.Err() == nil {
			p, ok, open := ch.pullProgress(w)
			switch {
			case ok:
				if !yield(p) {
					return
				}
			case !open:
				return
			default:
				select {
				case <-w.wake:
				case <-ctx.Done():
				case <-ch.ctx.Done():
				}
			}
		}
	}
}

// pullProgress takes a reader's next value; open is false when there will be none after those that wait.
func (ch *channel) pullProgress(w *progressReader) (_ Progress, ok, open bool) {
	var p replica.Progress
	var skipped int
	ch.c.do(func(*replica.Replica, time.Time) {
		open = ch.ctx.Err() == nil && slices.Contains(ch.watchers, w)
		p, skipped, ok = w.next()
	})
	if !ok {
		return Progress{}, false, open
	}
	return ch.c.progressOf(p, skipped), true, open
}

// progressOf puts names to what the replica tells.
func (c *Cluster) progressOf(p replica.Progress, skipped int) Progress {
	return Progress{
		From: receiver(c.table, p.From), Seq: p.Seq, Send: p.Send, Member: receiver(c.table, p.Member), Incoming: p.From.ID != c.id,
		Done: int64(p.Done), Total: int64(p.Total), State: ProgressState(p.State), Skipped: skipped,
	}
}

// receiver names a member that may be foreign.
func receiver(t *membership, p wire.Peer) Member {
	if p.Foreign() {
		if m, known := t.lookup(p.Name); known && m.Foreign() {
			return m.clone()
		}
		return Member{Name: p.Name, Addr: p.Addr, Status: StatusFailed}
	}
	return t.sentBy(p, nil).clone()
}
