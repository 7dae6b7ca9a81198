package keys

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

const (
	// MaxListed is how many keys a member may have on its list.
	MaxListed = 8
	// Grace is how long a key is accepted after the others were told that it is not. Within it they hear of that: gossip takes
	// seconds.
	Grace = 30 * time.Second
	// Longest is how long a key is accepted, and used, at most after it was taken off the list, whoever needs it. Otherwise whoever has stolen it
	// could keep it for ever.
	Longest = time.Hour
)

var (
	// ErrUnknown is returned for a key that the ring does not have.
	ErrUnknown = errors.New("no such key")
	// ErrLast is returned when nothing would be left on the list.
	ErrLast = errors.New("it is the only key")
	// ErrFull is returned when the list has MaxListed keys.
	ErrFull = fmt.Errorf("there are %d keys already", MaxListed)
)

// Peer is another live member, and what it tells of its keys. One that tells nothing is taken to accept the key that this member uses, and no
// other.
type Peer struct {
	Name string
	wire.Keys
}

func (p Peer) tells() bool { return len(p.Accepts) > 0 }

func (p Peer) accepts(k wire.KeyPrint) bool { return slices.Contains(p.Accepts, k) }

// Ring is the keys of one member. Its owner calls Settle after every change and, while Pending, now and then.
type Ring struct {
	// keys are those on the list, the most wanted first, and then those that were dropped, the latest first.
	// Invariant: one is on the list; there are at most wire.MaxKeyPrints.
	keys   []key
	uses   wire.KeyPrint // Invariant: of one of keys
	forced bool          // the first is used, whoever does not accept it
	turn   int           // which one is tried while nobody is there who says what it accepts
}

type key struct {
	bytes     []byte
	print     wire.KeyPrint
	dropped   time.Time // when it was taken off the list; zero: it is on it
	withdrawn time.Time // since when the others are told that it is not accepted; zero: they are told that it is
}

// New makes the ring of a member with that list, which is valid and not empty.
func New(list [][]byte) *Ring {
	r := new(Ring)
	r.List(list, time.Time{})
	r.uses = r.keys[0].print
	return r
}

// List replaces the list, by one that is valid and not empty. What is no longer on it was dropped now.
func (r *Ring) List(list [][]byte, now time.Time) {
	var keys []key
	for _, b := range list {
		if p := Print(b); find(keys, p) < 0 {
			keys = append(keys, key{bytes: bytes.Clone(b), print: p})
		}
	}
	if slices.EqualFunc(keys, r.listed(), func(a, b key) bool { return a.print == b.print }) {
		return
	}
	listed := len(keys)
	for _, k := range r.keys {
		if find(keys, k.print) < 0 {
			if k.dropped.IsZero() {
				k.dropped = now
			}
			keys = append(keys, k)
		}
	}
	slices.SortStableFunc(keys[listed:], func(a, b key) int { return b.dropped.Compare(a.dropped) })
	if over := len(keys) - wire.MaxKeyPrints; over > 0 {
		if at := find(keys, r.uses); at >= wire.MaxKeyPrints {
			keys[listed], keys[at] = keys[at], keys[listed]
		}
		keys = keys[:wire.MaxKeyPrints]
	}
	r.keys, r.forced, r.turn = keys, false, 0
}

// Accept puts a key at the end of the list.
func (r *Ring) Accept(b []byte, now time.Time) error {
	listed := r.listed()
	switch at := find(listed, Print(b)); {
	case at >= 0:
		return nil
	case len(listed) == MaxListed:
		return ErrFull
	}
	r.List(append(bytesOf(listed), b), now)
	return nil
}

// Use puts a key that the ring has at the beginning of the list. If it is not forced, and members do not accept the key, Use changes nothing and
// returns them.
func (r *Ring) Use(b []byte, force bool, peers []Peer, now time.Time) (lag []Peer, err error) {
	p := Print(b)
	if find(r.keys, p) < 0 {
		return nil, ErrUnknown
	}
	if lag = r.cannotRead(p, peers); len(lag) > 0 && !force {
		return lag, nil
	}
	rest := slices.DeleteFunc(slices.Clone(r.listed()), func(k key) bool { return k.print == p })
	if len(rest) == MaxListed {
		return nil, ErrFull
	}
	r.List(append([][]byte{b}, bytesOf(rest)...), now)
	r.forced = force
	return nil, nil
}

// Forget takes a key out of the ring at once. If it is not forced, and members need the key, Forget changes nothing and returns them.
func (r *Ring) Forget(b []byte, force bool, peers []Peer) (lag []Peer, err error) {
	p := Print(b)
	at := find(r.keys, p)
	if at < 0 {
		return nil, ErrUnknown
	}
	rest := slices.Delete(slices.Clone(r.keys), at, at+1)
	if !slices.ContainsFunc(rest, key.listed) {
		return nil, ErrLast
	}
	without := &Ring{keys: rest, uses: r.uses, forced: r.forced && p != r.Wants(), turn: r.turn}
	if lag = without.need(p, peers); len(lag) == 0 && r.uses == p {
		lag = without.cannotRead(without.choose(peers), peers)
	}
	if len(lag) > 0 && !force {
		return lag, nil
	}
	without.uses = without.choose(peers)
	*r = *without
	return nil, nil
}

