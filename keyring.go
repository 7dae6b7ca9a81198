package starling

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/keys"
	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

const (
	keysWithin    = 10 * time.Second // within which a KeySource has to yield its first keys
	keysEvery     = time.Second      // between two looks at keys that are to be forgotten, or wait for members
	keysLagAfter  = time.Minute      // how long members may lag before the log says so
	keysLagAgain  = 10 * time.Minute
	sourceHangs   = time.Second // how long Close waits for a KeySource before the log says so
	keysFieldName = "KeySource"
)

// A Keyring is the keys of a member. They are those of Config.Keys or of the last list of Config.KeySource; its methods change them by hand, on
// this member alone, until the source yields another list.
//
// To replace a key, give every member a list with both keys, then every member one without the old key. Nobody is cut off meanwhile, in
// whatever order the lists change, and whoever comes or goes: members tell each other which keys they accept (by fingerprints; keys never travel), and
//
//   - a member sends by the first of its keys that every live member accepts, or else by the one that most accept;
//   - a key that is no longer on its list is forgotten 30 s after no live member needs it any more: none sends by it, and all
//     accept another one of the list. After an hour it is forgotten whoever needs it.
//
// Who is down meanwhile needs a list with a key that the others accept when it starts. A member that tells nothing of its keys (a foreign
// one) is taken to accept the key in use alone: no other is used until that member is gone, or ForceUse is called. Members that a
// change waits for are in Status and, after a minute, in the log. Where a key was stolen, do not wait for them: ForceUse another one on
// every member, then ForceForget it.
//
// From plaintext to keys a running cluster comes in three steps, each of them a restart of one member after the other: with keys,
// Config.AcceptPlaintext and Config.SendPlaintext; without SendPlaintext; without AcceptPlaintext. The way back is the same in reverse. Until
// the last step, whoever can reach a member's port is trusted, as in a cluster without keys.
//
// All methods may be called concurrently, and from any callback except Admit and AdmitMerge. They wait for nobody. Keys that are given
// are copied.
type Keyring struct {
	c         *Cluster
	installed *memberlist.Keyring // what memberlist encrypts by; nil: the member has no keys
	stirred   chan struct{}       // holds a token when settleLoop has something to look at
	changed   chan struct{}       // holds a token when tellLoop has something to tell
	source    chan struct{}       // closed when the KeySource has returned

	mu         sync.Mutex
	ring       *keys.Ring // nil before the first keys
	told       wire.Keys  // what the others are told; never written
	lagging    time.Time  // since when members lag; zero: none does
	laggedTold time.Time  // when the log said so last
	sourceTold seldom     // that the source has given nothing useful
}

// Keyring returns the keys of this member, see there. It is always the same.
func (c *Cluster) Keyring() *Keyring { return c.keyring }

// KeyFingerprint returns the fingerprint of a key: eight characters that tell keys apart and say nothing of the key.
func KeyFingerprint(key []byte) string { return keys.Text(keys.Print(key)) }

// KeyringStatus is what a member knows of its own keys and of those of the others. Keys are given by their fingerprints, see KeyFingerprint.
type KeyringStatus struct {
	Uses    string       // the key that this member sends by; empty: it has no keys
	Wants   string       // the first of its list, which it uses as soon as every member accepts it
	Accepts []string     // what the others may send by, as it tells them: first its list
	Dropped []string     // what it can still read although it is no longer on its list, until nobody needs it
	Lagging []string     // names of the live members that are not known to accept Wants
	Members []MemberKeys // the live members, by name, this one included
}

// MemberKeys is what a member tells of its keys.
type MemberKeys struct {
	Name    string
	Uses    string   // the key that it sends by; empty: it tells nothing of its keys
	Accepts []string // what it can read
}

// Status tells which keys this member has, and what the others tell of theirs. A new key may be used everywhere when it is in Accepts of
// every member, and an old one forgotten when none Uses it. After Leave or Close: as it was.
func (k *Keyring) Status() (s KeyringStatus) {
	list := k.c.table.list()
	peers := k.peers(list)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ring != nil {
		told := k.ring.Told()
		s.Uses, s.Wants = keys.Text(k.ring.Uses()), keys.Text(k.ring.Wants())
		s.Accepts, s.Dropped = keys.Texts(told.Accepts), keys.Texts(k.ring.Dropped())
		for _, lag := range k.ring.Lags(peers) {
			if lag.Until.IsZero() {
				s.Lagging = peerNames(lag.Members)
			}
		}
	}
	for _, m := range list {
		theirs := m.keys
		if m.Name == k.c.cfg.Name {
			theirs = k.told
		}
		mk := MemberKeys{Name: m.Name, Accepts: keys.Texts(theirs.Accepts)}
		if len(mk.Accepts) > 0 {
			mk.Uses = mk.Accepts[theirs.Uses]
		}
		s.Members = append(s.Members, mk)
	}
	return s
}

