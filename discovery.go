package starling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/dial"
	"github.com/starling-go/starling/internal/peersfile"
	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/seeds"
)

const (
	rejoinFirst   = time.Second
	rejoinLongest = 10 * time.Second
	maxLost       = 1024 // lost members that are looked for; of more, the one that was lost first is forgotten
	rejoinFanOut  = 3    // lost members dialled in one round

	settleAfter = time.Second // after a join: memberlist tells of each member a few times only, and now and then misses one
	settleAgain = 3 * time.Second

	seedRefresh = 15 * time.Second
	refreshDial = 8 // addresses of one source that are dialled in one refresh although they answer no ping

	resolveSlow = 5 * time.Second // after which the log tells that Config.Resolve has not returned
	resolveLeft = 2 * time.Second // how long closing waits for it
)

// discovery finds the others: through the seeds, and those again that were lost.
type discovery struct {
	c       *Cluster
	lost    *lost
	unmet   *unmet
	dials   *dial.Queue
	asker   *seeds.Asker      // nil: there is no Config.Resolve
	peers   *peersfile.Keeper // nil: there is no Config.PeersFile
	joined  chan struct{}     // holds a token when a seed has answered
	answers answers

	remembered bool // the file of peers named somebody when it was opened

	// The cluster's mu guards what follows.
	sought      bool // Join was called
	seeds       []seeds.Seed
	refreshing  map[string]bool // the sources that a refresh is not done with
	told        waitList        // who waits for members to take us in
	seedsTold   growing         // that no seed answers
	pendingTold seldom          // that members do not take us in
	resolveTold seldom          // that Config.Resolve fails
}

func newDiscovery(c *Cluster) *discovery {
	d := &discovery{c: c, lost: newLost(), unmet: newUnmet(), joined: make(chan struct{}, 1), refreshing: map[string]bool{}, answers: answers{bySource: map[string]answer{}}}
	if c.cfg.Resolve != nil {
		d.asker = &seeds.Asker{Func: c.cfg.Resolve}
	}
	if c.cfg.PeersFile != "" {
		d.peers = peersfile.Open(c.cfg.PeersFile, c.cfg.Label, c.log, time.Now())
		d.remembered = d.remembers()
	}
	d.dials = dial.New(c.ctx, d.dialOptions())
	for _, text := range c.cfg.Seeds {
		s, _ := seeds.Parse(text, c.cfg.seedPort()) // settle has seen that it parses
		d.seeds = append(d.seeds, s)
	}
	return d
}

// dialOptions are those of the queue of dials. With TLS a packet is no cheaper than a dial, which takes longer.
func (d *discovery) dialOptions() dial.Options {
	conf := d.c.cfg.tuned
	o := dial.Options{Join: d.joinAddr, Ping: d.ping, Go: d.c.spawn, First: min(conf.ProbeTimeout/4, conf.TCPTimeout), Longest: conf.TCPTimeout}
	if d.c.cfg.TLS != nil {
		o.Ping, o.First = nil, min(conf.ProbeTimeout, conf.TCPTimeout)
	}
	return o
}

// source is where addresses come from.
type source struct {
	name string // a seed as it was given, or the field of Config
	find func(ctx context.Context, found func([]netip.AddrPort)) error
	hint bool // nobody has to be there
}

// sources returns all there are.
func (d *discovery) sources() (all []source) {
	finder := d.finder()
	for _, s := range d.known() {
		all = append(all, source{name: s.Text, find: func(ctx context.Context, found func([]netip.AddrPort)) error {
			return finder.Find(ctx, s, found)
		}})
	}
	if d.asker != nil {
		all = append(all, source{name: "Config.Resolve", find: d.findResolved})
	}
	if d.remembers() {
		all = append(all, source{name: "Config.PeersFile", find: d.findPeers, hint: true})
	}
	return all
}

// remembers reports whether the file of peers names anybody.
func (d *discovery) remembers() bool { return d.peers != nil && len(d.peers.Peers(time.Now())) > 0 }