// Refused says that somebody did not understand this member when it sent by that key. If it knows nobody it tries its next one.
func (r *Ring) Refused(used wire.KeyPrint, peers []Peer) {
	if used == r.uses && len(peers) == 0 && !r.forced {
		r.turn++
		r.uses = r.choose(nil)
	}
}

// Settle decides anew by what the other live members tell.
func (r *Ring) Settle(peers []Peer, now time.Time) {
	r.keys = slices.DeleteFunc(r.keys, func(k key) bool { return !k.listed() && now.Sub(k.dropped) >= Longest })
	needed := make([]bool, len(r.keys))
	for i, k := range r.keys {
		if needed[i] = !k.listed() && len(r.need(k.print, peers)) > 0; needed[i] {
			r.keys[i].withdrawn = time.Time{}
		}
	}
	if len(peers) > 0 {
		r.turn = 0
	}
	r.uses = r.choose(peers)
	for i := range r.keys {
		if k := &r.keys[i]; !k.listed() && !needed[i] && k.print != r.uses && k.withdrawn.IsZero() {
			k.withdrawn = now
		}
	}
	r.keys = slices.DeleteFunc(r.keys, func(k key) bool { return !k.withdrawn.IsZero() && now.Sub(k.withdrawn) >= Grace })
}

// choose returns the key to send by: the first that every member accepts. Without such a key it is the one that most accept.
func (r *Ring) choose(peers []Peer) wire.KeyPrint {
	listed := r.listed()
	switch {
	case r.forced:
		return listed[0].print
	case len(peers) == 0:
		return listed[r.turn%len(listed)].print
	}
	var best wire.KeyPrint
	most := -1
	for _, k := range r.keys {
		if !k.withdrawn.IsZero() {
			continue
		}
		n := len(peers) - len(r.cannotRead(k.print, peers))
		if n == len(peers) {
			return k.print
		}
		if n > most || n == most && k.print == r.uses {
			best, most = k.print, n
		}
	}
	return best
}

// cannotRead returns the members that are not known to accept a key.
func (r *Ring) cannotRead(p wire.KeyPrint, peers []Peer) (lag []Peer) {
	for _, m := range peers {
		if !m.accepts(p) && (m.tells() || p != r.uses) {
			lag = append(lag, m)
		}
	}
	return lag
}

// need returns the members that would be cut off without a key: those that use it, that may use it, or that accept no key of the list.
func (r *Ring) need(p wire.KeyPrint, peers []Peer) (lag []Peer) {
	for _, m := range peers {
		common := slices.ContainsFunc(r.listed(), func(k key) bool { return k.print != p && m.accepts(k.print) })
		if !m.tells() || m.Accepts[m.Uses] == p || m.accepts(p) && !common {
			lag = append(lag, m)
		}
	}
	return lag
}

// Keys returns the keys to install, the one to send by first.
func (r *Ring) Keys() [][]byte {
	keys := bytesOf(r.keys)
	at := find(r.keys, r.uses)
	used := keys[at]
	return slices.Insert(slices.Delete(keys, at, at+1), 0, used)
}

// Told is what the others are told.
func (r *Ring) Told() (k wire.Keys) {
	for _, own := range r.keys {
		if own.withdrawn.IsZero() {
			if own.print == r.uses {
				k.Uses = len(k.Accepts)
			}
			k.Accepts = append(k.Accepts, own.print)
		}
	}
	return k
}

// Uses is the fingerprint of the key to send by, Wants that of the one that it would be if all accepted it.
func (r *Ring) Uses() wire.KeyPrint  { return r.uses }
func (r *Ring) Wants() wire.KeyPrint { return r.keys[0].print }

// Dropped returns the keys that are not on the list, and are accepted still.
func (r *Ring) Dropped() (ps []wire.KeyPrint) {
	for _, k := range r.keys[len(r.listed()):] {
		ps = append(ps, k.print)
	}
	return ps
}

// Lag is a key with the members that it waits for.
type Lag struct {
	Key     wire.KeyPrint
	Members []Peer
	Until   time.Time // when it waits no longer; zero: it waits for ever
}

// Lags returns, at its beginning, whom the first key waits for to be used, and then whom dropped keys wait for to be forgotten.
func (r *Ring) Lags(peers []Peer) (lags []Lag) {
	if m := r.cannotRead(r.Wants(), peers); len(m) > 0 {
		lags = append(lags, Lag{Key: r.Wants(), Members: m})
	}
	for _, k := range r.keys {
		if m := r.need(k.print, peers); !k.listed() && len(m) > 0 {
			lags = append(lags, Lag{k.print, m, k.dropped.Add(Longest)})
		}
	}
	return lags
}

// Pending reports whether time alone may change something.
func (r *Ring) Pending() bool { return len(r.listed()) < len(r.keys) }

func (k key) listed() bool { return k.dropped.IsZero() }

// listed are the keys on the list.
func (r *Ring) listed() []key {
	if n := slices.IndexFunc(r.keys, func(k key) bool { return !k.listed() }); n >= 0 {
		return r.keys[:n:n]
	}
	return r.keys
}

func find(keys []key, p wire.KeyPrint) int {
	return slices.IndexFunc(keys, func(k key) bool { return k.print == p })
}

func bytesOf(keys []key) (list [][]byte) {
	for _, k := range keys {
		list = append(list, k.bytes)
	}
	return list
}
