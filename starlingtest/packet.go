package starlingtest

import (
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// send accepts one packet, unless its sender has shut down or the address is none. payload belongs to the network.
func (t *Transport) send(payload []byte, addr string, now time.Time) error {
	to := t.net.hosts.at(addr)
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
		t.carry(to, payload, now)
	}
	return nil
}

// carry draws what becomes of a packet. Unless it is lost, it is put on its way, and delivered if it arrives at once.
func (t *Transport) carry(to *host, payload []byte, now time.Time) {
	n, from := t.net, t.host
	drops := &from.counters.Dropped
	link := n.links.of(from, to)
	if link.BlockPackets || n.partitions.severed(from, to) {
		drops.Partition++
		return
	}
	if len(payload) > link.mtu() {
		drops.Size++
		return
	}
	o := outcome{copies: 1, delays: [2]time.Duration{link.Latency}}
	if link.random() {
		o = n.links.path(from, to).dice.packet(link)
	}
	if o.lost {
		drops.Loss++
		return
	}
	from.counters.Duplicated += uint64(o.copies - 1)
	for i := range o.copies {
		if i > 0 {
			payload = append([]byte(nil), payload...) // memberlist may decrypt in place
		}
		if to.inTransit >= maxInTransit {
			drops.Buffer++
			continue
		}
		to.inTransit++
		ld := &load{
			from: from, to: to, size: len(payload), delay: o.delays[i],
			packet: memberlist.Packet{Buf: payload, From: from.udp},
		}
		ld.advance(n, now)
	}
	n.transit.schedule(now)
}

// deliver puts a packet that has arrived into the buffer of its receiver.
func (ld *load) deliver(n *Network, now time.Time) {
	p := &ld.packet
	p.Timestamp = now
	t, c := ld.to.running, &ld.to.counters
	switch {
	case t == nil:
		ld.drop(&c.Dropped.Down)
	case n.partitions.severed(ld.from, ld.to):
		ld.drop(&ld.from.counters.Dropped.Partition)
	case t.full():
		ld.drop(&c.Dropped.Buffer)
	default:
		ld.to.inTransit--
		n.taps.arrived(ld.from, ld.to, 0, p.Buf)
		t.buffer(p)
		c.Received.Packets++
		c.Received.PacketBytes += uint64(ld.size)
	}
}

// drop counts a packet that is lost on its way.
func (ld *load) drop(reason *uint64) {
	ld.to.inTransit--
	*reason++
}
