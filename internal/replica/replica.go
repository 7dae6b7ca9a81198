package replica

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/starling-go/starling/internal/spread"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// Replica is the protocol of one member. Its methods are not safe for concurrent use.
type Replica struct {
	out        output
	roster     *roster
	channels   *channelSet
	types      *types
	intake     *intake
	gaps       *gaps
	assemblies *assemblies
	baselines  *baselines
	pulls      *pulls
	digests    *digests
	receiver   *receiver
	spreader   *spreader
	coverages  *coverages
	compares   *comparisons
	sync       *stateSync
	offers     *offers
	reminders  *reminders
	goodbyes   *goodbyes
	strangers  *strangers

	// What its owner asks for on behalf of a caller, beside its own methods.
	Sender     *Sender
	Calls      *Calls
	Inquiries  *Inquiries
	Observer   *Observer
	Membership *Membership
	States     *States
}

// New returns the replica of a member that is alone.
func New(self wire.Peer, lim Limits) *Replica {
	r := &Replica{roster: newRoster(self), channels: &channelSet{byKey: map[string]*Channel{}}}
	out, ro, chs := &r.out, r.roster, r.channels
	ro.forgets = chs.forget
	ro.folds = func(id uint64) { r.coverages.fold(id) }
	out.self, out.packet, out.channels = self, lim.Packet, chs
	r.Observer = &Observer{out: out, roster: ro, age: lim.Age, arriving: map[wire.PartID]*arriving{}}
	in := newIntake(out, ro, chs, r.Observer, lim)
	r.intake = in
	r.gaps = &gaps{roster: ro, intake: in}
	r.assemblies = &assemblies{roster: ro, channels: chs, intake: in}
	r.strangers = &strangers{out: out, roster: ro}
	r.types = &types{out: out, roster: ro, channels: chs, own: newTypeTable(map[string]string{}), kept: map[uint64]*typeTable{}}
	r.reminders = &reminders{out: out, types: r.types, intake: in}
	r.goodbyes = &goodbyes{out: out, roster: ro}
	r.baselines = &baselines{
		out: out, roster: ro, types: r.types, intake: in, reminders: r.reminders, goodbyes: r.goodbyes, aloneFrom: 1,
		rumours: map[uint64]rumour{},
	}
	r.coverages = &coverages{in}
	r.compares = &comparisons{out: out, roster: ro, channels: chs, types: r.types, intake: in, coverages: r.coverages}
	r.sync = &stateSync{
		out: out, roster: ro, types: r.types, channels: chs, intake: in, baselines: r.baselines, coverages: r.coverages, compares: r.compares,
		message: lim.Message,
	}
	r.compares.differs = r.sync.wantOf
	r.offers = &offers{out: out, roster: ro, channels: chs, types: r.types, coverages: r.coverages}
	r.States = &States{roster: ro, channels: chs, types: r.types, out: out, coverages: r.coverages, compares: r.compares, offers: r.offers}
	r.Membership = &Membership{out: out, roster: ro, types: r.types, intake: in, baselines: r.baselines, strangers: r.strangers}
	r.pulls = &pulls{out: out, roster: ro, intake: in, baselines: r.baselines, gaps: r.gaps}
	r.digests = &digests{out: out, roster: ro, types: r.types, observer: r.Observer, intake: in, baselines: r.baselines, pulls: r.pulls}
	r.receiver = &receiver{
		out: out, roster: ro, channels: chs, intake: in, digests: r.digests, baselines: r.baselines, message: lim.Message,
	}
	r.spreader = &spreader{
		out: out, roster: ro, receiver: r.receiver, from: wire.Peer{ID: self.ID}.Append(nil), acksTo: map[uint64]*ackFrame{},
		spread: spread.New(self.ID, lim.Packet, ro.spreadPeer),
	}
	r.pulls.relays = r.spreader.spread
	r.Sender = &Sender{
		out: out, roster: ro, observer: r.Observer, intake: in, digests: r.digests, reminders: r.reminders, spreader: r.spreader, lim: lim,
		outbox: outbox{large: lane{kind: laneLarge}},
		budget: budget{maxMessages: lim.QueueMessages, maxBytes: lim.QueueBytes},
	}
	r.Calls = &Calls{
		out: out, roster: ro, channels: chs, types: r.types, intake: in, observer: r.Observer,
		gatherings: newGatherings(ro, r.Observer, lim.Message), message: lim.Message,
	}
	r.Inquiries = &Inquiries{
		out: out, roster: ro, channels: chs, types: r.types, intake: in, hinted: r.baselines.sent, open: map[uint64][]*Inquiry{},
	}
	return r
}

