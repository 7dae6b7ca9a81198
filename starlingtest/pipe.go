package starlingtest

import (
	"io"
	"syscall"
	"time"
)

// streamBuffer bounds what one direction of a stream holds: on its way, and arrived but not read.
const streamBuffer = 256 << 10

// pipe is one direction of a stream: a queue of pieces, each with the time of its arrival, and an end. It reads no clock: its
// methods are told the time. Network.mu guards it.
type pipe struct {
	dice    dice
	pieces  []piece   // by arrival
	size    int       // Invariant: size = Σ len(pieces) + waiting ≤ streamBuffer
	waiting int       // bytes written whose arrival is not known yet, because they wait for a rate or are loads under way
	carried int       // bytes written in all
	last    time.Time // Invariant: no piece arrives later
	end     error     // io.EOF or ECONNRESET, behind the last piece; nil while open
	ends    time.Time // when end arrives, if nothing is waiting. Invariant: ends ≥ last
	broken  bool      // what was on its way is lost
	stalled bool      // a partition holds up all pieces that had not arrived when it began
	arrived int       // while stalled: how many pieces had arrived and are not read yet
	refused time.Time // when the writer learns that the reader has closed; zero while the reader has not
	writing bool      // a Write has begun: others wait, so that none is torn
	readers signal
	writers signal

	backlogs [arrived]backlog // of each stage
	reached  time.Time        // when the last load that has left its link reaches the receiver
}

type piece struct {
	data    []byte
	arrival time.Time
}

// room reports whether a piece of that size fits.
func (p *pipe) room(size int) bool { return p.size+size <= streamBuffer }

// push puts a piece behind all others.
func (p *pipe) push(data []byte, arrival time.Time) {
	p.expect(len(data))
	p.land(data, arrival)
}

// expect makes room for bytes whose arrival is not known yet.
func (p *pipe) expect(size int) {
	p.size += size
	p.waiting += size
	p.carried += size
}

// land is told the arrival of bytes that are expected.
func (p *pipe) land(data []byte, arrival time.Time) {
	p.last = later(p.last, arrival)
	p.pieces = append(p.pieces, piece{data, p.last})
	p.waiting -= len(data)
	if p.end != nil {
		p.ends = later(p.ends, p.last)
	}
	p.readers.raise()
}

// dead reports whether what is written, or on its way, is lost.
func (p *pipe) dead() bool { return p.broken || !p.refused.IsZero() }

// close puts an end behind the last piece, if there is none yet.
func (p *pipe) close(end error, arrival time.Time) {
	if p.end == nil {
		p.end, p.ends = end, later(p.last, arrival)
		p.readers.raise()
	}
}

// take moves what has arrived into b. It returns 0 and no error if that is nothing.
func (p *pipe) take(b []byte, now time.Time) (int, error) {
	n := 0
	for n < len(b) && p.ready(now) {
		k := copy(b[n:], p.pieces[0].data)
		n += k
		p.size -= k
		if p.pieces[0].data = p.pieces[0].data[k:]; len(p.pieces[0].data) == 0 {
			p.pieces[0] = piece{}
			p.pieces = p.pieces[1:]
			p.arrived = max(0, p.arrived-1)
		}
	}
	if n > 0 {
		p.writers.raise()
		return n, nil
	}
	if len(p.pieces) == 0 && p.ended(now) {
		return 0, p.end
	}
	return 0, nil
}

// ready reports whether a piece can be read.
func (p *pipe) ready(now time.Time) bool {
	if p.stalled {
		return p.arrived > 0
	}
	return len(p.pieces) > 0 && !p.pieces[0].arrival.After(now)
}

// ended reports whether the reader's side knows of the end.
func (p *pipe) ended(now time.Time) bool {
	return p.end != nil && p.waiting == 0 && !p.stalled && !p.ends.After(now)
}

// reset reports whether the reader's side knows that the stream is broken.
func (p *pipe) reset(now time.Time) bool {
	return p.end != io.EOF && p.ended(now)
}

// next returns when a reader that finds nothing should look again. The zero time means: not before it is woken.
func (p *pipe) next() time.Time {
	switch {
	case p.stalled:
		return time.Time{}
	case len(p.pieces) > 0:
		return p.pieces[0].arrival
	case p.end != nil && p.waiting == 0:
		return p.ends
	}
	return time.Time{}
}

// stall begins or ends a partition. A piece that was on its way when it began arrives one latency after its end, as if it were
// sent again then.
func (p *pipe) stall(stalled bool, now time.Time, latency time.Duration) {
	if p.stalled == stalled || stalled && p.ended(now) {
		return
	}
	if stalled {
		p.arrived = p.due(now)
	} else {
		again := now.Add(latency)
		for i := p.arrived; i < len(p.pieces); i++ {
			p.pieces[i].arrival = later(p.pieces[i].arrival, again)
			p.last = later(p.last, again)
		}
		p.ends = later(p.ends, again)
	}
	p.stalled = stalled
	p.readers.raise()
}

// due counts the pieces that have arrived.
func (p *pipe) due(now time.Time) int {
	if p.stalled {
		return p.arrived
	}
	k := 0
	for k < len(p.pieces) && !p.pieces[k].arrival.After(now) {
		k++
	}
	return k
}

// sever loses what is on its way and breaks the stream for its reader.
func (p *pipe) sever(now time.Time) {
	if p.ended(now) {
		return
	}
	k := p.due(now)
	for _, lost := range p.pieces[k:] {
		p.size -= len(lost.data)
	}
	p.pieces = p.pieces[:k]
	p.lose()
	p.broken = true
	p.last, p.end, p.ends = now, syscall.ECONNRESET, now
	p.readers.raise()
	p.writers.raise()
}

// lose forgets what is on its way as loads. They are still on their way, but nobody waits for them.
func (p *pipe) lose() {
	p.size -= p.waiting
	p.waiting, p.backlogs = 0, [arrived]backlog{}
}

// refuse drops all that is in the pipe, because the reader has closed. The writer learns of it at the given time.
func (p *pipe) refuse(known time.Time) {
	p.lose()
	p.pieces, p.size, p.arrived, p.refused = nil, 0, 0, known
	p.readers.raise()
	p.writers.raise()
}
