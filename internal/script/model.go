package script

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Model is told what happens in a world, and knows what the cluster owes whom. Its methods may be called concurrently.
//
// It is lenient only where the contract is: what must be delivered are messages whose holders were together with their
// receiver, all seeing each other, and reaching each other directly or through a third, for a settling time within retention.
// Everything else that is owed must be delivered or reported as a gap, never both, and never twice.
type Model struct {
	world  World  // where it is played
	script Script // if it bounds retention by bytes, nothing has to be delivered, but all that is lost has to be reported

	directs  directs
	confirms confirms
	States   states // of channels that have one

	mu        sync.Mutex
	troubles  troubles
	running   [MaxMembers]*process // nil: down
	processes map[uint64]*process  // every run of every member, by identity
	order     []*process           // the same, as they came
	calm      time.Duration        // since when nobody came, went, was cut off, blocked, frozen or seen
	faults    []error
}

// NewModel returns the model of a script.
func NewModel(s Script) *Model {
	m := &Model{script: s, processes: map[uint64]*process{}}
	m.troubles = troubles{blocked: map[[2]int]bool{}, stalls: map[[2]int]time.Duration{}}
	m.directs.m, m.confirms.m, m.States.m = m, m, m
	return m
}

// settle is how long a cluster may take to bring everybody what one of them has.
func (m *Model) settle() time.Duration { return 2 * m.script.Retain / 5 }

// slack is what the model's clock and the members' may differ by.
const slack = 100 * time.Millisecond

// news is what it may take until the members that remember a goodbye, or one that is gone, are those that the model thinks of: whom a
// member meets for the first time is told of goodbyes after a second.
const news = 3 * time.Second

// remembered is how long a goodbye, and one that is gone, are remembered for certain: two retentions, less a margin.
func remembered(retain, margin time.Duration) time.Duration { return 2*retain - margin }

// outlivesAsking reports whether a message of an age will still be kept when it is asked for, which takes a quarter of the
// retention, 5 s at most. What would be gone before is not owed.
func outlivesAsking(age, retain time.Duration) bool {
	return age < retain-max(slack, min(retain/4, 5*time.Second))
}

func (m *Model) fault(format string, args ...any) {
	if len(m.faults) < 10 {
		m.faults = append(m.faults, fmt.Errorf(format, args...))
	}
}

// Up says that a member runs, as a new process with that identity.
func (m *Model) Up(member int, id uint64, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	p := &process{
		id: id, member: member, up: now, sees: map[uint64]bool{}, debts: map[uint64]*debt{}, got: map[uint64]*receipts{},
		state: map[stateItem]int{},
	}
	m.running[member] = p
	m.troubles.thaw(member)
	m.processes[id] = p
	m.order = append(m.order, p)
}

// Down says that a member's process is gone.
func (m *Model) Down(member int, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	m.running[member] = nil
}

// Leaving says that a member has been told to leave: it accepts nothing any more.
func (m *Model) Leaving(member int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[member].leaving = true
}

// Left says that a process has left. What it owed is known, if it did so without an error.
func (m *Model) Left(id uint64, err error, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	p := m.processes[id]
	if err == nil {
		p.gone, p.told = now, maps.Clone(p.sees)
		for id, d := range p.debts {
			d.void = !p.sees[id] && now-d.lost > remembered(m.script.Retain, news)
		}
		maps.DeleteFunc(p.told, func(id uint64, _ bool) bool {
			q := m.processes[id]
			return !q.sees[p.id] || !m.reach(p, q, now) // who does not see it takes no goodbye of it
		})
	}
	if m.running[p.member] == p {
		m.running[p.member] = nil
	}
}

// TakenIn says that a process's Join has returned nil: from now on it is owed what is broadcast by anybody it sees, and, as far as
// that is kept when they meet, by anybody else. A process that did not join is owed what is broadcast since others see it.
func (m *Model) TakenIn(id uint64, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.processes[id]
	q.joined = max(now, 1)
	for _, p := range m.running {
		if p == nil || p == q || !q.sees[p.id] || m.running[q.member] != q || m.troubles.side[p.member] != m.troubles.side[q.member] {
			continue
		}
		next := p.accepted + 1
		d := p.debts[q.id]
		if d == nil {
			d = &debt{from: next, late: next, least: p.least(q, nil)}
			p.debts[q.id] = d
		}
		d.from = min(d.from, next)
	}
}

// change lets something happen that everybody may notice, so that the calm is over.
func (m *Model) change(now time.Duration, happens func(*troubles)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	happens(&m.troubles)
}

// note lets something happen that changes nobody's view.
func (m *Model) note(happens func(*troubles)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	happens(&m.troubles)
}

// Frozen says that a process stands still. Thawed tells when it does not any more.
func (m *Model) Frozen(member int, d, now time.Duration) {
	m.change(now, func(t *troubles) {
		if m.running[member] != nil {
			t.freeze(member, now+d)
		}
	})
}

// thawsAt returns when the last process that stands still goes on.
func (m *Model) thawsAt() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Max(m.troubles.frozen[:])
}

// Thawed says that a member's process may go on.
func (m *Model) Thawed(now time.Duration) { m.change(now, func(*troubles) {}) }

// Sees says that a process took another one into its membership, or out of it.
func (m *Model) Sees(viewer, seen uint64, is bool, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, q := m.processes[viewer], m.processes[seen]
	if p == nil || q == nil || p == q || p.sees[seen] == is {
		return
	}
	m.disturb(now)
	if is {
		p.meet(q, now, m.script.Retain, m.script.Keep > 0)
		m.passOn(p, q, now)
		return
	}
	delete(p.sees, seen)
	p.debts[seen].lost = now
	if len(p.sees) == 0 {
		p.aloneFrom = p.accepted
	}
}

