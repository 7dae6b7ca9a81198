package script

import (
	"fmt"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/seqset"
)

// process is one run of a member.
type process struct {
	id        uint64
	member    int
	up        time.Duration // when it began
	joined    time.Duration // when its Join returned nil; 0: it has not
	sent      []message
	accepted  uint64 // messages, also those that were superseded
	leaving   bool
	told      map[uint64]bool      // who has its goodbye, or was together with somebody who has while that is remembered; nil: it has not left
	gone      time.Duration        // when it left politely
	aloneFrom uint64               // the number of the last message that it had accepted when it was left alone
	aloneTo   uint64               // and when it met somebody then
	together  time.Duration        // when that was
	sees      map[uint64]bool      // who is in its membership
	debts     map[uint64]*debt     // to whoever it ever saw
	got       map[uint64]*receipts // by origin
	state     map[stateItem]int    // what the states of its channels are, with the sizes
}

// debt is what one process owes another, by the numbers of its messages.
type debt struct {
	from  uint64 // the first that is owed
	late  uint64 // the first that is owed if it is still kept when the other one asks: sent since that joined, before they met
	least uint64 // the first that may be reported lost
	since time.Duration
	met   bool // false: it was taken in by Join, and was not seen yet
	lost  time.Duration
	void  bool // the process had forgotten the other one when it left: its goodbye says nothing of that
}

// receipts is what one process has of another one's messages, by their numbers.
type receipts struct {
	handled  map[uint64]bool
	gaps     map[uint64]bool
	lost     seqset.Set      // the seqs that were reported lost
	due      map[uint64]bool // what has to arrive whatever else happens
	based    time.Duration   // when it had had the time to ask what it is owed; 0: never
	newest   [len(Channels)]uint64
	received uint64 // the highest seq handled; of a seq, not a number
}

// meet settles what p owes to q from now on: all that it has not sent yet; if it was alone until now, what it has broadcast
// meanwhile, as far as it is kept; and what it has broadcast since q's Join returned, as far as it is kept when q asks.
func (p *process) meet(q *process, now, retain time.Duration, keep bool) {
	first := len(p.sees) == 0
	p.sees[q.id] = true
	if first {
		p.together, p.aloneTo = now, p.accepted
	}
	next := p.accepted + 1
	d := p.debts[q.id]
	if d != nil && !d.met {
		d.met, d.since = true, now
		return
	}
	switch {
	case d == nil:
		d = &debt{from: next, late: next, since: now, met: true}
		if q.joined > 0 {
			d.late = p.since(q.joined + slack)
		}
		d.least = p.least(q, nil)
		p.debts[q.id] = d
		if e := q.debts[p.id]; e != nil && now-e.since > retain-slack {
			e.from = q.accepted + 1 // it owed this to somebody who had never heard of it
		}
		if keep || now-p.together > slack {
			break
		}
		for _, msg := range p.sent {
			if msg.number > p.aloneFrom && msg.number <= p.aloneTo && outlivesAsking(now-msg.born, retain) {
				d.from = msg.number
				break
			}
		}
	case now-d.lost > remembered(retain, slack):
		d.from = next // it was forgotten meanwhile
	}
}

// since returns the number of the first message that a process broadcast after a time.
func (p *process) since(t time.Duration) uint64 {
	for _, msg := range p.sent {
		if msg.born > t {
			return msg.number
		}
	}
	return p.accepted + 1
}

// index returns where a message is among those sent, len(sent) if it is not.
func (p *process) index(number uint64) int {
	at := slices.IndexFunc(p.sent, func(msg message) bool { return msg.number == number })
	if at < 0 {
		return len(p.sent)
	}
	return at
}

// remove takes out a message that has never left.
func (p *process) remove(at int) { p.sent = slices.Delete(p.sent, at, at+1) }

// least returns the first seq that a process may report as lost to it: it may have introduced itself before it is seen.
func (p *process) least(q *process, d *debt) uint64 {
	if d != nil {
		return d.least
	}
	return min(p.aloneFrom+1, p.since(q.up-slack))
}

func (p *process) of(origin uint64) *receipts {
	r := p.got[origin]
	if r == nil {
		r = &receipts{handled: map[uint64]bool{}, gaps: map[uint64]bool{}, due: map[uint64]bool{}}
		p.got[origin] = r
	}
	return r
}

func (p *process) String() string { return fmt.Sprintf("member %d (%x)", p.member, p.id) }
