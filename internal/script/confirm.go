package script

import "time"

// confirmation is a Confirm that has not ended.
type confirmation struct {
	p       *process
	number  uint64
	channel int
	members []uint64 // that the process saw when it broadcast, and those that it had taken in and was yet to see
	ended   bool
}

// confirms is what members have asked about.
type confirms struct {
	m    *Model
	list []*confirmation
}

// introduced is for how long a newcomer counts as one to come before it is seen.
const introduced = 25 * time.Second

// begin takes note of who has to have handled a message.
func (cs *confirms) begin(p *process, number uint64, channel int, now time.Duration) *confirmation {
	cs.m.mu.Lock()
	defer cs.m.mu.Unlock()
	c := &confirmation{p: p, number: number, channel: channel}
	for id := range p.sees {
		c.members = append(c.members, id)
	}
	for id, d := range p.debts {
		if q := cs.m.processes[id]; !d.met && cs.m.running[q.member] == q && !q.leaving && now-q.joined < introduced {
			c.members = append(c.members, id)
		}
	}
	cs.list = append(cs.list, c)
	return c
}

// ended says how a Confirm has ended: nil means that everybody has handled the message who was a member when it was accepted.
func (cs *confirms) ended(c *confirmation, err error) {
	m := cs.m
	m.mu.Lock()
	defer m.mu.Unlock()
	c.ended = true
	at := c.p.index(c.number)
	if err != nil || at == len(c.p.sent) {
		return // who is missing is named, or another message has superseded this one
	}
	for _, id := range c.members {
		q := m.processes[id]
		if Channels[c.channel].OpenOn(q.member) && !q.of(c.p.id).handled[c.number] && !q.hasInState(c.channel, c.p.id, c.number) {
			m.fault("Confirm: nil for message %d of %v, which %v has not handled", c.number, c.p, q)
		}
	}
}

// settle checks that every Confirm has ended.
func (cs *confirms) settle() {
	for _, c := range cs.list {
		if m := cs.m; !c.ended && m.running[c.p.member] == c.p {
			m.fault("Confirm: of message number %d of %v never ends", c.number, c.p)
		}
	}
}
