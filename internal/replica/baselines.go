package replica

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// baselines is from where on members owe each other their parts. A member is owed what was broadcast since it became one, as
// far as that is kept when it is met, be it met late: and what was broadcast by a member that was alone.
//
// The origin alone decides. Who is owed asks it: when it joins, and when a part of an origin comes of which it does not know. If
// the origin does not answer, others are asked to ask it; and a goodbye tells everybody what its sender owes to whom, so that
// they can answer for it. An origin tells unasked whom its parts have not reached.
type baselines struct {
	out       *output
	roster    *roster
	types     *types
	intake    *intake
	reminders *reminders
	goodbyes  *goodbyes

	asking    []*peer           // whom we ask for ours; Invariant: those whose question is not nil
	rumours   map[uint64]rumour // origins that a digest named and nobody here has met
	joined    time.Time         // when we became a member; zero: we are about to
	aloneFrom uint64            // our next seq when we were left alone
	aloneTo   uint64            // our last one when somebody came; meaningless while alone
}

// question is our question for an origin's baseline.
type question struct {
	at     time.Time // when it is asked again
	tries  int
	stream bool   // packets do not seem to get through
	nonce  uint64 // an answer repeats it
}

// rumour is our question about an origin that nobody here has met.
type rumour struct {
	at    time.Time // when it was asked last
	nonce uint64
}

const (
	// askEvery is the first pause between two questions, several round trips of a slow network; it doubles up to 2 s.
	askEvery = 60 * time.Millisecond
	// askOthers is after how many tries others are asked too. One packet may be lost.
	askOthers = 2
	// askGone is how often others are asked about an origin that is gone: for about 10 s.
	askGone = 10
	// maxRumours bounds the origins that are asked about on the word of a digest.
	maxRumours = 256
	// introducedFor is how long a newcomer counts as one to come: memberlist takes a second or two to tell everybody of it, and
	// longer where packets are lost.
	introducedFor = 30 * time.Second
	// newFor is how long a member counts as new, of which others may not have heard.
	newFor = 5 * time.Second
	// shownWithin is how long one counts that has not shown where it is: several round trips of a slow network.
	shownWithin = 3 * time.Second
	// askNewcomer is how often one is asked that has only said that it is to come: nobody else shall be asked on its word for long.
	askNewcomer = 3
	// onTheWay is how long a question may take to arrive, by way of another member or by stream. Where it takes less, an origin that
	// meets us late owes us that much of what it broadcast before we joined, too, which does no harm.
	onTheWay = 2 * time.Second
	// maxStrangersAsked bounds the origins that are asked for at once and are no members.
	maxStrangersAsked = 64
	// maxNewcomers bounds the newcomers that an answer names.
	maxNewcomers = 8
)

// pass notes that members came, or went, and so ended or began our being alone.
func (b *baselines) pass(wasAlone bool) {
	switch alone := b.roster.alone(); {
	case wasAlone && !alone:
		b.aloneTo = b.intake.own
	case alone && !wasAlone:
		b.aloneFrom = b.intake.own + 1
	}
}

// meet fixes from where on we owe a member our parts, if it is met for the first time. One that comes back may have sent what
// nobody keeps any more: only it can tell.
func (b *baselines) meet(p *peer, now time.Time) {
	if p.owed != 0 {
		b.ask(p, false, now)
		b.goodbyes.passOn(p, now) // if it has never dropped us, it asks nothing
	}
	b.goodbyes.meet(p, now)
	if p.owed != 0 && p.owed <= b.intake.own {
		b.reminders.remind(p, now) // it may not know that it was away
	}
	b.owe(p, now)
}

// owe says from where on we owe a peer our parts, as long as it has not said since when it is a member: whom we have not met
// before may have been one for long.
func (b *baselines) owe(p *peer, now time.Time) {
	if p.owed == 0 {
		p.owed, p.sure = b.since(math.MaxInt64, now), b.since(0, now)
	}
}

// fix fixes from where on we owe our parts to a peer that has been a member for so long.
func (b *baselines) fix(p *peer, member time.Duration, now time.Time) {
	if since := now.Add(-member); p.member.IsZero() || since.Before(p.member) {
		p.member = since
	}
	if !p.fixed {
		b.owe(p, now)
		// What we sent since we met it is owed to it, be it kept still or not.
		p.fixed, p.owed = true, min(p.sure, b.since(member, now))
	}
}

