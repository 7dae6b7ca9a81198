package script

import (
	"bytes"
	"time"
)

// direct is a message that one process sends to another one alone.
type direct struct {
	from, to *process
	number   uint64 // from 1, in the order of all of them
	size     int
	born     time.Duration
	handled  int
	done     bool
	ok       bool // Send returned nil
}

// directs is what members have sent to one member each, and what became of it.
type directs struct {
	m    *Model
	sent []*direct
}

// send lets a member send to the run of another one that it sees.
func (ds *directs) send(w World, member, other, size int) {
	d := ds.begin(w, member, other, size)
	if d == nil {
		return
	}
	w.Direct(member, other, d.to.id, payload(d.from.id, d.number, size), ds.m.script.Retain, func(err error) { ds.ended(d, err, w.Now()) })
}

func (ds *directs) begin(w World, member, other, size int) *direct {
	now, m := w.Now(), ds.m
	m.mu.Lock()
	defer m.mu.Unlock()
	p, q := m.running[member], m.running[other]
	if p == nil || q == nil || p == q || p.leaving || now < m.troubles.frozen[member] || !p.sees[q.id] || size > m.script.MessageLimit(member) {
		return nil
	}
	d := &direct{from: p, to: q, number: uint64(len(ds.sent)) + 1, size: size, born: now}
	ds.sent = append(ds.sent, d)
	return d
}

// ended says how sending a message to one member has ended.
func (ds *directs) ended(d *direct, err error, now time.Duration) {
	m := ds.m
	m.mu.Lock()
	defer m.mu.Unlock()
	d.done, d.ok = true, err == nil
	takes := d.size <= m.script.MessageLimit(d.to.member)
	switch {
	case d.ok && !takes:
		m.fault("Send: %v is told that %v took message %d of %d bytes", d.from, d.to, d.number, d.size)
	case !d.ok && takes && !d.from.leaving && m.calm < d.born && m.reach(d.from, d.to, now):
		m.fault("Send: message %d from %v to %v fails although nothing happened since %v: %v", d.number, d.from, d.to, d.born, err)
	}
}

// HandledDirect says that the handler of a process was called with a message that was sent to it alone.
func (m *Model) HandledDirect(receiver uint64, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.directs.handled(m.processes[receiver], data)
}

// handled checks a message that a process was given.
func (ds *directs) handled(q *process, data []byte) {
	m := ds.m
	if len(data) < MinSize {
		m.fault("Send: %v handles %d bytes that nobody sent", q, len(data))
		return
	}
	number := Number(data)
	if number == 0 || number > uint64(len(ds.sent)) {
		m.fault("Send: %v handles a message %d that nobody sent", q, number)
		return
	}
	d := ds.sent[number-1]
	if !bytes.Equal(data, payload(d.from.id, number, len(data))) || len(data) != d.size {
		m.fault("Send: %v handles message %d of %v, garbled", q, number, d.from)
	}
	if d.to != q {
		m.fault("Send: %v handles message %d of %v, which is for %v", q, number, d.from, d.to)
	}
	if d.handled++; d.handled > 1 {
		m.fault("Send: %v handles message %d of %v again", q, number, d.from)
	}
}

// oblige holds it against a member that it tries for longer than it takes.
func (ds *directs) oblige(since, now time.Duration) {
	m := ds.m
	for _, d := range ds.sent {
		seen := d.from.sees[d.to.id] && d.to.sees[d.from.id] && m.reach(d.from, d.to, since)
		stalled := m.troubles.stalls[[2]int{d.to.member, DirectChannel}] > 0
		if !d.done && seen && !stalled && max(since, d.born)+m.settle() <= now {
			m.fault("Send: message %d from %v to %v, of %v, is still tried at %v", d.number, d.from, d.to, d.born, now)
		}
	}
}

// settle checks at the end what was sent to one member each.
func (ds *directs) settle() {
	m := ds.m
	for _, d := range ds.sent {
		here := m.running[d.to.member] == d.to
		switch {
		case d.ok && here && d.handled == 0:
			m.fault("Send: %v was told that %v took message %d, which never handled it", d.from, d.to, d.number)
		case !d.done && m.running[d.from.member] == d.from:
			m.fault("Send: message %d from %v to %v never ends", d.number, d.from, d.to)
		}
	}
}