// passOn notes that one process learns of the goodbyes that another one has, as long as those are remembered.
func (m *Model) passOn(p, q *process, now time.Duration) {
	if !q.sees[p.id] {
		return
	}
	for _, o := range m.order {
		if o.told != nil && now-o.gone < remembered(m.script.Retain, news) {
			both := o.told[p.id] || o.told[q.id]
			o.told[p.id], o.told[q.id] = both, both
		}
	}
}

// broadcast lets a member broadcast a message, if its process runs.
func (m *Model) broadcast(w World, member, channel, size int, confirm bool) {
	p, number := m.begin(w, member, channel, size)
	if p == nil {
		return
	}
	name, data := Channels[channel].Name(number), payload(p.id, number, size)
	m.States.keep(p, channel, data)
	accepted := Refused
	if confirm {
		c := m.confirms.begin(p, number, channel, w.Now())
		accepted = w.Confirm(member, channel, name, data, func(err error) { m.confirms.ended(c, err) })
	} else {
		accepted = w.Broadcast(member, channel, name, data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch at := p.index(number); accepted {
	case Refused:
		delete(p.state, itemOf(channel, data))
		p.remove(at)
	case Superseded:
		for older := at - 1; older >= 0; older-- {
			if o := p.sent[older]; o.channel == channel && Channels[channel].Name(o.number) == name {
				p.remove(older)
				return
			}
		}
		m.fault("%v supersedes a message of channel %s that it never accepted", p, Channels[channel].Key)
	}
}

// begin numbers a message, unless the member is down, stands still, leaves, or does not have the channel open.
func (m *Model) begin(w World, member, channel, size int) (p *process, number uint64) {
	now := w.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	p = m.running[member]
	if p == nil || p.leaving || now < m.troubles.frozen[member] || !Channels[channel].OpenOn(member) || size > m.script.MessageLimit(member) {
		return nil, 0
	}
	p.accepted++
	p.sent = append(p.sent, message{p.accepted, channel, size, now})
	return p, p.accepted
}

// Handled says that the handler of a channel was called with a message.
func (m *Model) Handled(receiver, origin, seq uint64, channel int, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, p := m.processes[receiver], m.processes[origin]
	if q == nil {
		m.fault("member %d handles a message before it is up", receiver)
		return
	}
	at, number := -1, uint64(0)
	if p != nil && len(data) >= MinSize {
		number = Number(data)
		at = p.index(number)
	}
	switch {
	case at < 0 || at == len(p.sent):
		m.fault("%v handles a message %d of %x that nobody broadcast", q, seq, origin)
		return
	case p.sent[at].channel != channel || !bytes.Equal(data, payload(origin, number, p.sent[at].size)):
		m.fault("%v handles message %d of %v on channel %s, garbled", q, number, p, Channels[channel].Key)
		return
	}
	r := q.of(origin)
	if r.handled[number] {
		m.fault("rule 2: %v handles message %d of %v again", q, number, p)
	}
	if r.gaps[number] {
		m.fault("rule 3: %v handles message %d of %v, which it reported lost", q, number, p)
	}
	if Channels[channel].FIFO && number < r.newest[channel] {
		m.fault("rule 5: %v handles message %d of %v on %s after message %d", q, number, p, Channels[channel].Key, r.newest[channel])
	}
	q.keep(channel, data)
	r.handled[number] = true
	r.newest[channel] = max(r.newest[channel], number)
	r.received = max(r.received, seq)
}

// Gap says that a process reported messages lost, by the seqs of their parts.
func (m *Model) Gap(receiver, origin, first, last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, p := m.processes[receiver], m.processes[origin]
	if p == nil || first == 0 || last < first {
		m.fault("rule 3: %v reports lost what nobody broadcast: %d to %d of %x", q, first, last, origin)
		return
	}
	r, d := q.of(origin), p.debts[receiver]
	if seq, again := r.lost.Next(first); again && seq <= last {
		m.fault("rule 3: %v reports part %d of %v lost twice", q, seq, p)
	}
	r.lost.AddRange(first, last)
	for seq := first; seq <= last; {
		msg, end := p.messageAt(m.world, seq)
		if msg == nil {
			m.fault("rule 3: %v reports lost what nobody broadcast: part %d of %v", q, seq, p)
			return
		}
		seq = end + 1
		switch {
		case r.handled[msg.number]:
			m.fault("rule 3: %v reports message %d of %v lost, which it handled", q, msg.number, p)
		case msg.number < p.least(q, d):
			m.fault("rule 3: %v reports message %d of %v lost, which it is not owed", q, msg.number, p)
		}
		r.gaps[msg.number] = true
	}
}

// messageAt returns the message that has a part of that seq, and the seq of its last part.
func (p *process) messageAt(w World, seq uint64) (msg *message, last uint64) {
	for i := range p.sent {
		if first, last := w.Span(p.id, p.sent[i].number); first != 0 && first <= seq && seq <= last {
			return &p.sent[i], last
		}
	}
	return nil, 0
}

// reach reports whether one process can speak to another at this moment, directly.
func (m *Model) reach(p, q *process, now time.Duration) bool {
	return m.running[p.member] == p && m.running[q.member] == q && m.troubles.pass(p.member, q.member, now)
}
