package replica

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Membership is how we become a member and cease to be one, and who the others are.
type Membership struct {
	out       *output
	roster    *roster
	types     *types
	intake    *intake
	baselines *baselines
	strangers *strangers

	member bool // a Join has returned nil, or somebody has joined us: no later Join makes us a newcomer again
}

// Joining says that we are about to become a member, or to dial others again.
func (m *Membership) Joining() {
	if !m.member {
		m.baselines.joined = time.Time{}
	}
}

// Joined says that we are one: what was broadcast since is owed to us, also by those that we have not met yet. takenIn says that this
// was promised.
func (m *Membership) Joined(takenIn bool, now time.Time) {
	if b := m.baselines; b.joined.IsZero() || takenIn && !m.member {
		b.joined = now
	}
	m.member = m.member || takenIn
}

// met notes that somebody has come, while no Join of ours is waiting: then it has joined us.
func (m *Membership) met() { m.member = m.member || !m.baselines.joined.IsZero() }

// Join asks every member that has not told us yet from where on it owes us its parts. meta is our metadata, for those that decide
// whether we may come in.
func (m *Membership) Join(meta []byte, now time.Time) {
	m.out.meta = meta
	for _, p := range slices.Clone(m.roster.ours) {
		if p.next == 0 {
			m.baselines.ask(p, false, now)
		}
	}
}

// NotTakenIn returns the members that have not told us yet from where on they owe us their parts, and those to come that members have
// named. Of those that have introduced themselves we need not wait: they know us, and owe us what they broadcast. Nor of one that has run at
// our address before.
func (m *Membership) NotTakenIn(now time.Time) (ps []Pending) {
	for _, p := range m.roster.sorted(func(p *peer) bool { return p.next == 0 && (p.live() || p.named && p.awaited(now)) }) {
		if !m.roster.replaced(p) {
			ps = append(ps, Pending{p.Peer, p.refusal})
		}
	}
	return ps
}

// Pending is a member that has not taken us in. Refusal is why not; empty: it has not answered.
type Pending struct {
	wire.Peer
	Refusal string
}

// Introduce takes note of a newcomer that memberlist has not told of yet, and answers it by way of to: what we broadcast from now
// on is owed to it. It is told so, and which others have come a moment ago; or why it is refused, and is not taken in then. The
// answer has at most room bytes; 0: any number.
func (m *Membership) Introduce(newcomer, to wire.Peer, ask *starlingpb.BaselineAsk, refusal string, room int, now time.Time) {
	answer := &starlingpb.Baseline{Refusal: refusal, Nonce: ask.GetNonce(), Unasked: ask.GetNonce() == 0}
	if to.ID != newcomer.ID {
		answer.Member = newcomer.ID
	}
	if refusal == "" {
		newcomer.Features |= wire.DecodeMeta(ask.GetMeta()).Features
		p := m.roster.introduce(newcomer, now)
		m.baselines.fix(p, sinceOf(ask), now)
		m.types.heard(p, ask.GetTypes(), now)
		answer.Next, answer.Top, answer.Types = p.owed, m.intake.own, m.types.own.sum
		if p.state == peerIntroduced {
			p.meta = bytes.Clone(ask.GetMeta())
			if to.ID == newcomer.ID {
				answer.Proof = m.roster.prove(p)
			}
		}
		answer.Newcomers = m.roster.unheardBy(p, now)
	}
	if room > 0 {
		for len(answer.Newcomers) > 0 && wire.ControlSize(m.out.self, answer) > room {
			answer.Newcomers = answer.Newcomers[:len(answer.Newcomers)-1]
		}
		if wire.ControlSize(m.out.self, answer) > room {
			return
		}
	}
	// By packet, whatever it asks: a stream would be a dial to wherever a stranger says that it is.
	m.out.tell(to, wire.BodyBaseline, answer, false)
}

// CountStranger counts a control frame of somebody who may not ask what it asks, because it is no member.
func (m *Membership) CountStranger(from wire.Peer, now time.Time) { m.strangers.drop(from, now) }

// AwaitsNewcomer reports whether a member that came a moment ago has yet to say since when it is one, or one to come has yet to show where it
// is. Of the former we know only the most that we may owe it: a goodbye that named that would make it report as lost what was broadcast before
// its time. The latter is told no goodbye at all.
func (m *Membership) AwaitsNewcomer(now time.Time) bool {
	return slices.ContainsFunc(m.roster.ours, func(p *peer) bool { return !p.fixed && now.Sub(p.met) < askedWithin }) ||
		slices.ContainsFunc(m.roster.newcomers(nil, now), func(p *peer) bool { return !p.shown && now.Sub(p.came) < askedWithin })
}