// Effects is what is to be done. It belongs to the replica: take out of it what you carry out.
func (r *Replica) Effects() *Effects { return &r.out.Effects }

// Open adds a channel, or returns false if one of its key is open.
func (r *Replica) Open(ch *Channel, now time.Time) bool {
	if r.channels.byKey[ch.Key] != nil {
		return false
	}
	r.channels.add(ch)
	r.types.open(ch, now)
	r.types.compare(ch)
	r.out.stir()
	if ch.State {
		r.coverages.openNow(ch)
		if !r.roster.alone() {
			r.sync.wantFirst(ch, nil, 0, now)
			r.compares.await(ch, true, now)
		}
	}
	return true
}

// Close removes a channel. What waits for it needs no handler any more.
func (r *Replica) Close(ch *Channel, now time.Time) {
	if ch.closed {
		return
	}
	r.Calls.gatherings.close(ch)
	r.Observer.Watch(ch, false)
	r.channels.remove(ch)
	r.offers.close(ch)
	for _, it := range ch.drain() {
		r.intake.markHandled(it, now)
	}
}

// Receive takes a part that arrived. frame belongs to the caller.
func (r *Replica) Receive(p wire.Part, frame []byte, via wire.Route, now time.Time) {
	r.receiver.receive(p, frame, via, now)
}

// Deliver hands a message that no replica sent to the handler of a channel. It returns false if there is no room.
func (r *Replica) Deliver(ch *Channel, d Delivery) bool { return r.intake.offer(ch, d) }

// Control acts on a control frame: all of them but the goodbyes, which are about the membership. Bodies of a later version are
// ignored. An error says that the body is malformed; then nothing has happened.
func (r *Replica) Control(c wire.Control, now time.Time) error {
	if c.Body == wire.BodyBatch {
		return r.batch(c, now) // parts stand for themselves, whoever sends them
	}
	from := r.roster.get(c.From.ID)
	if !from.reachable(now) || !from.live() && forMembers(c.Body) {
		if c.Body != 0 {
			r.strangers.drop(c.From, now)
		}
		return nil
	}
	switch c.Body {
	case wire.BodySpread:
		f, err := wire.ParseSpread(c.Content)
		if err == nil {
			r.spreader.receive(from.Peer, f, now)
		}
		return err
	case wire.BodyReports:
		r.spreader.report(from, c.Content, now)
		return nil
	case wire.BodyDirect:
		return decode(c, func(m *starlingpb.Direct) { r.Calls.receive(from, m, now) })
	case wire.BodyDirectAck:
		return decode(c, func(m *starlingpb.DirectAck) { r.Calls.answered(from, m, now) })
	case wire.BodyDigest:
		return decode(c, func(m *starlingpb.Digest) { r.digests.receive(from, m, now) })
	case wire.BodyPull:
		return decode(c, func(m *starlingpb.Pull) { r.pulls.serve(from, m, now) })
	case wire.BodyAsk:
		return decode(c, func(m *starlingpb.BaselineAsk) { r.baselines.asked(from, m, now) })
	case wire.BodyBaseline:
		return decode(c, func(m *starlingpb.Baseline) {
			r.baselines.told(from, m, now)
			r.pulls.tick(now)
		})
	case wire.BodyHeard:
		return decode(c, func(m *starlingpb.BaselineHeard) {
			r.Membership.Shown(from, m.GetProof(), now)
			r.reminders.heard(from, m.GetTop())
		})
	case wire.BodyGoodbye:
		return decode(c, func(m *starlingpb.Goodbye) {
			if from.live() || from.proof != 0 && m.GetProof() == from.proof { // of one to come anybody might say that
				r.baselines.left(from, m, now)
			} else {
				r.strangers.drop(c.From, now)
			}
		})
	case wire.BodyHeldAsk:
		return decode(c, func(m *starlingpb.HeldAsk) { r.Inquiries.asked(from, m, now) })
	case wire.BodyHeldAnswer:
		return decode(c, func(m *starlingpb.HeldAnswer) { r.Inquiries.answered(from, m) })
	case wire.BodySyncAsk:
		return decode(c, func(m *starlingpb.SyncAsk) { r.offers.asked(from, m, now) })
	case wire.BodyStates:
		return decode(c, func(m *starlingpb.StateDigest) { r.compares.receive(from, m, now) })
	case wire.BodyTypes:
		return decode(c, func(m *starlingpb.Types) { r.types.receive(from, m, now) })
	case wire.BodySync:
		return decode(c, func(m *starlingpb.Sync) { r.sync.receive(from, m, now) })
	}
	r.out.drop(DropLaterVersion)
	return nil
}

