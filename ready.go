package starling

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// Ready returns nil when this member is ready to serve:
//
//   - it has joined: its Join has returned nil. One that has no seeds need not join, and is ready alone, at once;
//   - there are at least Config.MinMembers members, and the membership has not changed for half a second;
//   - on every channel with a Snapshot, and every State, its state contains what those of all members contained that were there when
//     it joined, and its handler has had all of that and what was broadcast until then. A channel that is opened later has to get so
//     far with those that are there then;
//   - every Map has its first values, see Map.Synced; on a lone member that joins nobody there are none to have.
//
// It has to be so once: a member that is ready stays so when others come and go, but for MinMembers. Ready waits until it is so, or until
// ctx ends: then it returns a *NotReadyError, which says what is waited for and wraps the context's error. A context that is over
// already makes it a question, as Health is. ErrClosed after Leave or Close.
func (c *Cluster) Ready(ctx context.Context) error {
	for {
		e := c.readiness.reason()
		switch {
		case e == nil:
			return nil
		case e.Reason == NotReadyClosed:
			return ErrClosed
		}
		select {
		case <-time.After(readyEvery):
		case <-ctx.Done():
			e.Err = ctx.Err()
			return e
		}
	}
}

const (
	// readyEvery is how often Ready looks.
	readyEvery = 10 * time.Millisecond
	// readyQuiet is how long the membership must not have changed: what one seed knows comes at once, and the rest soon.
	readyQuiet = 500 * time.Millisecond
)

// Health is how a member is doing.
type Health struct {
	NotReady *NotReadyError // why it is not ready; nil: it is. See Ready
	Members  int            // live members, this one included
	Silent   []Member       // of those, who have answered nothing for long, by name: packets to them are lost, or they hang
}

// Health tells how this member is doing, without waiting. After Leave or Close it is not ready, for NotReadyClosed.
func (c *Cluster) Health() Health {
	h := Health{NotReady: c.readiness.reason(), Members: int(c.table.alive.Load())}
	var silent []wire.Peer
	c.do(func(r *replica.Replica, _ time.Time) {
		silent = slices.DeleteFunc(r.Membership.Members(), func(p wire.Peer) bool { return !r.Membership.Silent(p.ID) })
	})
	h.Silent = c.readiness.named(silent)
	return h
}

// Contacts is whom this member hears, and whom it does not: what tells the faults of a network and of a configuration apart.
type Contacts struct {
	Label string // Config.Label
	// Heard is when the last packet came from the address of each live member but this one, by name. A member from which none has come since it is a
	// member is missing. Streams do not count. A member that nobody has anything to tell is pinged now and then: in a cluster of n members after 2n of memberlist's
	// ProbeInterval, at the latest.
	Heard map[string]time.Time
	// Seeds are the seeds at which no member has answered when they were tried last, by Join or every 15 s since. A seed is not among them
	// while one of its addresses is that of a live member. What Config.PeersFile remembers is never among them: nobody has to be there.
	Seeds []*SeedError
	// Refused is what was refused of others, by reason.
	Refused []Refusal
}

// Contacts tells whom this member hears, without waiting. After Leave or Close: as it was.
func (c *Cluster) Contacts() Contacts {
	contacts := Contacts{Label: c.cfg.Label, Heard: map[string]time.Time{}, Seeds: c.discovery.answers.lacking(c.discovery.sources()), Refused: c.refused.list()}
	for _, m := range c.table.list() {
		if at := c.transport.Heard.At(m.Addr); !at.IsZero() && m.Name != c.cfg.Name {
			contacts.Heard[m.Name] = at
		}
	}
	return contacts
}

// A NotReadyError tells why a member is not ready, and what or whom it waits for.
type NotReadyError struct {
	Reason  NotReadyReason
	Channel string   // NotReadyState: the key of the channel or Map
	OfMap   bool     // NotReadyState: the key is that of a Map
	Members []Member // NotReadyJoin, NotReadyState: who is waited for, by name, as far as it is known
	Have    int      // NotReadyMembers: how many there are
	Want    int      // NotReadyMembers: Config.MinMembers
	Err     error    // the context's error where it ended the wait, else nil
}

// NotReadyReason tells why a member is not ready.
type NotReadyReason int

const (
	NotReadyJoin      NotReadyReason = iota // Join was not called, or members have not taken this one in yet
	NotReadyAlone                           // alone though seeds were given: none has answered
	NotReadyMembers                         // fewer members than Config.MinMembers
	NotReadyState                           // the state of a channel may lack what those of others contain
	NotReadyUnsettled                       // the membership changed a moment ago
	NotReadyClosed                          // Leave or Close was called
)

var notReadyReasons = []string{"join", "alone", "members", "state", "unsettled", "closed"}

func (r NotReadyReason) String() string { return nameOf(r, notReadyReasons) }

