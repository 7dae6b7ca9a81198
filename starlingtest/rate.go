package starlingtest

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// quantum is how much of a stream queues for a rate at a time. It is small, so that a packet does not wait long where a stream
// passes: as systems do that keep the rest of a stream in its own buffer.
const quantum = 4 << 10

// SetRate limits what a member sends to all others together, and what it gets from all of them, in bytes per second, over
// restarts too; 0 is unlimited, as both are at first. Packets and streams queue for a rate as they do for [Link.Bandwidth], which
// holds as well. Dials need no rate, and what a member sends to itself neither. An unknown name or a negative rate is an error.
func (n *Network) SetRate(name string, up, down int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.hosts.named(name)
	if err != nil {
		return err
	}
	if up < 0 || down < 0 {
		return fmt.Errorf("starlingtest: the rates of member %q are %d up and %d down: they may not be negative", name, up, down)
	}
	h.up.bytes, h.down.bytes = up, down
	return nil
}

// stage is how far a load has come. A rate may hold it up in each stage but the last. Network.mu guards loads and rates.
type stage int

const (
	leaving  stage = iota // its sender
	crossing              // its link; the delay of the link comes at the end of this stage
	arriving              // at its receiver
	arrived
)

// load is a packet, or a piece of a stream whose arrival is not known yet, on its way.
type load struct {
	from, to *host
	size     int
	delay    time.Duration // of the link
	stage    stage
	passes   *rate  // the rate that it passes at the moment; nil while it waits for one, or is under way
	order    uint64 // of two loads that are due together, the one that was put on its way first comes first

	packet memberlist.Packet
	writer *conn // that has written this piece, which is data; nil: a packet
	data   []byte
}

// advance takes a load on from the stage that it has come to.
func (ld *load) advance(n *Network, at time.Time) {
	switch {
	case ld.lost():
	case ld.stage == arrived:
		ld.arrive(n, at)
	default:
		if r := ld.rate(n); r.free() {
			ld.next(n, at)
		} else {
			r.enter(n, ld, at)
		}
	}
}

// next takes a load on to the next stage.
func (ld *load) next(n *Network, at time.Time) {
	ld.stage++
	if ld.stage == arriving {
		there := at.Add(ld.delay)
		if ld.writer != nil { // a stream keeps its order
			there = later(there, ld.writer.out.reached)
			ld.writer.out.reached = there
		}
		if there.After(at) {
			n.transit.push(ld, there)
			return
		}
	}
	ld.advance(n, at)
}

// rate returns what may hold the load up in its stage; nil: nothing.
func (ld *load) rate(n *Network) *rate {
	switch {
	case ld.from == ld.to:
		return nil
	case ld.stage == leaving:
		return &ld.from.up
	case ld.stage == crossing:
		return n.links.rate(ld.from, ld.to)
	}
	return &ld.to.down
}

// lost reports whether nobody can read the load any more, because its stream is broken or its reader has closed.
func (ld *load) lost() bool { return ld.writer != nil && ld.writer.out.dead() }

// backlog is what of the load's stream waits behind it in this stage; nil: it is a packet.
func (ld *load) backlog() *backlog {
	if ld.writer == nil {
		return nil
	}
	return &ld.writer.out.backlogs[ld.stage]
}

func (ld *load) arrive(n *Network, at time.Time) {
	if ld.writer == nil {
		ld.deliver(n, at)
		return
	}
	p := ld.writer.out
	p.land(ld.data, at)
	if p.reset(at) {
		ld.writer.twin.out.writers.raise() // the peer may wait to write into a stream that was cut
	}
}

// rate is what loads pass one after the other. The zero value is unlimited.
type rate struct {
	bytes   int     // per second; 0: unlimited
	busy    bool    // a load passes
	queue   []*load // behind it, and of each stream one at most
	packets int     // Invariant: the bytes of the packets in queue, less than linkBuffer + maxPacket
}

// backlog is the pieces of one stream that wait until their predecessor has passed a rate.
type backlog struct {
	waiting []*load
	queued  bool // the predecessor is in the queue of the rate, or passes it. Invariant: queued if anything waits
}

// free reports whether nothing is held up. r may be nil.
func (r *rate) free() bool { return r == nil || r.bytes == 0 && !r.busy && len(r.queue) == 0 }

// transmission is how long size bytes take.
func (r *rate) transmission(size int) time.Duration {
	if r.bytes == 0 {
		return 0
	}
	return time.Duration(float64(size) / float64(r.bytes) * float64(time.Second))
}

// enter puts a load behind all others, or drops a packet that finds too many before it.
func (r *rate) enter(n *Network, ld *load, at time.Time) {
	if b := ld.backlog(); b != nil {
		if b.queued {
			b.waiting = append(b.waiting, ld)
			return
		}
		b.queued = true
	} else if r.packets >= linkBuffer {
		ld.drop(&ld.from.counters.Dropped.Buffer)
		return
	} else {
		r.packets += ld.size
	}
	r.queue = append(r.queue, ld)
	r.start(n, at)
}

// start lets the next load pass.
func (r *rate) start(n *Network, at time.Time) {
	for !r.busy && len(r.queue) > 0 {
		ld := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		if ld.writer == nil {
			r.packets -= ld.size
		}
		if ld.lost() {
			continue
		}
		r.busy, ld.passes = true, r
		n.transit.push(ld, at.Add(r.transmission(ld.size)))
	}
}

// passed lets the next load pass, and takes the one that has passed further. The next of its stream goes behind those of others.
func (r *rate) passed(n *Network, ld *load, at time.Time) {
	r.busy, ld.passes = false, nil
	if b := ld.backlog(); b != nil {
		if b.queued = len(b.waiting) > 0; b.queued {
			r.queue = append(r.queue, b.waiting[0])
			b.waiting[0] = nil
			b.waiting = b.waiting[1:]
		}
	}
	r.start(n, at)
	if !ld.lost() {
		ld.next(n, at)
	}
}

// dropPackets drops the packets that wait, because their sender has lost its power.
func (r *rate) dropPackets() {
	kept := r.queue[:0]
	for _, ld := range r.queue {
		if ld.writer != nil {
			kept = append(kept, ld)
			continue
		}
		r.packets -= ld.size
		ld.drop(&ld.from.counters.Dropped.Down)
	}
	clear(r.queue[len(kept):])
	r.queue = kept
}
