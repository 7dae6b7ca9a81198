package starlingtest

// Crash takes a member off the network without a goodbye: nothing gets in or out of it from now on, dials to it hang, and
// its streams are reset, at their peers too. The member's own goroutines run on, without a network, until you shut it down. Start
// the name again with [Network.Transport]. A second Crash does nothing; unknown names are an error.
func (n *Network) Crash(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.hosts.named(name)
	if err != nil {
		return err
	}
	if h.running != nil {
		h.running.stop(crashed)
	}
	return nil
}

// Freeze makes a member stop reading, as if its process hung and its operating system did not: packets fill its buffer, streams
// connect and fill, and nobody reads. It is not SIGSTOP: the member's timers run on, and what it sends still leaves, so others may take it
// for alive now and then. [Network.Thaw], a crash or a shutdown ends it. A name that is unknown or not running is an error.
func (n *Network) Freeze(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.hosts.running(name)
	if err != nil {
		return err
	}
	t.frozen = true
	return nil
}

// Thaw ends [Network.Freeze]: the member reads all that was kept for it. A name that is unknown or not running is an error.
func (n *Network) Thaw(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.hosts.running(name)
	if err != nil {
		return err
	}
	t.frozen = false
	for _, p := range t.held {
		t.buffer(p)
	}
	for _, c := range t.queued {
		t.offer(c)
	}
	t.held, t.queued = nil, nil
	for c := range t.conns {
		c.in.readers.raise()
	}
	return nil
}

// CutStreams breaks every stream that is open between two members, whoever dialled: what has arrived can still be read,
// what is on its way is lost, then both ends see ECONNRESET. New streams can be dialled. Unknown names are an error.
func (n *Network) CutStreams(a, b string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	x, y, err := n.hosts.pair(a, b)
	if err != nil || x.running == nil {
		return err
	}
	for c := range x.running.conns {
		if c.peer == y {
			c.reset(true)
		}
	}
	return nil
}