// forMembers reports whether only a member may say that. Of one to come it stays unanswered, so that the one that asks finds out that we do not
// know of it from memberlist (output.asked).
func forMembers(body protowire.Number) bool {
	return body == wire.BodyDigest || body == wire.BodyHeldAsk || body == wire.BodyStates
}

// Change follows the membership: a member was and is no more, or is and was not, or is as it was but for its address. The one
// without a name is absent.
func (r *Replica) Change(was, is wire.Peer, now time.Time) {
	wasAlone := r.roster.alone()
	if was.Name != "" && (was.ID != is.ID || was.Foreign()) {
		if p := r.roster.leaves(was, now); p != nil {
			r.leave(p, now)
		}
	}
	if is.Name != "" {
		r.Membership.met()
		if p := r.roster.joins(is, now); p != nil {
			for _, old := range r.roster.replaces(p, now) {
				r.baselines.settle(old)
			}
			r.baselines.pass(wasAlone)
			wasAlone = false
			r.meet(p, now)
		}
	}
	r.baselines.pass(wasAlone)
	if r.roster.alone() && !wasAlone {
		r.out.Queue, r.out.Unqueue = nil, true
	}
	r.out.stir()
}

// meet does what is to be done when a member of ours comes.
func (r *Replica) meet(p *peer, now time.Time) {
	r.baselines.meet(p, now)
	r.types.meet(p, now)
	r.digests.news(now)
	r.sync.meet(p, now)
}

// leave does what is to be done when a member of ours is gone.
func (r *Replica) leave(p *peer, now time.Time) {
	r.baselines.settle(p)
	r.reminders.forgive(p)
	r.pulls.end(p)
	r.sync.leave(p)
	if p.log != nil {
		p.log.Sight(now)
	}
	r.spreader.spread.Lost(p.ID, now)
	r.Observer.gone(p.ID)
}

// Busy reports whether there is anything to mend or to tell: then Tick is due every few tens of milliseconds.
func (r *Replica) Busy() bool {
	if len(r.out.Gaps) > 0 || r.intake.history.Len() > 0 || r.sync.busy() || r.offers.open > 0 || r.strangers.waiting() ||
		len(r.pulls.open) > 0 || len(r.baselines.asking) > 0 || len(r.reminders.telling) > 0 || len(r.goodbyes.met) > 0 ||
		len(r.Observer.arriving) > 0 || len(r.Calls.gatherings.all) > 0 || r.types.busy() {
		return true
	}
	for _, p := range r.roster.peers {
		if p.log != nil && p.log.Incomplete() {
			return true
		}
	}
	return false
}

