package replica

import (
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// reminders is what we tell members unasked of our parts: those that may not know what they lack.
type reminders struct {
	out    *output
	types  *types
	intake *intake

	telling []*peer // whom we tell; Invariant: those whose reminder is not nil
}

// reminder is what an origin tells a member unasked until that has heard it.
type reminder struct {
	at    time.Time
	tries int
}

// remindEvery is the first pause between two reminders; it doubles up to 4 s.
const remindEvery = 250 * time.Millisecond

// tick tells those again who have not heard.
func (rs *reminders) tick(now time.Time) {
	for _, p := range rs.telling {
		if now.After(p.reminded.at) {
			rs.again(p, now)
		}
	}
}

// remind tells a member what we have sent until it has heard that: parts of ours were given up for it, and it may never hear of
// them otherwise.
func (rs *reminders) remind(p *peer, now time.Time) {
	if p.reminded == nil {
		p.reminded = new(reminder)
		rs.telling = append(rs.telling, p)
	}
	p.reminded.at = now.Add(remindEvery)
	rs.out.stir()
}

func (rs *reminders) again(p *peer, now time.Time) {
	r := p.reminded
	r.at = now.Add(remindEvery << min(r.tries, 4))
	r.tries++
	stream := r.tries%4 == 0
	rs.out.tell(p.Peer, wire.BodyBaseline, &starlingpb.Baseline{
		Next: p.owed, Top: rs.intake.own, Unasked: true, Stream: stream, Types: rs.types.own.sum,
	}, stream)
}

// heard ends the reminders to a member that has heard of all that we have sent.
func (rs *reminders) heard(p *peer, top uint64) {
	if p.reminded != nil && top >= rs.intake.own {
		rs.forgive(p)
	}
}

// forgive ends the reminders to a member.
func (rs *reminders) forgive(p *peer) {
	if p.reminded != nil {
		p.reminded = nil
		rs.telling = slices.DeleteFunc(rs.telling, func(o *peer) bool { return o == p })
	}
}
