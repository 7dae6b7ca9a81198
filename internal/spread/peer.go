package spread

import "time"

// Peer is what the spread knows of one run of a member. The zero value is that of a member just met.
//
// The owner of the members keeps it: see New. It takes 184 bytes, and may keep one Batch from the garbage collector.
type Peer struct {
	rtt       rtt
	owesSince time.Time     // when the first of the tries left that it has not answered; zero: it owes us no answer
	silent    bool          // it has owed an answer for silentAfter, and not been heard since
	leafUntil time.Time     // until then it heads no slice
	deafUntil time.Time     // until then it is sent no large batch
	gaveUpAt  time.Time     // when a hop to it was last given up; zero: it was heard since
	heardAt   time.Time     // when it was heard last
	probedAt  time.Time     // when it was last sent a batch although it was silent
	readEvery time.Duration // how long it takes lately, at most, to read so much more of a large batch that it tells; zero: it does not tell, or reads fast
	retried   *Hop          // the one hop that is retried to it now: its other hops wait until it is heard; nil: there is none
}

// RTO is how long an answer of the member is waited for.
func (p *Peer) RTO() time.Duration { return p.rtt.rto() }

// Silent reports whether the member has owed an answer for so long that it is sent no batches: max(1 s, 8 RTO).
func (p *Peer) Silent() bool { return p.silent }

// heard notes that a frame of the spread came from the member: it lives.
func (p *Peer) heard(now time.Time) {
	p.heardAt = now
	p.owesSince, p.gaveUpAt, p.retried = time.Time{}, time.Time{}, nil
	if p.silent {
		p.silent, p.leafUntil = false, time.Time{}
	}
}

// muteAfter is how long the member may answer nothing at all that was sent a large batch, whose answer is waited for so long.
func (p *Peer) muteAfter(wait time.Duration) time.Duration {
	return max(largeMute, largeMutes*max(wait, p.readEvery))
}

// read notes how long it took to read more of a large batch. The longest lately counts, since many streams may share its link.
func (p *Peer) read(took time.Duration) { p.readEvery = min(max(took, p.readEvery*7/8), readMost) }

// asked notes that the member was sent something that it has to answer.
func (p *Peer) asked(now time.Time) {
	if p.owesSince.IsZero() {
		p.owesSince = now
	}
}

// overdue reports whether the member has owed an answer for so long that it counts as silent.
func (p *Peer) overdue(now time.Time) bool {
	return !p.owesSince.IsZero() && now.Sub(p.owesSince) >= silentAfter(p.RTO())
}

// deaf reports whether the member takes no large batches at the moment.
func (p *Peer) deaf(now time.Time) bool { return now.Before(p.deafUntil) }

// deafSince reports whether it is deaf, and this became known after a time.
func (p *Peer) deafSince(left, now time.Time) bool {
	return p.deaf(now) && !left.After(p.deafUntil.Add(-deafFor))
}

// demote keeps the member from heading slices for a while: it did not answer as their head.
func (p *Peer) demote(now time.Time) { p.leafUntil = now.Add(leafFor) }

// gaveUp notes that a hop to the member was given up. Its other hops that left before are given up when they are due.
func (p *Peer) gaveUp(mute, large bool, now time.Time) {
	p.silent = p.silent || mute || p.overdue(now)
	if large {
		p.deafUntil = now.Add(deafFor)
	}
	p.gaveUpAt = now
	p.demote(now)
}

// silentAfter is how long a member may owe an answer before it counts as silent.
func silentAfter(rto time.Duration) time.Duration { return max(silentMin, silentRTOs*rto) }

// rtt estimates the round trip to one member after RFC 6298, with bounds that suit a cluster.
type rtt struct {
	smooth, vary time.Duration // SRTT and RTTVAR; zero: not measured yet
}

func (r *rtt) sample(d time.Duration) {
	if r.smooth == 0 {
		r.smooth, r.vary = max(d, 1), d/2
		return
	}
	r.vary += ((r.smooth - d).Abs() - r.vary) / 4
	r.smooth += (d - r.smooth) / 8
}

// rto is the time-out that follows from the estimate.
func (r *rtt) rto() time.Duration {
	if r.smooth == 0 {
		return RTOFirst
	}
	return min(max(r.smooth+4*r.vary, rtoMin), RTOMax)
}
