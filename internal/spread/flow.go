package spread

import "time"

// Flow is the send window of small batches of our own: how many of their bytes may be on their way.
type Flow struct {
	Window int // bytes. Invariant: windowMin ≤ Window/packet ≤ windowMax
	Sent   int // Invariant: Σ Size of our small batches whose bytes the window does not have back: see Spread.conclude

	packet   int // bytes of a packet
	halvedAt time.Time
	unhalved int // Window as it was before it was halved, until it is that again; 0: it is not smaller than it was
}

func newFlow(packet int) Flow { return Flow{packet: packet, Window: windowFirst * packet} }

// Open reports whether another batch may leave. One may always be on its way, whatever its size.
func (f *Flow) Open() bool { return f.Sent == 0 || f.Sent < f.Window }

// spend counts the bytes of a batch that leaves.
func (f *Flow) spend(n int) { f.Sent += n }

// refund gives back what spend took, and lets the window grow by a packet for each window's worth that is refunded.
func (f *Flow) refund(n int) {
	f.Sent -= n
	f.grow(min(f.Window+max(f.packet*min(n, f.packet)/f.Window, 1), windowMax*f.packet))
}

// timedOut halves the window, at most once per rto: an answer did not come in time.
func (f *Flow) timedOut(now time.Time, rto time.Duration) {
	if now.Sub(f.halvedAt) < rto {
		return
	}
	f.halvedAt = now
	f.unhalved = max(f.unhalved, f.Window)
	f.Window = max(f.Window/2, windowMin*f.packet)
}

// undoTimeout takes back one halving: the answer was only late, as nearly all are where a machine is busy (RFC 4015).
func (f *Flow) undoTimeout() { f.grow(max(f.Window, min(2*f.Window, f.unhalved))) }

func (f *Flow) grow(window int) {
	f.Window = window
	if f.Window >= f.unhalved {
		f.unhalved = 0
	}
}

// Ahead counts the streams of large batches of our own whose child has not said that it holds the batch. More of them would only share
// our uplink, and all would be late: TCP has a window of its own for each.
type Ahead struct {
	Hops  int
	Bytes int // Invariant: Σ Size of their batches
}

// Open reports whether another large batch may leave.
func (a *Ahead) Open() bool { return a.Hops < aheadHops || a.Bytes < aheadBytes }

func (a *Ahead) add(hops, bytes int) {
	a.Hops += hops
	a.Bytes += bytes
}
