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
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/seeds"
	"github.com/starling-go/starling/internal/wire"
)

const (
	joinFirst   = 250 * time.Millisecond // first pause between rounds over the seeds
	joinLongest = 5 * time.Second
	joinFanOut  = 8 // seeds dialled at once
)

// Join joins the cluster through any of the given seeds and of Config.Seeds. Each is "host" or "host:port"; every address of a name
// is tried. A "dns+" before it is allowed and changes nothing. The port defaults to that of Config.BindAddr; if that is 0, a seed
// must name one.
//
// Join tries all seeds, again and again with growing pauses, until one has answered; members often start before their seeds. It
// tries those that have not answered yet further in the background. The cluster keeps the seeds: from then on it resolves them, and
// joins anew those that are missing. An address of this very member is no seed: if there is no other, Join returns at once, as it
// does without any seed.
//
// Then Join waits until every member that it hears of has taken this one in: from then on, whatever is broadcast anywhere is owed
// to this member. That takes a round trip, or, where a member has failed a moment ago, until the others notice that (one that ran at the
// address of this member is not waited for); and where the name of this member was that of one that has failed, until memberlist gives the
// name away (10 s after the failure was noticed).
//
// When ctx ends first, it returns the context's error, joined with a *SeedError for each seed if none has answered, or with a
// *NotTakenInError that names the members that have not taken this one in: then it is a member all the same, and may miss what
// those broadcast. A malformed seed gives a *ConfigError at once. ErrClosed after Leave or Close.
//
// While it waits, Config.Logger gets the same reasons at WARN, at once and then once a minute: that no seed has answered, that members
// refuse this one, or that members have given no answer for 10 s.
func (c *Cluster) Join(ctx context.Context, seeds ...string) error {
	all, err := c.discovery.addSeeds(seeds)
	if err != nil {
		return err
	}
	c.do(func(r *replica.Replica, _ time.Time) {
		c.readiness.joins++
		if len(all) > 0 {
			r.Membership.Joining()
		}
	})
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

// join tries the seeds until one has answered, and waits to be taken in.
func (d *discovery) join(ctx context.Context, all []seeds.Seed) error {
	pauses := backoff{first: joinFirst, longest: joinLongest}
	last := make([]error, len(all))
	for {
		answered, err := d.joinRound(ctx, all, last)
		switch {
		case answered:
			signal(d.joined)
			return d.awaitTakenIn(ctx)
		case errors.Is(err, ErrClosed):
			return ErrClosed
		case ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		}
		d.tellUnanswered(all, last)
		select {
		case <-time.After(pauses.pause()):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-d.c.ctx.Done():
			return ErrClosed
		}
	}
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
			r.Membership.Join(wire.EncodeMeta(d.c.id, d.c.meta), now)
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

// tellUnanswered says in the log that no seed has answered, and why: a Join without a deadline would say it to nobody.
func (d *discovery) tellUnanswered(all []seeds.Seed, last []error) {
	if !d.seedsTold.due(d.c) {
		return
	}
	var reasons []string
	for i, s := range all {
		var e *SeedError
		if errors.As(last[i], &e) && len(reasons) < maxNamed { // without an error the seed is this very member
			reasons = append(reasons, s.Text+": "+e.Err.Error())
		}
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

// addSeeds remembers seeds and returns all that are known.
func (d *discovery) addSeeds(texts []string) ([]seeds.Seed, error) {
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
		return nil, errors.Join(faults...)
	}
	var all []seeds.Seed
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
		all = d.seeds
	})
	return all, err
}

// joinAnswer is what became of one address of a seed, or of the seed itself.
type joinAnswer struct {
	seed int
	err  error // nil: it has answered
	self bool  // it is this very member
	more int   // addresses that will answer too; of the seed itself alone
}

// joinRound tries every address of every seed once, a few at a time, and returns as soon as one has answered, or when ctx
// ends. What is under way then goes on until its time-out; the cluster waits for it when it closes. last is what went wrong
// with each seed before, and is brought up to date: that the time is up is the reason only where there is no other. If all
// addresses are this very member's, that counts as an answer.
func (d *discovery) joinRound(ctx context.Context, all []seeds.Seed, last []error) (answered bool, err error) {
	answers := make(chan joinAnswer)
	slots := make(chan struct{}, joinFanOut)
	done := make(chan struct{})
	defer close(done)
	tell := func(a joinAnswer) {
		select {
		case answers <- a:
		case <-done:
		}
	}
	for i, s := range all {
		if !d.c.spawn(func() { d.joinSeed(i, s, slots, tell) }) {
			return false, ErrClosed
		}
	}
	errs := make([]error, len(all))
	others := false
	for left := len(all); left > 0 && ctx.Err() == nil; left-- {
		select {
		case a := <-answers:
			left += a.more
			switch {
			case a.self || a.more > 0:
			case a.err == nil:
				return true, nil
			default:
				others = true
				errs[a.seed] = errors.Join(errs[a.seed], a.err)
			}
		case <-ctx.Done():
		case <-d.c.ctx.Done():
			return false, ErrClosed // no goroutine starts any more, so answers may be lacking for ever
		}
	}
	for i, s := range all {
		if err := cmp.Or(errs[i], ctx.Err()); err != nil && (errs[i] != nil || last[i] == nil) {
			last[i] = &SeedError{Seed: s.Text, Err: err}
		}
	}
	return !others && ctx.Err() == nil, errors.Join(last...)
}

// joinSeed resolves a seed and joins through each of its addresses.
func (d *discovery) joinSeed(i int, s seeds.Seed, slots chan struct{}, tell func(joinAnswer)) {
	slots <- struct{}{}
	var addrs []netip.AddrPort
	err := d.finder().Find(d.c.ctx, s, func(more []netip.AddrPort) { addrs = append(addrs, more...) })
	<-slots
	if len(addrs) == 0 {
		tell(joinAnswer{seed: i, err: err})
		return
	}
	tell(joinAnswer{seed: i, more: len(addrs)})
	for _, a := range addrs {
		if a == d.c.advertised() {
			tell(joinAnswer{seed: i, self: true})
			continue
		}
		started := d.c.spawn(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if d.c.ctx.Err() == nil {
				tell(joinAnswer{seed: i, err: d.joinAddr(a)})
			}
		})
		if !started {
			return
		}
	}
}

// joinAddr exchanges state with the member at an address.
func (d *discovery) joinAddr(a netip.AddrPort) error {
	used := d.c.keyring.uses()
	_, err := d.c.memberlist().Join([]string{a.String()})
	if err == nil {
		return nil
	}
	if err = explainJoin(err); errors.Is(err, errKeys) || errors.Is(err, errOtherKeys) {
		d.c.keyring.refused(used)
	}
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
