package starling

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// leg is one slice of a batch on its way.
type leg struct {
	batch  *batch
	to     Member
	view   arc // the slice as we see it, to first
	end    uint64
	state  legState
	tries  int         // sendings since the last answer
	sent   []time.Time // when; by try
	due    time.Time
	listed bool // the list was asked for
	// excused: it does not hold the window any more, since whom it is for has been tried often enough for that.
	excused bool
}

// sentAt returns when a try left, if there was such a try.
func (l *leg) sentAt(try uint64) (time.Time, bool) {
	if try == 0 || try > uint64(len(l.sent)) {
		return time.Time{}, false
	}
	return l.sent[try-1], true
}

type legState uint8

const (
	legSent legState = iota // not answered
	legHeld                 // the child has it, its slice is not done
	legOver                 // done, taken over or given up
)

// peerState is what a spread knows of one member.
type peerState struct {
	rtt       rtt
	leafUntil time.Time // heads no slice until then
	silent    bool      // has not answered for long: out of the window until it does
	waiting   time.Time // since when it owes us an answer; zero: it does not
	probed    time.Time
	again     *leg      // tried again, and nothing heard since: it asks for all that wait for this member
	gaveUp    time.Time // when it was last given up; zero: it was heard since
}

func (s *spread) peer(id uint64) *peerState {
	p, ok := s.peers[id]
	if !ok {
		p = new(peerState)
		s.peers[id] = p
	}
	return p
}

// limit is how many times in a row the leg is sent without an answer.
func (l *leg) limit() int {
	switch {
	case l.batch.large:
		return flatTries
	case l.view.len() > 1:
		return headTries
	}
	return maxTries
}

// transmit sends a leg, again if it was not answered.
func (s *spread) transmit(l *leg, now time.Time) {
	p := s.peer(l.to.ID)
	rto := p.rtt.rto()
	stream := l.batch.large || l.tries%3 == streamTry
	wait := rto
	if l.batch.large {
		wait = max(silentMin, 8*rto)
	} else if l.tries >= flatTries {
		wait = min(rto<<min(l.tries-flatTries+1, doublings), rtoMax)
	}
	if l.state == legHeld {
		wait = max(patience*rto, wait)
	}
	l.tries++
	l.sent = append(l.sent, now)
	l.due = now.Add(wait)
	if p.waiting.IsZero() {
		p.waiting = now
	}
	s.timers.push(l.due, l)
	send := spreadSend{leg: l, query: l.state == legHeld && !l.batch.large, list: l.listed}
	if !l.batch.large {
		s.sends = append(s.sends, send)
	}
	if stream {
		// Beside the packet, not instead of it: a stream is sure, but slow where packets are lost.
		send.stream = true
		s.sends = append(s.sends, send)
	}
}

// probe lets a silent member have a batch now and then, so that it is noticed when it answers again.
func (s *spread) probe(b *batch, to Member, p *peerState, now time.Time) {
	if now.Sub(p.probed) < probeEvery || b.large {
		return
	}
	p.probed = now
	l := &leg{batch: b, to: to, end: position(to.Name) + 1, state: legOver}
	s.sends = append(s.sends, spreadSend{leg: l})
}

// heard notes that a member lives.
func (s *spread) heard(id uint64, now time.Time) {
	p := s.peer(id)
	p.waiting, p.again, p.gaveUp = time.Time{}, nil, time.Time{}
	if p.silent {
		p.silent, p.leafUntil = false, time.Time{}
	}
}

// report takes a member's answer.
func (s *spread) report(from uint64, r report, now time.Time) {
	s.heard(from, now)
	b := s.batches[r.id]
	if b == nil {
		return
	}
	i := slices.IndexFunc(b.legs, func(l *leg) bool { return l.to.ID == from && l.state != legOver })
	if i < 0 {
		return
	}
	l := b.legs[i]
	if at, ok := l.sentAt(r.try); ok {
		s.peer(from).rtt.sample(now.Sub(at))
		if b.id.root == s.self && r.try < uint64(len(l.sent)) {
			s.flow.spurious() // what was taken for lost was only late
		}
	}
	l.tries = 0
	switch {
	case !r.done:
		if l.state == legSent {
			l.state = legHeld
			l.due = now.Add(patience * s.peer(from).rtt.rto())
			s.timers.push(l.due, l)
		}
	case s.believes(l, r):
		s.over(l, r.gone)
	case r.list == nil && !l.listed:
		l.listed, l.state = true, legHeld
		s.transmit(l, now)
	default:
		s.difference(l, r, now)
	}
	s.settle(b, now)
}

// believes reports whether a report agrees with our view of the slice.
func (s *spread) believes(l *leg, r report) bool {
	if r.more {
		return false
	}
	count, sum := uint64(l.view.len()), l.view.sum()
	for _, pos := range r.gone {
		count--
		sum ^= pos
	}
	return r.count == count && r.sum == sum
}