// findPeers finds the addresses of the peers that the file names.
func (d *discovery) findPeers(ctx context.Context, found func([]netip.AddrPort)) error {
	var all []seeds.Seed
	for _, p := range d.peers.Peers(time.Now()) {
		if s, err := seeds.Parse(p.Addr.String(), 0); err == nil {
			all = append(all, s)
		}
	}
	return d.finder().FindAll(ctx, all, found)
}

// remember notes a change of the membership in the file of peers. Exactly one of was and is may be absent.
func (d *discovery) remember(was, is Member) {
	switch {
	case d.peers == nil:
	case is.Name == "":
		d.peers.Gone(was.Name, time.Now())
	default:
		d.peers.Met(is.Name, is.Addr, time.Now())
	}
}

// hasSources reports whether there may be somebody to join. Call it under do.
func (d *discovery) hasSources() bool { return len(d.seeds) > 0 || d.asker != nil || d.remembered }

// known returns all seeds, those of Config and those given to Join.
func (d *discovery) known() (all []seeds.Seed) {
	d.c.do(func(*replica.Replica, time.Time) { all = d.seeds })
	return all
}

// finder finds the addresses of seeds that this member could reach.
func (d *discovery) finder() seeds.Finder {
	f := seeds.Finder{Resolver: net.DefaultResolver, Local: d.c.advertised().Addr()}
	if b := d.c.transport.Bound(); b.IsValid() {
		f.Local = b.Addr()
	}
	return f
}

// answers are what members at the addresses of the sources have answered. Safe for concurrent use.
type answers struct {
	mu       sync.Mutex
	bySource map[string]answer
}

// answer is what is known of a source that was tried.
type answer struct {
	given time.Time // when a member answered last at one of its addresses, or was there already
	tried time.Time // when the last round began in which one gave none
	err   error     // why
}

// note notes what a round over a source that began at a time has found: a member, or an error.
func (as *answers) note(s source, round time.Time, err error) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.bySource[s.name]
	if err == nil {
		a.given = time.Now()
	} else {
		a.tried, a.err = round, err
	}
	as.bySource[s.name] = a
}

// lacking returns those of the sources at which no member answered when they were tried last.
func (as *answers) lacking(all []source) (errs []*SeedError) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, s := range all {
		if a := as.bySource[s.name]; a.tried.After(a.given) && !s.hint {
			errs = append(errs, &SeedError{Seed: s.name, Err: a.err})
		}
	}
	return errs
}

// findResolved finds the addresses of the seeds that Config.Resolve returns.
func (d *discovery) findResolved(ctx context.Context, found func([]netip.AddrPort)) error {
	call := d.asker.Ask(d.c.ctx, d.c.spawn, d.watchResolve)
	if call == nil {
		return ErrClosed
	}
	all, faults, err := call.Seeds(ctx, d.c.cfg.seedPort())
	if faults != nil && d.resolveTold.due(d.c) {
		d.c.log.Warn("Config.Resolve has returned what is no seed; the others are tried", "error", faults)
	}
	return seeds.Few([]error{err, faults, d.finder().FindAll(ctx, all, found)})
}

// watchResolve tells what is wrong with a call of Config.Resolve, and waits for its end. One that ignores its context is left behind when the
// cluster closes.
func (d *discovery) watchResolve(call *seeds.Call) {
	for pause := resolveSlow; ; pause *= 2 {
		select {
		case <-call.Done:
			if call.Err != nil && d.c.ctx.Err() == nil && d.resolveTold.due(d.c) {
				d.c.log.Warn("Config.Resolve has failed; it is asked again", "error", call.Err, "stack", string(call.Stack))
			}
			return
		case <-time.After(pause):
			d.c.log.Warn("Config.Resolve has not returned, and is not asked again before; it must return when its context ends",
				"running", time.Since(call.Began))
		case <-d.c.ctx.Done():
			select {
			case <-call.Done:
			case <-time.After(resolveLeft):
				d.c.log.Warn("Config.Resolve has not returned, although its context has ended: its goroutine is left behind",
					"running", time.Since(call.Began))
			}
			return
		}
	}
}