func (e *NotReadyError) Error() string {
	text := "starling: not ready: " + e.explain()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *NotReadyError) explain() string {
	switch e.Reason {
	case NotReadyJoin:
		if len(e.Members) == 0 {
			return "it has not joined"
		}
		return "not taken in yet by " + namesOf(e.Members)
	case NotReadyAlone:
		return "alone though seeds were given"
	case NotReadyMembers:
		return fmt.Sprintf("%s, and Config.MinMembers is %d", count(e.Have, "member"), e.Want)
	case NotReadyState:
		if e.OfMap {
			text := named(true, e.Channel) + ": it has no first values yet"
			if len(e.Members) > 0 {
				text += ": " + namesOf(e.Members) + " may have them"
			}
			return text
		}
		if len(e.Members) == 0 {
			return fmt.Sprintf("channel %q: its handler has not had all of the state yet", e.Channel)
		}
		return fmt.Sprintf("channel %q: its state may lack what is in that of %s", e.Channel, namesOf(e.Members))
	case NotReadyUnsettled:
		return "the membership changed a moment ago"
	}
	return e.Reason.String()
}

// Unwrap returns the context's error, if that ended the wait.
func (e *NotReadyError) Unwrap() error { return e.Err }

// namesOf names members in the text of an error.
func namesOf(members []Member) string {
	var names []string
	for _, m := range members[:min(len(members), maxNamed)] {
		names = append(names, m.Name)
	}
	if len(members) > maxNamed {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// readiness is what Ready has to know beside the replica. The cluster's mu guards it.
type readiness struct {
	c *Cluster

	joins   int       // calls of Join that have not returned
	failed  bool      // one has returned an error
	joined  bool      // one has returned nil, or what a failed one waited for has come since
	was     bool      // it was ready: that the membership changes makes it unready no more
	changed time.Time // when a member came or went
	waits   map[*channel]mapWait
}

// mapWait is a Map that Ready may have to wait for.
type mapWait struct {
	lacking func() bool     // whether it has no first values; quick, called under mu
	whom    func() []uint64 // who may have them; called without mu, for the Map has locks of its own
}

// reason returns why this member is not ready, nil if it is.
func (rd *readiness) reason() (e *NotReadyError) {
	var waited []wire.Peer
	whom := func() []uint64 { return nil }
	rd.c.do(func(r *replica.Replica, now time.Time) {
		if e, waited = rd.judge(r, now); e == nil {
			rd.was = true
		}
		for ch, wait := range rd.waits {
			if e != nil && e.OfMap && ch.core.Key == e.Channel {
				whom = wait.whom
			}
		}
	})
	if e == nil {
		return nil
	}
	for _, id := range whom() {
		waited = append(waited, wire.Peer{ID: id})
	}
	e.Members = append(e.Members, rd.named(waited)...)
	return e
}

// judge is reason with the members as the protocol knows them. Call it under do.
func (rd *readiness) judge(r *replica.Replica, now time.Time) (*NotReadyError, []wire.Peer) {
	c, members := rd.c, int(rd.c.table.alive.Load())
	if c.leaving {
		return &NotReadyError{Reason: NotReadyClosed}, nil
	}
	if !rd.joined && c.discovery.hasSources() {
		pending := r.Membership.NotTakenIn(now)
		switch {
		case members <= 1 && (rd.joins > 0 || rd.failed):
			return &NotReadyError{Reason: NotReadyAlone}, nil
		case rd.joins > 0 || !rd.failed || len(pending) > 0:
			e := &NotReadyError{Reason: NotReadyJoin}
			var peers []wire.Peer
			for _, p := range pending {
				peers = append(peers, p.Peer)
			}
			return e, peers
		}
		rd.joined = true
		r.States.Await(now)
	}
	if members < c.cfg.MinMembers {
		return &NotReadyError{Reason: NotReadyMembers, Have: members, Want: c.cfg.MinMembers}, nil
	}
	for _, u := range r.States.Unequal() {
		return &NotReadyError{Reason: NotReadyState, Channel: u.Key}, u.Members
	}
	if rd.joined || !rd.was { // who was ready alone, and joins nobody, stays so when others come
		for ch, wait := range rd.waits {
			if wait.lacking() {
				return &NotReadyError{Reason: NotReadyState, Channel: ch.core.Key, OfMap: true}, nil
			}
		}
	}
	if !rd.was && members > 1 && now.Sub(rd.changed) < readyQuiet {
		return &NotReadyError{Reason: NotReadyUnsettled}, nil
	}
	return nil, nil
}

// named returns members by name, as far as they are known.
func (rd *readiness) named(peers []wire.Peer) (members []Member) {
	for _, p := range peers {
		members = append(members, rd.c.table.sentBy(p, nil).clone())
	}
	slices.SortFunc(members, byName)
	return members
}