// Accept adds a key to the end of this member's list: what is encrypted by it can be read from now on. It returns a *ConfigError for a key
// that has not 16, 24 or 32 bytes, or that would be the ninth; ErrNoKeys; ErrClosed.
func (k *Keyring) Accept(key []byte) error {
	if err := checkKeys("key", [][]byte{key}); err != nil {
		return err
	}
	return k.change(func(_ []keys.Peer, now time.Time) error { return k.ring.Accept(key, now) })
}

// Use puts a key that this member accepts at the beginning of its list: it sends by it. If members do not accept it, Use changes nothing
// and returns a *KeyringError that names them. ErrUnknownKey for a key that this member does not accept; ErrNoKeys; ErrClosed.
func (k *Keyring) Use(key []byte) error { return k.use(key, false) }

// ForceUse is Use, whoever does not accept the key: those do not understand this member any more. It holds until the list changes.
func (k *Keyring) ForceUse(key []byte) error { return k.use(key, true) }

func (k *Keyring) use(key []byte, force bool) error {
	return k.change(func(peers []keys.Peer, now time.Time) error {
		lag, err := k.ring.Use(key, force, peers, now)
		return keyringError("use", key, lag, err)
	})
}

// Forget has this member not accept a key any more, at once. If members need the key, Forget changes nothing and returns a *KeyringError
// that names them. ErrUnknownKey for a key that this member does not accept; a *ConfigError for its only key; ErrNoKeys; ErrClosed.
func (k *Keyring) Forget(key []byte) error { return k.forget(key, false) }

// ForceForget is Forget, whoever needs the key: this member does not understand those any more that send by it.
func (k *Keyring) ForceForget(key []byte) error { return k.forget(key, true) }

func (k *Keyring) forget(key []byte, force bool) error {
	return k.change(func(peers []keys.Peer, _ time.Time) error {
		lag, err := k.ring.Forget(key, force, peers)
		return keyringError("forget", key, lag, err)
	})
}

func keyringError(op string, key []byte, lag []keys.Peer, err error) error {
	if err == nil && len(lag) > 0 {
		return &KeyringError{Op: op, Key: KeyFingerprint(key), Members: peerNames(lag)}
	}
	return err
}

// change makes a change by hand, and what follows from it.
func (k *Keyring) change(by func(peers []keys.Peer, now time.Time) error) error {
	leaving := false
	k.c.do(func(*replica.Replica, time.Time) { leaving = k.c.leaving })
	switch {
	case leaving:
		return ErrClosed
	case k.installed == nil:
		return ErrNoKeys
	}
	switch err := k.settle(by); {
	case errors.Is(err, keys.ErrUnknown):
		return ErrUnknownKey
	case errors.Is(err, keys.ErrLast), errors.Is(err, keys.ErrFull):
		return &ConfigError{Field: "key", Err: err}
	default:
		return err
	}
}

func newKeyring(c *Cluster) *Keyring {
	return &Keyring{c: c, stirred: make(chan struct{}, 1), changed: make(chan struct{}, 1), source: make(chan struct{})}
}

// readFirst takes over the first keys, those of Config.Keys or those that the source yields first, if there are to be any. The source
// goes on on a goroutine of its own.
func (k *Keyring) readFirst() error {
	if k.c.cfg.KeySource == nil {
		close(k.source)
		if len(k.c.cfg.Keys) > 0 {
			k.begin(k.c.cfg.Keys)
		}
		return nil
	}
	first := make(chan error, 1)
	k.c.wg.Go(func() { k.read(k.c.cfg.KeySource(k.c.ctx), first) })
	select {
	case err := <-first:
		return err
	case <-time.After(keysWithin):
		return &ConfigError{Field: keysFieldName, Err: fmt.Errorf("no keys within %v", keysWithin)}
	}
}

