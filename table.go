package starling

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// rememberGone is how many departed members a table can still name.
const rememberGone = 256

// table is what this member knows of the membership: values of its own, never memberlist's live pointers. Its callbacks
// run under memberlist's lock, so nothing here waits, and nobody calls memberlist while holding mu.
type table struct {
	self string
	// changed is called after every change, under mu, with the member as it was and as it is; Name "" stands for absent.
	changed func(was, is Member)

	alive   atomic.Int64 // members, self included
	foreign atomic.Int64 // of those, how many do not speak Starling

	mu       sync.Mutex
	members  map[string]Member
	names    map[uint64]string   // Invariant: names[m.ID] = m.Name for each member of ID ≠ 0
	gone     map[uint64]Member   // departed lately, for naming the origin of a late message
	goneIDs  []uint64            // keys of gone, oldest first; at most rememberGone
	goodbyes map[uint64]struct{} // ids that announced their leave
	sorted   []Member            // by name; nil when members has changed since; never written once built
	readers  map[*reader]struct{}
	closed   bool // what comes later changes nothing: the last picture stays
}

func newTable(self string, changed func(was, is Member)) *table {
	return &table{
		self: self, changed: changed,
		members: map[string]Member{}, names: map[uint64]string{}, gone: map[uint64]Member{},
		goodbyes: map[uint64]struct{}{}, readers: map[*reader]struct{}{},
	}
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist's EventDelegate. This member itself never departs from its own
// picture.
func (t *table) NotifyJoin(n *memberlist.Node)   { t.put(memberFrom(n)) }
func (t *table) NotifyUpdate(n *memberlist.Node) { t.put(memberFrom(n)) }

func (t *table) NotifyLeave(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.members[n.Name]; ok && !t.closed && n.Name != t.self {
		t.departed(m)
	}
}

// NotifyConflict is memberlist's ConflictDelegate.
func (t *table) NotifyConflict(existing, other *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Event{Kind: Conflict, Member: memberFrom(existing), Other: memberFrom(other)}
	for r := range t.readers {
		r.conflict(e)
	}
}

func (t *table) put(m Member) {
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
	t.count(m, known, 1)
	t.tell(was, m)
}

// departed takes m out and remembers how it went.
func (t *table) departed(m Member) {
	delete(t.members, m.Name)
	gone := m
	gone.Status = StatusFailed
	if _, ok := t.goodbyes[m.ID]; ok {
		gone.Status = StatusLeft
		delete(t.goodbyes, m.ID)
	}
	if m.ID != 0 {
		delete(t.names, m.ID)
		t.bury(gone)
	}
	t.count(m, false, -1)
	for r := range t.readers {
		r.departure(gone)
	}
	t.tell(gone, Member{})
}

func (t *table) bury(m Member) {
	if _, ok := t.gone[m.ID]; !ok {
		t.goneIDs = append(t.goneIDs, m.ID)
	}
	t.gone[m.ID] = m
	if len(t.goneIDs) > rememberGone {
		delete(t.gone, t.goneIDs[0])
		t.goneIDs = t.goneIDs[1:]
	}
}

func (t *table) count(m Member, known bool, by int64) {
	if known {
		return
	}
	t.alive.Add(by)
	if m.Foreign() {
		t.foreign.Add(by)
	}
}

// tell spreads a change. Exactly one of was and is may be absent.
func (t *table) tell(was, is Member) {
	t.sorted = nil
	name := is.Name
	if name == "" {
		name = was.Name
	}
	for r := range t.readers {
		r.touch(name)
	}
	if t.changed != nil {
		t.changed(was, is)
	}
}

// goodbye notes that the member of that id leaves on purpose. Only members that we know may say so.
func (t *table) goodbye(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.names[id]; ok {
		t.goodbyes[id] = struct{}{}
	}
}

func (t *table) setRTT(name string, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.members[name]; ok {
		m.RTT = rtt
		t.members[name] = m
		t.sorted = nil
	}
}

// list returns the live members by name. The slice is shared and must not be written.
func (t *table) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sorted == nil {
		t.sorted = make([]Member, 0, len(t.members))
		for _, m := range t.members {
			t.sorted = append(t.sorted, m)
		}
		slices.SortFunc(t.sorted, byName)
	}
	return t.sorted
}

// lookup finds a live member by name.
func (t *table) lookup(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.members[name]
	return m, ok
}

// origin names the member of that id, alive or gone; of one that was never seen it knows the id alone.
func (t *table) origin(id uint64) Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name, ok := t.names[id]; ok {
		return t.members[name]
	}
	if m, ok := t.gone[id]; ok {
		return m
	}
	return Member{ID: id, Status: StatusFailed}
}

// hasAddr reports whether a live member has that address.
func (t *table) hasAddr(a netip.AddrPort) bool {
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
func (t *table) knows(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.names[id]
	return ok
}

// gap tells every reader of a gap.
func (t *table) gap(g Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.readers {
		r.gap(g)
	}
}

// close ends every subscription and keeps the picture as it is.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for r := range t.readers {
		r.wakeUp()
	}
}
