package starlingtest

// links is what lies between the members: the faults of each link, and what it remembers. Network.mu guards it.
type links struct {
	seed     uint64 // of all random decisions
	standard Link   // of every path that has none of its own
	loopback Link   // of a member with itself: perfect
}

// path is what the network remembers about one direction between two hosts.
type path struct {
	dice dice
	link *Link // nil: the network's default
	rate *rate // nil: its bandwidth was never limited
}

// SetDefault sets every link that [Network.SetLink] has not set, those of later members too. An l with values out of range is an
// error that lists all of them, and changes nothing.
func (n *Network) SetDefault(l Link) error {
	if err := l.validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links.standard = l
	return nil
}

// SetLink sets the link from one member to another, in that direction alone, over restarts too. Packets on their way
// are not affected. Unknown names, and an l with values out of range, are errors.
func (n *Network) SetLink(from, to string, l Link) error {
	if err := l.validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b, err := n.hosts.pair(from, to)
	if err != nil {
		return err
	}
	n.links.path(a, b).link = &l
	return nil
}

// Link returns the link from one member to another as it is set now: change a field of it, and give it to [Network.SetLink].
// Unknown names are an error.
func (n *Network) Link(from, to string) (Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b, err := n.hosts.pair(from, to)
	if err != nil {
		return Link{}, err
	}
	return *n.links.of(a, b), nil
}

// path returns what is remembered about a link, and begins to remember.
func (ls *links) path(from, to *host) *path {
	p := from.paths[to]
	if p == nil {
		p = &path{dice: newDice(ls.seed, from, to, 0)}
		from.paths[to] = p
	}
	return p
}

// of returns the faults of a link without beginning to remember anything.
func (ls *links) of(from, to *host) *Link {
	if from == to {
		return &ls.loopback
	}
	if p := from.paths[to]; p != nil && p.link != nil {
		return p.link
	}
	return &ls.standard
}

// rate returns what queues for the bandwidth of a link; nil: nothing, and it is unlimited.
func (ls *links) rate(from, to *host) *rate {
	link, p := ls.of(from, to), from.paths[to]
	if link.Bandwidth == 0 && (p == nil || p.rate == nil) {
		return nil
	}
	p = ls.path(from, to)
	if p.rate == nil {
		p.rate = new(rate)
	}
	p.rate.bytes = link.Bandwidth
	return p.rate
}
