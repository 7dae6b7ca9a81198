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
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/starling-go/starling/internal/replica"
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
	joined chan struct{} // holds a token when a seed has answered

	// The cluster's mu guards what follows.
	seeds       []seed
	told        waitList // who waits for members to take us in
	seedsTold   seldom   // that no seed answers
	pendingTold seldom   // that members do not take us in
}

func newDiscovery(c *Cluster) *discovery {
	d := &discovery{c: c, lost: newLost(), joined: make(chan struct{}, 1)}
	for _, text := range c.cfg.Seeds {
		s, _ := parseSeed(text, c.cfg.seedPort()) // settle has seen that it parses
		d.seeds = append(d.seeds, s)
	}
	return d
}

// known returns all seeds, those of Config and those given to Join.
func (d *discovery) known() (seeds []seed) {
	d.c.do(func(*replica.Replica, time.Time) { seeds = d.seeds })
	return seeds
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
	d.c.spawn(func() {
		if err := d.joinAddr(addr); err != nil {
			d.c.log.Debug("rejoin failed", "lost", name, "addr", addr, "error", err)
		}
	})
}

// refreshSeeds joins the seeds of which no address is a member's.
func (d *discovery) refreshSeeds() {
	for _, s := range d.known() {
		d.c.spawn(func() {
			addrs, err := s.resolve(d.c.ctx, d.bindIP())
			if err != nil {
				d.c.log.Debug("seed does not resolve", "seed", s.text, "error", err)
				return
			}
			for _, a := range addrs {
				if a != d.c.advertised() && !d.c.table.hasAddr(a) && d.c.ctx.Err() == nil {
					d.joinAddr(a) // a seed that is down is no news
				}
			}
		})
	}
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

// lookupTimeout bounds one look-up of a name.
const lookupTimeout = 10 * time.Second

// seed is one parsed seed.
type seed struct {
	text string // as given
	host string // an address, or a name whose every address is tried
	port uint16
}

// parseSeed reads "host" or "host:port". A "dns+" before it is allowed and changes nothing. A defaultPort of 0 is none.
func parseSeed(text string, defaultPort int) (seed, error) {
	s := seed{text: text}
	rest := strings.TrimPrefix(text, "dns+")
	if err := checkWritten(rest); err != nil {
		return s, err
	}
	if err := checkPrefix(rest); err != nil {
		return s, err
	}
	if ip, err := netip.ParseAddr(unbracket(rest)); err == nil {
		if defaultPort == 0 {
			return s, errNoPort
		}
		s.host, s.port = ip.String(), uint16(defaultPort)
		return s, checkSeedIP(ip)
	}
	host, port := rest, strconv.Itoa(defaultPort)
	if strings.Contains(rest, ":") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return s, fmt.Errorf("want host:port: %w", err)
		}
	} else if defaultPort == 0 {
		return s, errNoPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return s, fmt.Errorf("port %q: must be between 1 and 65535", port)
	}
	if host == "" {
		return s, errors.New("no host")
	}
	s.host, s.port = host, uint16(n)
	if ip, err := netip.ParseAddr(host); err == nil {
		return s, checkSeedIP(ip)
	}
	return s, nil
}

var errNoPort = errors.New("no port, and port 0 of BindAddr is no default")

// checkWritten refuses what people write in configuration files and what can never be a host and a port.
func checkWritten(s string) error {
	switch {
	case strings.Contains(s, ","):
		return errors.New("several in one string: give one string for each")
	case strings.ContainsFunc(s, unicode.IsSpace):
		return errors.New("white space in it")
	case strings.ContainsAny(s, "${}"):
		return errors.New("a variable that nobody has filled in")
	}
	return nil
}

// checkPrefix refuses what may be mistaken for "dns+".
func checkPrefix(rest string) error {
	scheme, _, plus := strings.Cut(rest, "+")
	switch {
	case plus && scheme == "dns":
		return errors.New(`"dns+" twice`)
	case plus:
		return fmt.Errorf(`unknown prefix "%s+": "dns+" is the only one`, scheme)
	}
	return nil
}

func checkSeedIP(ip netip.Addr) error {
	if ip.IsUnspecified() {
		return errors.New("nobody can be reached at an unspecified address")
	}
	return nil
}

// unbracket takes the brackets off that an IPv6 address without a port may wear.
func unbracket(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// resolve returns the addresses of a seed that this member could reach by the family it is bound to.
func (s seed) resolve(ctx context.Context, local netip.Addr) ([]netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, s.port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		if ip = ip.Unmap(); !local.IsValid() || local.Is6() && local.IsUnspecified() || ip.Is4() == local.Is4() {
			addrs = append(addrs, netip.AddrPortFrom(ip, s.port))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("none of its %d addresses is of the family of %v", len(ips), local)
	}
	return addrs, nil
}