// loop keeps the cluster whole until the cluster closes: it joins members that were lost without a goodbye, since
// memberlist never speaks to whom it thinks dead, and seeds that are not in the cluster.
func (d *discovery) loop() {
	lost := time.NewTimer(time.Hour)
	lost.Stop()
	var pauses = backoff{first: rejoinFirst, longest: rejoinLongest}
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	settled := true
	refresh := time.NewTicker(seedRefresh)
	defer refresh.Stop()
	for {
		select {
		case <-d.lost.wake:
			pauses.reset()
			lost.Reset(pauses.pause())
		case <-lost.C:
			for _, m := range d.lost.pick(time.Now(), rejoinFanOut) {
				if d.c.table.hasAddr(m.Addr) {
					d.lost.remove(m.Name) // somebody else lives there now
					continue
				}
				d.rejoin(m.Name, m.Addr)
			}
			if d.lost.any() {
				lost.Reset(pauses.pause())
			}
		case <-d.joined:
			settled = false
			settle.Reset(settleAfter)
		case <-settle.C:
			d.exchange()
			if !settled {
				settled = true
				settle.Reset(settleAgain)
			} else {
				d.refresh() // those that Join did not wait for
			}
		case <-refresh.C:
			d.refresh()
		case <-d.c.ctx.Done():
			return
		}
	}
}

// exchange compares memberships with a random member, instead of waiting for the next push/pull.
func (d *discovery) exchange() {
	list := d.c.table.list()
	at := rand.IntN(len(list))
	if list[at].Name == d.c.cfg.Name {
		at = (at + 1) % len(list)
	}
	if m := list[at]; m.Name != d.c.cfg.Name {
		d.rejoin(m.Name, m.Addr)
	}
}

// rejoin exchanges memberships with the member at an address: one that was lost, or has not heard of this one.
func (d *discovery) rejoin(name string, addr netip.AddrPort) {
	d.dials.Now(addr, func(_ netip.AddrPort, err error) {
		if err != nil {
			d.c.log.Debug("rejoin failed", "with", name, "addr", addr, "error", err)
		}
	})
}

// refresh joins through the addresses of the sources that are no member's, if Join was ever called. Of many addresses it dials those that answer a
// ping, and some others: a name may have a thousand that nobody lives at.
func (d *discovery) refresh() {
	for _, s := range d.sources() {
		begin := false
		d.c.do(func(*replica.Replica, time.Time) {
			if begin = d.sought && !d.refreshing[s.name]; begin {
				d.refreshing[s.name] = true
			}
		})
		if begin {
			d.c.spawn(func() { d.refreshSource(s) })
		}
	}
}

const (
	meetAgain = 2 * time.Second
	mostUnmet = 1024
)

// unmet are members that Config.Admit has refused while nothing was verified of them (see Member.VerifiedNames). Each is dialled, not
// more often than once in meetAgain: then each of the two knows the other's names, and asks again. Safe for concurrent use.
type unmet struct {
	mu    sync.Mutex
	tried map[netip.AddrPort]time.Time // Invariant: at most mostUnmet
}

func newUnmet() *unmet {
	return &unmet{tried: map[netip.AddrPort]time.Time{}}
}

// due reports whether to dial an address now, and takes it for dialled.
func (u *unmet) due(a netip.AddrPort, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tried) >= mostUnmet {
		maps.DeleteFunc(u.tried, func(_ netip.AddrPort, at time.Time) bool { return now.Sub(at) > meetAgain })
	}
	if at, known := u.tried[a]; known && now.Sub(at) < meetAgain || len(u.tried) >= mostUnmet {
		return false
	}
	u.tried[a] = now
	return true
}

