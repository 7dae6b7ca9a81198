package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/starlingpb"
)

// unheld is our own messages that were given up for everybody, oldest first: as far as is known nobody else holds them. While they are kept here
// somebody may still get them by repair. Invariant: at most maxUnheld; of more the oldest are forgotten.
type unheld []unheldMessage

type unheldMessage struct {
	first, last uint64 // its parts
	channel     *Channel
	born        time.Time
	query       *Inquiry // nil: nobody was asked
}

const (
	// maxUnheld bounds the messages that are remembered, at 64 bytes each.
	maxUnheld = 4096
	// unheldAsked is of how many of them everybody is asked at once.
	unheldAsked = 64
)

// finished notes a message that is done, if none of those that it was for is known to hold it.
func (u *unheld) finished(m *Message) {
	if !slices.ContainsFunc(m.pieces, func(p piece) bool { return len(p.batch.Gone) > 0 }) {
		return // everybody has it, or there was nobody
	}
	f := Finished{Message: m}
	for _, place := range m.pieces[0].batch.Ring.Places {
		if id := place.Member.ID; id != m.pieces[0].item.ID.Origin && f.Holds(id) {
			return
		}
	}
	if len(*u) == maxUnheld {
		*u = slices.Delete(*u, 0, 1)
	}
	first, last := m.Span()
	*u = append(*u, unheldMessage{first: first, last: last, channel: m.ch, born: m.pieces[0].item.Born})
}

// expire forgets what is kept no more.
func (u *unheld) expire(age time.Duration, now time.Time) {
	*u = slices.DeleteFunc(*u, func(m unheldMessage) bool { return now.Sub(m.born) >= age })
}

// ask asks every member what has become of the oldest of the messages, and forgets those that somebody has by now.
func (u *unheld) ask(c *Inquiries, now time.Time) {
	*u = slices.DeleteFunc(*u, func(m unheldMessage) bool { return m.query != nil && m.query.taken() })
	for i := range (*u)[:min(len(*u), unheldAsked)] {
		m := &(*u)[i]
		if m.query == nil {
			m.query = new(Inquiry)
			c.Begin(m.query, m.first, m.last, m.channel)
		}
		for _, p := range c.roster.ours {
			c.Ask(m.query, p.Peer, false, now)
		}
	}
}

// taken reports whether a member has said that the message has come.
func (q *Inquiry) taken() bool {
	for _, s := range q.status {
		switch s {
		case starlingpb.HeldAnswer_LACKING, starlingpb.HeldAnswer_LOST, starlingpb.HeldAnswer_REFUSED:
		default:
			return true
		}
	}
	return false
}