// begin makes the ring. The list is valid.
func (k *Keyring) begin(list [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ring = keys.New(list)
	all := k.ring.Keys()
	k.installed, _ = memberlist.NewKeyring(all, all[0]) // which refuses nothing but keys of another length
	k.told = k.ring.Told()
	if k.c.cfg.AcceptPlaintext {
		k.c.log.Warn("this member has keys and accepts plaintext: whoever reaches its port is trusted (Config.AcceptPlaintext)",
			"sends_plaintext", k.c.cfg.SendPlaintext)
	}
}

// read takes over what the source yields. first gets what became of its first keys.
func (k *Keyring) read(source iter.Seq2[[][]byte, error], first chan<- error) {
	defer close(k.source)
	begun := false
	for list, err := range source {
		if err != nil {
			err = &ConfigError{Field: keysFieldName, Err: err}
		} else {
			err = checkKeys(keysFieldName, list)
		}
		switch {
		case !begun && err != nil:
			first <- err
			return
		case k.c.ctx.Err() != nil:
			return
		case err != nil:
			k.tellSource(err)
		case !begun:
			begun = true
			k.begin(list)
			first <- nil
		default:
			_ = k.settle(func(_ []keys.Peer, now time.Time) error { k.ring.List(list, now); return nil }) // which does not fail
		}
	}
	if !begun {
		first <- &ConfigError{Field: keysFieldName, Err: errors.New("it has ended without a key")}
	}
}

// tellSource says in the log that the keys stay what they are.
func (k *Keyring) tellSource(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sourceTold.take(time.Now()) {
		k.c.log.Warn("the new keys are of no use; this member keeps those that it has", "error", err)
	}
}

// awaitSource waits until the source has returned, but not for long.
func (k *Keyring) awaitSource(long time.Duration) (returned bool) {
	select {
	case <-k.source:
		return true
	case <-time.After(long):
		return false
	}
}

// run starts what keeps the keys up to date, if there are any.
func (k *Keyring) run() {
	if k.installed == nil {
		return
	}
	k.c.spawn(k.settleLoop)
	k.c.spawn(k.tellLoop)
	k.c.spawn(func() {
		<-k.c.ctx.Done()
		if !k.awaitSource(sourceHangs) {
			k.c.log.Warn("closing waits for Config.KeySource, which has not returned although its context has ended")
		}
	})
}

// settleLoop follows the membership, and time.
func (k *Keyring) settleLoop() {
	timer := time.NewTimer(keysEvery)
	defer timer.Stop()
	for {
		select {
		case <-k.stirred:
		case <-timer.C:
		case <-k.c.ctx.Done():
			return
		}
		_ = k.settle(nil)
		k.mu.Lock()
		if !k.lagging.IsZero() || k.ring.Pending() {
			timer.Reset(keysEvery)
		}
		k.mu.Unlock()
	}
}

// tellLoop tells the others, by memberlist, which keys this member has now.
func (k *Keyring) tellLoop() {
	for {
		select {
		case <-k.changed:
		case <-k.c.ctx.Done():
			return
		}
		u := k.c.updates.begin()
		if <-u.done; u.err != nil {
			k.c.log.Debug("what keys this member has is not told yet", "error", u.err)
		}
	}
}

// settle makes a change, if one is given and possible, and decides anew by what the others tell.
func (k *Keyring) settle(change func(peers []keys.Peer, now time.Time) error) error {
	peers, now := k.peers(k.c.table.list()), time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if change != nil {
		if err := change(peers, now); err != nil {
			return err
		}
	}
	k.ring.Settle(peers, now)
	k.tellLag(peers, now)
	k.install()
	if change != nil {
		signal(k.stirred) // for its timer
	}
	return nil
}

// install gives memberlist the keys that the ring has now, and has the others told. Call it under mu.
func (k *Keyring) install() {
	install(k.installed, k.ring.Keys())
	told := k.ring.Told()
	if told.Uses == k.told.Uses && slices.Equal(told.Accepts, k.told.Accepts) {
		return
	}
	k.c.log.Info("the keys of this member have changed, by their fingerprints", "uses", keys.Text(k.ring.Uses()), "accepts", strings.Join(keys.Texts(told.Accepts), ", "))
	k.told = told
	signal(k.changed)
}

// install brings a keyring to those keys, of which the first is used. memberlist reads it meanwhile, and RemoveKey writes into what it reads
// unless the key is the last: so what stands behind it is taken off with it, and put back.
func install(ring *memberlist.Keyring, all [][]byte) {
	add := func() {
		for _, key := range all {
			_ = ring.AddKey(key) // no key of another length comes here
		}
	}
	add()
	_ = ring.UseKey(all[0])
	have := ring.GetKeys()
	stale := slices.IndexFunc(have, func(key []byte) bool { return !contains(all, key) })
	if stale < 0 {
		return
	}
	for _, key := range slices.Backward(have[stale:]) {
		_ = ring.RemoveKey(key)
	}
	add()
}

func contains(all [][]byte, key []byte) bool {
	return slices.ContainsFunc(all, func(k []byte) bool { return string(k) == string(key) })
}

// refused is called when a member did not understand this one, which had sent by that key.
func (k *Keyring) refused(used wire.KeyPrint) {
	if k.installed == nil {
		return
	}
	_ = k.settle(func(peers []keys.Peer, _ time.Time) error { k.ring.Refused(used, peers); return nil })
}

// uses is the fingerprint of the key that this member sends by; without keys it is zero.
func (k *Keyring) uses() (p wire.KeyPrint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ring != nil {
		p = k.ring.Uses()
	}
	return p
}

// tellLag says in the log whom the keys wait for. Call it under mu.
func (k *Keyring) tellLag(peers []keys.Peer, now time.Time) {
	lags := k.ring.Lags(peers)
	switch {
	case len(lags) == 0:
		k.lagging = time.Time{}
		return
	case k.lagging.IsZero():
		k.lagging, k.laggedTold = now, now.Add(keysLagAfter-keysLagAgain)
	}
	if now.Sub(k.laggedTold) < keysLagAgain {
		return
	}
	k.laggedTold = now
	for _, lag := range lags {
		key, members := keys.Text(lag.Key), listed(peerTexts(lag.Members))
		if lag.Until.IsZero() {
			k.c.log.Warn("members are not known to accept the first key of this one, which sends by another until they do",
				"key", key, "uses", keys.Text(k.ring.Uses()), "members", members)
		} else {
			k.c.log.Warn("members need a key that is no longer among those of this one, which accepts it until they do not",
				"key", key, "members", members, "at_most_until", lag.Until)
		}
	}
}

// peers are the other members of a list, with what they tell.
func (k *Keyring) peers(list []Member) (peers []keys.Peer) {
	for _, m := range list {
		if m.Name != k.c.cfg.Name {
			peers = append(peers, keys.Peer{Name: m.Name, Keys: m.keys})
		}
	}
	return peers
}

func peerNames(peers []keys.Peer) (names []string) {
	for _, p := range peers {
		names = append(names, p.Name)
	}
	return names
}

func peerTexts(peers []keys.Peer) (texts []string) {
	for _, p := range peers {
		tells := "tells nothing of its keys"
		if len(p.Accepts) > 0 {
			tells = "accepts " + strings.Join(keys.Texts(p.Accepts), ", ") + "; uses " + keys.Text(p.Accepts[p.Uses])
		}
		texts = append(texts, p.Name+" ("+tells+")")
	}
	return texts
}

// nodeMeta is what memberlist tells the others of this member.
func (k *Keyring) nodeMeta() []byte {
	k.mu.Lock()
	told := k.told
	k.mu.Unlock()
	var user []byte
	k.c.do(func(*replica.Replica, time.Time) { user = k.c.meta })
	return wire.EncodeMeta(k.c.id, wire.OwnFeatures, wire.AppendKeys(user, told))
}

// checkEncryption checks what concerns keys.
func (s *settings) checkEncryption(fault faultFunc) {
	keyed := len(s.Keys) > 0 || s.KeySource != nil
	switch {
	case s.Keys != nil && s.KeySource != nil:
		fault(keysFieldName, len(s.Keys), "Keys is set too: give one of them")
	case s.Keys != nil:
		faultKeys("Keys", s.Keys, fault)
	}
	if s.AcceptPlaintext && !keyed {
		fault("AcceptPlaintext", true, "without keys there is nothing but plaintext")
	}
	if s.SendPlaintext && !s.AcceptPlaintext {
		fault("SendPlaintext", true, "a member that sends plaintext has to accept it: set AcceptPlaintext too")
	}
}

// checkKeys returns a *ConfigError for each fault of a list of keys, joined.
func checkKeys(field string, list [][]byte) error {
	var faults []error
	faultKeys(field, list, func(field string, value any, format string, args ...any) {
		faults = append(faults, &ConfigError{Field: field, Value: value, Err: fmt.Errorf(format, args...)})
	})
	return errors.Join(faults...)
}

func faultKeys(field string, list [][]byte, fault faultFunc) {
	if len(list) == 0 {
		fault(field, list, "give nil for no encryption, or a key: an empty list must not mean plaintext")
	}
	if len(list) > keys.MaxListed {
		fault(field, len(list), "limit %d keys", keys.MaxListed)
	}
	for i, key := range list {
		if memberlist.ValidateKey(key) != nil {
			fault(fmt.Sprintf("%s[%d]", field, i), len(key), "a key has 16, 24 or 32 bytes")
		}
	}
}
