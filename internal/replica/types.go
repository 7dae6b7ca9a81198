package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// types knows what the channels of other members carry, so that no handler is given messages of another type than its own. A member tells
// the sum of its table in its question for a baseline, in its own baseline, when it opens a channel, in digests, and in the first messages that it
// sends to a member alone. Who has been told no sum by the time that it matters, or knows no table of it, asks for the table. So members that
// run the same program tell each other nine bytes.
//
// Until it is known what a member's channel carries, its messages wait, for typesPatience at most.
type types struct {
	out      *output
	roster   *roster
	channels *channelSet

	own    *typeTable
	kept   map[uint64]*typeTable // tables of others, by their sums
	size   int                   // of those; at most maxTablesSize
	asking []*peer               // whose tables are asked for; Invariant: those whose types.asked is not nil
}

// typeTable is what the channels of a member carry. It does not change: who opens a channel has another table.
type typeTable struct {
	of   map[string]string // by key; empty: that is not told
	sum  uint64
	size int // bytes, about
}

// peerTypes is what is known of the channels of a peer.
type peerTypes struct {
	told    bool              // it has told a sum, or that it tells none
	sum     uint64            // 0: it tells none
	table   *typeTable        // of that sum, or, while it is asked, of an earlier one; nil: not known
	asked   *question         // for the table
	about   map[string]bool   // keys that the question is about, since messages came of which the table says nothing
	without map[string]bool   // keys of which the table says nothing, although it was asked about them
	since   time.Time         // since when messages wait for the table; zero: none do
	given   time.Time         // when it was given ours last
	differs map[string]string // its types that are others than ours, and have been told of, by key
}

type typeVerdict uint8

const (
	typeSame    typeVerdict = iota // or nobody can tell
	typeOther                      // not for a handler of ours
	typeUnknown                    // it will be known soon
)

const (
	// maxTypesSize bounds what a member tells of its channels. What does not fit is not told of.
	maxTypesSize = wire.MaxBody / 2
	// maxTablesSize bounds the tables of others. Of a member whose table finds no room nothing is known.
	maxTablesSize = 16 << 20
	// typesPatience is how long the messages of a member wait for its table, and typesUntold how long if it has not even told a sum: it may
	// be gone.
	typesPatience = 5 * time.Second
	typesUntold   = time.Second
	// typesEvery is the shortest time between two answers to one member.
	typesEvery = askEvery / 2
)

func newTypeTable(of map[string]string) *typeTable {
	t := &typeTable{of: of}
	h := sha256.New()
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(of)) {
		b = b[:0]
		for _, text := range [2]string{key, of[key]} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
		h.Write(b)
		t.size += typeSize(key, of[key])
	}
	t.sum = max(binary.BigEndian.Uint64(h.Sum(nil)), 1)
	return t
}

// typeSize is about what an entry of a table takes, encoded.
func typeSize(key, typ string) int { return len(key) + len(typ) + 8 }

// sameType reports whether two types are the same as far as both say: "json" and "json:prices" are.
func sameType(a, b string) bool {
	for a != b && a != "" && b != "" {
		var placeA, placeB string
		placeA, a, _ = strings.Cut(a, ":")
		placeB, b, _ = strings.Cut(b, ":")
		if placeA != placeB && placeA != "" && placeB != "" {
			return false
		}
	}
	return true
}

// open puts a channel of ours into our table, and tells the others. A channel that was closed stays there: its last messages may come
// later than that.
func (ts *types) open(ch *Channel, now time.Time) {
	if typ, told := ts.own.of[ch.Key]; told && typ == ch.Type {
		return
	}
	of := maps.Clone(ts.own.of)
	delete(of, ch.Key)
	size := ts.own.size - typeSize(ch.Key, ts.own.of[ch.Key]) + typeSize(ch.Key, ch.Type)
	if size > maxTypesSize {
		maps.DeleteFunc(of, func(key, _ string) bool { return ts.channels.byKey[key] == nil })
		size = newTypeTable(of).size + typeSize(ch.Key, ch.Type)
	}
	if size <= maxTypesSize {
		of[ch.Key] = ch.Type
	}
	ts.own = newTypeTable(of)
	for _, p := range ts.roster.ours {
		if !p.Features.Has(wire.FeatureTypes) {
			continue
		}
		ts.out.tell(p.Peer, wire.BodyTypes, &starlingpb.Types{Sum: ts.own.sum}, false)
	}
}

// compare tells of the members whose channel of that key carries another type.
func (ts *types) compare(ch *Channel) {
	for _, p := range ts.roster.ours {
		ts.judge(p, ch)
	}
}

