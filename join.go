package starling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/seeds"
	"github.com/starling-go/starling/internal/wire"
)

const (
	joinFirst   = 250 * time.Millisecond // first pause between rounds over a seed
	joinLongest = 5 * time.Second

	hintsFor    = 3 * time.Second // how long Join waits for hints where no seed is another member
	toldAfter   = 5 * time.Second // how long it waits for its seeds before it tells of those that have given no answer
	toldSoonest = time.Second     // before it tells of them though each was tried: members that start together are no news
	toldChecks  = time.Second
)

// Join joins the cluster through any of the given seeds, of those of earlier calls, of Config.Seeds, and of what Config.Resolve returns. Each is "host" or "host:port";
// every address of a name is tried. A "dns+" before it is allowed and changes nothing; "dnssrv+name" is every target of the name's SRV records.
// The port defaults to that of Config.BindAddr; if that is 0, a seed must name one.
//
// Join tries each seed again and again with growing pauses, until one has answered; members often start before their seeds. One that hangs
// holds up no other. At most eight addresses are dialled at once. Where more wait, each gets a packet too, and those that answer it are
// dialled first; so a name may have a thousand addresses that nobody lives at. Dials have little time at first, and more in each round, up to
// memberlist's TCPTimeout. The seeds that have not answered yet are tried further in the background.
//
// The cluster keeps the seeds: from then on it resolves them every 15 s, and joins anew those that are missing. A member that runs may call
// Join for further seeds at any time, with a context that is soon over if it does not want to wait. An address of this very member is no
// seed: if there is no other, Join returns at once, as it does without any seed; or, if Config.PeersFile names others, when these were tried, after
// 3 s at most.
//
// Then Join waits until every member that it hears of has taken this one in: from then on, whatever is broadcast anywhere is owed
// to this member. That takes a round trip, or, where a member has failed a moment ago, until the others notice that (one that ran at the
// address of this member is not waited for); and where the name of this member was that of one that has failed, until memberlist gives the
// name away (10 s after the failure was noticed).
//
// When ctx ends first, it returns the context's error, joined with a *SeedError for each seed if none has answered (its Seed
// is "Config.Resolve" or "Config.PeersFile" for those), or with a *NotTakenInError that names the members that have not taken this one in: then it is a member all
// the same, and may miss what those broadcast. A malformed seed gives a *ConfigError at once. ErrClosed after Leave or Close.
//
// While it waits, Config.Logger gets the same reasons at WARN: that no seed has answered, when each was tried and a second is over, or after
// 5 s, and then at pauses that double, from 10 s to 5 minutes; that members refuse this one, or have given no answer for 10 s, once a minute.
func (c *Cluster) Join(ctx context.Context, seeds ...string) error {
	if err := c.discovery.addSeeds(seeds); err != nil {
		return err
	}
	all := c.discovery.sources()
	c.do(func(r *replica.Replica, _ time.Time) {
		c.discovery.sought = true
		c.readiness.joins++
		if len(all) > 0 {
			r.Membership.Joining()
		}
	})
	var err error
	if len(all) > 0 {
		err = c.discovery.join(ctx, all)
	}
	c.do(func(r *replica.Replica, now time.Time) {
		r.Membership.Joined(err == nil, now)
		rd := &c.readiness
		rd.joins--
		if rd.failed = err != nil; err == nil && !rd.joined {
			rd.joined = true
			r.States.Await(now)
		}
	})
	if err == nil {
		c.entry.Do(func() { close(c.entered) })
	}
	return err
}

// join tries the sources until one has answered, and waits to be taken in.
func (d *discovery) join(ctx context.Context, all []source) error {
	s := newSearch(d, all)
	defer s.end()
	for i := range all {
		if !d.c.spawn(func() { s.follow(i) }) {
			return ErrClosed
		}
	}
	began, check := time.Now(), time.NewTicker(toldChecks)
	defer check.Stop()
	for {
		waited := time.Since(began)
		switch {
		case d.c.ctx.Err() != nil:
			return ErrClosed
		case s.answered(waited) && ctx.Err() == nil:
			signal(d.joined)
			return d.awaitTakenIn(ctx)
		case ctx.Err() != nil:
			return errors.Join(append(s.errors(ctx.Err()), ctx.Err())...)
		case waited >= toldAfter || waited >= toldSoonest && s.allFailed():
			d.tellUnanswered(s)
		}
		select {
		case <-s.news:
		case <-check.C:
		case <-ctx.Done():
		case <-d.c.ctx.Done():
		}
	}
}

