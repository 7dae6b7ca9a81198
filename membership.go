package starling

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// rememberGone is how many departed members can still be named.
const rememberGone = 256

// goodbyeHolds is how long after its goodbye a member that goes has left. It is longer than a Leave takes from there on; and
// a goodbye that somebody else has said in its name makes nobody take a later failure for a leave.
const goodbyeHolds = goodbyeFor + leaveAtMost + 4*time.Second

// unknownGoodbye is how much longer the goodbye of one holds that memberlist has not told of yet.
const unknownGoodbye = 30 * time.Second

// membership is what this member knows of the membership: values of its own, never memberlist's live pointers. Its callbacks
// run under memberlist's lock, so nothing here waits, and nobody calls memberlist while holding mu.
type membership struct {
	self string
	// changed is called after every change, under mu, with the member as it was and as it is; Name "" stands for absent.
	changed func(was, is Member)

	alive   atomic.Int64 // members, self included
	foreign atomic.Int64 // of those, how many do not speak Starling
	// leaving is until when the ids in goodbyes and gone leave; the zero time of one that is gone. It is read without mu: outlet asks it when a
	// stream is refused, perhaps during a change of the members, under mu.
	leaving sync.Map

	mu       sync.Mutex
	members  map[string]Member
	common   common
	names    map[uint64]string    // Invariant: names[m.ID] = m.Name for each member of ID ≠ 0
	gone     goneRuns             // departed lately, for naming the origin of a late message
	goodbyes map[uint64]time.Time // ids that announced their leave, and when
	sorted   []Member             // by name; nil when members has changed since; never written once built
	readers  map[*reader]struct{}
	closed   bool // what comes later changes nothing: the last picture stays
}