// difference serves ourselves whom the child did not: its view of the slice is another one.
func (s *spread) difference(l *leg, r report, now time.Time) {
	have := map[uint64]bool{}
	for _, pos := range r.list {
		have[pos] = true
	}
	for _, pos := range r.gone {
		have[pos] = true
	}
	var gone []uint64
	b := l.batch
	for n := l.view.from; n < l.view.to; n++ {
		p := l.view.ring.at(n)
		switch {
		case have[p.pos] && slices.Contains(r.gone, p.pos):
			gone = append(gone, p.pos)
		case have[p.pos]:
		case r.more || p.member.ID == l.to.ID || s.peer(p.member.ID).silent:
			gone = append(gone, p.pos)
		default:
			s.send(b, p.member, arc{l.view.ring, n, n + 1}, p.pos+1, now)
		}
	}
	s.over(l, gone)
}

func (s *spread) over(l *leg, gone []uint64) {
	if l.state == legOver {
		return
	}
	l.excuse()
	l.state = legOver
	l.batch.open--
	l.batch.gone = append(l.batch.gone, gone...)
}

// excuse lets the window go on without the leg.
func (l *leg) excuse() {
	if !l.excused && l.state != legOver {
		l.excused = true
		l.batch.holding--
	}
}

// takeOver gives the slice of a silent member to the next in it.
func (s *spread) takeOver(l *leg, now time.Time) {
	s.over(l, []uint64{l.view.ring.at(l.view.from).pos})
	s.head(l.batch, l.rest(), l.end, now)
}

// handOn gives the slice of a member that does not answer to the next in it; the leg is for that member alone from then on.
func (s *spread) handOn(l *leg, now time.Time) {
	rest, end := l.rest(), l.end
	l.view.to = l.view.from + 1
	l.end = rest.ring.at(rest.from).pos
	l.excuse()
	s.head(l.batch, rest, end, now)
	s.settle(l.batch, now)
}

// rest is the slice without its head.
func (l *leg) rest() arc { return arc{l.view.ring, l.view.from + 1, l.view.to} }

// tick does what is due: tries again what was not answered, and gives up on whom has been silent.
func (s *spread) tick(now time.Time) {
	for l := s.timers.pop(now); l != nil; l = s.timers.pop(now) {
		if l.state == legOver || now.Before(l.due) {
			continue
		}
		p := s.peer(l.to.ID)
		if a := p.again; a != nil && a != l && a.state != legOver && !l.batch.large {
			s.postpone(l, a, now)
			continue
		}
		if l.batch.id.root == s.self && !l.batch.large && !l.excused {
			s.flow.late(now, p.rtt.rto())
		}
		silent := !p.waiting.IsZero() && now.Sub(p.waiting) >= max(silentMin, 8*p.rtt.rto())
		stuck := l.state == legHeld && now.Sub(l.sent[0]) >= heldMost
		hope := !silent && !stuck && l.sent[len(l.sent)-1].After(p.gaveUp)
		switch {
		case hope && l.tries < l.limit():
			if !l.batch.large {
				p.again = l
			}
			s.transmit(l, now)
			if l.tries > headTries {
				l.excuse()
				s.settle(l.batch, now)
			}
		case hope && l.view.len() > 1 && !l.batch.large:
			p.leafUntil = now.Add(leafFor)
			s.handOn(l, now)
			s.transmit(l, now)
		default:
			p.gaveUp = now
			p.leafUntil = now.Add(leafFor)
			p.silent = p.silent || silent
			s.takeOver(l, now)
			s.settle(l.batch, now)
		}
	}
}

// postpone lets a leg wait for another one to the same member: whoever does not answer is asked one question at a time, for it
// may be slow, and has all the others before it. Nobody else waits for that: what was done for the other is done for this.
func (s *spread) postpone(l, other *leg, now time.Time) {
	l.due = now.Add(max(other.due.Sub(now), s.peer(l.to.ID).rtt.rto()))
	s.timers.push(l.due, l)
	switch {
	case !other.excused:
	case l.state == legSent && l.view.len() > 1:
		s.handOn(l, now)
	default:
		l.excuse()
		s.settle(l.batch, now)
	}
}

// lost takes over at once what a member that is gone should have served.
func (s *spread) lost(id uint64, now time.Time) {
	delete(s.peers, id)
	open := slices.SortedFunc(maps.Values(s.batches), func(a, b *batch) int {
		return cmp.Or(cmp.Compare(a.id.root, b.id.root), cmp.Compare(a.id.n, b.id.n))
	})
	for _, b := range open {
		for _, l := range slices.Clone(b.legs) {
			if l.to.ID == id && l.state != legOver {
				s.takeOver(l, now)
			}
		}
		s.settle(b, now)
	}
}