// Tick does what is due beside sending: repair, gaps, snapshots, and forgetting.
func (r *Replica) Tick(now time.Time) {
	r.intake.expire(now)
	r.baselines.tick(now)
	r.reminders.tick(now)
	for _, p := range r.goodbyes.tick(now) {
		r.baselines.ask(p, false, now)
	}
	r.types.tick(now)
	r.digests.tick(now)
	r.pulls.tick(now)
	r.intake.overrule(now)
	r.sync.tick(now)
	r.offers.tick(now)
	r.strangers.tick(now)
	if r.gaps.tick(now) {
		r.assemblies.sweep(now)
		r.Observer.sweep(now)
		r.Calls.gatherings.sweep(now)
		r.forget(now)
	}
	r.out.Stirred = r.Busy()
}

// forget drops the peers that are gone for twice the retention.
func (r *Replica) forget(now time.Time) {
	for _, p := range r.roster.peers {
		if p.reachable(now) || p.idle(now) < 2*r.intake.age {
			continue
		}
		if p.based() && p.log.Incomplete() {
			continue // what is owed of it has yet to come, or to be reported lost
		}
		r.roster.forget(p)
	}
}

// Take returns what the handler of a channel is to do next, if there is anything.
func (r *Replica) Take(ch *Channel, now time.Time) (Delivery, bool) {
	ch.woken = false
	for {
		d, ok := ch.inbox.pop()
		if ok && !d.kept() {
			ch.reassemble(d)
			continue
		}
		switch r.types.verdictOn(ch, &d, now) {
		case typeUnknown:
			ch.untyped = append(ch.untyped, d)
			continue
		case typeOther:
			r.refuse(ch, d, now)
			continue
		}
		for _, it := range d.items() {
			it.InHand = true
		}
		return d, ok
	}
}

// refuse keeps a message of another type than the channel's from its handler. It is here all the same, for the others.
func (r *Replica) refuse(ch *Channel, d Delivery, now time.Time) {
	r.out.dropOn(DropOtherType, ch.Key)
	for _, it := range d.items() {
		if ch.State {
			r.coverages.refuse(ch, it.ID)
		}
		r.intake.markHandled(it, now)
	}
}

// Handled notes that the handler has returned from a delivery, or that its codec refused it.
func (r *Replica) Handled(ch *Channel, d Delivery, undecodable bool, now time.Time) {
	if !undecodable {
		ch.Counters.Delivered++
	} else if d.Item != nil {
		ch.refused.add(d.Item.ID)
		if ch.State {
			for _, it := range d.items() {
				r.coverages.refuse(ch, it.ID)
			}
		}
	}
	for _, it := range d.items() {
		r.intake.markHandled(it, now)
	}
	if d.state {
		r.sync.handled(ch, undecodable, now)
	}
}

// batch takes parts that travelled together, and perhaps the end of the answer to a pull.
func (r *Replica) batch(c wire.Control, now time.Time) error {
	for frame, via := range wire.BatchParts(c.Content) {
		p, err := wire.ParsePart(frame)
		if err != nil || len(p.Key) == 0 {
			r.out.drop(DropMalformed)
			continue
		}
		r.receiver.receive(p, frame, via, now)
	}
	end := wire.BatchEnd(c.Content)
	if from := r.roster.get(c.From.ID); from.reachable(now) && end.Pull != 0 {
		r.pulls.ended(from, end, now)
	}
	return nil
}

// message is what the message type *T of a control frame's body is.
type message[T any] interface {
	*T
	proto.Message
}

// decode decodes the body of a control frame and acts on it.
func decode[T any, M message[T]](c wire.Control, act func(M)) error {
	m := M(new(T))
	if err := proto.Unmarshal(c.Content, m); err != nil {
		return fmt.Errorf("%w: control body %d: %v", wire.ErrMalformed, c.Body, err)
	}
	act(m)
	return nil
}
