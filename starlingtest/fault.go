package starlingtest

import "fmt"

// Crash takes a member off the network without a goodbye: nothing gets in or out of it from now on, dials to it hang, and
// its streams are reset, at their peers too. Its goroutines go on until it is shut down, on their own. Start the name again
// with [Network.Transport]. A second Crash does nothing; unknown names are an error.
func (n *Network) Crash(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.host(name)
	if err != nil {
		return err
	}
	if h.running != nil {
		h.running.stop(crashed)
	}
	return nil
}

// Freeze makes a member stop reading, as if its operating system went on without it: packets pile up in its buffer, streams
// connect and fill, nobody reads. What it sends still leaves. A crash, a shutdown or [Network.Thaw] ends it. A name that is
// unknown or not running is an error.
func (n *Network) Freeze(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.live(name)
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
	t, err := n.live(name)
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
// what is on its way is lost, then both ends see ECONNRESET. Unknown names are an error.
func (n *Network) CutStreams(a, b string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	x, y, err := n.pair(a, b)
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

func (n *Network) live(name string) (*Transport, error) {
	h, err := n.host(name)
	if err != nil {
		return nil, err
	}
	if h.running == nil {
		return nil, fmt.Errorf("starlingtest: member %q is not running", name)
	}
	return h.running, nil
}