// search is one Join that looks for a member. Each source has its own rounds, so one that hangs holds up no other.
type search struct {
	d   *discovery
	all []source
	ctx context.Context // ends when the search does, or the cluster closes
	end context.CancelFunc
	// news holds a token when there may be something to do.
	news chan struct{}

	mu    sync.Mutex
	found bool // a member has answered
	known []verdict
}

// verdict is what is known of a source.
type verdict struct {
	rounds int
	self   bool  // all its addresses are this member's own
	err    error // of the last round, or of what is known of the one under way
}

func newSearch(d *discovery, all []source) *search {
	s := &search{d: d, all: all, news: make(chan struct{}, 1), known: make([]verdict, len(all))}
	s.ctx, s.end = context.WithCancel(d.c.ctx)
	return s
}

// follow tries a source again and again.
func (s *search) follow(i int) {
	pauses := backoff{first: joinFirst, longest: joinLongest}
	for n := 0; s.ctx.Err() == nil; n++ {
		s.round(i, n)
		signal(s.news)
		select {
		case <-time.After(pauses.pause()):
		case <-s.ctx.Done():
		}
	}
}

// round finds the addresses of a source, and waits until each was tried. What waits or is under way when the search ends goes on.
func (s *search) round(i, n int) {
	r := &round{idle: make(chan struct{}), pending: 1}
	own, began := false, time.Now()
	note := func(err error) {
		s.d.answers.note(s.all[i], began, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.found = true
		} else if r.faults = append(r.faults, err); s.ctx.Err() == nil {
			s.known[i].err = seeds.Few(r.faults)
		}
		signal(s.news)
	}
	err := s.all[i].find(s.ctx, func(addrs []netip.AddrPort) {
		others := s.d.others(addrs)
		if len(others) < len(addrs) {
			own = true
			s.d.answers.note(s.all[i], began, nil)
		}
		r.add(len(others))
		s.d.dials.Try(others, n, func(_ netip.AddrPort, err error) {
			note(err)
			r.add(-1)
		})
	})
	if err != nil && s.ctx.Err() == nil {
		note(err)
	}
	r.add(-1)
	select {
	case <-r.idle:
	case <-s.ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &s.known[i]
	v.rounds++
	if v.self = own && r.tried == 0; v.self {
		v.err = nil
	}
}

// round is one round over a source.
type round struct {
	mu      sync.Mutex
	tried   int // addresses
	pending int // of those, who have no answer yet; and one while addresses are looked for
	idle    chan struct{}

	faults []error // the search's mu guards them
}

func (r *round) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried += max(n, 0)
	if r.pending += n; r.pending == 0 {
		close(r.idle)
	}
}

// answered reports whether a member has answered, or all addresses of all sources are this very member's. Hints count for that as long as they
// have not been tried once, and not for long.
func (s *search) answered(waited time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	alone := true
	for i, v := range s.known {
		if s.all[i].hint {
			alone = alone && (v.rounds > 0 || waited > hintsFor)
		} else {
			alone = alone && v.self
		}
	}
	return s.found || alone
}

// allFailed reports whether every source was tried once, in vain.
func (s *search) allFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.known, func(v verdict) bool { return v.rounds == 0 })
}

// errors returns a *SeedError for each source but those that are this very member. late is the reason where there is no other.
func (s *search) errors(late error) (errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range s.known {
		if err := cmp.Or(v.err, late); !v.self {
			errs = append(errs, &SeedError{Seed: s.all[i].name, Err: err})
		}
	}
	return errs
}

// refusedAgain is how often a member that refuses us hears of us again: memberlist itself would tell it with its next push/pull
// alone, 30 s later.
const refusedAgain = 2 * time.Second

// awaitTakenIn waits until every member has taken this one in.
func (d *discovery) awaitTakenIn(ctx context.Context) error {
	began := time.Now()
	again := time.NewTicker(refusedAgain)
	defer again.Stop()
	for {
		var pending []replica.Pending
		var told <-chan struct{}
		d.c.do(func(r *replica.Replica, now time.Time) {
			r.Membership.Join(wire.EncodeMeta(d.c.id, wire.OwnFeatures, d.c.meta), now)
			pending, told = r.Membership.NotTakenIn(now), d.told.wait()
		})
		if len(pending) == 0 {
			return nil
		}
		select {
		case <-told:
		case <-again.C:
			d.tellNotTakenIn(pending, time.Since(began))
			for _, p := range pending {
				if p.Refusal != "" {
					d.rejoin(p.Name, p.Addr)
				}
			}
		case <-ctx.Done():
			return errors.Join(notTakenIn(pending), ctx.Err())
		case <-d.c.ctx.Done():
			return ErrClosed
		}
	}
}

