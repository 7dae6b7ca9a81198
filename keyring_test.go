package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/starlingtest"
)

// keyOf is the key of that name.
func keyOf(name byte) []byte { return bytes.Repeat([]byte{name}, 32) }

// keysOf are the keys of those names.
func keysOf(names string) (list [][]byte) {
	for i := range len(names) {
		list = append(list, keyOf(names[i]))
	}
	return list
}

// namesOf are the names of the keys with those fingerprints.
func namesOf(prints ...string) (names string) {
	for _, p := range prints {
		for name := byte('a'); name <= 'z'; name++ {
			if starling.KeyFingerprint(keyOf(name)) == p {
				names += string(name)
			}
		}
	}
	return names
}

// keyFiles are the files that members read their keys from.
type keyFiles struct {
	mu      sync.Mutex
	lists   map[string]string // the names of the keys, by member
	changed chan struct{}     // closed at the next change
}

// of returns what is in the file of a member, and when to look again.
func (f *keyFiles) of(member string) (string, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	if names, ok := f.lists[member]; ok {
		return names, f.changed
	}
	return f.lists[""], f.changed
}

// set changes the file of a member; that of "" is for all that have none.
func (f *keyFiles) set(member, names string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lists == nil {
		f.lists = map[string]string{}
	}
	f.lists[member] = names
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// source reads the file of a member.
func (f *keyFiles) source(member string) func(context.Context) iter.Seq2[[][]byte, error] {
	return func(ctx context.Context) iter.Seq2[[][]byte, error] {
		return func(yield func([][]byte, error) bool) {
			for {
				names, changed := f.of(member)
				if !yield(keysOf(names), nil) {
					return
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// rotating is a cluster whose members read their keys from files, and broadcast.
type rotating struct {
	*rolling
	files keyFiles
	rng   *rand.Rand
}

// inRotation runs body with n members whose files have the key a, and that broadcast so many messages a second in all.
func inRotation(t *testing.T, n, rate int, body func(t *testing.T, r *rotating)) {
	r := &rotating{rng: seedtest.Rand(t)}
	r.files.lists = map[string]string{"": "a"}
	o := contractOptions{config: func(name string, cfg *starling.Config) { cfg.KeySource = r.files.source(name) }}
	inContract(t, n, o, func(t *testing.T, c *contract) {
		r.rolling = &rolling{contract: c, latest: map[string]*rollingRun{}, every: time.Second * time.Duration(n) / time.Duration(rate)}
		for _, name := range c.Names() {
			r.start(name)
		}
		body(t, r)
	})
}

// rotate changes the files of the members to those keys, one after the other at random times.
func (r *rotating) rotate(names string, members ...string) {
	for _, i := range r.rng.Perm(len(members)) {
		time.Sleep(time.Duration(r.rng.IntN(120)) * time.Millisecond)
		r.files.set(members[i], names)
	}
}

// settled waits until every member sends by that key, and accepts no other than those.
func (r *rotating) settled(limit time.Duration, uses, accepts string) {
	r.t.Helper()
	r.Within(limit, func() error {
		for _, m := range r.Members() {
			s := m.Cluster.Keyring().Status()
			if namesOf(s.Uses) != uses || namesOf(s.Accepts...) != accepts {
				return fmt.Errorf("%s sends by %s and accepts %s; want %s and %s", m.Name, namesOf(s.Uses), namesOf(s.Accepts...), uses, accepts)
			}
			for _, of := range s.Members {
				if namesOf(of.Uses) != uses || namesOf(of.Accepts...) != accepts {
					return fmt.Errorf("%s has heard of %s: %+v", m.Name, of.Name, of)
				}
			}
		}
		return nil
	})
}

// stop ends the traffic, and fails the test for whatever was owed and did not come, or came twice.
func (r *rotating) stop() {
	r.t.Helper()
	for _, run := range r.runs {
		run.stop()
		<-run.done
	}
	time.Sleep(15 * time.Second)
	owed, died, faults := r.check()
	faults = append(faults, r.checkGaps(died)...)
	for _, fault := range faults[:min(len(faults), 20)] {
		r.t.Error(fault)
	}
	r.t.Logf("%d messages, %d deliveries owed, %d faults", len(r.sent), owed, len(faults))
	if len(r.sent) < 100 {
		r.t.Error("that is too few to mean anything")
	}
}

// Keys are replaced while five members broadcast 1,000 messages a second, and put back: by lists with both keys in between, and without;
// the files of the members change in random order. Right: everything comes once, nobody is taken for failed, and there are hardly more
// streams than without. In the end nobody accepts the other key.
func TestKeysRotate(t *testing.T) {
	inRotation(t, 5, seedtest.Number(t, "STARLING_RATE", 1000), func(t *testing.T, r *rotating) {
		var watched []*watcher
		for _, m := range r.Members() {
			watched = append(watched, watch(t, m.Cluster))
		}
		r.settled(10*time.Second, "a", "a")
		streams := func() uint64 { return r.Net.Total().Sent.Streams + r.Net.Total().DialsFailed }
		began, before := time.Now(), streams()
		for _, names := range []string{"ab", "ba", "b", "a"} {
			r.rotate(names, r.Names()...)
			if uses := names[:1]; len(names) == 1 {
				r.settled(10*time.Second, uses, uses)
			}
		}
		took, during := time.Since(began), streams()-before
		r.stop()
		time.Sleep(30 * time.Second)
		for _, m := range r.Members() {
			if s := m.Cluster.Keyring().Status(); len(s.Dropped) > 0 {
				t.Errorf("%s can still read %s", m.Name, namesOf(s.Dropped...))
			}
		}
		t.Logf("%d streams in %v", during, took)
		if during > 50 {
			t.Errorf("%d streams in %v", during, took)
		}
		for i, w := range watched {
			if all := w.all(); slices.ContainsFunc(all, func(e string) bool { return !strings.HasPrefix(e, "joined") }) {
				t.Errorf("the events of %s: %v", r.Members()[i].Name, all)
			}
		}
	})
}

// Keys are replaced while members restart, politely and by a crash, one comes anew, and one is cut off and comes back with its old key. Right:
// every message that is owed comes once.
func TestKeysRotateWhileMembersChange(t *testing.T) {
	inRotation(t, 5, 25, func(t *testing.T, r *rotating) {
		for i, names := range []string{"ab", "ba", "b", "cb", "c"} {
			members := r.Names()
			for _, m := range r.rng.Perm(len(members)) {
				r.files.set(members[m], names)
				time.Sleep(time.Duration(r.rng.IntN(300)) * time.Millisecond)
				if m == i { // its own file may have changed, and those of others not yet
					r.end(members[m], i%2 == 1)
					r.Restart(members[m])
					r.start(members[m])
				}
			}
			r.files.set("", names)
			if i == 1 {
				r.Start("newcomer")
				r.start("newcomer")
			}
		}
		r.settled(time.Minute, "c", "c")
		alone, others := r.Names()[0], r.Names()[1:]
		r.Must(r.Net.Partition([]string{alone}, others))
		r.rotate("dc", others...)
		time.Sleep(20 * time.Second) // both sides take the other one for failed
		r.settledOn("d", "dc", others...)
		r.Net.Heal()
		r.WaitAll(time.Minute)
		r.settledOn("c", "dc", others...)
		r.files.set(alone, "d")
		r.rotate("d", others...)
		r.settled(time.Minute, "d", "d")
		r.stop()
	})
}

// A member is down while keys are replaced, and nobody accepts its old one any more. Right: it joins by what its file has when it
// starts. One whose file is late waits in Join, with a line in the log that says what is wrong, and joins when the file has changed.
func TestKeysChangedWhileDown(t *testing.T) {
	inRotation(t, 3, 20, func(t *testing.T, r *rotating) {
		r.end("m2", true)
		r.files.set("m2", "a")
		for _, names := range []string{"ab", "ba", "b"} {
			r.rotate(names, "m0", "m1")
			time.Sleep(time.Second)
		}
		r.files.set("late", "a")
		r.settled(time.Minute, "b", "b")
		time.Sleep(time.Minute) // a is forgotten
		r.files.set("m2", "b")
		r.Start("m2")
		r.start("m2")
		r.settled(10*time.Second, "b", "b")

		lines := &logCounter{from: slog.LevelWarn}
		late := r.outside("late", "late", "", func(c *starling.Config) {
			c.KeySource, c.Logger = r.files.source("late"), slog.New(lines)
		})
		joined := make(chan error, 1)
		go func() { joined <- late.Join(r.timeout(5*time.Minute), r.address("m0")) }()
		time.Sleep(30 * time.Second)
		_, told := lines.taken() // at once, and again after 10 s and 20 s more
		if len(told) < 2 || len(told) > 3 {
			t.Errorf("%d lines while it waits", len(told))
		}
		for _, line := range told {
			if !strings.Contains(line, "no seed has answered") || !strings.Contains(line, "give both the same Keys") {
				t.Errorf("while it waits: %q", line)
			}
		}
		r.files.set("late", "ba")
		changed := time.Now()
		r.Must(<-joined)
		if took := time.Since(changed); took > 10*time.Second {
			t.Errorf("it is a member after %v", took)
		}
		late.Close()
		r.WaitAll(time.Minute)
		r.stop()
	})
}

// A newcomer sends first by a key that the others do not accept, and has another one that they do. Right: it joins.
func TestNewcomerTriesItsKeys(t *testing.T) {
	inRotation(t, 2, 100, func(t *testing.T, r *rotating) {
		r.files.set("m2", "cba")
		began := time.Now()
		r.Start("m2")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it is a member after %v", took)
		}
		r.start("m2")
		r.WaitAll(10 * time.Second)
		r.settledOn("a", "cba", "m2")
		time.Sleep(time.Second)
		r.stop()
	})
}

// settledOn waits until these members send by that key, and accept those.
func (r *rotating) settledOn(uses, accepts string, members ...string) {
	r.t.Helper()
	r.Within(time.Minute, func() error {
		for _, m := range members {
			if s := r.Member(m).Cluster.Keyring().Status(); namesOf(s.Uses) != uses || namesOf(s.Accepts...) != accepts {
				return fmt.Errorf("%s sends by %s and accepts %s; want %s and %s", m, namesOf(s.Uses), namesOf(s.Accepts...), uses, accepts)
			}
		}
		return nil
	})
}

// A cluster goes from plaintext to keys, and back, by restarts of one member after the other, in random order, while five members broadcast.
// Right: everything that is owed comes once. STARLING_RATE makes it more.
func TestPlaintextToKeysAndBack(t *testing.T) {
	type step struct{ keys, accepts, sends bool }
	steps := []step{{true, true, true}, {true, true, false}, {true, false, false}, {true, true, false}, {true, true, true}, {}}
	var mu sync.Mutex
	now := map[string]step{}
	o := contractOptions{config: func(name string, cfg *starling.Config) {
		mu.Lock()
		defer mu.Unlock()
		s := now[name]
		if s.keys {
			cfg.Keys = keysOf("a")
		}
		cfg.AcceptPlaintext, cfg.SendPlaintext = s.accepts, s.sends
	}}
	n, rate, rng := 5, seedtest.Number(t, "STARLING_RATE", 50), seedtest.Rand(t)
	inContract(t, n, o, func(t *testing.T, c *contract) {
		r := &rotating{rolling: &rolling{contract: c, latest: map[string]*rollingRun{}, every: time.Second * time.Duration(n) / time.Duration(rate)}}
		names := c.Names()
		for _, name := range names {
			r.start(name)
		}
		for _, s := range steps {
			for _, m := range rng.Perm(n) {
				mu.Lock()
				now[names[m]] = s
				mu.Unlock()
				r.end(names[m], false)
				c.Start(names[m])
				r.start(names[m])
			}
			c.WaitAll(10 * time.Second)
		}
		r.stop()
	})
}

// What a member with keys sends is readable at no step but those that say so: see SECURITY.md.
func TestPlaintextSteps(t *testing.T) {
	const secret = "a secret that is long enough"
	for name, tt := range map[string]struct {
		accepts, sends bool
		hears          bool // what is plain
		shows          bool // what it sends
	}{"keys": {}, "accepts": {accepts: true, hears: true}, "sends": {true, true, true, true}} {
		inContract(t, 2, contractOptions{config: func(name string, cfg *starling.Config) {
			cfg.Keys, cfg.AcceptPlaintext, cfg.SendPlaintext = keysOf("a"), tt.accepts, tt.sends
		}}, func(t *testing.T, c *contract) {
			var shown sync.Map
			c.Net.Tap(func(e starlingtest.Event) {
				if bytes.Contains(e.Data, []byte(secret)) {
					shown.Store(e.From, true)
				}
			})
			c.Must(c.run("m0").ch.Broadcast(t.Context(), []byte(secret)))
			c.Must(c.run("m1").ch.Broadcast(t.Context(), bytes.Repeat([]byte(secret), 1000)))
			time.Sleep(5 * time.Second)
			for _, from := range []string{"m0", "m1"} {
				if _, is := shown.Load(from); is != tt.shows {
					t.Errorf("%s: what %s sends can be read: %v", name, from, is)
				}
			}
			plain := c.outside("plain", "plain", "", nil)
			if err := plain.Join(c.timeout(3*time.Second), c.address("m0")); (err == nil) != tt.sends {
				t.Errorf("%s: one without keys joins: %v", name, err)
			}
			if c.run("m0").sees("plain") != tt.hears {
				t.Errorf("%s: one without keys is heard: %v", name, !tt.hears)
			}
		})
	}
}

// understood fails the test if a member is not understood by another one.
func understood(c *contract) {
	c.t.Helper()
	for i, r := range c.all() {
		c.once(5*time.Second, broadcastBy([]*contractRun{r}, 1), slices.Delete(c.all(), i, i+1)...)
	}
}

// Keys are changed by hand. Right: what would cut members off is refused, and they are named, in the log too; force has its way.
func TestKeysByHand(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	o := contractOptions{config: func(name string, cfg *starling.Config) {
		if cfg.Keys = keysOf("a"); name == "m0" {
			cfg.Logger = slog.New(lines)
		}
	}}
	inContract(t, 3, o, func(t *testing.T, c *contract) {
		ring := func(i int) *starling.Keyring { return c.Members()[i].Cluster.Keyring() }
		a, b := keyOf('a'), keyOf('b')
		var fault *starling.ConfigError
		var cut *starling.KeyringError
		if err := ring(0).Use(b); !errors.Is(err, starling.ErrUnknownKey) {
			t.Errorf("use what there is not: %v", err)
		}
		if err := ring(0).Accept(b[:15]); !errors.As(err, &fault) {
			t.Errorf("accept half a key: %v", err)
		}
		if err := ring(0).Forget(a); !errors.As(err, &fault) {
			t.Errorf("forget the only key: %v", err)
		}
		c.Must(errors.Join(ring(0).Accept(b), ring(1).Accept(b), ring(0).Accept(b)))
		time.Sleep(5 * time.Second)
		if err := ring(0).Use(b); !errors.As(err, &cut) || !slices.Equal(cut.Members, []string{"m2"}) {
			t.Errorf("use what one does not accept: %v", err)
		} else if text := err.Error(); text != "starling: keyring: use "+starling.KeyFingerprint(b)+": these members do not accept it: m2" {
			t.Error(text)
		}
		if err := ring(0).Forget(a); !errors.As(err, &cut) || len(cut.Members) != 2 || cut.Op != "forget" {
			t.Errorf("forget what is in use: %v", err)
		}
		c.Must(ring(2).Accept(b))
		time.Sleep(5 * time.Second)
		for i := range 3 {
			c.Must(ring(i).Use(b))
		}
		time.Sleep(5 * time.Second)
		s := ring(0).Status()
		if namesOf(s.Uses) != "b" || namesOf(s.Accepts...) != "ba" || len(s.Lagging) > 0 || len(s.Members) != 3 || namesOf(s.Members[2].Uses) != "b" {
			t.Errorf("status %+v", s)
		}
		for i := range 3 {
			c.Must(ring(i).Forget(a))
		}
		understood(c)
		time.Sleep(5 * time.Second)

		c.Must(errors.Join(ring(0).Accept(a), ring(0).ForceUse(a)))
		if s := ring(0).Status(); namesOf(s.Uses) != "a" || !slices.Equal(s.Lagging, []string{"m1", "m2"}) {
			t.Errorf("after force: %+v", s)
		}
		c.Must(errors.Join(ring(1).Accept(a), ring(2).Accept(a)))
		c.Must(ring(0).ForceForget(b))
		c.WaitAll(time.Minute)
		understood(c)
		lines.taken()
		c.Must(ring(1).Use(a)) // m2 accepts it, and wants b still
		c.Must(ring(0).Accept(b))
		time.Sleep(5 * time.Second)
		if n, told := lines.taken(); n > 0 {
			t.Errorf("with nobody behind: %q", told)
		}
	})
}

// A list wants a key that one member does not accept. Right: after a minute the log names that member, and says so seldom.
func TestKeysThatWaitAreTold(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	var files keyFiles
	files.set("", "a")
	o := contractOptions{config: func(name string, cfg *starling.Config) {
		if cfg.KeySource = files.source(name); name == "m0" {
			cfg.Logger = slog.New(lines)
		}
	}}
	inContract(t, 3, o, func(t *testing.T, c *contract) {
		files.set("m0", "b")
		files.set("m1", "ba")
		time.Sleep(50 * time.Second)
		if n, told := lines.taken(); n > 0 {
			t.Errorf("too early: %q", told)
		}
		time.Sleep(5 * time.Minute)
		n, told := lines.taken()
		if text := strings.Join(told, "\n"); n != 2 || !strings.Contains(text, "not known to accept the first key") ||
			!strings.Contains(text, "members=m2 (accepts "+starling.KeyFingerprint(keyOf('a'))) || !strings.Contains(text, "at_most_until") {
			t.Errorf("told %s", text)
		}
		understood(c)
	})
}

// sourceOf yields what it is told to, one after the other, and then ends when its context does, unless it hangs.
func sourceOf(lists <-chan [][]byte, hang <-chan struct{}) func(context.Context) iter.Seq2[[][]byte, error] {
	return func(ctx context.Context) iter.Seq2[[][]byte, error] {
		return func(yield func([][]byte, error) bool) {
			for {
				select {
				case list := <-lists:
					var err error
					if list == nil {
						err = errors.New("the vault is closed")
					}
					if !yield(list, err) {
						return
					}
				case <-ctx.Done():
					if hang != nil {
						<-hang
					}
					return
				}
			}
		}
	}
}

// What New says when it gets no keys, or cannot use those that it gets. Never is that plaintext.
func TestKeysThatNewRefuses(t *testing.T) {
	yields := func(list [][]byte, err error) func(context.Context) iter.Seq2[[][]byte, error] {
		return func(context.Context) iter.Seq2[[][]byte, error] {
			return func(yield func([][]byte, error) bool) { yield(list, err) }
		}
	}
	never := func(context.Context) iter.Seq2[[][]byte, error] { return func(func([][]byte, error) bool) {} }
	for want, cfg := range map[string]starling.Config{
		"starling: KeySource: the vault is closed":                                                 {KeySource: yields(nil, errors.New("the vault is closed"))},
		"starling: KeySource = []: give nil":                                                       {KeySource: yields([][]byte{}, nil)},
		"starling: KeySource[1] = 5: a key has 16, 24 or 32 bytes":                                 {KeySource: yields([][]byte{keyOf('a'), keyOf('b')[:5]}, nil)},
		"starling: KeySource: it has ended without a key":                                          {KeySource: never},
		"starling: KeySource: no keys within 10s":                                                  {KeySource: sourceOf(nil, nil)},
		"starling: KeySource = 1: Keys is set too":                                                 {KeySource: never, Keys: keysOf("a")},
		"starling: Keys = 9: limit 8 keys":                                                         {Keys: keysOf("abcdefghi")},
		"starling: AcceptPlaintext = true: without keys there is nothing but plaintext":            {AcceptPlaintext: true},
		"starling: SendPlaintext = true: a member that sends plaintext has to accept it: set Acce": {SendPlaintext: true, Keys: keysOf("a")},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg.Logger = quiet
			c, err := starling.New(cfg)
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), want) || len(configFaults(err)) != 1 {
				t.Errorf("New: %v; want %s", err, want)
			}
		})
	}
}

// A source has trouble later. Right: the keys stay what they are, and the log says why, once in a while; the next good list is taken.
func TestKeySourceInTrouble(t *testing.T) {
	lines := &logCounter{from: slog.LevelWarn}
	var lists chan [][]byte // made in the bubble
	starlingtest.Run(t, 1, starlingtest.Options{Config: func(string) starling.Config {
		lists = make(chan [][]byte, 1)
		lists <- keysOf("a")
		return starling.Config{Logger: slog.New(lines), KeySource: sourceOf(lists, nil)}
	}}, func(t *testing.T, l *starlingtest.Lab) {
		c := l.Members()[0].Cluster
		for _, list := range [][][]byte{nil, {}, {keyOf('b')[:3]}, nil} {
			lists <- list
			time.Sleep(time.Second)
			if s := c.Keyring().Status(); namesOf(s.Accepts...) != "a" {
				t.Errorf("after %v: %+v", list, s)
			}
		}
		if n, told := lines.taken(); n != 1 || !strings.Contains(told[0], "the vault is closed") {
			t.Errorf("told %q", told)
		}
		lists <- keysOf("ba")
		time.Sleep(time.Second)
		if s := c.Keyring().Status(); namesOf(s.Uses) != "b" || namesOf(s.Accepts...) != "ba" {
			t.Errorf("after a good list: %+v", s)
		}
		l.Leave("m0")
		if err := c.Keyring().Accept(keyOf('c')); !errors.Is(err, starling.ErrClosed) {
			t.Errorf("after Leave: %v", err)
		}
		if s := c.Keyring().Status(); namesOf(s.Uses) != "b" {
			t.Errorf("after Leave: %+v", s)
		}
	})
}

// A source does not return when its context ends. Right: Close waits for it, and says so.
func TestKeySourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := &logCounter{from: slog.LevelWarn}
		lists, hang := make(chan [][]byte, 1), make(chan struct{})
		lists <- keysOf("a")
		n := starlingtest.NewNetwork(1)
		defer time.Sleep(starlingtest.Pause)
		defer n.Close()
		tr, err := n.Transport("m0")
		must(t, err)
		c, err := starling.New(starling.Config{Transport: tr, Logger: slog.New(lines), KeySource: sourceOf(lists, hang)})
		must(t, err)
		time.AfterFunc(2*time.Second, func() { close(hang) })
		began := time.Now()
		must(t, c.Close())
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("Close waits for %v", took)
		}
		if n, told := lines.taken(); n != 1 || !strings.Contains(told[0], "closing waits for Config.KeySource") {
			t.Errorf("told %q", told)
		}
	})
}

// A member without keys has nothing to change by hand.
func TestKeyringWithoutKeys(t *testing.T) {
	c := start(t, config(t, "a"))
	ring := c.Keyring()
	for _, err := range []error{ring.Accept(keyOf('a')), ring.Use(keyOf('a')), ring.ForceForget(keyOf('a'))} {
		if !errors.Is(err, starling.ErrNoKeys) {
			t.Errorf("%v", err)
		}
	}
	if s := ring.Status(); s.Uses != "" || s.Accepts != nil || len(s.Members) != 1 || s.Members[0].Uses != "" {
		t.Errorf("status %+v", s)
	}
}