// meet dials a member of which nothing is verified, so that it can be. It waits for nobody.
func (d *discovery) meet(m Member) {
	if d.c.cfg.TLS == nil || !d.unmet.due(m.Addr, time.Now()) {
		return
	}
	d.rejoin(m.Name, m.Addr)
}

func (d *discovery) refreshSource(s source) {
	began := time.Now()
	noted := func(_ netip.AddrPort, err error) { d.answers.note(s, began, err) }
	err := s.find(d.c.ctx, func(addrs []netip.AddrPort) {
		missing := slices.DeleteFunc(d.others(addrs), d.c.table.hasAddr)
		if len(missing) < len(addrs) {
			d.answers.note(s, began, nil)
		}
		rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
		some := min(len(missing), refreshDial)
		d.dials.Try(missing[:some], dial.Late, noted)
		d.dials.Knock(missing[some:], noted)
	})
	d.c.do(func(*replica.Replica, time.Time) { delete(d.refreshing, s.name) })
	if err != nil {
		d.answers.note(s, began, err)
		d.c.log.Debug("seed does not resolve", "seed", s.name, "error", err)
	}
}

// others returns the addresses without this member's own.
func (d *discovery) others(addrs []netip.AddrPort) []netip.AddrPort {
	own := d.c.advertised()
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool { return a == own })
}

// joinAddr exchanges state with the member at an address.
func (d *discovery) joinAddr(ctx context.Context, a netip.AddrPort, dial, all time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, all)
	defer cancel()
	alias, release, err := d.c.transport.Prepare(ctx, memberlist.Address{Addr: a.String()}, dial)
	if err != nil {
		return explainJoin(err)
	}
	defer release()
	used := d.c.keyring.uses()
	if _, err = d.c.memberlist().Join([]string{alias + "/" + a.String()}); err == nil {
		return nil
	}
	if ctx.Err() != nil && d.c.ctx.Err() == nil {
		return fmt.Errorf("%v: it has accepted the connection, and given no answer for %v", a, all)
	}
	if err = explainJoin(err); errors.Is(err, errKeys) || errors.Is(err, errOtherKeys) {
		d.c.keyring.refused(used)
	}
	return err
}

// ping asks by packet whether a member of this cluster lives at an address.
func (d *discovery) ping(a netip.AddrPort) bool {
	_, err := d.c.memberlist().Ping("", net.UDPAddrFromAddrPort(a))
	return err == nil
}

// lost are members that went without a goodbye. Safe for concurrent use.
type lost struct {
	wake chan struct{}

	mu     sync.Mutex
	byName map[string]lostMember // Invariant: at most maxLost
}

type lostMember struct {
	Member
	since time.Time // when it failed
	tried time.Time // when it was dialled last
}

func newLost() *lost {
	return &lost{wake: make(chan struct{}, 1), byName: map[string]lostMember{}}
}

func (l *lost) add(m Member, now time.Time) {
	l.mu.Lock()
	if _, known := l.byName[m.Name]; !known && len(l.byName) >= maxLost {
		longest := slices.MinFunc(slices.Collect(maps.Values(l.byName)), func(a, b lostMember) int { return a.since.Compare(b.since) })
		delete(l.byName, longest.Name)
	}
	l.byName[m.Name] = lostMember{Member: m, since: now}
	l.mu.Unlock()
	signal(l.wake)
}

func (l *lost) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byName, name)
}

// has reports whether a member of that name is lost.
func (l *lost) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.byName[name]
	return ok
}

// pick returns up to n of them: those that were not dialled for longest.
func (l *lost) pick(now time.Time, n int) []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Collect(maps.Values(l.byName))
	slices.SortFunc(all, func(a, b lostMember) int {
		return cmp.Or(a.tried.Compare(b.tried), b.since.Compare(a.since), cmp.Compare(a.Name, b.Name))
	})
	var ms []Member
	for _, m := range all[:min(n, len(all))] {
		m.tried = now
		l.byName[m.Name] = m
		ms = append(ms, m.Member)
	}
	return ms
}

func (l *lost) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byName) > 0
}
