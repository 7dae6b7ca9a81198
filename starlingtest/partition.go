package starlingtest

import (
	"errors"
	"fmt"
	"time"
)

// Partition lets no packet and no stream pass between members of different groups, in either direction, from now on:
// packets vanish, on their way too, dials hang, open streams stall. Members that no group names keep all their links. A
// further Partition adds to the first. Fewer than two groups, an empty group, an unknown name or a name in two groups are
// errors.
func (n *Network) Partition(groups ...[]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	if len(groups) < 2 {
		errs = append(errs, fmt.Errorf("starlingtest: a partition needs at least two groups, not %d", len(groups)))
	}
	side := make(map[*host]int)
	for i, group := range groups {
		if len(group) == 0 {
			errs = append(errs, fmt.Errorf("starlingtest: group %d of the partition names nobody", i))
		}
		for _, name := range group {
			h, err := n.host(name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if before, ok := side[h]; ok && before != i {
				errs = append(errs, fmt.Errorf("starlingtest: member %q is in two groups of the partition", name))
			}
			side[h] = i
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.partitions = append(n.partitions, side)
	n.reroute()
	return nil
}

// Block lets nothing pass from one member to another, in that direction alone: packets vanish, what streams carry that way
// stalls, and a dial in either direction hangs, because it needs both. Unknown names are an error.
func (n *Network) Block(from, to string) error { return n.block(from, to, true) }

// Unblock undoes [Network.Block] and nothing else. Unknown names are an error.
func (n *Network) Unblock(from, to string) error { return n.block(from, to, false) }

func (n *Network) block(from, to string, blocked bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.between(from, to)
	if err != nil {
		return err
	}
	p.blocked = blocked
	n.reroute()
	return nil
}

// Heal ends every [Network.Partition] and every [Network.Block]. Stalled streams go on, one latency later. The faults of
// links and of members stay.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.partitions = nil
	for _, h := range n.hosts {
		for _, p := range h.paths {
			p.blocked = false
		}
	}
	n.reroute()
}

// severed says whether nothing passes from one host to another.
func (n *Network) severed(from, to *host) bool {
	if p := from.paths[to]; p != nil && p.blocked {
		return true
	}
	for _, side := range n.partitions {
		a, named := side[from]
		b, too := side[to]
		if named && too && a != b {
			return true
		}
	}
	return false
}

// reroute tells every open stream and everyone who dials that it may have become another network.
func (n *Network) reroute() {
	now := time.Now()
	for _, h := range n.hosts {
		if h.running == nil {
			continue
		}
		for c := range h.running.conns {
			c.in.stall(n.severed(c.peer, h), now, n.linkOf(c.peer, h).Latency)
		}
	}
	n.changed.raise()
}
