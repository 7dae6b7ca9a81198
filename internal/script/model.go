package script

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// MinSize is the smallest message: it carries who broadcast it and its number.
const MinSize = 20

// A Model is told what happens in a world, and knows what the cluster owes whom. Its methods may be called concurrently.
//
// It is lenient only where the contract is: what must be delivered are messages whose holders were together with their
// receiver, all seeing each other, for a settling time within retention. Everything else that is owed must be delivered or
// reported as a gap, never both, and never twice.
type Model struct {
	retain time.Duration
	keep   bool // retention is bounded by bytes: nothing has to be delivered, but all that is lost has to be reported

	mu        sync.Mutex
	running   [MaxMembers]*process // nil: down
	processes map[uint64]*process  // every run of every member, by identity
	order     []*process           // the same, as they came
	side      [MaxMembers]int      // of the cut
	calm      time.Duration        // since when nobody came, went, was cut off or seen
	stalls    map[[2]int]time.Duration
	rough     bool // packets were lost at random, or on purpose
	faults    []error
}

// process is one run of a member.
type process struct {
	id       uint64
	member   int
	sent     []message
	alone    [2]int               // how many messages it had sent when it was left alone, and when it met somebody then
	together time.Duration        // when that was
	sees     map[uint64]bool      // who is in its membership
	debts    map[uint64]*debt     // to whoever it ever saw
	got      map[uint64]*receipts // by origin
}

// message is one that a process broadcast; its seq is one more than its index.
type message struct {
	channel int
	born    time.Duration
}

// debt is what one process owes another.
type debt struct {
	from  uint64 // the first seq that is owed
	least uint64 // the first seq that may be reported lost
	since time.Duration
	lost  time.Duration
}

// receipts is what one process has of another one's messages.
type receipts struct {
	handled  map[uint64]bool
	gaps     map[uint64]bool
	due      map[uint64]bool // what has to arrive whatever else happens
	based    time.Duration   // when it had had the time to ask what it is owed; 0: never
	newest   [len(Channels)]uint64
	received uint64 // the highest seq handled
}

// NewModel returns the model of a script.
func NewModel(s Script) *Model {
	return &Model{
		retain: s.Retain, keep: s.Keep > 0,
		processes: map[uint64]*process{}, stalls: map[[2]int]time.Duration{},
	}
}

// settle is how long a cluster may take to bring everybody what one of them has.
func (m *Model) settle() time.Duration { return 2 * m.retain / 5 }

// slack is what the model's clock and the members' may differ by.
const slack = 100 * time.Millisecond

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
	p := &process{id: id, member: member, sees: map[uint64]bool{}, debts: map[uint64]*debt{}, got: map[uint64]*receipts{}}
	m.running[member] = p
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

// cut says who is cut off.
func (m *Model) cut(group []int, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	m.side = [MaxMembers]int{}
	for _, i := range group {
		m.side[i] = 1
	}
}

// roughen says that packets may get lost from now on, or a second time.
func (m *Model) roughen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rough = true
}

// stall says that a handler will be kept busy.
func (m *Model) stall(member, channel int, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalls[[2]int{member, channel}] += d
}

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
		p.meet(q, now, m.retain, m.keep)
		return
	}
	delete(p.sees, seen)
	p.debts[seen].lost = now
	if len(p.sees) == 0 {
		p.alone[0] = len(p.sent)
	}
}

