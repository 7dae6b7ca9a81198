package starling

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/replmap"
	"github.com/starling-go/starling/internal/wire"
)

// A Map is a map of strings to values that every member has in memory, and that becomes equal on all of them: reads are local, a
// change is with everybody as fast as a broadcast, and members compare what they have when they meet, when something may have been
// missed, and now and then without end. So a newcomer gets all of it, and so do the sides of a partition, however many they were.
// Its methods may be called concurrently, and from any callback except where they say otherwise.
//
// Of two changes of a key the later one wins, by a hybrid logical clock: a change that was made after another one was seen is later,
// however wrong the clocks are. With [MapOptions].Merge two values become one instead; with [MapOptions].Owned this holds for the changes of
// one member, and each has values of its own. In any case members agree in the end, whatever the order in which they hear of changes.
//
// # What a Map does not do
//
// It is no lock and no database. Two members that change a key at the same time both succeed, and one change is lost; Update is atomic
// on its own member alone. There is no compare-and-swap over members, nothing is unique, and nothing survives a stop of all
// members. For a lock, a leader or a count that must be exact use a system with consensus (etcd, Consul, a database). To count or collect on
// many members, let each write a key of its own, or give a Merge.
type Map[V any] struct {
	core  *channel
	codec Codec[V]
	merge func(a, b V) V
	owned bool
	held  *replmap.Copy[V]
	sync  *replmap.Sync[V]

	writing chan struct{} // holds a token while a change of this member's own gets its version and is accepted
}

// MapOptions says how a Map behaves. All members must give a Map the same Merge, Owned and Tombstones. A nil pointer means the zero value.
type MapOptions[V any] struct {
	// Merge, if set, makes one value of two, where otherwise the later one would win. It must be commutative, associative and
	// idempotent, so that the order and the number of merges do not matter: starlingtest.CheckMerge tries to refute it. It must
	// change neither value, and the codec must encode equal values to equal bytes. A deletion takes away what it has seen and what
	// was written beside it; what is written after it begins anew. It may still take away what a member writes that has joined since, and so
	// has not heard of it, until five quarters of Tombstones are over. SetTTL cannot be used with it.
	//
	// It is called with values from other members on a goroutine of the Map, and must call no method of the Map.
	Merge func(a, b V) V
	// Owned, if set, ties each entry to the member that set it: others read it only while that member is in the cluster. Use it for
	// presence, and for what a member offers. Each member writes entries of its own, and reads those of all:
	//
	//   - The entries of another member are read while it is a member in this one's view (Cluster.Members), this one's own always. When it
	//     leaves or fails they vanish (ChangeVanished). When the same run of it comes back, after a partition say, so do they (ChangePut), without
	//     anybody setting them: first as they were, and then with what it has changed meanwhile. A process that is started again is another
	//     run, whatever its name, and has to set its own.
	//   - As members agree in the end about who is one, they agree about the Map. After Leave that takes milliseconds, after a crash some 6 s
	//     with ProfileLAN, and behind a partition up to a minute.
	//   - Set, Update and Delete change this member's own entry. If several members have set a key, Get returns the value that was set
	//     last. When that entry is deleted or expires, or its owner is gone, Get returns the latest of the other members' values. To
	//     read all of them, put Member.Name into the key.
	//   - Delete of a key that others have set and this member has not is ErrNotOwner.
	//   - The entries of a member that is gone count against MaxEntries and MaxBytes, and are forgotten after Tombstones. If it comes back
	//     later still, it has them, and gives them to all.
	//
	// It cannot be used with Merge. If only some members set it, their Maps never become equal: about once a minute each compares, and gets
	// the other's whole Map. To change it, open the Map by another key.
	Owned bool
	// Tombstones is how long a deletion is remembered, by each key deleted some 150 bytes. A member that was away for longer may still have
	// what was deleted meanwhile: so it is reset to what the others have. Of its entries those that are older than Tombstones, and
	// that they lack, are dropped (ChangeDropped, and a log line). If it is not clear who was away, those were who were fewer. Default
	// 1 h, at least 5 min and twice Retention.Age.
	Tombstones time.Duration
	// MaxEntries and MaxBytes bound what this member may set: the number of values, and their encoded bytes with keys and 64 more for each.
	// Of others twice as much is taken, since many may set values at the same time. What is beyond that is not here (MapStats.Refused,
	// and a log line): give all members the same bounds. Defaults 1,048,576 and 256 MiB.
	MaxEntries int
	MaxBytes   int
}

// Defaults of MapOptions, and the longest key of a Map in bytes.
const (
	DefaultMapTombstones = time.Hour
	DefaultMapEntries    = 1 << 20
	DefaultMapBytes      = 256 << 20
	MaxMapKeySize        = wire.MaxMapKey

	minMapTombstones = 5 * time.Minute
)

