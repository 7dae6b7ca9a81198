package starling

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// An Event is one thing that happened to the membership, or to what this member has.
type Event struct {
	Kind    EventKind
	Member  Member  // whom it is about, as it is now; for EventLeft and EventFailed, as it was
	Other   Member  // EventConflict: who claims the same name from another address
	Gap     Gap     // EventGap: what is missing
	Channel string  // EventSynced, EventStateTooLarge, EventOtherType: the channel's key
	Feature Feature // EventFeatureBegins, EventFeatureEnds
	Err     error   // EventStateTooLarge: a *StateTooLargeError; EventOtherType: an *OtherTypeError
}

// String tells what happened, for a log: "m1 failed", "messages 3 to 5 of m1 are lost to this member".
func (e Event) String() string {
	switch e.Kind {
	case EventConflict:
		return fmt.Sprintf("the name %s of the member at %v is claimed by another one at %v, which is refused",
			e.Member.Name, e.Member.Addr, e.Other.Addr)
	case EventGap:
		return fmt.Sprintf("messages %d to %d of %s are lost to this member", e.Gap.First, e.Gap.Last, e.Gap.Origin.Name)
	case EventSynced:
		return fmt.Sprintf("the state of channel %q is that of the members that were there", e.Channel)
	case EventStateTooLarge, EventOtherType:
		return e.Err.Error()
	case EventFeatureBegins:
		return fmt.Sprintf("all members have the feature %v, since %s is gone", e.Feature, e.Member.Name)
	case EventFeatureEnds:
		return fmt.Sprintf("the feature %v is not that of all members any more: %s lacks it", e.Feature, e.Member.Name)
	}
	return e.Member.Name + " " + e.Kind.String()
}

// A Gap tells that messages are lost to this member: it was owed them, and nobody has them any more.
type Gap struct {
	Origin      Member // who broadcast them
	First, Last uint64 // the seqs of their parts, see Message.Seq. Which channels they were for is not known: the parts that say so are lost
	// Skipped is how many gaps before this one a reader was not told of, because it was far behind.
	Skipped int
}

// EventKind tells what happened.
type EventKind int

const (
	EventJoined   EventKind = iota // the member takes part; also told of every current member first
	EventUpdated                   // its metadata or address changed
	EventLeft                      // it said goodbye
	EventFailed                    // it is gone without a goodbye, or its name has been taken over by a new run of it
	EventConflict                  // somebody else claims its name from another address, and is refused
	EventGap                       // messages of Event.Gap are lost to this member
	// EventSynced: on the channel, this member has what the members had that were there when it joined, or when the channel was opened;
	// see Ready. It is told once for each channel with state, and not while a member is alone.
	EventSynced
	// EventStateTooLarge: the state of the member, or an item of it, is too large for this one, so that this one's state lacks what it
	// contains. It is told once for each channel.
	EventStateTooLarge
	// EventOtherType: the member's channel of that key carries another type than this one's. Neither handler is given what the other one
	// broadcasts or sends. It is told once for each channel of each run of a member.
	EventOtherType
	// EventFeatureEnds: the member has come and does not have Event.Feature, which all members of Starling had before.
	EventFeatureEnds
	// EventFeatureBegins: the last member without Event.Feature is gone, so that all members of Starling have it. Event.Member is that member,
	// as it was. A member that is alone has all features that it knows, and is not told of that.
	EventFeatureBegins
)

var eventKinds = []string{"joined", "updated", "left", "failed", "conflict", "gap", "synced", "state too large", "other type",
	"feature ends", "feature begins"}

func (k EventKind) String() string { return nameOf(k, eventKinds) }

// reader is one subscription: what its owner has been told, and whom it has not heard the latest of. It holds at most one
// record for each member, however long nobody reads. The membership's mu guards it.
type reader struct {
	told   map[string]*telling
	queue  []string // names with news, oldest first
	gaps   []Gap    // at most maxReaderGaps, oldest first
	states []Event  // of states and types; at most maxReaderGaps: beyond it the oldest go
	wake   chan struct{}
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
	signal(r.wake)
}

func (r *reader) state(e Event) {
	if len(r.states) == maxReaderGaps {
		r.states = r.states[1:]
	}
	r.states = append(r.states, e)
	signal(r.wake)
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
		signal(r.wake)
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
		ev.Member, ev.Other = ev.Member.clone(), ev.Other.clone()
		return ev, true
	}
	if len(r.gaps) > 0 {
		g := r.gaps[0]
		r.gaps = r.gaps[1:]
		g.Origin = g.Origin.clone()
		return Event{Kind: EventGap, Member: g.Origin.clone(), Gap: g}, true
	}
	if len(r.states) > 0 {
		e := r.states[0]
		r.states = r.states[1:]
		e.Member = e.Member.clone()
		return e, true
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
			return Event{Kind: EventLeft, Member: gone}, true
		}
		return Event{Kind: EventFailed, Member: gone}, true
	case e.known == nil && is.Name != "":
		e.known = &is
		return Event{Kind: EventJoined, Member: is}, true
	case e.known != nil && is.Name != "" && !sameFace(*e.known, is):
		e.known = &is
		return Event{Kind: EventUpdated, Member: is}, true
	}
	return Event{}, false
}

// subscribe returns a reader that has yet to be told of every current member, self first.
func (t *membership) subscribe() *reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &reader{told: map[string]*telling{}, wake: make(chan struct{}, 1)}
	if _, ok := t.members[t.self]; ok {
		r.touch(t.self)
	}
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		r.touch(name)
	}
	t.readers[r] = struct{}{}
	return r
}

func (t *membership) unsubscribe(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.readers, r)
}

// pull takes r's next event; open is false when the table has closed and nothing is left.
func (t *membership) pull(r *reader) (e Event, ok, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return Event{}, false, false
	}
	e, ok = r.next(t.members)
	return e, ok, true
}

// events yields what a new reader has to be told until ctx ends or the table closes.
func (t *membership) events(ctx context.Context) iter.Seq[Event] {
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
