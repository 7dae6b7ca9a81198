package starlingtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Link describes one direction between two members. The zero value is a perfect link: no delay, no loss, no limit. It is a plain
// value: a network copies it, and a change takes effect when it is set again.
type Link struct {
	// Latency is the one-way delay. With Jitter J the delay is drawn for each packet uniformly from [Latency-J, Latency+J], so
	// jitter alone lets packets overtake each other; Jitter may not exceed Latency. A stream keeps its order.
	Latency, Jitter time.Duration

	// Loss is the probability, 0 to 1, that a packet vanishes. Streams lose nothing but are slowed: each piece of up to
	// 16 KiB is held up with this probability by a retransmission, 200 ms, doubling, four at most (3 s in all).
	Loss float64

	// Duplicate is the probability, 0 to 1, that a packet arrives twice, each copy with a delay of its own.
	Duplicate float64

	// Reorder is the probability, 0 to 1, that a packet is held back, by once to twice Latency + Jitter + 1 ms on top of its
	// delay: enough that a packet sent right after it arrives first.
	Reorder float64

	// Bandwidth is in bytes per second; 0 is unlimited. Packets and streams queue for it, in the order they were sent, but of
	// each stream only 4 KiB at a time do: so streams share it fairly, and a packet waits for one such piece of each. A
	// packet that finds 256 KiB or more of packets before it is dropped.
	Bandwidth int

	// MTU is the largest packet that passes, in bytes; larger ones vanish. 0 is UDP's own limit, 65,507 bytes. It does not
	// concern streams.
	MTU int

	// CutAfter cuts each stream once that many bytes have been written to it in this direction: the reader gets exactly
	// these, then ECONNRESET. 0 is never. What a stream has carried before CutAfter was set counts too.
	CutAfter int

	// BlockPackets lets no packet through, like a firewall that lets only TCP pass. Streams are not affected.
	BlockPackets bool

	// RefuseStreams refuses dials in this direction with ECONNREFUSED. Open streams and packets are not affected.
	RefuseStreams bool
}

const (
	maxPacket       = 65507 // the largest payload of UDP over IPv4
	segment         = 16 << 10
	retransmit      = 200 * time.Millisecond
	maxRetransmits  = 4
	linkBuffer      = 256 << 10
	reorderHeadroom = time.Millisecond
)

// validate reports every fault of l at once.
func (l Link) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("starlingtest: "+format, args...)) }
	for _, p := range []struct {
		name  string
		value float64
	}{{"Loss", l.Loss}, {"Duplicate", l.Duplicate}, {"Reorder", l.Reorder}} {
		if !(p.value >= 0 && p.value <= 1) { // this way round NaN is bad too
			bad("Link.%s is %v: a probability is between 0 and 1", p.name, p.value)
		}
	}
	if l.Latency < 0 || l.Jitter < 0 {
		bad("Link.Latency %v and Link.Jitter %v may not be negative", l.Latency, l.Jitter)
	}
	if l.Jitter > l.Latency {
		bad("Link.Jitter %v exceeds Link.Latency %v: a packet cannot arrive before it was sent", l.Jitter, l.Latency)
	}
	if l.Bandwidth < 0 || l.MTU < 0 || l.CutAfter < 0 {
		bad("Link.Bandwidth %d, Link.MTU %d and Link.CutAfter %d may not be negative", l.Bandwidth, l.MTU, l.CutAfter)
	}
	if l.MTU > maxPacket {
		bad("Link.MTU is %d: a packet has at most %d bytes", l.MTU, maxPacket)
	}
	return errors.Join(errs...)
}

// mtu is the largest packet that passes.
func (l *Link) mtu() int {
	if l.MTU == 0 {
		return maxPacket
	}
	return l.MTU
}

// random reports whether what becomes of a packet has to be drawn at all. A cluster of 1,000 has a million links, and those
// that need neither random numbers nor a queue take no memory.
func (l *Link) random() bool {
	return l.Jitter > 0 || l.Loss > 0 || l.Duplicate > 0 || l.Reorder > 0
}

// delay turns a random number into a one-way delay.
func (l *Link) delay(u uint64) time.Duration {
	return l.Latency - l.Jitter + time.Duration(unit(u)*float64(2*l.Jitter))
}

// outcome is what becomes of one packet.
type outcome struct {
	lost   bool
	copies int              // 1, or 2 if duplicated
	delays [2]time.Duration // of each copy
}

// dice are the faults of one link, or of one direction of a stream: pure, and the same for the same seed.
type dice struct {
	pcg rand.PCG
}

// newDice seeds by the members' names, not by the order in which they came.
func newDice(seed uint64, from, to *host, use uint64) dice {
	d := dice{pcg: *rand.NewPCG(seed^from.hash, to.hash+use)}
	d.pcg.Uint64() // neighbouring seeds begin alike
	return d
}

// packet draws what becomes of the next packet. It takes the same six numbers whatever l says, so that a change of one fault
// leaves the decisions about the others as they were.
func (d *dice) packet(l *Link) outcome {
	lost, twice, held := unit(d.pcg.Uint64()), unit(d.pcg.Uint64()), unit(d.pcg.Uint64())
	first, second, extra := d.pcg.Uint64(), d.pcg.Uint64(), unit(d.pcg.Uint64())
	o := outcome{lost: lost < l.Loss, copies: 1, delays: [2]time.Duration{l.delay(first), l.delay(second)}}
	if twice < l.Duplicate {
		o.copies = 2
	}
	if held < l.Reorder {
		// Invariant: the extra delay exceeds 2·Jitter, the most by which two packets sent together arrive apart,
		// because Jitter ≤ Latency.
		o.delays[0] += time.Duration((1 + extra) * float64(l.Latency+l.Jitter+reorderHeadroom))
	}
	return o
}

// segment draws the delay of the next piece of a stream, retransmissions included.
func (d *dice) segment(l *Link) time.Duration {
	delay := l.delay(d.pcg.Uint64())
	timeout := retransmit
	for range maxRetransmits {
		if unit(d.pcg.Uint64()) >= l.Loss {
			break
		}
		delay += timeout
		timeout *= 2
	}
	return delay
}

// unit maps a random number to [0, 1).
func unit(u uint64) float64 {
	return float64(u>>11) / (1 << 53)
}
