package starling

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	joinFirst   = 250 * time.Millisecond // first pause between rounds over the seeds
	joinLongest = 5 * time.Second
	joinFanOut  = 8 // seeds dialled at once

	rejoinFirst   = time.Second
	rejoinLongest = 10 * time.Second
	rejoinFor     = time.Hour // how long a lost member is looked for
	rejoinFanOut  = 3         // lost members dialled in one round

	settleAfter = time.Second // after a join: memberlist tells of each member a few times only, and now and then misses one
	settleAgain = 3 * time.Second

	seedRefresh   = 15 * time.Second
	lookupTimeout = 10 * time.Second
)

// seed is one parsed seed.
type seed struct {
	text string // as given
	dns  bool   // every address of the name is a member
	host string
	port uint16
}

// parseSeed reads "host", "host:port" or either after "dns+".
func parseSeed(text string, defaultPort int) (seed, error) {
	s := seed{text: text}
	rest, dns := strings.CutPrefix(text, "dns+")
	s.dns = dns
	if ip, err := netip.ParseAddr(unbracket(rest)); err == nil {
		s.host, s.port = ip.String(), uint16(defaultPort)
		return s, nil
	}
	host, port := rest, strconv.Itoa(defaultPort)
	if strings.Contains(rest, ":") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return s, fmt.Errorf("want host:port: %w", err)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return s, fmt.Errorf("port %q: must be between 1 and 65535", port)
	}
	if host == "" {
		return s, errors.New("no host")
	}
	s.host, s.port = host, uint16(n)
	return s, nil
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

// errKeys explains the error that a seed of another label, or of other keys, gives.
var errKeys = errors.New("the seed closed the connection without an answer: another label, or other keys, are likely")

func explainJoin(err error) error {
	// memberlist wraps what went wrong in a list of one, which prints on several lines.
	if list, ok := err.(interface{ WrappedErrors() []error }); ok && len(list.WrappedErrors()) == 1 {
		err = list.WrappedErrors()[0]
	}
	text := err.Error()
	for _, hint := range []string{"EOF", "remote error", "decrypt", "encrypt", "reset by peer", "broken pipe", "label"} {
		if strings.Contains(text, hint) {
			return fmt.Errorf("%w (%w)", errKeys, err)
		}
	}
	return err
}

// joinSeeds tries every seed once, a few at a time, and returns how many answered. It returns when ctx ends, though a
// dial under way may go on until its time-out; the cluster waits for it when it closes. last is what went wrong with each
// seed before, and is brought up to date: that the time is up is the reason only where there is no other.
func (c *Cluster) joinSeeds(ctx context.Context, seeds []seed, last []error) (int, error) {
	var (
		mu       sync.Mutex // guards answered and errs, which a dial may still write when this has returned
		answered int
		errs     = make([]error, len(seeds))
		tried    = make(chan struct{}, len(seeds))
		slots    = make(chan struct{}, joinFanOut)
	)
	for i, s := range seeds {
		started := c.spawn(func() {
			defer func() { tried <- struct{}{} }()
			slots <- struct{}{}
			defer func() { <-slots }()
			n, err := c.joinSeed(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			answered += n
			errs[i] = err
		})
		if !started {
			return 0, ErrClosed
		}
	}
	for n := 0; n < len(seeds) && ctx.Err() == nil; n++ {
		select {
		case <-tried:
		case <-ctx.Done():
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, s := range seeds {
		err := errs[i]
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && (last[i] == nil || !errors.Is(err, ctx.Err())) {
			last[i] = &SeedError{Seed: s.text, Err: err}
		}
	}
	return answered, errors.Join(last...)
}

// joinSeed joins through one seed. A seed that is this very member counts as an answer only if it has no other address.
func (c *Cluster) joinSeed(ctx context.Context, s seed) (int, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	addrs, err := s.resolve(ctx, c.bindIP())
	if err != nil {
		return 0, err
	}
	var errs []error
	n := 0
	for _, a := range addrs {
		if a == c.advertised() {
			n++ // alone at this address, or with those that the others answer for
			continue
		}
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		if err := c.joinAddr(a); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	if n > 0 {
		return n, nil
	}
	return 0, errors.Join(errs...)
}

// joinAddr exchanges state with the member at an address.
func (c *Cluster) joinAddr(a netip.AddrPort) error {
	_, err := c.memberlist().Join([]string{a.String()})
	if err != nil {
		return explainJoin(err)
	}
	return nil
}

// discover keeps the cluster whole until the cluster closes: it joins members that were lost without a goodbye, since
// memberlist never speaks to whom it thinks dead, and seeds that are not in the cluster.
func (c *Cluster) discover() {
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
		case <-c.lost.wake:
			pauses.reset()
			lost.Reset(pauses.pause())
		case <-lost.C:
			for _, m := range c.lost.pick(time.Now(), rejoinFanOut) {
				if c.table.hasAddr(m.Addr) {
					c.lost.remove(m.Name) // somebody else lives there now
					continue
				}
				c.rejoin(m)
			}
			if c.lost.any(time.Now()) {
				lost.Reset(pauses.pause())
			}
		case <-c.joined:
			settled = false
			settle.Reset(settleAfter)
		case <-settle.C:
			c.exchange()
			if !settled {
				settled = true
				settle.Reset(settleAgain)
			}
		case <-refresh.C:
			c.refreshSeeds()
		case <-c.ctx.Done():
			return
		}
	}
}

// exchange compares memberships with a random member, instead of waiting for the next push/pull.
func (c *Cluster) exchange() {
	list := c.table.list()
	at := rand.IntN(len(list))
	if list[at].Name == c.cfg.Name {
		at = (at + 1) % len(list)
	}
	if m := list[at]; m.Name != c.cfg.Name {
		c.rejoin(m)
	}
}

func (c *Cluster) rejoin(m Member) {
	c.spawn(func() {
		if err := c.joinAddr(m.Addr); err != nil {
			c.log.Debug("rejoin failed", "member", m.Name, "addr", m.Addr, "error", err)
		}
	})
}

// refreshSeeds joins the seeds of which no address is a member's.
func (c *Cluster) refreshSeeds() {
	c.mu.Lock()
	seeds := c.seeds
	c.mu.Unlock()
	for _, s := range seeds {
		c.spawn(func() {
			addrs, err := s.resolve(c.ctx, c.bindIP())
			if err != nil {
				c.log.Debug("seed does not resolve", "seed", s.text, "error", err)
				return
			}
			for _, a := range addrs {
				if a != c.advertised() && !c.table.hasAddr(a) && c.ctx.Err() == nil {
					c.joinAddr(a) // a seed that is down is no news
				}
			}
		})
	}
}

// lost are members that went without a goodbye. Safe for concurrent use.
type lost struct {
	wake chan struct{}

	mu     sync.Mutex
	byName map[string]lostMember
}

type lostMember struct {
	Member
	until time.Time
}

func newLost() *lost {
	return &lost{wake: make(chan struct{}, 1), byName: map[string]lostMember{}}
}

func (l *lost) add(m Member, now time.Time) {
	l.mu.Lock()
	l.byName[m.Name] = lostMember{m, now.Add(rejoinFor)}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lost) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byName, name)
}

// pick returns up to n of those still to be looked for, at random.
func (l *lost) pick(now time.Time, n int) []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ms []Member
	for name, m := range l.byName {
		if now.After(m.until) {
			delete(l.byName, name)
			continue
		}
		ms = append(ms, m.Member)
	}
	rand.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	return ms[:min(n, len(ms))]
}

func (l *lost) any(now time.Time) bool { return len(l.pick(now, 1)) > 0 }
