package starling

import "time"

// rtt estimates the round trip to one member after RFC 6298, with bounds that suit a cluster.
type rtt struct {
	smooth, spread time.Duration // SRTT and RTTVAR; zero: not measured yet
}

const (
	rtoFirst = 10 * time.Millisecond
	rtoMin   = 2 * time.Millisecond
	rtoMax   = time.Second
)

func (r *rtt) sample(d time.Duration) {
	if r.smooth == 0 {
		r.smooth, r.spread = max(d, 1), d/2
		return
	}
	r.spread += (absDuration(r.smooth-d) - r.spread) / 4
	r.smooth += (d - r.smooth) / 8
}

// rto is how long an answer is waited for.
func (r *rtt) rto() time.Duration {
	if r.smooth == 0 {
		return rtoFirst
	}
	return min(max(r.smooth+4*r.spread, rtoMin), rtoMax)
}

func absDuration(d time.Duration) time.Duration { return max(d, -d) }

// bulkWindow is how many bytes of large parts may be on their way at once. They go by stream, which has a window of its own.
const bulkWindow = 4 << 20

// flow is how much of its own a member may have on its way: bytes of batches that still hold the window.
type flow struct {
	packet int // bytes of a packet
	window int // Invariant: flowMin ≤ window/packet ≤ flowMax, if it is not fixed
	sent   int // Invariant: Σ bytes of our batches of this kind that are not paid: see settle
	halved time.Time
	before int  // the window as it was before it was halved, until it is that again; 0: it is not smaller than it was
	fixed  bool // the window stays as it is
}

const (
	flowFirst = 32 // packets
	flowMin   = 4
	flowMax   = 256
)

func newFlow(packet int) flow { return flow{packet: packet, window: flowFirst * packet} }

// newBulkFlow returns the flow of large parts: its window stays as it is.
func newBulkFlow() flow { return flow{window: bulkWindow, fixed: true} }

// open reports whether another batch may leave. One may always be on its way, whatever its size.
func (f *flow) open() bool { return f.sent == 0 || f.sent < f.window }

func (f *flow) add(n int) { f.sent += n }

// done gives back what add took, and lets the window grow by a packet for each window's worth that is done.
func (f *flow) done(n int) {
	f.sent -= n
	if f.fixed {
		return
	}
	f.window = min(f.window+max(f.packet*min(n, f.packet)/f.window, 1), flowMax*f.packet)
	if f.window >= f.before {
		f.before = 0
	}
}

// late halves the window, at most once per rto: something was not answered in time.
func (f *flow) late(now time.Time, rto time.Duration) {
	if now.Sub(f.halved) < rto {
		return
	}
	f.halved = now
	f.before = max(f.before, f.window)
	f.window = max(f.window/2, flowMin*f.packet)
}

// spurious takes back one halving: the answer was under way all the time (as in RFC 4015). Where a machine is busy, nearly all
// that is late is only that.
func (f *flow) spurious() {
	f.window = max(f.window, min(2*f.window, f.before))
	if f.window >= f.before {
		f.before = 0
	}
}
