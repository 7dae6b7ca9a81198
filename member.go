package starling

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// A Member is one participant of the cluster, as this member saw it last. It is a value: nothing in it changes, and Meta
// is the receiver's own copy.
type Member struct {
	Name    string
	Addr    netip.AddrPort // where the others reach it
	Meta    []byte         // what it gave to Config.Meta or SetMeta
	ID      uint64         // random identity of this run of it; 0 for a foreign member, one that does not speak Starling
	Status  Status
	Version int           // version of Starling's wire that it speaks; 0 for one that speaks none
	RTT     time.Duration // round trip of the last probe that this member made of it; 0 before the first

	least    int // version that it understands
	features wire.Features
	keys     wire.Keys // what it tells of its keys; never written

	// VerifiedNames are, with Config.TLS and where Config.Admit or AdmitMerge are asked alone, the DNS names, IP addresses and URIs in the
	// certificate that was verified last for Addr: on a connection that this member dialled there, or on one from that IP address by
	// somebody who said to advertise that port. So they belong to who uses the address, and Name is what the member calls itself. They are
	// nil where there was no such connection yet, as for members that are heard of by gossip alone. Whom Config.Admit refuses while
	// they are nil is dialled, so that it can be asked again.
	VerifiedNames []string
}

// Foreign reports whether the member does not speak Starling (a plain memberlist, an Alertmanager), or a version of it that this one does
// not understand, or that does not understand this one. A foreign member gets plain parts and no control frames, and acknowledges nothing.
func (m Member) Foreign() bool { return m.ID == 0 }

// Has reports whether the member has a feature. A foreign member has none.
func (m Member) Has(f Feature) bool {
	return f >= 0 && int(f) < wire.KnownFeatures && m.features.Has(1<<f)
}

// A Feature is something that members of an earlier release of Starling do not understand, though they are of one cluster. Between two
// members it is used as soon as both have it. EventFeatureEnds and EventFeatureBegins tell when not all members have it any more, and when
// they all have it again.
type Feature int

const (
	FeatureTypes  Feature = iota // members tell each other what their channels carry, and hand nothing to a handler of another type
	FeatureKept                  // streams between members go on connections that are kept, so that not each is dialled
	FeaturePieces                // what goes by Send travels in pieces if it is large; a member without takes 20 MiB at most, whole
	FeatureReads                 // a member tells how much of a stream it has read, so that a slow link is known from one that hangs
)

var features = [wire.KnownFeatures]string{"types", "kept connections", "sends in pieces", "reads told"}

func (f Feature) String() string { return nameOf(f, features[:]) }

// Status is what is known of a member's life.
type Status int

const (
	StatusAlive  Status = iota // takes part, as far as is known
	StatusLeft                 // said goodbye
	StatusFailed               // is gone without a goodbye
)

var statuses = []string{"alive", "left", "failed"}

func (s Status) String() string { return nameOf(s, statuses) }

// nameOf returns the name of a value of an enumeration; its type and number if it has none.
func nameOf[T ~int](v T, names []string) string {
	if v < 0 || int(v) >= len(names) {
		return fmt.Sprintf("%s(%d)", reflect.TypeFor[T]().Name(), int(v))
	}
	return names[v]
}

// MaxMetaSize is the most metadata a member may carry, in bytes: memberlist allows 512, the rest is Starling's own.
const MaxMetaSize = memberlist.MetaMaxSize - wire.MetaHeader - wire.KeysSize

// memberFrom copies what memberlist may change under our feet into a value.
func memberFrom(n *memberlist.Node) Member {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return told(n.Name, netip.AddrPortFrom(ip.Unmap(), n.Port), n.Meta)
}

// told is a member with what its metadata tells.
func told(name string, addr netip.AddrPort, meta []byte) Member {
	d := wire.DecodeMeta(meta)
	m := Member{Name: name, Addr: addr, ID: d.ID, Version: d.Version, least: d.Least, features: d.Features}
	if d.ID != 0 {
		d.User, m.keys = wire.CutKeys(d.User)
	}
	m.Meta = bytes.Clone(d.User)
	return m
}

// peer returns what the protocol knows of m.
func (m Member) peer() wire.Peer {
	return wire.Peer{ID: m.ID, Name: m.Name, Addr: m.Addr, Features: m.features}
}

// clone returns m with metadata of its own.
func (m Member) clone() Member {
	m.Meta = bytes.Clone(m.Meta)
	return m
}

// sameFace tells whether a reader who knows a would learn nothing from b. The round trip changes all the time and is no news.
func sameFace(a, b Member) bool {
	return a.Name == b.Name && a.Addr == b.Addr && a.ID == b.ID && a.Status == b.Status && a.Version == b.Version && a.features == b.features &&
		bytes.Equal(a.Meta, b.Meta)
}

func byName(a, b Member) int { return cmp.Compare(a.Name, b.Name) }

// SetMeta changes this member's metadata and waits until memberlist has sent it to others, or ctx ends: it is not acknowledged, and gossip goes on telling it. meta is copied. Above
// MaxMetaSize bytes it returns a *ConfigError and changes nothing. ErrClosed after Leave or Close.
func (c *Cluster) SetMeta(ctx context.Context, meta []byte) error {
	if len(meta) > MaxMetaSize {
		return &ConfigError{Field: "meta", Value: len(meta), Err: fmt.Errorf("limit %d bytes", MaxMetaSize)}
	}
	leaving := false
	c.do(func(*replica.Replica, time.Time) {
		if leaving = c.leaving; !leaving {
			c.meta = append([]byte(nil), meta...)
		}
	})
	if leaving {
		return ErrClosed
	}
	u := c.updates.begin()
	select {
	case <-u.done:
		if u.err != nil && !errors.Is(u.err, ErrClosed) {
			return fmt.Errorf("starling: set meta: %w", u.err)
		}
		return u.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// updateTimeout bounds a wait that memberlist gives no context for.
const updateTimeout = 2 * time.Second

// updates have memberlist tell the others what this member tells of itself, one at a time: memberlist reads what a concurrent update writes. Each
// tells what there is when it begins. So one waits at most, for all who have changed something since the last began: whoever changes things
// faster than they are told piles up nothing. Safe for concurrent use.
type updates struct {
	c *Cluster

	mu      sync.Mutex
	running bool    // a goroutine runs that makes them
	next    *update // nil: nobody waits for another
}

// update is one of them.
type update struct {
	done chan struct{} // closed when err is set
	err  error
}

// begin returns an update that begins after the call.
func (us *updates) begin() *update {
	us.mu.Lock()
	if us.next == nil {
		us.next = &update{done: make(chan struct{})}
	}
	u, start := us.next, !us.running
	us.running = true
	us.mu.Unlock()
	if start && !us.c.spawn(func() { us.run(us.c.ctx.Err) }) {
		us.run(func() error { return ErrClosed })
	}
	return u
}

// run makes updates until nobody waits for one. Those that would begin when ended returns an error are not made.
func (us *updates) run(ended func() error) {
	for {
		us.mu.Lock()
		u := us.next
		us.next, us.running = nil, u != nil
		us.mu.Unlock()
		if u == nil {
			return
		}
		if u.err = ErrClosed; ended() == nil {
			u.err = us.c.memberlist().UpdateNode(updateTimeout)
		}
		close(u.done)
	}
}
