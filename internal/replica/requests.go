package replica

import (
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// Outstanding returns how many messages of our own are accepted and not done.
func (r *Replica) Outstanding() int { return r.Sender.budget.messages }

// Unheld returns how many messages of our own that are kept were given up for everybody, so that nobody else is known to hold them; and whether
// there is a member that may still get them. It asks all members each time.
func (r *Replica) Unheld(now time.Time) (messages int, hope bool) {
	r.intake.unheld.expire(r.intake.age, now)
	r.intake.unheld.ask(r.Inquiries, now)
	return len(r.intake.unheld), len(r.roster.ours) > 0
}

// Channel returns the open channel of that key, or nil.
func (r *Replica) Channel(key string) *Channel { return r.channels.byKey[key] }

// Channels returns the open channels by key.
func (r *Replica) Channels() []*Channel { return r.channels.sorted() }

// Post queues a frame for a member, or for somebody who is none.
func (r *Replica) Post(p wire.Packet) { r.out.post(p) }

// Restamp returns a copy of the frame of a part of our own, with the age that it has by now.
func (r *Replica) Restamp(frame []byte, now time.Time) []byte {
	age := time.Duration(0)
	if p, err := wire.ParsePart(frame); err == nil {
		if it := r.intake.history.Get(p.ID); it != nil {
			age = now.Sub(it.Born)
		}
	}
	return wire.AppendRestamped(make([]byte, 0, len(frame)), frame, age)
}

// Stats is what a replica has done and holds.
type Stats struct {
	QueueMessages, QueueBytes int           // accepted and not done
	Oldest                    time.Duration // age of the oldest of them
	KeptMessages, KeptBytes   int
	Relayed, Repaired, Lost   uint64
	Drops                     Drops
}

// Stats returns what the replica has done and holds.
func (r *Replica) Stats(now time.Time) Stats {
	s, h, drops := r.Sender, r.intake.history, r.out.drops
	drops[DropTooManyOrigins] += uint64(r.roster.evicted)
	return Stats{
		QueueMessages: s.budget.messages, QueueBytes: s.budget.bytes, Oldest: now.Sub(s.oldest(now)),
		KeptMessages: h.Len(), KeptBytes: h.Bytes(),
		Relayed: r.spreader.relayed, Repaired: r.pulls.repaired, Lost: r.intake.lost,
		Drops: drops,
	}
}
