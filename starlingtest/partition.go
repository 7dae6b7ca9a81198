package starlingtest

import "time"

// partitions is what keeps members apart. Network.mu guards it.
type partitions struct {
	groups  []map[*host]int // of each partition, the group of each host that it names
	blocked map[direction]bool
}

type direction struct{ from, to *host }

// block begins or ends to let nothing pass in one direction.
func (ps *partitions) block(from, to *host, blocked bool) {
	if ps.blocked == nil {
		ps.blocked = make(map[direction]bool)
	}
	ps.blocked[direction{from, to}] = blocked
}

// severed reports whether nothing passes from one host to another.
func (ps *partitions) severed(from, to *host) bool {
	if ps.blocked[direction{from, to}] {
		return true
	}
	for _, group := range ps.groups {
		a, named := group[from]
		b, too := group[to]
		if named && too && a != b {
			return true
		}
	}
	return false
}

// Partition lets no packet and no stream pass between members of different groups, in either direction, from now on:
// packets vanish, on their way too, dials hang, open streams stall. Members that no group names keep all their links. A
// further Partition adds to the first. Fewer than two groups, an empty group, an unknown name or a name in two groups are
// errors.
func (n *Network) Partition(groups ...[]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	group, err := n.hosts.groups(groups)
	if err != nil {
		return err
	}
	n.partitions.groups = append(n.partitions.groups, group)
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
	a, b, err := n.hosts.pair(from, to)
	if err != nil {
		return err
	}
	n.partitions.block(a, b, blocked)
	n.reroute()
	return nil
}

// Heal ends every [Network.Partition] and every [Network.Block]. Stalled streams go on, one latency later. The faults of
// links and of members stay.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.partitions = partitions{}
	n.reroute()
}

// reroute tells every open stream and every dial that waits that members may reach others now than before.
func (n *Network) reroute() {
	now := time.Now()
	for _, h := range n.hosts.byName {
		if h.running == nil {
			continue
		}
		for c := range h.running.conns {
			c.in.stall(n.partitions.severed(c.peer, h), now, n.links.of(c.peer, h).Latency)
		}
	}
	n.changed.raise()
}
