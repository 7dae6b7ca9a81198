package starlingtest

import (
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// send accepts one packet, unless its sender has shut down or the address is none. payload belongs to the network.
func (n *Network) send(t *Transport, payload []byte, addr string, now time.Time) error {
	to := n.route(addr)
	if t.state == shutDown {
		return net.ErrClosed
	}
	if to == nil {
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return err
		}
	}
	c := &t.host.counters
	c.Sent.Packets++
	c.Sent.PacketBytes += uint64(len(payload))
	switch {
	case t.state == crashed:
		c.Dropped.Down++
	case to == nil:
		c.Dropped.Unknown++
	default:
		n.decide(t.host, to, payload, now)
	}
	return nil
}

// decide draws the fate of a packet and puts it on its way.
func (n *Network) decide(from, to *host, payload []byte, now time.Time) {
	drops := &from.counters.Dropped
	link := n.linkOf(from, to)
	if link.BlockPackets || n.severed(from, to) {
		drops.Partition++
		return
	}
	if len(payload) > link.mtu() {
		drops.Size++
		return
	}
	f := fate{copies: 1, delays: [2]time.Duration{link.Latency}}
	if link.random() {
		f = n.path(from, to).dice.packet(link)
	}
	if f.lost {
		drops.Loss++
		return
	}
	from.counters.Duplicated += uint64(f.copies - 1)
	for i := range f.copies {
		if i > 0 {
			payload = append([]byte(nil), payload...) // memberlist may decrypt in place
		}
		left, ok := n.enqueue(link, from, to, len(payload), now)
		if !ok || to.inFlight >= maxInFlight {
			drops.Buffer++
			continue
		}
		n.carry(from, to, &memberlist.Packet{Buf: payload, From: from.udp}, left.Add(f.delays[i]), now)
	}
	n.schedule(now)
}

// enqueue returns when a packet has left through the bandwidth of its link, unless too much is queued before it.
func (n *Network) enqueue(link *Link, from, to *host, size int, now time.Time) (left time.Time, ok bool) {
	if link.Bandwidth == 0 {
		return now, true
	}
	p := n.path(from, to)
	if p.idle.Sub(now) >= link.transmission(linkBuffer) {
		return now, false
	}
	return p.transmit(link, size, now), true
}

// transmit queues for the bandwidth and returns when the last byte has left.
func (p *path) transmit(link *Link, size int, now time.Time) time.Time {
	p.idle = later(p.idle, now).Add(link.transmission(size))
	return p.idle
}

func (n *Network) carry(from, to *host, packet *memberlist.Packet, arrival, now time.Time) {
	if !arrival.After(now) {
		n.deliver(from, to, packet, now)
		return
	}
	n.flight.push(parcel{arrival: arrival, from: from, to: to, packet: packet})
}

// deliver puts a packet that has arrived into the buffer of its receiver.
func (n *Network) deliver(from, to *host, packet *memberlist.Packet, now time.Time) {
	packet.Timestamp = now
	c := &to.counters
	switch {
	case to.running == nil:
		c.Dropped.Down++
	case n.severed(from, to):
		from.counters.Dropped.Partition++
	case to.running.full():
		c.Dropped.Buffer++
	default:
		n.arrive(from, to, 0, packet.Buf)
		to.running.buffer(packet)
		c.Received.Packets++
		c.Received.PacketBytes += uint64(len(packet.Buf))
	}
}