// heard takes the sum that a peer has told itself.
func (ts *types) heard(p *peer, sum uint64, now time.Time) {
	t := &p.types
	t.told = true
	if sum == 0 || sum == t.sum && (t.table != nil || t.asked != nil) {
		ts.release()
		return
	}
	t.sum = sum
	if table := ts.find(sum); table != nil {
		ts.know(p, table)
	} else {
		ts.ask(p, now)
	}
}

// untold returns the sum of our types for a frame to a peer that may not know them. It returns 0 if the peer has told us its own sum: then it
// knows ours, for whoever is told a sum tells its own.
func (ts *types) untold(p *peer) uint64 {
	if p.types.told {
		return 0
	}
	return ts.own.sum
}

// introduced takes the sum that untold has put into a frame, and tells ours.
func (ts *types) introduced(p *peer, sum uint64, now time.Time) {
	if sum != 0 {
		ts.heard(p, sum, now)
		ts.out.tell(p.Peer, wire.BodyTypes, &starlingpb.Types{Sum: ts.own.sum}, false)
	}
}

// find returns the table of a sum, nil if none is known.
func (ts *types) find(sum uint64) *typeTable {
	if sum == ts.own.sum {
		return ts.own
	}
	return ts.kept[sum]
}

// ask asks a member for its table, again and again. One that has only introduced itself is asked when it is a member: it may be anybody.
func (ts *types) ask(p *peer, now time.Time) {
	if p.types.asked == nil && p.live() {
		p.types.asked = &question{nonce: ts.roster.rng.Uint64() | 1}
		ts.asking = append(ts.asking, p)
		ts.askAgain(p, now)
	}
}

func (ts *types) askAgain(p *peer, now time.Time) {
	q := p.types.asked
	q.at = now.Add(askEvery << min(q.tries, 5))
	q.tries++
	stream := q.tries%3 == 0
	ts.out.tell(p.Peer, wire.BodyTypes, &starlingpb.Types{Sum: ts.own.sum, Nonce: q.nonce, Stream: stream}, stream)
	ts.out.stir()
}

// settle ends the question to a peer.
func (ts *types) settle(p *peer) {
	if p.types.asked != nil {
		p.types.asked = nil
		p.types.about = nil
		ts.asking = slices.DeleteFunc(ts.asking, func(o *peer) bool { return o == p })
	}
}

// meet resumes what there is to do about a peer that has become a member.
func (ts *types) meet(p *peer, now time.Time) {
	switch t := &p.types; {
	case t.table != nil:
		ts.judgeAll(p)
	case t.sum != 0:
		ts.ask(p, now)
	}
}

// receive takes a sum, a question, or an answer.
func (ts *types) receive(from *peer, m *starlingpb.Types, now time.Time) {
	if m.GetAnswer() {
		ts.answered(from, m)
		return
	}
	if m.GetSum() != 0 {
		ts.heard(from, m.GetSum(), now)
	}
	if m.GetNonce() == 0 || !from.live() || now.Sub(from.types.given) < typesEvery {
		return // who is no member yet may be anybody, anywhere, and gets nothing longer than its question
	}
	from.types.given = now
	a := &starlingpb.Types{Sum: ts.own.sum, Nonce: m.GetNonce(), Answer: true}
	if m.GetSum() != ts.own.sum {
		for key, typ := range sortedMap(ts.own.of) {
			a.Channels = append(a.Channels, &starlingpb.ChannelType{Key: key, Type: typ})
		}
	}
	ts.out.tell(from.Peer, wire.BodyTypes, a, m.GetStream())
}

// answered takes the table of a member that was asked for it.
func (ts *types) answered(from *peer, m *starlingpb.Types) {
	t := &from.types
	if t.asked == nil || m.GetNonce() != t.asked.nonce {
		return
	}
	table, about := ts.find(m.GetSum()), t.about
	if table == nil {
		of := map[string]string{}
		for _, c := range m.GetChannels() {
			of[c.GetKey()] = c.GetType()
		}
		if table = newTypeTable(of); table.sum != m.GetSum() {
			return // it named no channels, because the sums were equal when we asked; ours has changed since, so we ask again
		}
		table = ts.keep(table)
	}
	t.told, t.sum = true, m.GetSum()
	if table == nil {
		t.sum = 0
	}
	ts.know(from, table)
	t.without = about
}

// keep returns a table that is shared with other members, nil if there is no room for it.
func (ts *types) keep(t *typeTable) *typeTable {
	if known := ts.find(t.sum); known != nil {
		return known
	}
	if ts.size+t.size > maxTablesSize {
		used := map[*typeTable]bool{}
		for _, p := range ts.roster.peers {
			used[p.types.table] = true
		}
		maps.DeleteFunc(ts.kept, func(_ uint64, o *typeTable) bool {
			if !used[o] {
				ts.size -= o.size
			}
			return !used[o]
		})
	}
	if ts.size+t.size > maxTablesSize {
		return nil
	}
	ts.kept[t.sum] = t
	ts.size += t.size
	return t
}

