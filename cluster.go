package starling

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Cluster is this process's membership in a cluster. It owns every goroutine of Starling. Its methods may be called
// concurrently, and from any callback except where they say otherwise.
type Cluster struct {
	id        uint64
	cfg       *settings
	log       *slog.Logger
	table     *table
	delegate  *delegate
	transport *transport
	lanes     *lanes
	lost      *lost
	drops     dropCounters
	scratch   sync.Pool // *[]byte that messages are encoded into

	packetRoom int
	fast       bool                                  // user messages pass memberlist by
	ml         atomic.Pointer[memberlist.Memberlist] // nil until New has made it
	addr       atomic.Pointer[netip.AddrPort]        // what we advertise; nil until memberlist has settled it
	mlLeave    sync.Mutex                            // memberlist must not be left once it has shut down
	mlUpdate   sync.Mutex                            // memberlist reads what a concurrent update of it writes

	ctx    context.Context // ends when the cluster closes
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gone   chan struct{} // closed when everything of ours is gone

	// mu is taken under the locks of memberlist and of the table, so whoever holds it calls neither.
	mu       sync.Mutex
	leaving  bool // Invariant: nothing is accepted once it is set
	closing  bool // Invariant: no goroutine starts once it is set; closing implies leaving
	replica  *replica
	seeds    []seed
	meta     []byte
	farewell farewell
	asleep   bool // mend waits for stirred

	posted  chan struct{} // holds a token when the replica has packets to send
	stirred chan struct{} // holds a token when mend has to wake up
	joined  chan struct{} // holds a token when a seed has answered
}

// New makes a member: it listens, but dials nobody and knows nobody until Join. Open channels before Join.
//
// Errors: a *ConfigError for each fault of cfg, joined; or that of listening (a taken port, say).
func New(cfg Config) (*Cluster, error) {
	s, err := cfg.settle()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		id:   max(rand.Uint64(), 1),
		cfg:  s,
		log:  s.Logger.With(slog.String("member", s.Name)),
		lost: newLost(),
		gone: make(chan struct{}),
		meta: s.Meta,

		posted: make(chan struct{}, 1), stirred: make(chan struct{}, 1), joined: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.scratch.New = func() any { return new([]byte) }
	for _, text := range s.Seeds {
		sd, _ := parseSeed(text, int(s.bind.Port())) // settle has seen that it parses
		c.seeds = append(c.seeds, sd)
	}
	c.table = newTable(s.Name, c.memberChanged)
	c.lanes = newLanes(c.sendParcels, c.spawn)
	c.wire()
	if err := c.start(); err != nil {
		c.cancel()
		return nil, fmt.Errorf("starling: %w", err)
	}
	c.spawn(c.courier)
	c.spawn(c.mend)
	c.spawn(c.discover)
	return c, nil
}

// wire builds the rooms and connects them. Nothing runs yet.
func (c *Cluster) wire() {
	conf := c.cfg.tuned
	if len(c.cfg.Keys) > 0 {
		// The keys were checked, and a keyring refuses nothing else.
		conf.Keyring, _ = memberlist.NewKeyring(c.cfg.Keys, c.cfg.Keys[0])
	}
	c.packetRoom, c.fast = packetRoom(conf), fastPath(conf)
	c.replica = newReplica(sender{id: c.id, name: c.cfg.Name}, limits{
		gossip:      gossipLimit(conf),
		packet:      c.packetRoom,
		message:     c.cfg.MaxMessageSize,
		retransmit:  conf.RetransmitMult,
		gossipEvery: conf.GossipInterval,
		linger:      c.cfg.Linger,
		retention:   c.cfg.Retention,
		queue:       c.cfg.Queue,
	}, &c.drops)
	c.delegate = &delegate{
		table: c.table, meta: c.nodeMeta, receive: c.receive, gossip: c.gossip,
		localState: c.localState, mergeState: c.mergeState,
		admit: c.cfg.Admit, admitMerge: c.cfg.AdmitMerge,
	}
	conf.Name = c.cfg.Name
	conf.LogOutput, conf.Logger = nil, newMemberlistLogger(c.log)
	c.delegate.install(conf)
}

// start listens and creates the memberlist.
func (c *Cluster) start() (err error) {
	conf := c.cfg.tuned
	o := transportOptions{bind: c.cfg.bind, allowed: c.cfg.Networks, streamTimeout: conf.TCPTimeout, logger: c.log}
	if c.fast {
		o.user = c.delegate.NotifyMsg
	}
	if c.cfg.Transport != nil {
		c.transport = wrap(c.cfg.Transport, o)
	} else if c.transport, err = listen(o); err != nil {
		return err
	}
	conf.Transport = c.transport
	if bound := c.transport.bound(); bound.IsValid() {
		conf.BindPort = int(bound.Port())
		if conf.AdvertisePort == 0 {
			conf.AdvertisePort = conf.BindPort
		}
	}
	ml, err := memberlist.Create(conf)
	if err != nil {
		c.delegate.shut.Store(true)
		return errors.Join(err, c.transport.Shutdown())
	}
	c.ml.Store(ml)
	return nil
}

func (c *Cluster) memberlist() *memberlist.Memberlist { return c.ml.Load() }

// spawn runs f on a goroutine that Close waits for, unless the cluster is closing.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.wg.Go(f)
	return true
}