// Goodbye is what we say when we leave: what most members are owed, and what the others are.
func (m *Membership) Goodbye() *starlingpb.Goodbye {
	times := map[uint64]int{}
	g := &starlingpb.Goodbye{Top: m.intake.own}
	met := m.roster.sorted(func(p *peer) bool { return p.owed != 0 })
	for _, p := range met {
		if times[p.owed]++; g.Next == 0 || times[p.owed] > times[g.Next] {
			g.Next = p.owed
		}
	}
	for _, p := range met {
		if p.owed != g.Next || !p.fixed { // one that has not asked takes the word of a goodbye only if that names it: see owedTo
			g.Owed = append(g.Owed, &starlingpb.Owed{Member: p.ID, Next: p.owed})
		}
	}
	return g
}

// Run returns the run of that id, with the name and the address that it has as a member, or has introduced itself with, if any, and the metadata
// that it has introduced itself with, which is not to be written to.
func (m *Membership) Run(id uint64) (run wire.Peer, meta []byte) {
	if p := m.roster.get(id); p != nil {
		return p.Peer, p.meta
	}
	return wire.Peer{ID: id}, nil
}

// Going reports whether the run of that id is one to come, and whether it has said goodbye.
func (m *Membership) Going(id uint64) (toCome, left bool) {
	p := m.roster.get(id)
	return p != nil && p.state == peerIntroduced, p != nil && p.goodbye != nil
}

// ProofTo returns what a goodbye to that run repeats, so that it is heeded where memberlist has not told of us.
func (m *Membership) ProofTo(id uint64) uint64 {
	if p := m.roster.get(id); p != nil {
		return p.proofOf
	}
	return 0
}

// SetAddr says where we are reached.
func (m *Membership) SetAddr(addr netip.AddrPort) { m.out.self.Addr, m.roster.self.Addr = addr, addr }

// Silent reports whether a member has answered nothing for long.
func (m *Membership) Silent(id uint64) bool { return m.roster.get(id).silent() }

// Members returns the live members of ours but ourselves, in no order.
func (m *Membership) Members() []wire.Peer {
	ms := make([]wire.Peer, len(m.roster.ours))
	for i, p := range m.roster.ours {
		ms[i] = p.Peer
	}
	return ms
}

// Owed returns whom our next message is owed to: the live members of ours, and those to come, whose Join has perhaps returned though memberlist
// has not told of them.
func (m *Membership) Owed(now time.Time) []wire.Peer {
	ms := m.Members()
	for _, p := range m.roster.newcomers(nil, now) {
		if p.awaited(now) {
			ms = append(ms, p.Peer)
		}
	}
	return ms
}

// Placed returns those of them that are where they say they are: who has only introduced itself may be anybody, anywhere.
func (m *Membership) Placed(now time.Time) []wire.Peer {
	return slices.DeleteFunc(m.Owed(now), func(p wire.Peer) bool { return !m.roster.get(p.ID).placed() })
}

// Find returns the member of that name, or the one to come; with run other than 0 that run, whatever its name.
func (m *Membership) Find(name string, run uint64, now time.Time) (found wire.Peer, ok bool) {
	if run != 0 {
		p := m.roster.get(run)
		if ok = p.reachable(now); ok {
			found = p.Peer
		}
		return found, ok
	}
	if found, ok = m.roster.names[name]; ok {
		return found, true
	}
	var best *peer
	for _, p := range m.roster.newcomers(nil, now) { // of several runs the last that came, among those that have shown where they are
		if p.Name == name && (best == nil || p.shown && !best.shown || p.shown == best.shown && p.came.After(best.came)) {
			best = p
		}
	}
	if best == nil {
		return wire.Peer{}, false
	}
	return best.Peer, true
}

// Shown takes note that one to come has repeated what was sent to its address.
func (m *Membership) Shown(p *peer, proof uint64, now time.Time) {
	if p.shown || p.proof == 0 || p.proof != proof {
		return
	}
	p.shown = true
	for _, old := range m.roster.replaces(p, now) {
		m.baselines.settle(old)
	}
}
