package starlingtest

// Event is one write to the network: a packet, or one Write to a stream.
type Event struct {
	// From is the name of the member that writes.
	From string

	// To is the name of the member it writes to, or the address as it was given if nobody has it.
	To string

	// Stream is 0 for a packet, else the number of the stream, the same for both directions.
	Stream uint64

	// Data is what is written. It belongs to the writer: read it during the call, neither keep nor change it.
	Data []byte
}

// Tap has observe called for every packet and every write to a stream that a running member hands over, before any fault:
// also for what is lost later. It is called on the writer's goroutine, concurrently, and no lock is held; it may call the
// network but should be quick. A second Tap replaces the first; nil removes it.
func (n *Network) Tap(observe func(Event)) {
	if observe == nil {
		n.tap.Store(nil)
		return
	}
	n.tap.Store(&observe)
}

// observe shows e, of which only the writer and the address are known so far, unless its writer is off the network.
func (n *Network) observe(tap func(Event), from *Transport, e Event) {
	n.mu.Lock()
	live := from.state == running
	if to := n.route(e.To); to != nil {
		e.To = to.name
	}
	n.mu.Unlock()
	if live {
		e.From = from.host.name
		tap(e)
	}
}
