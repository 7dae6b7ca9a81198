package script

import "time"

// disturb ends a time in which nothing has changed: what that time was enough for is due.
func (m *Model) disturb(now time.Duration) {
	since := m.calm
	m.calm = now
	if now-since < m.settle() {
		return
	}
	for side := range 2 {
		if group := m.group(side); len(group) > 0 && m.united(group) {
			m.oblige(group, since, now)
		}
	}
}

// group returns who runs on one side of the cut.
func (m *Model) group(side int) []*process {
	var group []*process
	for i, p := range m.running {
		if p != nil && m.side[i] == side {
			group = append(group, p)
		}
	}
	return group
}

// united reports whether all of a group see each other.
func (m *Model) united(group []*process) bool {
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
		here := m.running[o.member] == o && m.side[o.member] == m.side[group[0].member]
		for i, msg := range o.sent {
			ready := max(since, msg.born) + m.settle()
			seq := uint64(i) + 1
			if ready > now {
				break
			}
			if here && ready <= msg.born+m.retain {
				m.learn(group, o, ready) // a member asks at the first part that it gets of an origin
			}
			if m.keep || !here && !held(group, o.id, seq) {
				continue
			}
			for _, q := range group {
				d, r := o.debts[q.id], q.of(o.id)
				// Until a receiver is told what it is owed, it holds a FIFO channel up for a second only.
				hasty := Channels[msg.channel].FIFO && (m.rough || since > msg.born) && (r.based == 0 || r.based > msg.born)
				if d != nil && seq >= d.from && !hasty && ready+m.stalls[[2]int{q.member, msg.channel}]+slack <= msg.born+m.retain {
					r.due[seq] = true
				}
			}
		}
	}
}

// learn notes when a group had had the time to ask an origin what it owes them.
func (m *Model) learn(group []*process, o *process, at time.Duration) {
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
	if !m.united(m.group(0)) {
		m.fault("the members do not see each other at the end")
	}
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
	return m.verdict()
}

// settleUp checks that one process has handled what it was owed by another, or reported it lost.
func (m *Model) settleUp(q, o *process) {
	d := o.debts[q.id]
	if d == nil {
		return
	}
	r := q.of(o.id)
	alive := m.running[o.member] == o
	for i, msg := range o.sent {
		seq := uint64(i) + 1
		open := Channels[msg.channel].OpenOn(q.member)
		switch {
		case r.gaps[seq] && r.due[seq]:
			m.fault("rule 1: %v reports message %d of %v on %s lost, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		case !open || r.handled[seq] || r.gaps[seq] || seq < d.from:
		case r.due[seq]:
			m.fault("rule 1: %v never handled message %d of %v on %s, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		case alive || r.based > 0 && seq < r.received:
			m.fault("rule 3: %v lost message %d of %v on %s silently, broadcast at %v", q, seq, o, Channels[msg.channel].Key, msg.born)
		}
	}
}