// meet settles what p owes to q from now on: all that it has not sent yet, and, if it was alone until now, what it has
// broadcast meanwhile, as far as it is kept.
func (p *process) meet(q *process, now, retain time.Duration, keep bool) {
	first := len(p.sees) == 0
	p.sees[q.id] = true
	if first {
		p.together, p.alone[1] = now, len(p.sent)
	}
	next := uint64(len(p.sent)) + 1
	d := p.debts[q.id]
	switch {
	case d == nil:
		d = &debt{from: next, least: uint64(p.alone[0]) + 1, since: now}
		p.debts[q.id] = d
		if e := q.debts[p.id]; e != nil && now-e.since > retain-slack {
			e.from = uint64(len(q.sent)) + 1 // it owed this to somebody who had never heard of it
		}
		if keep || now-p.together > slack {
			break
		}
		for i := p.alone[0]; i < p.alone[1]; i++ {
			// What would be gone before it were asked for is not owed: a quarter of the retention, 5 s at most.
			if now-p.sent[i].born < retain-max(slack, min(retain/4, 5*time.Second)) {
				d.from = uint64(i) + 1
				break
			}
		}
	case now-d.lost > 2*retain-slack:
		d.from = next // it was forgotten meanwhile
	}
}

// broadcast lets a member broadcast a message, if its process runs.
func (m *Model) broadcast(w World, member, channel, size int) {
	seq, origin := m.begin(member, channel, w.Now())
	if seq != 0 && !w.Broadcast(member, channel, payload(origin, seq, size)) {
		m.mu.Lock()
		defer m.mu.Unlock()
		p := m.processes[origin]
		p.sent = p.sent[:seq-1]
	}
}

// begin numbers a message, unless the member is down or does not have the channel open.
func (m *Model) begin(member, channel int, now time.Duration) (seq, origin uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.running[member]
	if p == nil || !Channels[channel].OpenOn(member) {
		return 0, 0
	}
	p.sent = append(p.sent, message{channel, now})
	return uint64(len(p.sent)), p.id
}

// payload is the message of that number: whoever reads it can tell whether it is whole.
func payload(origin, seq uint64, size int) []byte {
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint64(b, origin)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for i := len(b); i < size; i++ {
		b = append(b, byte(uint64(i)*(seq+1)))
	}
	return b
}

// Handled says that the handler of a channel was called with a message.
func (m *Model) Handled(receiver, origin, seq uint64, channel int, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, p := m.processes[receiver], m.processes[origin]
	switch {
	case q == nil:
		m.fault("member %d handles a message before it is up", receiver)
		return
	case p == nil || seq == 0 || seq > uint64(len(p.sent)):
		m.fault("%v handles a message %d of %x that nobody broadcast", q, seq, origin)
		return
	case p.sent[seq-1].channel != channel || !bytes.Equal(data, payload(origin, seq, len(data))):
		m.fault("%v handles message %d of %v on channel %s, garbled", q, seq, p, Channels[channel].Key)
		return
	}
	r := q.of(origin)
	if r.handled[seq] {
		m.fault("rule 2: %v handles message %d of %v again", q, seq, p)
	}
	if r.gaps[seq] {
		m.fault("rule 3: %v handles message %d of %v, which it reported lost", q, seq, p)
	}
	if Channels[channel].FIFO && seq < r.newest[channel] {
		m.fault("rule 5: %v handles message %d of %v on %s after message %d", q, seq, p, Channels[channel].Key, r.newest[channel])
	}
	r.handled[seq] = true
	r.newest[channel] = max(r.newest[channel], seq)
	r.received = max(r.received, seq)
}

// Gap says that a process reported messages lost.
func (m *Model) Gap(receiver, origin, first, last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, p := m.processes[receiver], m.processes[origin]
	if p == nil || first == 0 || last < first || last > uint64(len(p.sent)) {
		m.fault("rule 3: %v reports lost what nobody broadcast: %d to %d of %x", q, first, last, origin)
		return
	}
	r, d := q.of(origin), p.debts[receiver]
	for seq := first; seq <= last; seq++ {
		switch {
		case r.handled[seq]:
			m.fault("rule 3: %v reports message %d of %v lost, which it handled", q, seq, p)
		case r.gaps[seq]:
			m.fault("rule 3: %v reports message %d of %v lost twice", q, seq, p)
		case d == nil || seq < d.least:
			m.fault("rule 3: %v reports message %d of %v lost, which it is not owed", q, seq, p)
		}
		r.gaps[seq] = true
	}
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

func (m *Model) verdict() error { return errors.Join(m.faults...) }