// since returns the first part that we owe to somebody who has been a member for so long.
func (b *baselines) since(member time.Duration, now time.Time) uint64 {
	// What would be gone before it were asked for is not owed: a quarter of Retention.Age, 5 s at most.
	keep := b.intake.age - min(b.intake.age/4, 5*time.Second)
	for it := range b.intake.history.Ascend(b.roster.self.ID, 1, b.intake.own) {
		alone := b.aloneFrom <= it.ID.Seq && (b.roster.alone() || it.ID.Seq <= b.aloneTo)
		if age := now.Sub(it.Born); age < keep && (alone || age < member) {
			return it.ID.Seq
		}
	}
	return b.intake.own + 1
}

// ask asks, again and again, from where on an origin owes us its parts.
func (b *baselines) ask(p *peer, stream bool, now time.Time) {
	if p.asked != nil || p.untold && !p.reachable(now) || !p.live() && b.strangers() >= maxStrangersAsked {
		return
	}
	p.asked = &question{stream: p.live() && (stream || p.failures > 0), nonce: b.roster.rng.Uint64() | 1}
	b.asking = append(b.asking, p)
	b.askAgain(p, now)
}

func (b *baselines) askAgain(p *peer, now time.Time) {
	b.out.stir() // to ask again
	q := p.asked
	q.at = now.Add(askEvery << min(q.tries, 5))
	if q.tries++; q.tries == 2 {
		p.failures = max(p.failures, 1)
	}
	if p.live() || p.reachable(now) && q.tries <= askNewcomer {
		m := b.question(q, now)
		b.out.tell(p.Peer, wire.BodyAsk, m, false)
		if q.stream {
			// Beside the packet, not instead: the stream waits behind all large messages to that member.
			m.Stream = true
			b.out.tell(p.Peer, wire.BodyAsk, m, true)
		}
		q.stream = p.live()
	}
	if q.tries > askOthers || !p.reachable(now) {
		if other := b.roster.random(func(o *peer) bool { return o != p }); other != nil {
			b.askAbout(other.Peer, p.ID, q.nonce, q.tries%3 == 0, now)
		}
	}
}

// question is our question to an origin. It is longer than its answer, so that a member that does not know us yet may answer it.
func (b *baselines) question(q *question, now time.Time) *starlingpb.BaselineAsk {
	return &starlingpb.BaselineAsk{
		Meta: b.out.meta, SinceMs: uint64(b.memberFor(now).Milliseconds()), Nonce: q.nonce, Types: b.types.own.sum,
		Padding: make([]byte, questionPadding),
	}
}

// strangers returns how many origins are asked for that are no members.
func (b *baselines) strangers() (n int) {
	for _, p := range b.asking {
		if !p.live() {
			n++
		}
	}
	return n
}

// memberFor is for how long we have been a member, when what says so has arrived: what is broadcast just after Join is older then.
func (b *baselines) memberFor(now time.Time) time.Duration {
	if b.joined.IsZero() {
		return 0
	}
	return max(now.Sub(b.joined), 0) + onTheWay
}

// questionPadding makes a question longer than an answer without newcomers, whatever the names are: the answer's own sender may
// have the longest name.
const questionPadding = wire.MaxNameSize + 80

// askAbout asks a member about another origin.
func (b *baselines) askAbout(of wire.Peer, origin, nonce uint64, stream bool, now time.Time) {
	b.out.tell(of, wire.BodyAsk, &starlingpb.BaselineAsk{
		Origin: origin, Meta: b.out.meta, SinceMs: uint64(b.memberFor(now).Milliseconds()), Stream: stream, Nonce: nonce,
		Types: b.types.own.sum,
	}, stream)
}

// rumour asks the sender of a digest about an origin that it names and that was never here.
func (b *baselines) rumour(from *peer, origin uint64, stream bool, now time.Time) {
	if r, asked := b.rumours[origin]; asked && now.Sub(r.at) < digestEvery/2 {
		return
	}
	if len(b.rumours) >= maxRumours {
		clear(b.rumours)
	}
	r := rumour{now, b.roster.rng.Uint64() | 1}
	b.rumours[origin] = r
	b.askAbout(from.Peer, origin, r.nonce, stream, now)
}

// tick asks those again who have not answered.
func (b *baselines) tick(now time.Time) {
	for _, p := range slices.Clone(b.asking) {
		switch {
		case !now.After(p.asked.at):
		case !p.reachable(now) && p.asked.tries >= askGone:
			p.untold = true
			b.settle(p)
		default:
			b.askAgain(p, now)
		}
	}
}

// settle ends the question to a peer, which has answered or is gone.
func (b *baselines) settle(p *peer) {
	if p.asked != nil {
		p.asked = nil
		b.asking = slices.DeleteFunc(b.asking, func(o *peer) bool { return o == p })
	}
}

