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
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/transport"
	"github.com/starling-go/starling/internal/wire"
)

// A Cluster is this process's membership in a cluster. It owns every goroutine of Starling. Its methods may be called
// concurrently, and from any callback except where they say otherwise.
type Cluster struct {
	id        uint64
	cfg       *settings
	log       *slog.Logger // by logs
	logs      *logQueue
	table     *membership
	delegate  *delegate
	keyring   *Keyring
	transport *transport.Transport
	drops     dropCounters
	refused   refusals
	scratch   sync.Pool // *[]byte that messages are encoded into

	inlet       *inlet
	outlet      *outlet
	maintenance *maintenance
	discovery   *discovery
	leave       *leave

	ml      atomic.Pointer[memberlist.Memberlist] // nil until New has made it
	addr    atomic.Pointer[netip.AddrPort]        // what we advertise; nil until memberlist has settled it
	updates updates

	ctx    context.Context // ends when the cluster closes
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gone   chan struct{} // closed when everything of ours is gone
	entry  sync.Once
	// entered is closed when Join has returned nil for the first time.
	entered chan struct{}

	ending atomic.Bool // Leave or Close has begun

	mu        sync.Mutex // taken by do alone
	leaving   bool       // Invariant: nothing is accepted once it is set
	closing   bool       // Invariant: no goroutine starts once it is set; closing implies leaving
	replica   *replica.Replica
	line      line     // who waits for room for a message
	freed     waitList // who waits until messages are done
	readiness readiness
	meta      []byte
}

// New makes a member: it listens, but dials nobody and knows nobody until Join. Open channels before Join.
//
// Errors: a *ConfigError for each fault of cfg, joined; or that of listening (a taken port, say).
func New(cfg Config) (*Cluster, error) {
	s, err := cfg.settle()
	if err != nil {
		return nil, err
	}
	logs := newLogQueue()
	c := &Cluster{
		id:   max(rand.Uint64(), 1),
		cfg:  s,
		log:  slog.New(queuedHandler{logs, s.Logger.Handler()}).With(slog.String("member", s.Name)),
		logs: logs,
		gone: make(chan struct{}),
		meta: s.Meta, entered: make(chan struct{}),
	}
	c.updates.c = c
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.scratch.New = func() any { return new([]byte) }
	c.table = newMembership(s.Name, c.memberChanged)
	c.table.common.log = c.log
	go logs.run() // before memberlist, which speaks from its beginning; Close waits for it last
	c.keyring = newKeyring(c)
	if err = c.keyring.readFirst(); err == nil {
		c.build()
		if err = c.start(); err != nil {
			err = fmt.Errorf("starling: %w", err)
		}
	}
	if err != nil {
		c.cancel()
		c.keyring.awaitSource(sourceHangs)
		logs.close()
		return nil, err
	}
	c.do(func(r *replica.Replica, now time.Time) { r.Membership.Joined(false, now) })
	c.spawn(c.outlet.loop)
	c.spawn(c.maintenance.loop)
	c.spawn(c.discovery.loop)
	c.keyring.run()
	if peers := c.discovery.peers; peers != nil {
		c.spawn(func() { peers.Run(c.ctx) })
	}
	return c, nil
}

// build makes the replica, the parts and the delegate, and connects them. Nothing runs yet.
func (c *Cluster) build() {
	conf := c.cfg.tuned
	if c.keyring.installed != nil {
		conf.Keyring = c.keyring.installed
	}
	c.drops.log, c.drops.ending = c.log, c.ending.Load
	c.inlet = &inlet{c: c, gossipRoom: gossipLimit(conf)}
	c.outlet = newOutlet(c, conf)
	c.maintenance = &maintenance{c: c, stirred: make(chan struct{}, 1), types: lineKinds{}}
	c.discovery = newDiscovery(c)
	c.leave = &leave{c: c}
	c.replica = replica.New(wire.Peer{ID: c.id, Name: c.cfg.Name}, replica.Limits{
		Gossip: c.inlet.gossipRoom, Packet: c.outlet.packetRoom, Message: c.cfg.MaxMessageSize,
		GossipEvery: conf.GossipInterval, Linger: c.cfg.Linger,
		Bytes: c.cfg.Retention.Bytes, Age: c.cfg.Retention.Age,
		QueueMessages: c.cfg.Queue.Messages, QueueBytes: c.cfg.Queue.Bytes,
	})
	states := &pushPull{c}
	c.readiness = readiness{c: c, waits: map[*channel]mapWait{}}
	c.delegate = &delegate{
		table: c.table, meta: c.keyring.nodeMeta, receive: c.inlet.receive, gossip: c.outlet.gossipFrames,
		localState: states.localState, mergeState: states.mergeState,
		admit: c.cfg.Admit, admitMerge: c.cfg.AdmitMerge,
		names: func(a netip.AddrPort) []string { return c.transport.Names.At(a) }, meet: c.discovery.meet,
	}
	conf.Name = c.cfg.Name
	refused := func(line string) {
		c.drops.count(DropRefused)
		c.refused.note(line, time.Now())
	}
	conf.LogOutput, conf.Logger = nil, newMemberlistLogger(c.log, refused, c.ending.Load)
	c.delegate.install(conf)
}

