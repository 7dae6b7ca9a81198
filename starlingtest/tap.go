package starlingtest

// Event is one write to the network, or one arrival: a packet, or one Write to or Read from a stream.
type Event struct {
	// From is the name of the member that has written.
	From string

	// To is the name of the member it writes to, or the address as it was given if nobody has it.
	To string

	// Stream is 0 for a packet, else the number of the stream, the same for both directions.
	Stream uint64

	// Data is what is written or has arrived. It belongs to others: read it during the call, neither keep nor change it.
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

// TapArrivals has observe called for every packet that reaches its receiver's buffer, each copy of it, and for what every
// Read from a stream returns: after all faults. It is called one at a time and under the network's lock, so it must be
// quick and must not call the network. A second TapArrivals replaces the first; nil removes it.
func (n *Network) TapArrivals(observe func(Event)) {
	if observe == nil {
		n.arrivals.Store(nil)
		return
	}
	n.arrivals.Store(&observe)
}

// arrive shows what has arrived. n.mu is held, so that it comes before the receiver can change the bytes.
func (n *Network) arrive(from, to *host, stream uint64, data []byte) {
	if observe := n.arrivals.Load(); observe != nil && len(data) > 0 {
		(*observe)(Event{From: from.name, To: to.name, Stream: stream, Data: data})
	}
}
