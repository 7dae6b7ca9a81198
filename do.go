package starling

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/replica"
)

// do runs f on the replica under mu, and sees to it that what the replica wants done is done. It is the only way to mu and to
// what mu guards. It may be called under the locks of memberlist and of the table: neither f nor do itself calls those.
func (c *Cluster) do(f func(r *replica.Replica, now time.Time)) {
	c.mu.Lock()
	f(c.replica, time.Now())
	c.carryOut()
	e := c.replica.Effects()
	streams := e.Streams
	e.Streams = nil
	send, wake := c.replica.Sender.Due(), e.Stirred && c.maintenance.asleep
	c.maintenance.asleep = c.maintenance.asleep && !wake
	c.mu.Unlock()
	if send {
		signal(c.outlet.posted)
	}
	if wake {
		signal(c.maintenance.stirred)
	}
	for _, s := range streams {
		c.outlet.stream(s)
	}
}

// carryOut does what must be done under mu: it tells whoever waits, without waiting.
func (c *Cluster) carryOut() {
	e := c.replica.Effects()
	for _, m := range e.Queue {
		c.outlet.gossip.push(&m.Owner.(*outgoing).entry, m.Frame())
	}
	if e.Unqueue {
		e.Unqueue = false
		c.outlet.gossip.clear()
	}
	for _, f := range e.Finished {
		finished(f)
	}
	for _, ch := range e.Wake {
		signal(ch.Owner.(*channel).wake)
	}
	for _, v := range e.Verdicts {
		v.Call.Owner.(verdicts).put(v.Verdict)
	}
	for _, q := range e.Answers {
		if waits, ok := q.Owner.(chan struct{}); ok { // the replica has questions of its own
			signal(waits)
		}
	}
	for _, p := range e.Progress {
		p.Channel.Owner.(*channel).tellProgress(c.replica, p)
	}
	if e.Room {
		e.Room = false
		c.line.wake()
		c.freed.wake()
	}
	if e.Told {
		e.Told = false
		c.discovery.told.wake()
	}
	clear(e.Queue)
	clear(e.Finished)
	clear(e.Progress)
	e.Progress = e.Progress[:0]
	e.Queue, e.Finished, e.Wake, e.Verdicts, e.Answers = e.Queue[:0], e.Finished[:0], e.Wake[:0], e.Verdicts[:0], e.Answers[:0]
}

// waitList is who waits for something to happen. The cluster's mu guards it.
type waitList []chan struct{}

// wait returns a channel that the next wake closes.
func (l *waitList) wait() <-chan struct{} {
	w := make(chan struct{})
	*l = append(*l, w)
	return w
}

func (l *waitList) wake() {
	for _, w := range *l {
		close(w)
	}
	clear(*l)
	*l = (*l)[:0]
}

// line is those who wait for room for a message. The first is served first, and is overtaken by nobody: otherwise a large message would
// wait for ever beside many small ones. The cluster's mu guards it.
type line []*turn

// turn is a place in the line.
type turn struct {
	come chan struct{} // holds a token when there may be room for the first
}

// first reports whether nobody waits before t; nil is somebody who is not in the line.
func (l line) first(t *turn) bool { return len(l) == 0 || l[0] == t }

// join puts t into the line, unless it is there already.
func (l *line) join(t *turn) *turn {
	if t == nil {
		t = &turn{make(chan struct{}, 1)}
		*l = append(*l, t)
	}
	return t
}

// leave takes t out of the line, if it is there. Who is first then looks whether there is room.
func (l *line) leave(t *turn) {
	if i := slices.Index(*l, t); i >= 0 {
		*l = slices.Delete(*l, i, i+1)
		l.wake()
	}
}

// wake tells the first that there may be room.
func (l line) wake() {
	if len(l) > 0 {
		signal(l[0].come)
	}
}

// signal leaves a token in a channel that holds one.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// spawn runs f on a goroutine that Close waits for, unless the cluster is closing.
func (c *Cluster) spawn(f func()) (started bool) {
	c.do(func(*replica.Replica, time.Time) {
		if started = !c.closing; started {
			c.wg.Go(f)
		}
	})
	return started
}