var errNoAnswer = errors.New("no answer yet")

// tellUnanswered says in the log that no seed has answered, and why: a Join without a deadline would say it to nobody.
func (d *discovery) tellUnanswered(s *search) {
	if !d.seedsTold.due(d.c) {
		return
	}
	var reasons []string
	for _, err := range s.errors(errNoAnswer) {
		e := err.(*SeedError)
		reasons = append(reasons, e.Seed+": "+e.Err.Error())
	}
	if more := len(reasons) - maxNamed; more > 0 {
		reasons = append(reasons[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	d.c.log.Warn("no seed has answered yet; still trying", "error", strings.Join(reasons, "; "))
}

// unheardFor is how long Join waits for an answer before it says in the log that a member has given none: until a failure has been
// noticed, which takes some seconds, nothing is wrong.
const unheardFor = 10 * time.Second

// tellNotTakenIn says in the log which members Join waits for, and why.
func (d *discovery) tellNotTakenIn(pending []replica.Pending, waited time.Duration) {
	pending = slices.DeleteFunc(slices.Clone(pending), func(p replica.Pending) bool { return p.Refusal == "" && waited < unheardFor })
	if len(pending) > 0 && d.pendingTold.due(d.c) {
		d.c.log.Warn("Join waits for members that have not taken this one in; still trying", "error", notTakenIn(pending))
	}
}

// addSeeds remembers seeds.
func (d *discovery) addSeeds(texts []string) error {
	var add []seeds.Seed
	var faults []error
	for _, text := range texts {
		s, err := seeds.Parse(text, d.c.cfg.seedPort())
		if err != nil {
			faults = append(faults, &ConfigError{Field: "seed", Value: text, Err: err})
		}
		add = append(add, s)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	var err error
	d.c.do(func(*replica.Replica, time.Time) {
		if d.c.leaving {
			err = ErrClosed
			return
		}
		for _, s := range add {
			if !slices.Contains(d.seeds, s) {
				d.seeds = append(d.seeds[:len(d.seeds):len(d.seeds)], s)
			}
		}
	})
	return err
}

// What explains the errors that a seed of another label, or of other keys, gives.
var (
	errKeys      = errors.New("the seed closed the connection without an answer: another label, other keys, or TLS on one side only, are likely")
	errSeedPlain = errors.New("the seed does not encrypt, this member does: give both the same Keys")
	errSelfPlain = errors.New("the seed encrypts, this member does not: give both the same Keys")
	errOtherKeys = errors.New("the seed encrypts by a key that this member does not have: give both the same Keys")
)

// joinHints are what memberlist's errors say, in lower case, and why. The first hint that an error holds counts: what comes after
// "remote error" the seed says, of us.
var joinHints = []struct {
	hint string
	why  error
}{
	{"no tls connection", nil}, // it says why itself
	{"remote error", errKeys},
	{"encryption is configured but remote state is not encrypted", errSeedPlain},
	{"remote state is encrypted and encryption is not configured", errSelfPlain},
	{"no installed keys could decrypt", errOtherKeys},
	{"decrypt", errKeys},
	{"encrypt", errKeys},
	{"label", errKeys},
	{"eof", errKeys},
	{"reset by peer", errKeys},
	{"broken pipe", errKeys},
}

// explainJoin puts before an error of memberlist why it was probably given.
func explainJoin(err error) error {
	// memberlist wraps what went wrong in a list of one, which prints on several lines.
	if list, ok := err.(interface{ WrappedErrors() []error }); ok && len(list.WrappedErrors()) == 1 {
		err = list.WrappedErrors()[0]
	}
	text := strings.ToLower(err.Error())
	for _, h := range joinHints {
		if strings.Contains(text, h.hint) {
			if h.why == nil {
				return err
			}
			return fmt.Errorf("%w (%w)", h.why, err)
		}
	}
	return err
}

// backoff doubles from first to longest, each pause jittered by a quarter.
type backoff struct{ first, longest, next time.Duration }

func (b *backoff) pause() time.Duration {
	if b.next == 0 {
		b.next = b.first
	}
	d := b.next
	b.next = min(2*b.next, b.longest)
	return d*3/4 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.next = 0 }