// NewMap opens a Map. Its key names it among all maps and channels; members have the Map in common that open it by the same key. Open
// maps before Join.
//
// The codec is JSON, Bytes, Proto or one of your own. Values that come from a Map belong to it: do not change what they point to.
//
// The errors are those of NewChannelOf: a *ConfigError for a key, codec or option that makes no sense, ErrClosed.
func NewMap[V any](c *Cluster, key string, codec Codec[V], o *MapOptions[V]) (*Map[V], error) {
	if c == nil {
		return nil, noCluster()
	}
	if err := checkCodec("map", codec); err != nil {
		return nil, err
	}
	options := MapOptions[V]{}
	if o != nil {
		options = *o
	}
	if err := options.complete(c.cfg.Retention.Age); err != nil {
		return nil, err
	}
	limits := kv.Limits{
		Entries: options.MaxEntries, Bytes: options.MaxBytes, Tombstones: options.Tombstones,
		Merge: options.Merge != nil, Owned: options.Owned,
	}
	m := &Map[V]{
		core: &channel{ofMap: true, core: replica.Channel{Key: key, Type: "map:" + contentType("", codec)}}, codec: codec, merge: options.Merge, owned: options.Owned,
		held: replmap.New(replmap.Options[V]{
			Self: c.id, Limits: limits, Merge: options.Merge, Append: codec.Append, Decode: codec.Decode,
		}, time.Now()),
		writing: make(chan struct{}, 1),
	}
	m.core.handle = func(_ context.Context, d replica.Delivery, from Member) error {
		return m.sync.Handle(d.Payload(), d.Route == wire.RouteDirect, from.ID, time.Since(d.Born))
	}
	log := c.log.With("map", key) // not under the lock: the handler of Config.Logger makes it, which is the user's
	m.core.opened = func() { m.sync = replmap.NewSync(m.core.ctx, m.held, mapNetwork(m.core, log)) }
	if err := c.open(m.core); err != nil {
		return nil, err
	}
	c.do(func(*replica.Replica, time.Time) { c.readiness.waits[m.core] = mapWait{m.lacking, m.sync.Awaited} })
	m.sync.Start()
	m.sync.Follow(func() { follow(m.core, m.sync) })
	return m, nil
}

// lacking reports whether Ready has to wait for the Map's first values: unless it is closed, or nobody else is to be expected. Call it
// under do.
func (m *Map[V]) lacking() bool {
	c := m.core.c
	select {
	case <-m.sync.Done():
		return false
	default:
	}
	return m.core.ctx.Err() == nil && (c.table.alive.Load() > 1 || len(c.discovery.seeds) > 0)
}

// complete puts in the defaults, and holds the options against what makes sense.
func (o *MapOptions[V]) complete(retention time.Duration) error {
	setDefault(&o.Tombstones, max(DefaultMapTombstones, 2*retention))
	setDefault(&o.MaxEntries, DefaultMapEntries)
	setDefault(&o.MaxBytes, DefaultMapBytes)
	var faults []error
	if least := max(minMapTombstones, 2*retention); o.Tombstones < least {
		faults = append(faults, &ConfigError{Field: "Tombstones", Value: o.Tombstones, Err: fmt.Errorf("must be at least %v", least)})
	}
	if o.MaxEntries < 0 {
		faults = append(faults, &ConfigError{Field: "MaxEntries", Value: o.MaxEntries, Err: errors.New("negative")})
	}
	if o.MaxBytes < 0 {
		faults = append(faults, &ConfigError{Field: "MaxBytes", Value: o.MaxBytes, Err: errors.New("negative")})
	}
	if o.Owned && o.Merge != nil {
		faults = append(faults, &ConfigError{Field: "Owned", Value: true, Err: errors.New("each has a value of its own, which is not merged with others' (Merge)")})
	}
	return errors.Join(faults...)
}

// Key returns the key that the Map was opened with.
func (m *Map[V]) Key() string { return m.core.core.Key }

// Get returns the value of a key, and whether it has one. It waits for nobody and allocates nothing. After Close or Leave: as it was.
func (m *Map[V]) Get(key string) (value V, ok bool) {
	if e := m.held.Get(key); e != nil {
		return e.Value, true
	}
	return value, false
}

// Len returns the number of keys with a value.
func (m *Map[V]) Len() int { return m.held.Len() }

// All yields the keys with their values, in the order of the keys, as they are when the loop begins: what changes during the loop is not
// seen. It holds up nobody, and the loop's body may call any method.
func (m *Map[V]) All() iter.Seq2[string, V] { return m.Prefix("") }