// start listens and creates the memberlist.
func (c *Cluster) start() (err error) {
	conf := c.cfg.tuned
	o := transport.Options{
		Bind: c.cfg.bind, Allowed: c.cfg.Networks, StreamTimeout: conf.TCPTimeout, Logger: c.log,
		MaxPacket: conf.UDPBufferSize + packetSlack, TLS: c.cfg.TLS,
	}
	for _, s := range c.discovery.known() {
		if ip := s.IP(); ip.IsValid() {
			o.Seeds = append(o.Seeds, ip)
		}
	}
	if c.outlet.direct {
		o.User = c.inlet.receive
	}
	if c.cfg.Transport != nil {
		c.transport = transport.Wrap(c.cfg.Transport, o)
	} else if c.transport, err = transport.Listen(o); errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w (Config.BindAddr; port 0 lets the system choose)", err)
	} else if err != nil {
		return err
	}
	conf.Transport = c.transport
	if bound := c.transport.Bound(); bound.IsValid() {
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

// sender is how this member signs its control frames.
func (c *Cluster) sender() wire.Peer {
	return wire.Peer{ID: c.id, Name: c.cfg.Name, Addr: c.advertised()}
}

// advertised is the address that the others use, invalid until memberlist has settled it.
func (c *Cluster) advertised() netip.AddrPort {
	if a := c.addr.Load(); a != nil {
		return *a
	}
	return netip.AddrPort{}
}

// memberChanged follows the membership. It runs under the locks of memberlist and of the table.
func (c *Cluster) memberChanged(was, is Member) {
	signal(c.keyring.stirred)
	switch {
	case is.Name == "" && was.Status == StatusFailed:
		c.discovery.lost.add(was, time.Now())
	case is.Name != "":
		c.discovery.lost.remove(is.Name)
	}
	if is.Name == c.cfg.Name || was.Name == c.cfg.Name {
		if is.Name != "" {
			c.addr.Store(&is.Addr)
			c.do(func(r *replica.Replica, _ time.Time) { r.Membership.SetAddr(is.Addr) })
		}
		return
	}
	c.discovery.remember(was, is)
	if was.Addr != is.Addr {
		if is.Addr.IsValid() {
			c.transport.Heard.Follow(is.Addr)
		}
		c.transport.Heard.Unfollow(was.Addr)
	}
	if was.Name != "" && (is.Name == "" || is.ID != was.ID) {
		c.outlet.streams.Cancel(was.peer(), errMemberGone)
		c.transport.Kept.Forget(memberlist.Address{Addr: was.Addr.String(), Name: was.Name})
	}
	c.do(func(r *replica.Replica, now time.Time) {
		if was.ID != is.ID {
			c.readiness.changed = now
		}
		r.Change(was.peer(), is.peer(), now)
	})
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

// Position returns this member's index in Members, from 0, and how many members there are. Use it to share out work roughly, and not as a
// lock: while members see different memberships, two of them may have the same index, and an index may have nobody.
func (c *Cluster) Position() (index, of int) {
	list := c.table.list()
	index = slices.IndexFunc(list, func(m Member) bool { return m.Name == c.cfg.Name })
	return max(index, 0), len(list)
}

// Events yields what happens to the membership, beginning with EventJoined for every current member, this one first. It ends
// with ctx, or when the cluster is closed. A reader that is slow, or never reads, blocks nobody: what it has not been told
// is merged for each member, so that it sees the latest and never an EventJoined without the EventLeft or EventFailed before it.
// The loop's body may call any method. Each call of the returned function is a subscription of its own.
func (c *Cluster) Events(ctx context.Context) iter.Seq[Event] { return c.table.events(ctx) }
