package starlingtest

import "sync/atomic"

// Event is one write to the network, or one arrival: of a packet, or by one Write to or Read from a stream.
type Event struct {
	// From is the name of the member that has written.
	From string

	// To is the name of the member it writes to, or the address as it was given if nobody has it.
	To string

	// Stream is 0 for a packet, else the number of the stream, the same for both directions.
	Stream uint64

	// Data is what is written or has arrived. It belongs to others: read it during the call, and neither keep nor change it.
	Data []byte
}

// taps is who looks at what is written to the network, and at what arrives.
type taps struct {
	writes, arrivals atomic.Pointer[func(Event)] // nil: nobody
}

// Tap has observe called for every packet and every write to a stream that a running member hands over, before any fault, so
// also for what is lost later. The goroutine that writes calls observe, concurrently with others, and holds no lock. observe may
// call the network, but should be quick. A second Tap replaces the first; nil removes it.
func (n *Network) Tap(observe func(Event)) { setTap(&n.taps.writes, observe) }

// TapArrivals has observe called for every packet that reaches its receiver's buffer, each copy of it, and for what every
// Read from a stream returns, after all faults. Calls come one at a time and under the network's lock, so observe must be
// quick and must not call the network. A second TapArrivals replaces the first; nil removes it.
func (n *Network) TapArrivals(observe func(Event)) { setTap(&n.taps.arrivals, observe) }

func setTap(tap *atomic.Pointer[func(Event)], observe func(Event)) {
	if observe == nil {
		tap.Store(nil)
		return
	}
	tap.Store(&observe)
}

// show shows a write of t, of which only the address or name and the bytes are known so far, unless t is off the network.
func (t *Transport) show(e Event) {
	n := t.net
	observe := n.taps.writes.Load()
	if observe == nil {
		return
	}
	n.mu.Lock()
	live := t.state == running
	if to := n.hosts.at(e.To); to != nil {
		e.To = to.name
	}
	n.mu.Unlock()
	if live {
		e.From = t.host.name
		(*observe)(e)
	}
}

// arrived shows what has arrived. Network.mu is held, so that this comes before the receiver can change the bytes.
func (ts *taps) arrived(from, to *host, stream uint64, data []byte) {
	if observe := ts.arrivals.Load(); observe != nil && len(data) > 0 {
		(*observe)(Event{From: from.name, To: to.name, Stream: stream, Data: data})
	}
}