// Join joins the cluster through any of the given seeds and of Config.Seeds, each "host:port", or "dns+host:port" for a
// name whose every address is a member. It tries all of them, again and again with growing pauses, until one has answered;
// members often start before their seeds. Without any seed it returns at once, as it does where the only seed that answers is
// this very member. The seeds are kept: from then on they are resolved and joined anew whenever they are missing.
//
// When ctx ends first, it returns a *SeedError for each seed and the context's error, joined. A malformed seed gives a
// *ConfigError at once. ErrClosed after Leave or Close.
func (c *Cluster) Join(ctx context.Context, seeds ...string) error {
	all, err := c.addSeeds(seeds)
	if err != nil || len(all) == 0 {
		return err
	}
	pauses := backoff{first: joinFirst, longest: joinLongest}
	last := make([]error, len(all))
	for {
		answered, err := c.joinSeeds(ctx, all, last)
		switch {
		case answered > 0:
			signal(c.joined)
			return nil
		case errors.Is(err, ErrClosed):
			return ErrClosed
		case ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		}
		again := time.NewTimer(pauses.pause())
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return errors.Join(err, ctx.Err())
		case <-c.ctx.Done():
			again.Stop()
			return ErrClosed
		}
	}
}

// addSeeds remembers seeds and returns all that are known.
func (c *Cluster) addSeeds(texts []string) ([]seed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil, ErrClosed
	}
	var add []seed
	var faults []error
	for _, text := range texts {
		s, err := parseSeed(text, int(c.advertised().Port()))
		if err != nil {
			faults = append(faults, &ConfigError{Field: "seed", Value: text, Err: err})
		}
		add = append(add, s)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for _, s := range add {
		if !slices.Contains(c.seeds, s) {
			c.seeds = append(c.seeds[:len(c.seeds):len(c.seeds)], s)
		}
	}
	return c.seeds, nil
}

// sender is how this member signs its control frames.
func (c *Cluster) sender() sender { return sender{c.id, c.cfg.Name, c.advertised()} }

// advertised is the address that the others use, invalid until memberlist has settled it.
func (c *Cluster) advertised() netip.AddrPort {
	if a := c.addr.Load(); a != nil {
		return *a
	}
	return netip.AddrPort{}
}

func (c *Cluster) bindIP() netip.Addr {
	if b := c.transport.bound(); b.IsValid() {
		return b.Addr()
	}
	return c.advertised().Addr()
}

// memberChanged follows the membership. It runs under the locks of memberlist and of the table.
func (c *Cluster) memberChanged(was, is Member) {
	switch {
	case is.Name == "" && was.Status == StatusFailed:
		c.lost.add(was, time.Now())
	case is.Name != "":
		c.lost.remove(is.Name)
	}
	if is.Name == c.cfg.Name || was.Name == c.cfg.Name {
		if is.Name != "" {
			c.addr.Store(&is.Addr)
			c.mu.Lock()
			c.replica.setAddr(is.Addr)
			c.mu.Unlock()
		}
		return
	}
	if is.Name == "" {
		c.lanes.drop(was.Name, errMemberGone)
	}
	c.mu.Lock()
	c.replica.change(was, is, time.Now())
	c.release()
}

var errMemberGone = errors.New("the member is gone")

// Self returns this member. After Leave or Close: as it was.
func (c *Cluster) Self() Member {
	m, _ := c.table.lookup(c.cfg.Name)
	return m.clone()
}

// Members returns the live members by name, this one included. After Leave or Close: as they were.
func (c *Cluster) Members() []Member {
	list := c.table.list()
	members := make([]Member, len(list))
	for i, m := range list {
		members[i] = m.clone()
	}
	return members
}

// Position returns this member's index among Members and their number. It is a hint for spreading work, and no lock:
// members that see different memberships at the moment get the same position, or none gets one.
func (c *Cluster) Position() (index, of int) {
	list := c.table.list()
	for i, m := range list {
		if m.Name == c.cfg.Name {
			return i, len(list)
		}
	}
	return 0, len(list)
}

// Events yields what happens to the membership, beginning with Joined for every current member, this one first. It ends
// with ctx, or when the cluster is closed. A reader that is slow, or never reads, blocks nobody: what it has not been told
// is merged for each member, so that it sees the latest and never a Joined without the Left or Failed before it. The loop's
// body may call any method. Each call of the returned function is a subscription of its own.
func (c *Cluster) Events(ctx context.Context) iter.Seq[Event] { return c.table.events(ctx) }

// SetMeta changes this member's metadata and waits until memberlist has told another member, or ctx ends. Above
// MaxMetaSize bytes it returns a *ConfigError and changes nothing.
func (c *Cluster) SetMeta(ctx context.Context, meta []byte) error {
	if len(meta) > MaxMetaSize {
		return &ConfigError{Field: "meta", Value: fmt.Sprintf("%d bytes", len(meta)), Err: fmt.Errorf("limit %d", MaxMetaSize)}
	}
	c.mu.Lock()
	if c.leaving {
		c.mu.Unlock()
		return ErrClosed
	}
	c.meta = append([]byte(nil), meta...)
	c.mu.Unlock()
	told := make(chan error, 1)
	update := func() {
		c.mlUpdate.Lock()
		defer c.mlUpdate.Unlock()
		told <- c.memberlist().UpdateNode(updateTimeout)
	}
	if !c.spawn(update) {
		return ErrClosed
	}
	select {
	case err := <-told:
		if err != nil {
			return fmt.Errorf("starling: set meta: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// updateTimeout bounds a wait that memberlist gives no context for.
const updateTimeout = 2 * time.Second

func (c *Cluster) nodeMeta() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return encodeMeta(c.id, c.meta)
}