// know notes a peer's table, and lets go what waited for it.
func (ts *types) know(p *peer, table *typeTable) {
	ts.settle(p)
	t := &p.types
	t.table, t.since, t.without = table, time.Time{}, nil
	ts.judgeAll(p)
	ts.release() // to the inboxes: it is judged anew when a handler comes to it
}

func (ts *types) judgeAll(p *peer) {
	for _, ch := range ts.channels.sorted() {
		ts.judge(p, ch)
	}
}

// judge tells once of a member whose channel of that key carries another type than ours.
func (ts *types) judge(p *peer, ch *Channel) {
	t := &p.types
	if !p.live() || t.table == nil {
		return
	}
	theirs := t.table.of[ch.Key]
	if sameType(ch.Type, theirs) {
		delete(t.differs, ch.Key)
		return
	}
	if t.differs[ch.Key] == theirs {
		return
	}
	if t.differs == nil {
		t.differs = map[string]string{}
	}
	t.differs[ch.Key] = theirs
	ts.out.Types = append(ts.out.Types, TypeEvent{Channel: ch, From: p.Peer, Theirs: theirs})
	ts.out.stir()
}

// differs reports whether a peer's channel of that key is known to carry another type than ours.
func (ts *types) differs(p *peer, ch *Channel) bool {
	return p != nil && p.types.table != nil && !sameType(ch.Type, p.types.table.of[ch.Key])
}

// verdict tells whether a peer's messages are for the handler of a channel.
func (ts *types) verdict(p *peer, ch *Channel, now time.Time) typeVerdict {
	if p == nil || ch.Type == "" || p.types.told && p.types.sum == 0 || p.live() && !p.Features.Has(wire.FeatureTypes) {
		return typeSame
	}
	if !ts.certain(p, ch) && ts.waits(p, ch, now) {
		return typeUnknown
	}
	if ts.differs(p, ch) {
		return typeOther
	}
	return typeSame
}

// certain reports whether a peer's table says what its channel carries, as far as it will.
func (ts *types) certain(p *peer, ch *Channel) bool {
	t := &p.types
	if t.table == nil || t.asked != nil {
		return false
	}
	_, told := t.table.of[ch.Key]
	return told || t.without[ch.Key]
}

// waits reports whether a peer's table is worth waiting for. Members that had nothing to ask each other when they met have told no sum: so
// the table is asked for. One that lacks a channel of which messages come is old: it is asked for anew.
func (ts *types) waits(p *peer, ch *Channel, now time.Time) bool {
	t := &p.types
	if t.since.IsZero() {
		t.since = now
	}
	if t.asked == nil {
		ts.ask(p, now)
		if t.table != nil {
			t.about = map[string]bool{ch.Key: true}
		}
	}
	ts.out.stir()
	patience := typesPatience
	if !t.told {
		patience = typesUntold
	}
	return now.Sub(t.since) < patience
}

// verdictOn tells whether a delivery is for the handler of its channel. Messages to this member alone, and states, were judged when they
// came, and those of foreign members cannot be.
func (ts *types) verdictOn(ch *Channel, d *Delivery, now time.Time) typeVerdict {
	if d.Item == nil || d.Origin == ts.roster.self.ID {
		return typeSame
	}
	return ts.verdict(ts.roster.get(d.Origin), ch, now)
}

// release gives what waited for a table back to the inboxes, where it is judged anew.
func (ts *types) release() {
	for _, ch := range ts.channels.byKey {
		if len(ch.untyped) > 0 {
			ch.inbox.putBack(ch.untyped)
			ch.untyped = nil
			ts.out.wake(ch)
		}
	}
}

// busy reports whether there is anything to ask, or waiting.
func (ts *types) busy() bool {
	if len(ts.asking) > 0 {
		return true
	}
	for _, ch := range ts.channels.byKey {
		if len(ch.untyped) > 0 {
			return true
		}
	}
	return false
}

// tick asks those again who have not answered, and lets go what has waited for too long.
func (ts *types) tick(now time.Time) {
	for _, p := range slices.Clone(ts.asking) {
		switch {
		case !p.live():
			ts.settle(p)
		case now.After(p.types.asked.at):
			ts.askAgain(p, now)
		}
	}
	for _, ch := range ts.channels.byKey {
		if slices.ContainsFunc(ch.untyped, func(d Delivery) bool { return ts.verdictOn(ch, &d, now) != typeUnknown }) {
			ts.release()
			return
		}
	}
}
