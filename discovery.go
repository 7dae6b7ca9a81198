package starling

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

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
)

// discovery finds the others: through the seeds, and those again that were lost.
type discovery struct {
	c      *Cluster
	lost   *lost
	unmet  *unmet
	joined chan struct{} // holds a token when a seed has answered

	// The cluster's mu guards what follows.
	seeds       []seeds.Seed
	told        waitList // who waits for members to take us in
	seedsTold   seldom   // that no seed answers
	pendingTold seldom   // that members do not take us in
}

func newDiscovery(c *Cluster) *discovery {
	d := &discovery{c: c, lost: newLost(), unmet: newUnmet(), joined: make(chan struct{}, 1)}
	for _, text := range c.cfg.Seeds {
		s, _ := seeds.Parse(text, c.cfg.seedPort()) // settle has seen that it parses
		d.seeds = append(d.seeds, s)
	}
	return d
}

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
			}
		case <-refresh.C:
			d.refreshSeeds()
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

// rejoin exchanges memberships with the member at an address.
func (d *discovery) rejoin(name string, addr netip.AddrPort) {
	d.c.spawn(func() { d.rejoinNow(name, addr) })
}

func (d *discovery) rejoinNow(name string, addr netip.AddrPort) {
	if err := d.joinAddr(addr); err != nil {
		d.c.log.Debug("rejoin failed", "lost", name, "addr", addr, "error", err)
	}
}

// refreshSeeds joins the seeds of which no address is a member's.
func (d *discovery) refreshSeeds() {
	for _, s := range d.known() {
		d.c.spawn(func() {
			err := d.finder().Find(d.c.ctx, s, func(addrs []netip.AddrPort) {
				for _, a := range addrs {
					if a != d.c.advertised() && !d.c.table.hasAddr(a) && d.c.ctx.Err() == nil {
						d.joinAddr(a) // a seed that is down is no news
					}
				}
			})
			if err != nil {
				d.c.log.Debug("seed does not resolve", "seed", s.Text, "error", err)
			}
		})
	}
}

const (
	meetAgain  = 2 * time.Second
	mostUnmet  = 1024
	meetFanOut = 8
)

// unmet are members that Config.Admit has refused while nothing was verified of them (see Member.VerifiedNames). Each is dialled, not
// more often than once in meetAgain: then each of the two knows the other's names, and asks again. Safe for concurrent use.
type unmet struct {
	slots chan struct{}

	mu    sync.Mutex
	tried map[netip.AddrPort]time.Time // Invariant: at most mostUnmet
}

func newUnmet() *unmet {
	return &unmet{slots: make(chan struct{}, meetFanOut), tried: map[netip.AddrPort]time.Time{}}
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
	d.c.spawn(func() {
		select {
		case d.unmet.slots <- struct{}{}:
			d.rejoinNow(m.Name, m.Addr)
			<-d.unmet.slots
		case <-d.c.ctx.Done():
		}
	})
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