// tell tells a member, by way of to, from where on we owe it our parts.
func (b *baselines) tell(p *peer, to wire.Peer, nonce uint64, stream bool, now time.Time) {
	// While it has not said since when it is a member, p.owed may be too much: so it asks.
	m := &starlingpb.Baseline{Next: p.owed, Top: b.intake.own, Unasked: nonce == 0, Stream: stream, Nonce: nonce, Types: b.types.own.sum}
	if to.ID != p.ID {
		m.Member = p.ID
	} else if nonce != 0 && now.Sub(p.met) < newFor {
		m.Newcomers = b.roster.unheardBy(p, now)
	}
	b.out.tell(to, wire.BodyBaseline, m, stream)
}

// asked answers a question of a member, or of one to come.
func (b *baselines) asked(from *peer, m *starlingpb.BaselineAsk, now time.Time) {
	if origin := m.GetOrigin(); origin != 0 && origin != b.roster.self.ID {
		b.askedAbout(from, origin, m, now)
		return
	}
	p := from
	if m.GetMember() != 0 && m.GetMember() != b.roster.self.ID {
		if p = b.roster.hear(m.GetMember(), now); p.Name == "" {
			addr, _ := wire.DecodeAddr(m.GetAddr())
			p.Peer = wire.Peer{ID: p.ID, Name: m.GetName(), Addr: addr}
		}
	}
	b.fix(p, sinceOf(m), now)
	if p == from || m.GetTypes() != 0 { // a member of an earlier version that asks for it may have left them out
		b.types.heard(p, m.GetTypes(), now)
	}
	b.tell(p, from.Peer, m.GetNonce(), m.GetStream() && from.live(), now)
	if p == from { // it may have dropped us, and come back
		b.goodbyes.asked(p, now)
	}
}

