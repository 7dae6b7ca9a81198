package script

import (
	"errors"
	"slices"
	"time"
)

// disturb ends a time in which nothing has changed: what that time was enough for is due.
func (m *Model) disturb(now time.Duration) {
	since := m.calm
	m.calm = now
	if now-since < m.settle() {
		return
	}
	for side := range slices.Max(m.troubles.side[:]) + 1 {
		if group := m.group(side, since); len(group) > 0 && united(group) && m.troubles.linked(group) {
			m.oblige(group, since, now)
		}
	}
	m.directs.oblige(since, now)
}

// group returns who runs on one side of the cut, and has not stood still since a time.
func (m *Model) group(side int, since time.Duration) []*process {
	var group []*process
	for i, p := range m.running {
		if p != nil && m.troubles.side[i] == side && m.troubles.frozen[i] <= since {
			group = append(group, p)
		}
	}
	return group
}

// united reports whether all of a group see each other.
func united(group []*process) bool {
	for _, p := range group {
		for _, q := range group {
			if p != q && !p.sees[q.id] {
				return false
			}
		}
	}
	return true
}

// oblige makes due what a group that was united for that time must all have.
func (m *Model) oblige(group []*process, since, now time.Duration) {
	for _, o := range m.order {
		here := slices.Contains(group, o)
		for _, msg := range o.sent {
			ready := max(since, msg.born) + m.settle()
			seq := msg.number
			if ready > now {
				break
			}
			if here && ready <= msg.born+m.script.Retain {
				learn(group, o, ready) // a member asks at the first part that it gets of an origin
			}
			if m.script.Keep > 0 || !here && !held(group, o.id, seq) || !m.troubles.passable(group, o, msg, m.script) {
				continue
			}
			for _, q := range group {
				d, r := o.debts[q.id], q.of(o.id)
				owed := d != nil && (seq >= d.from || here && seq >= d.late && outlivesAsking(ready-msg.born+slack, m.script.Retain))
				takes := msg.size <= m.script.MessageLimit(q.member)
				stalled := m.troubles.stalls[[2]int{q.member, msg.channel}]
				inTime := ready+stalled+slack <= msg.born+m.script.Retain
				if owed && takes && inTime && !r.hasty(msg, since, m.troubles.rough) {
					r.due[seq] = true
				}
			}
		}
	}
}

// passable reports whether a message can come to all of a group that are owed it by way of each other: whoever is not owed it does not
// ask for it, and whoever refuses it does not keep it, and so they pass it on to nobody.
func (t *troubles) passable(group []*process, o *process, msg message, s Script) bool {
	passing := slices.DeleteFunc(slices.Clone(group), func(q *process) bool {
		d := o.debts[q.id]
		return q != o && (d == nil || msg.number < min(d.from, d.late) || msg.size > s.MessageLimit(q.member))
	})
	return len(passing) == len(group) || t.linked(passing)
}

// hasty reports whether the receiver may have given up a hole before a message: until it is told what it is owed, it holds a
// FIFO channel up for a second only.
func (r *receipts) hasty(msg message, since time.Duration, rough bool) bool {
	return Channels[msg.channel].FIFO && (rough || since > msg.born) && (r.based == 0 || r.based > msg.born)
}

// learn notes when a group had had the time to ask an origin what it owes them.
func learn(group []*process, o *process, at time.Duration) {
	for _, q := range group {
		if r := q.of(o.id); q != o && r.based == 0 {
			r.based = at
		}
	}
}

func held(group []*process, origin, seq uint64) bool {
	for _, h := range group {
		if r := h.got[origin]; r != nil && r.due[seq] {
			return true
		}
	}
	return false
}

// Finish returns all that went against the contract, up to a point. All members that run have been together and at rest for
// long enough.
func (m *Model) Finish(now time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disturb(now)
	if !united(m.group(0, now)) {
		m.fault("the members do not see each other at the end")
	}
	m.directs.settle()
	m.confirms.settle()
	m.States.settle()
	for _, q := range m.running {
		if q == nil {
			continue
		}
		for _, o := range m.order {
			if o != q {
				m.settleUp(q, o)
			}
		}
	}
	return errors.Join(m.faults...)
}

// settleUp checks that one process has handled what it was owed by another, or reported it lost.
func (m *Model) settleUp(q, o *process) {
	d := o.debts[q.id]
	if d == nil {
		return
	}
	r := q.of(o.id)
	alive := m.running[o.member] == o
	for _, msg := range o.sent {
		seq := msg.number
		open := Channels[msg.channel].OpenOn(q.member)
		switch {
		case r.gaps[seq] && r.due[seq]:
			m.fault("rule 1: %v reports message %d of %v on %s lost, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		case !open || r.handled[seq] || q.hasInState(msg.channel, o.id, seq) || r.gaps[seq] || seq < d.from && !r.due[seq]:
		case r.due[seq]:
			m.fault("rule 1: %v never handled message %d of %v on %s, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		case alive || o.told[q.id] && !d.void || r.based > 0 && o.leftBefore(m.world, seq, r.received):
			m.fault("rule 3: %v lost message %d of %v on %s silently, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		}
	}
}

// leftBefore reports whether a message had left its process before the part of that seq did: who has that part knows of it.
func (p *process) leftBefore(w World, number, seq uint64) bool {
	_, last := w.Span(p.id, number)
	return last != 0 && last < seq
}