// Prefix is All for the keys that begin with prefix.
func (m *Map[V]) Prefix(prefix string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		m.held.View(false).Ascend(prefix, func(e *kv.Entry[V]) bool { return yield(e.Key, e.Value) })
	}
}

// Set gives a key a value, here and on every other member; before Join: on those that it joins, when it does. When it returns nil, Get on this member returns the value (or one that
// is later, or both merged), and the change has been accepted as by Channel.Broadcast: it waits only for room among what this member has
// yet to send, until ctx ends.
//
// Errors: *MapLimitError for a key that is too long or where a bound of MapOptions is reached, *TooLargeError for a value above
// Config.MaxMessageSize, what the codec says, the context's error (wrapped), ErrClosed. With an error nothing was changed.
func (m *Map[V]) Set(ctx context.Context, key string, value V) error {
	return m.change(ctx, key, mapChange[V]{value: value}, nil)
}

// SetTTL is Set for a value that expires after ttl, unless it is set anew before. Each member counts the time itself, from when the
// change was made; so it is over everywhere at the same time, but for how long the change was on its way. ttl must be positive, and the
// Map must have no Merge, else it returns a *ConfigError.
func (m *Map[V]) SetTTL(ctx context.Context, key string, value V, ttl time.Duration) error {
	switch {
	case ttl <= 0:
		return &ConfigError{Field: "ttl", Value: ttl, Err: errors.New("must be positive")}
	case m.merge != nil:
		return &ConfigError{Field: "ttl", Value: ttl, Err: errors.New("what is merged cannot expire (MapOptions.Merge)")}
	}
	return m.change(ctx, key, mapChange[V]{value: value, ttl: ttl}, nil)
}

// Delete takes a key's value away, here and on every other member; with MapOptions.Owned only this member's value, and another member's may
// be read then. That the key has none is no error, and is told to nobody. The errors are those of Set, and ErrNotOwner.
func (m *Map[V]) Delete(ctx context.Context, key string) error {
	return m.change(ctx, key, mapChange[V]{state: kv.Deleted}, nil)
}

// Update changes the value of a key depending on what it is: f is given the value, and whether there is one, and returns the new
// value, or false to leave all as it is. On this member nothing comes between. It is not atomic over members: of what two members do at
// the same time one is lost, or they are merged. f may be called several times; it must change nothing that the old value points to,
// and may call any method.
//
// The errors are those of Set.
func (m *Map[V]) Update(ctx context.Context, key string, f func(old V, ok bool) (V, bool)) error {
	for {
		old := m.held.Get(key)
		var value V
		if old != nil {
			value = old.Value
		}
		value, ok := f(value, old != nil)
		if !ok {
			return m.usable()
		}
		if err := m.change(ctx, key, mapChange[V]{value: value, check: true, old: old}, nil); !errors.Is(err, errChanged) {
			return err
		}
	}
}

// Confirm is Set that then waits until every live member holds the change; with ConfirmOptions.Handled, until every one that has the Map
// open has it among its values. Its *UnconfirmedError says who has not; the value is set all the same. See Channel.Confirm.
func (m *Map[V]) Confirm(ctx context.Context, key string, value V, o *ConfirmOptions) error {
	cf := newConfirmation(m.core, o)
	if err := m.change(ctx, key, mapChange[V]{value: value}, cf); err != nil {
		return err
	}
	return cf.wait(ctx)
}

// ConfirmDelete is Delete that waits as Confirm does. It is told to the others although the key has no value here.
func (m *Map[V]) ConfirmDelete(ctx context.Context, key string, o *ConfirmOptions) error {
	cf := newConfirmation(m.core, o)
	if err := m.change(ctx, key, mapChange[V]{state: kv.Deleted}, cf); err != nil {
		return err
	}
	return cf.wait(ctx)
}

// Flush waits until what was changed here before is held by every live member; see Channel.Flush. What was set before Join the others get by comparison,
// which it does not wait for.
func (m *Map[V]) Flush(ctx context.Context) error { return m.core.flush(ctx) }

// Synced returns a channel that is closed once the Map has its first values: those of a member that had them, or, if Join has
// returned nil and no other member has any, none. On a member that calls no Join it is closed when another one has joined it; Ready does not wait
// for that.
func (m *Map[V]) Synced() <-chan struct{} { return m.sync.Done() }

// Close closes the Map on this member. The others keep what it has set. Loops over Watch end. Closing twice, or after the cluster, does
// nothing. A function that the Map calls must not call it.
func (m *Map[V]) Close() {
	m.core.close()
	m.sync.Wait()
	m.core.c.do(func(*replica.Replica, time.Time) { delete(m.core.c.readiness.waits, m.core) })
}

