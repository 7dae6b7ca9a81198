package starling

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/replmap"
)

// A MapChange is what a loop over Map.Watch is told.
type MapChange[V any] struct {
	Kind  ChangeKind
	Key   string
	Value V      // of a ChangePut
	Old   V      // the value that the loop was told before; the zero value if it had none
	Had   bool   // it had one
	From  Member // who made the change, as Message.From; of what has expired or vanished, who had set it
}

// ChangeKind tells what a MapChange is: ChangePut, ChangeDelete, ChangeExpired, ChangeDropped, ChangeSynced or ChangeVanished.
type ChangeKind int

const (
	ChangePut     ChangeKind = iota // the key has a value
	ChangeDelete                    // it was deleted
	ChangeExpired                   // its time is over
	ChangeDropped                   // this member was away for longer than deletions are remembered, and the others do not have it (MapOptions.Tombstones)
	ChangeSynced                    // all first values have been told
	// ChangeVanished: the member that had set the value is gone (MapOptions.Owned): MapChange.From.Status tells how, StatusLeft or StatusFailed. If
	// that run of it comes back, a ChangePut follows.
	ChangeVanished
)

var changeKinds = []string{"put", "delete", "expired", "dropped", "synced", "vanished"}

func (k ChangeKind) String() string { return nameOf(k, changeKinds) }

// Watch yields the values of the keys that begin with prefix, and then every change of them, until ctx ends or the Map or its cluster is
// closed. ChangeSynced comes once: when all values have been told that a member gives who has them, at once if they are here already. A loop
// that is slow blocks nobody: of each key it is told the latest that it does not know, a deletion too, and nothing of one that came and went
// meanwhile. The loop's body may call any method but Close of the Map's cluster, which does not wait for it. Each call of the returned
// function is a loop of its own. This member's own Leave is told by no change: the loop ends. A loop that begins after that yields the last
// values and ends.
func (m *Map[V]) Watch(ctx context.Context, prefix string) iter.Seq[MapChange[V]] {
	return func(yield func(MapChange[V]) bool) {
		w, view := m.held.Watch(prefix)
		defer w.Close()
		goOn := true
		view.Ascend(prefix, func(e *kv.Entry[V]) bool {
			goOn = ctx.Err() == nil && yield(MapChange[V]{Key: e.Key, Value: e.Value, From: m.from(e)})
			return goOn
		})
		for goOn && ctx.Err() == nil && m.core.ctx.Err() == nil {
			if n, ok := w.Next(); ok {
				goOn = yield(m.told(n))
				continue
			}
			select {
			case <-w.Wake():
			case <-ctx.Done():
			case <-m.core.ctx.Done():
			}
		}
	}
}

func (m *Map[V]) from(e *kv.Entry[V]) Member { return runOf(m.core.c, e.Origin).clone() }

// told makes of news what the user is told.
func (m *Map[V]) told(n kv.News[V]) MapChange[V] {
	if n.Synced {
		return MapChange[V]{Kind: ChangeSynced}
	}
	c := MapChange[V]{Key: n.Key, Kind: ChangeDropped}
	if n.Was != nil {
		c.Old, c.Had = n.Was.Value, true
	}
	if n.Is == nil {
		return c
	}
	c.From = m.from(n.Is)
	switch n.Is.State() {
	case kv.Live:
		c.Kind, c.Value = ChangePut, n.Is.Value
	case kv.Deleted:
		c.Kind = ChangeDelete
	case kv.Vanished:
		c.Kind = ChangeVanished
	default:
		c.Kind = ChangeExpired
	}
	return c
}

// mapNetwork is what a Map's comparisons need of the cluster.
func mapNetwork(ch *channel, log *slog.Logger) replmap.Network {
	c := ch.c
	return replmap.Network{
		Send: func(ctx context.Context, to uint64, frame []byte) error {
			err := ch.send(ctx, runOf(c, to).Name, to, frame, nil)
			var refused *SendError
			if errors.As(err, &refused) && (refused.Reason == SendNoChannel || refused.Reason == SendOtherType) {
				return replmap.ErrNotOpen
			}
			return err
		},
		Met:   c.table.knows,
		Name:  func(id uint64) string { return runOf(c, id).Name },
		Spawn: c.spawn,
		Log:   log,
	}
}

// follow tells a Map's comparisons what happens to the membership.
func follow[V any](ch *channel, s *replmap.Sync[V]) {
	c := ch.c
	c.spawn(func() {
		select {
		case <-c.entered:
			_, others := standing(c)
			s.Entered(others)
		case <-ch.ctx.Done():
		}
	})
	r := c.table.subscribe()
	defer c.table.unsubscribe(r)
	for ch.ctx.Err() == nil {
		e, ok, open := c.table.pull(r)
		if !open {
			return
		}
		var came, gone uint64
		switch other := e.Member.ID != c.id && !e.Member.Foreign(); {
		case !ok: // who came and went untold is in no event: so who is a member is read in any case
		case e.Kind == EventGap:
			s.Trouble()
		case e.Kind == EventJoined && other:
			came = e.Member.ID
		case (e.Kind == EventLeft || e.Kind == EventFailed) && other:
			gone = e.Member.ID
		}
		now, others := standing(c)
		s.Membership(came, gone, now, others)
		if !ok {
			select {
			case <-r.wake:
			case <-ch.ctx.Done():
			}
		}
	}
}

// standing is among whom this member is: how many, the least id, and those of the others.
func standing(c *Cluster) (st kv.Standing, others []uint64) {
	self := c.id
	st = kv.Standing{Weight: 1, Least: self}
	for _, o := range c.table.list() {
		if o.ID != self && !o.Foreign() {
			st.Weight++
			st.Least = min(st.Least, o.ID)
			others = append(others, o.ID)
		}
	}
	return st, others
}

// MapStats is what a Map holds and has done on this member.
type MapStats struct {
	Entries    int           // keys with a value
	Hidden     int           // with MapOptions.Owned, entries that are not read: of members that are gone, and of a key that several have set all but the latest
	Bytes      int           // as charged against MapOptions.MaxBytes, hidden entries included
	Tombstones int           // deletions that are remembered
	Skew       time.Duration // how far the clock of another member was ahead of ours at most, lately
	Compared   uint64        // comparisons with other members that came to their end
	Unequal    uint64        // those of them that found a difference
	Fetched    uint64        // entries that comparisons have brought
	Refused    uint64        // entries of others that are not here, since they are beyond twice the bounds or cannot be decoded
	Dropped    uint64        // entries dropped because this member was away for longer than MapOptions.Tombstones
}

// Stats returns what the Map holds and has done.
func (m *Map[V]) Stats() MapStats {
	held, read, skew := m.held.Held()
	n := m.sync.Counts()
	return MapStats{
		Entries: read, Hidden: held.Entries - read, Bytes: held.Bytes, Tombstones: held.Tombstones, Skew: skew,
		Compared: n.Compared, Unequal: n.Unequal, Fetched: n.Fetched, Refused: n.Refused, Dropped: n.Dropped,
	}
}
