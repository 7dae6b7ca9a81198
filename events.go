package starling

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// An Event is one thing that happened to the membership.
type Event struct {
	Kind   EventKind
	Member Member // whom it is about, as it is now; for Left and Failed, as it was
	Other  Member // Conflict: who claims the same name from another address
	Gap    Gap    // GapFound: what is missing
}

// A Gap tells that messages are lost to this member: it was owed them, and nobody has them any more.
type Gap struct {
	Origin      Member // who broadcast them
	First, Last uint64 // their seqs; the channels are not known
	// Skipped is how many gaps before this one a reader was not told of, because it was far behind.
	Skipped int
}

// EventKind tells what happened.
type EventKind int

const (
	Joined   EventKind = iota // the member takes part; also told of every current member first
	Updated                   // its metadata or address changed
	Left                      // it said goodbye
	Failed                    // it is gone without a goodbye, or its name has been taken over by a new run of it
	Conflict                  // somebody else claims its name from another address, and is refused
	GapFound                  // messages of Event.Gap are lost to this member
)

var eventKinds = [...]string{"joined", "updated", "left", "failed", "conflict", "gap"}

func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventKinds) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return eventKinds[k]
}

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

// reader is one subscription: what its owner has been told, and whom it has not heard the latest of. It holds at most one
// record for each member, however long nobody reads. The table's mu guards it.
type reader struct {
	told  map[string]*telling
	queue []string // names with news, oldest first
	gaps  []Gap    // at most maxReaderGaps, oldest first
	wake  chan struct{}
}

// telling is what a reader has been told of one name.
type telling struct {
	known    *Member // nil: absent
	gone     *Member // known has departed, and how
	conflict *Event
	queued   bool
}

// maxReaderGaps bounds the gaps that wait for one reader; beyond it the oldest go and are counted.
const maxReaderGaps = 1024

func (r *reader) gap(g Gap) {
	if len(r.gaps) == maxReaderGaps {
		r.gaps[1].Skipped += r.gaps[0].Skipped + 1
		r.gaps = r.gaps[1:]
	}
	r.gaps = append(r.gaps, g)
	r.wakeUp()
}

func (r *reader) of(name string) *telling {
	e, ok := r.told[name]
	if !ok {
		e = new(telling)
		r.told[name] = e
	}
	return e
}

func (r *reader) touch(name string) {
	if e := r.of(name); !e.queued {
		e.queued = true
		r.queue = append(r.queue, name)
		r.wakeUp()
	}
}

func (r *reader) departure(m Member) {
	if e := r.of(m.Name); e.known != nil && e.known.ID == m.ID {
		e.gone = &m
	}
}

func (r *reader) conflict(e Event) {
	r.of(e.Member.Name).conflict = &e
	r.touch(e.Member.Name)
}

func (r *reader) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next takes the next event that the reader has not been told, comparing what it knows with what is.
func (r *reader) next(members map[string]Member) (Event, bool) {
	for len(r.queue) > 0 {
		name := r.queue[0]
		e := r.told[name]
		ev, more := e.next(members[name])
		if !more {
			r.queue = r.queue[1:]
			e.queued = false
			if e.known == nil {
				delete(r.told, name)
			}
			continue
		}
		ev.Member = ev.Member.clone()
		return ev, true
	}
	if len(r.gaps) > 0 {
		g := r.gaps[0]
		r.gaps = r.gaps[1:]
		return Event{Kind: GapFound, Member: g.Origin, Gap: g}, true
	}
	return Event{}, false
}

// next compares what was told with the member as it is (Name "": absent).
func (e *telling) next(is Member) (Event, bool) {
	switch {
	case e.conflict != nil:
		ev := *e.conflict
		e.conflict = nil
		return ev, true
	case e.known != nil && e.gone != nil:
		gone := *e.gone
		e.known, e.gone = nil, nil
		if gone.Status == StatusLeft {
			return Event{Kind: Left, Member: gone}, true
		}
		return Event{Kind: Failed, Member: gone}, true
	case e.known == nil && is.Name != "":
		e.known = &is
		return Event{Kind: Joined, Member: is}, true
	case e.known != nil && is.Name != "" && !sameFace(*e.known, is):
		e.known = &is
		return Event{Kind: Updated, Member: is}, true
	}
	return Event{}, false
}

// subscribe returns a reader that has yet to be told of every current member, self first.
func (t *table) subscribe() *reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &reader{told: map[string]*telling{}, wake: make(chan struct{}, 1)}
	if _, ok := t.members[t.self]; ok {
		r.touch(t.self)
	}
	names := make([]string, 0, len(t.members))
	for name := range t.members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.touch(name)
	}
	t.readers[r] = struct{}{}
	return r
}

func (t *table) unsubscribe(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
}

// pull takes r's next event; open is false when the table has closed and nothing is left.
func (t *table) pull(r *reader) (e Event, ok, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return Event{}, false, false
	}
	e, ok = r.next(t.members)
	return e, ok, true
}

// events yields what a new reader has to be told until ctx ends or the table closes.
func (t *table) events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		r := t.subscribe()
		defer t.unsubscribe(r)
		for ctx.Err() == nil {
			e, ok, open := t.pull(r)
			switch {
			case !open:
				return
			case ok:
				if !yield(e) {
					return
				}
			default:
				select {
				case <-r.wake:
				case <-ctx.Done():
				}
			}
		}
	}
}