func (m *Map[V]) usable() (err error) {
	m.core.c.do(func(*replica.Replica, time.Time) { err = m.core.usable() })
	return err
}

// errChanged says that a key's value is not the one that a change was made for.
var errChanged = errors.New("starling: changed meanwhile")

// mapChange is a change that a user of this member makes.
type mapChange[V any] struct {
	value V
	state kv.State
	ttl   time.Duration
	check bool // only if old is the key's entry still
	old   *kv.Entry[V]
}

// change makes a change: it gets its version, is accepted for the others, and is applied here, in turns with the other changes of this
// member.
func (m *Map[V]) change(ctx context.Context, key string, ch mapChange[V], cf *confirmation) error {
	if len(key) > MaxMapKeySize {
		return &MapLimitError{Map: m.Key(), Field: "key", Value: len(key), Limit: MaxMapKeySize}
	}
	w := kv.Write[V]{Key: key, Value: ch.value, State: ch.state, TTL: ch.ttl > 0, Left: ch.ttl}
	for {
		old := m.held.Get(key)
		switch {
		case ch.state != kv.Deleted:
		case old == nil && cf == nil && !(m.owned && m.held.Own(key)): // else the key shows it as soon as what covers it has expired
			return m.usable()
		case m.owned && old != nil && old.Origin != m.core.c.id && !m.held.Own(key):
			if err := m.usable(); err != nil {
				return err
			}
			return fmt.Errorf("%w: key %q of map %q", ErrNotOwner, key, m.Key())
		}
		if ch.check {
			old = ch.old
		}
		if m.merge != nil && ch.state == kv.Live && old != nil {
			w.Value = m.merge(old.Value, ch.value)
		}
		data, err := m.encode(&w)
		if err != nil {
			return err
		}
		err = m.accept(ctx, &w, data, old, ch.check || m.merge != nil, cf)
		if err == nil || ch.check || !errors.Is(err, errChanged) {
			return err
		}
	}
}

// encode encodes the value of a write, and holds it against the limits.
func (m *Map[V]) encode(w *kv.Write[V]) (data []byte, err error) {
	if w.State != kv.Live {
		return nil, nil
	}
	if data, err = m.codec.Append(nil, w.Value); err != nil {
		return nil, m.core.wrapCodec(err)
	}
	w.Size = len(data)
	if m.merge != nil {
		w.Sum = kv.Hash(data)
	}
	limit := min(m.core.c.cfg.MaxMessageSize, maxWholeSend)
	if size := wire.MapEntrySize(len(w.Key), len(data)); size > limit {
		return nil, &TooLargeError{Channel: m.Key(), OfMap: true, Size: size, Limit: limit}
	}
	return data, nil
}

// accept gives a write its version, has it accepted for the others, and applies it. With check it does so only if old is what the key has.
func (m *Map[V]) accept(ctx context.Context, w *kv.Write[V], data []byte, old *kv.Entry[V], check bool, cf *confirmation) error {
	select {
	case m.writing <- struct{}{}:
	case <-ctx.Done():
		return m.core.ended(ctx.Err())
	case <-m.core.ctx.Done():
		return ErrClosed
	}
	again, err := m.acceptInTurn(ctx, w, data, old, check, cf)
	<-m.writing
	if again {
		_, _, err = m.held.Apply(*w, nil, 0)
	}
	return err
}

func (m *Map[V]) acceptInTurn(
	ctx context.Context, w *kv.Write[V], data []byte, old *kv.Entry[V], check bool, cf *confirmation,
) (again bool, err error) {
	turn, changed, refused := m.held.Begin(w, old, check)
	switch {
	case changed:
		return false, errChanged
	case refused != nil:
		return false, &MapLimitError{Map: m.Key(), Field: refused.Field, Value: refused.Value, Limit: refused.Limit}
	}
	o := new(outgoing)
	if cf != nil {
		o.confirm = []*confirmation{cf}
	}
	m.encodeChange(o, w, data, turn.Prev)
	if err := m.core.accept(ctx, o, true); err != nil {
		return false, err
	}
	return m.held.Commit(w, turn), nil
}

// encodeChange makes the message that carries a change.
func (m *Map[V]) encodeChange(o *outgoing, w *kv.Write[V], data []byte, prev hlc.Stamp) {
	c := m.core.c
	scratch := c.scratch.Get().(*[]byte)
	*scratch = wire.AppendMapEntry((*scratch)[:0], replmap.Entry(w, data, prev))
	o.Init(&m.core.core, "", *scratch, nil, c.outlet.members()-1)
	c.scratch.Put(scratch)
}