func newMembership(self string, changed func(was, is Member)) *membership {
	return &membership{
		self: self, changed: changed,
		members: map[string]Member{}, names: map[uint64]string{}, gone: goneRuns{byID: map[uint64]Member{}},
		common: common{features: wire.OwnFeatures, lines: lineKinds{}}, goodbyes: map[uint64]time.Time{}, readers: map[*reader]struct{}{},
	}
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist's EventDelegate. This member itself never departs from its own
// picture.
func (t *membership) NotifyJoin(n *memberlist.Node)   { t.put(memberFrom(n)) }
func (t *membership) NotifyUpdate(n *memberlist.Node) { t.put(memberFrom(n)) }

func (t *membership) NotifyLeave(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.members[n.Name]; ok && !t.closed && n.Name != t.self {
		t.departed(m)
	}
}

// NotifyConflict is memberlist's ConflictDelegate.
func (t *membership) NotifyConflict(existing, other *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Event{Kind: EventConflict, Member: memberFrom(existing), Other: memberFrom(other)}
	for r := range t.readers {
		r.conflict(e)
	}
}

func (t *membership) put(m Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	was, known := t.members[m.Name]
	if known && was.ID != m.ID {
		// The name has a new owner: memberlist calls that an update, we a failure and a join.
		t.departed(was)
		was, known = Member{}, false
	}
	m.RTT = was.RTT
	t.members[m.Name] = m
	if m.ID != 0 {
		t.names[m.ID] = m.Name
	}
	if !known {
		t.count(m, 1)
		if t.gone.remove(m.ID) {
			t.leaving.Delete(m.ID)
		}
	}
	t.tell(was, m)
}

// departed takes m out and remembers how it went.
func (t *membership) departed(m Member) {
	delete(t.members, m.Name)
	gone := m
	gone.Status = StatusFailed
	if said, ok := t.goodbyes[m.ID]; ok {
		if time.Since(said) < goodbyeHolds {
			gone.Status = StatusLeft
		}
		delete(t.goodbyes, m.ID)
	}
	if m.ID != 0 {
		delete(t.names, m.ID)
		if first, full := t.gone.add(gone); full {
			t.leaving.Delete(first)
		}
		t.leaving.Store(m.ID, time.Time{})
	}
	t.count(m, -1)
	for r := range t.readers {
		r.departure(gone)
	}
	t.tell(gone, Member{})
}

// goneRuns remembers the runs that departed lately, rememberGone of them at most.
type goneRuns struct {
	byID map[uint64]Member
	ids  []uint64 // of all, who departed first comes first
}

// add remembers one. Where there are too many it forgets who departed first, and returns that one.
func (g *goneRuns) add(m Member) (forgotten uint64, full bool) {
	g.remove(m.ID)
	g.byID[m.ID] = m
	g.ids = append(g.ids, m.ID)
	if full = len(g.ids) > rememberGone; full {
		forgotten = g.ids[0]
		g.remove(forgotten)
	}
	return forgotten, full
}

// remove forgets one, and reports whether it was there.
func (g *goneRuns) remove(id uint64) bool {
	_, ok := g.byID[id]
	if ok {
		delete(g.byID, id)
		g.ids = slices.DeleteFunc(g.ids, func(other uint64) bool { return other == id })
	}
	return ok
}

func (t *membership) count(m Member, by int64) {
	t.alive.Add(by)
	if m.Foreign() {
		t.foreign.Add(by)
	}
}

// tell spreads a change. Exactly one of was and is may be absent.
func (t *membership) tell(was, is Member) {
	t.sorted = nil
	for r := range t.readers {
		r.touch(cmp.Or(is.Name, was.Name))
	}
	if t.changed != nil {
		t.changed(was, is)
	}
	for _, e := range t.common.change(was, is, t.members) {
		for r := range t.readers {
			r.state(e)
		}
	}
}

// common is what the members of ours have in common. The membership's mu guards it.
type common struct {
	features wire.Features // that all of them have
	log      *slog.Logger  // nil: nobody wants to know
	lines    lineKinds
}

// change takes a change of the members. It returns the features that all have again since then, and those that not all have any more, as
// events.
func (cm *common) change(was, is Member, members map[string]Member) (told []Event) {
	if was.Name == "" && is.Foreign() && is.Version != 0 {
		cm.tell(slog.LevelWarn, is.Name, "a member speaks another version of Starling: it gets and gives plain messages, without repair; "+
			"bring all members to releases that understand each other",
			"member", is.Name, "addr", is.Addr, "speaks", is.Version, "understands_from", is.least,
			"this_speaks", wire.Version, "this_understands_from", wire.LeastVersion)
	}
	before := cm.features
	cm.features = wire.OwnFeatures
	for _, m := range members {
		if !m.Foreign() {
			cm.features &= m.features
		}
	}
	for i := range (before ^ cm.features).Each() {
		f := Feature(i)
		if cm.features.Has(1 << i) {
			told = append(told, Event{Kind: EventFeatureBegins, Feature: f, Member: was})
			cm.tell(slog.LevelInfo, f.String(), "all members have a feature, since the last one without it is gone",
				"feature", f.String(), "member", was.Name)
		} else {
			told = append(told, Event{Kind: EventFeatureEnds, Feature: f, Member: is})
			cm.tell(slog.LevelInfo, f.String(), "not all members have a feature any more: it is used between those that have it",
				"feature", f.String(), "lacks_it", is.Name)
		}
	}
	return told
}

// tell writes the first line of a kind, and one a minute from then on.
func (cm *common) tell(level slog.Level, kind, text string, attrs ...any) {
	if cm.log == nil {
		return
	}
	if more, ok := cm.lines.pass(kind+text, time.Now()); ok {
		cm.log.Log(context.Background(), level, text, append(attrs, more...)...)
	}
}

// goodbye notes that the member of that id leaves on purpose. Only members that we know may say so, and those to come that have shown who they are:
// memberlist may tell of them later.
func (t *membership) goodbye(id uint64, toCome bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.names[id]; !ok && !toCome {
		return
	}
	now := time.Now()
	if len(t.goodbyes) >= rememberGone {
		maps.DeleteFunc(t.goodbyes, func(_ uint64, said time.Time) bool { return now.Sub(said) >= goodbyeHolds })
	}
	if _, ok := t.names[id]; ok {
		t.leaving.Store(id, now.Add(goodbyeHolds))
	} else if len(t.goodbyes) >= rememberGone {
		return
	} else {
		now = now.Add(unknownGoodbye) // it was proven, and memberlist may be slow to tell of it, and of its end
	}
	t.goodbyes[id] = now
}

// leaves reports whether a run of a member has said goodbye lately, or is gone. It may be called under mu.
func (t *membership) leaves(id uint64) bool {
	until, ok := t.leaving.Load(id)
	return ok && (until.(time.Time).IsZero() || time.Now().Before(until.(time.Time)))
}

func (t *membership) setRTT(name string, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.members[name]; ok {
		m.RTT = rtt
		t.members[name] = m
		t.sorted = nil
	}
}

// list returns the live members by name. The slice is shared and must not be written.
func (t *membership) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sorted == nil {
		t.sorted = slices.SortedFunc(maps.Values(t.members), byName)
	}
	return t.sorted
}

// lookup finds a live member by name.
func (t *membership) lookup(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.members[name]
	return m, ok
}

// origin names the member of that id, alive or gone; of one that was never seen it knows the id alone.
func (t *membership) origin(id uint64) Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name, ok := t.names[id]; ok {
		return t.members[name]
	}
	if m, ok := t.gone.byID[id]; ok {
		return m
	}
	return Member{ID: id, Status: StatusFailed}
}

// runOf names the run of that id as sentBy does.
func runOf(c *Cluster, id uint64) Member {
	m := c.table.origin(id)
	if m.Name == "" {
		var p wire.Peer
		var meta []byte
		c.do(func(r *replica.Replica, _ time.Time) { p, meta = r.Membership.Run(id) })
		m = c.table.sentBy(p, meta)
	}
	return m
}

// hasAddr reports whether a live member has that address.
func (t *membership) hasAddr(a netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if m.Addr == a {
			return true
		}
	}
	return false
}

// knows reports whether a live member has that id.
func (t *membership) knows(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.names[id]
	return ok
}

// gap tells every reader of a gap.
func (t *membership) gap(g Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.readers {
		r.gap(g)
	}
}

// state tells every reader what has become of the state of a channel, or what a member's channel carries.
func (t *membership) state(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.readers {
		r.state(e)
	}
}

// close ends every subscription and keeps the picture as it is.
func (t *membership) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for r := range t.readers {
		signal(r.wake)
	}
}
