package starling

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It copies, translates and returns: nothing in it waits, and nothing calls memberlist.
// It is complete before memberlist is created, since memberlist calls it from then on, and after Shutdown for some seconds
// more; from shut on it does nothing.
type delegate struct {
	table *membership
	meta  func() []byte
	// names returns what was verified of the member at an address.
	names func(netip.AddrPort) []string
	// meet is told of a member that was refused while nothing was verified of it.
	meet func(Member)
	// receive takes a frame; it must copy what it keeps.
	receive    func(frame []byte)
	gossip     func(overhead, limit int) [][]byte
	localState func(join bool) []byte
	mergeState func(state []byte, join bool)
	admit      func(Member) error
	admitMerge func([]Member) error
	shut       atomic.Bool
}

// NodeMeta, NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState are memberlist's Delegate.

func (d *delegate) NodeMeta(limit int) []byte { return d.meta() }

func (d *delegate) NotifyMsg(frame []byte) {
	if !d.shut.Load() {
		d.receive(frame)
	}
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	if d.shut.Load() {
		return nil
	}
	return d.gossip(overhead, limit)
}

func (d *delegate) LocalState(join bool) []byte {
	if d.shut.Load() {
		return nil
	}
	return d.localState(join)
}

func (d *delegate) MergeRemoteState(state []byte, join bool) {
	if !d.shut.Load() {
		d.mergeState(state, join)
	}
}

// AckPayload and NotifyPingComplete are memberlist's PingDelegate.

func (d *delegate) AckPayload() []byte { return nil }

func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	if !d.shut.Load() {
		d.table.setRTT(n.Name, rtt)
	}
}

// NotifyAlive is memberlist's AliveDelegate, used only with an admission hook: it makes memberlist refuse members of
// very old protocol versions.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if d.shut.Load() || n.Name == d.table.self {
		return nil
	}
	m := d.candidate(n)
	err := d.admit(m)
	if err != nil && m.VerifiedNames == nil {
		d.meet(m)
	}
	return err
}

// NotifyMerge is memberlist's MergeDelegate.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	if d.shut.Load() {
		return nil
	}
	members := make([]Member, len(nodes))
	for i, n := range nodes {
		members[i] = d.candidate(n)
	}
	return d.admitMerge(members)
}

// candidate is a member that somebody has to judge.
func (d *delegate) candidate(n *memberlist.Node) Member {
	m := memberFrom(n)
	m.VerifiedNames = d.names(m.Addr)
	return m
}

// install makes d the delegate of all that memberlist has to say.
func (d *delegate) install(c *memberlist.Config) {
	c.Delegate, c.Events, c.Conflict, c.Ping = d, d.table, d.table, d
	if d.admit != nil {
		c.Alive = d
	}
	if d.admitMerge != nil {
		c.Merge = d
	}
}