// sinceOf is for how long the member that asks has been one.
func sinceOf(m *starlingpb.BaselineAsk) time.Duration {
	return time.Duration(min(m.GetSinceMs(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}

// askedAbout answers a question about another origin: by what its goodbye has said, or by asking it.
func (b *baselines) askedAbout(from *peer, origin uint64, m *starlingpb.BaselineAsk, now time.Time) {
	p := b.roster.get(origin)
	switch {
	case p == nil:
	case p.goodbye == nil && p.live():
		b.out.tell(p.Peer, wire.BodyAsk, &starlingpb.BaselineAsk{
			Member: from.ID, Name: from.Name, Addr: wire.EncodeAddr(from.Addr), Meta: m.GetMeta(), SinceMs: m.GetSinceMs(),
			Stream: m.GetStream(), Nonce: m.GetNonce(), Types: m.GetTypes(),
		}, m.GetStream())
	case p.goodbye != nil:
		next, known := p.goodbye.owedTo(from.ID, sinceOf(m)-now.Sub(p.goodbye.at))
		if !known {
			next = 0 // whoever asks may know
		}
		b.out.tell(from.Peer, wire.BodyBaseline, &starlingpb.Baseline{
			Origin: origin, Next: next, Top: p.goodbye.top, Gone: true, Nonce: m.GetNonce(),
		}, m.GetStream() && from.live())
	}
}

// told takes from where on an origin owes somebody its parts, and what it has sent: if that was asked, and this answers the question.
// Anything else is a reason to ask.
func (b *baselines) told(from *peer, m *starlingpb.Baseline, now time.Time) {
	toUs := m.GetMember() == 0 || m.GetMember() == b.roster.self.ID
	if id := m.GetOrigin(); toUs && (id == 0 || id == from.ID) && m.GetRefusal() == "" {
		b.types.heard(from, m.GetTypes(), now)
	}
	switch member := m.GetMember(); {
	case !toUs:
		b.passOn(from, member, m, now)
	case m.GetUnasked():
		b.hint(from, m, now)
	default:
		b.answered(from, m, now)
	}
}

// passOn passes an answer on to the member that has asked us to ask.
func (b *baselines) passOn(from *peer, member uint64, m *starlingpb.Baseline, now time.Time) {
	if p := b.roster.get(member); p.live() {
		b.out.tell(p.Peer, wire.BodyBaseline, &starlingpb.Baseline{
			Origin: cmp.Or(m.GetOrigin(), from.ID), Next: m.GetNext(), Top: m.GetTop(), Refusal: m.GetRefusal(),
			Stream: m.GetStream(), Nonce: m.GetNonce(),
		}, m.GetStream())
	}
}

// hint takes what a member says unasked: that an origin has sent more than we may know of, or less than we believe.
func (b *baselines) hint(from *peer, m *starlingpb.Baseline, now time.Time) {
	origin := from
	if id := m.GetOrigin(); id != 0 && id != from.ID {
		_, forgotten := b.roster.forgotten[id]
		if b.roster.get(id) == nil && !forgotten || !from.live() || id == b.roster.self.ID {
			return
		}
		if origin = b.roster.hear(id, now); origin.goodbye != nil {
			return // it has told itself
		}
		origin.untold = false
	}
	known := origin.next != 0 && m.GetTop() == origin.known()
	if known && origin == from {
		b.out.tell(from.Peer, wire.BodyHeard, &starlingpb.BaselineHeard{Top: m.GetTop()}, m.GetStream() && from.live())
	}
	if known {
		return
	}
	b.ask(origin, m.GetStream(), now)
	if origin != from && origin.asked != nil { // it may be gone, and whoever tells us of it knows
		b.askAbout(from.Peer, origin.ID, origin.asked.nonce, m.GetStream(), now)
	}
}

// sent takes word of a part that an origin has sent. If it is later than all that we know of, we ask: memberlist has perhaps not told the origin of
// us yet, and then nothing else brings us the part.
func (b *baselines) sent(origin *peer, seq uint64, stream bool, now time.Time) {
	if origin.known() < seq {
		b.ask(origin, stream, now)
	}
}

// answered takes the answer to a question of ours.
func (b *baselines) answered(from *peer, m *starlingpb.Baseline, now time.Time) {
	origin := b.answeredFor(from, m, now)
	if origin == nil || m.GetNext() > m.GetTop()+1 {
		return
	}
	b.out.Told = true
	if origin.refusal = m.GetRefusal(); origin.refusal != "" {
		return // and is asked again
	}
	if from.live() {
		for _, s := range m.GetNewcomers()[:min(len(m.GetNewcomers()), maxNewcomers)] {
			b.tellNewcomer(s, now)
		}
	}
	if origin == from {
		origin.answered, origin.shown = now, true // the nonce was sent to its address
		if m.GetProof() != 0 {
			origin.proofOf = m.GetProof()
		}
		heard := &starlingpb.BaselineHeard{Top: m.GetTop(), Proof: m.GetProof()}
		b.out.tell(from.Peer, wire.BodyHeard, heard, m.GetStream() && from.live())
	}
	next := m.GetNext()
	if origin != from && origin.next != 0 {
		next = origin.next // it has told us itself
	}
	if next == 0 {
		return
	}
	b.settle(origin)
	b.out.stir() // what is missing now has to be pulled
	b.intake.rebase(origin, next, m.GetTop(), now)
}

// answeredFor returns the origin that an answer is about, nil if it answers no question of ours.
func (b *baselines) answeredFor(from *peer, m *starlingpb.Baseline, now time.Time) *peer {
	id := cmp.Or(m.GetOrigin(), from.ID)
	if p := b.roster.get(id); p != nil && p.asked != nil {
		if m.GetNonce() == p.asked.nonce {
			return p
		}
		return nil
	}
	if r, asked := b.rumours[id]; asked && m.GetNonce() == r.nonce && id != b.roster.self.ID {
		delete(b.rumours, id)
		return b.roster.hear(id, now)
	}
	return nil
}

// tellNewcomer introduces us to somebody that has come a moment ago, too.
func (b *baselines) tellNewcomer(s *starlingpb.Sender, now time.Time) {
	addr, ok := wire.DecodeAddr(s.GetAddr())
	if !ok || s.GetOrigin() == 0 || s.GetOrigin() == b.roster.self.ID || b.roster.get(s.GetOrigin()) != nil {
		return
	}
	p := b.roster.introduce(wire.Peer{ID: s.GetOrigin(), Name: s.GetName(), Addr: addr}, now)
	p.named = true
	b.owe(p, now)
	b.ask(p, false, now)
}

// left takes the goodbye of a member.
func (b *baselines) left(from *peer, m *starlingpb.Goodbye, now time.Time) {
	g := newGoodbye(m, now)
	from.goodbye = g
	if m.GetStream() { // beside the packet that the shell sends, to strangers too
		b.out.tell(from.Peer, wire.BodyGoodbyeAck, &starlingpb.GoodbyeAck{}, true)
	}
	b.roster.says(from, now)
	age := b.memberFor(now)
	if from.next != 0 { // it has told us our baseline, so it knew us
		age = max(age, unknownFor)
	}
	if next, known := g.owedTo(b.roster.self.ID, age); next != 0 && next <= g.top+1 && known {
		b.settle(from)
		b.out.stir()
		b.intake.rebase(from, next, g.top, now)
	}
}
