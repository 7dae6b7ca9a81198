package transport

import "sync/atomic"

// Counts is what a transport has counted since it was made. Bytes are those of packets and streams themselves, without the
// headers of IP, UDP and TCP.
type Counts struct {
	PacketsSent         uint64 // packets given to the network; it may still lose them
	PacketsReceived     uint64 // packets that came from an allowed source
	PacketBytesSent     uint64 // bytes in PacketsSent
	PacketBytesReceived uint64 // bytes in PacketsReceived
	PacketsRefused      uint64 // packets from outside the allowed networks, or of unknown source
	PacketsDropped      uint64 // received packets that nobody got: empty, or not yet taken when Shutdown began
	PacketErrors        uint64 // packets that could not be written, and failed reads of the socket
	StreamsDialed       uint64 // connections opened to other members, for one stream or for many
	StreamsReused       uint64 // streams to other members on a connection that an earlier one had opened
	StreamsAccepted     uint64 // connections opened by other members, from an allowed source
	StreamsRefused      uint64 // streams from outside the allowed networks, or of unknown source
	StreamErrors        uint64 // dials that failed, failed accepts, and streams that took no deadline
	StreamBytesSent     uint64 // bytes written to streams, dialled and accepted
	StreamBytesReceived uint64 // bytes read from streams, dialled and accepted
	PacketsUnsent       uint64 // with TLS: of PacketsSent, those that no connection took: there was none, or too much waited for it
	TLSLinks            uint64 // with TLS: connections opened to other members for packets
	TLSRefused          uint64 // with TLS: connections, accepted and dialled, whose handshake failed on either side
}

// counters are the same while they are being counted.
type counters struct {
	packetsSent         atomic.Uint64
	packetsReceived     atomic.Uint64
	packetBytesSent     atomic.Uint64
	packetBytesReceived atomic.Uint64
	packetsRefused      atomic.Uint64
	packetsDropped      atomic.Uint64
	packetErrors        atomic.Uint64
	streamsDialed       atomic.Uint64
	streamsReused       atomic.Uint64
	streamsAccepted     atomic.Uint64
	streamsRefused      atomic.Uint64
	streamErrors        atomic.Uint64
	streamBytesSent     atomic.Uint64
	streamBytesReceived atomic.Uint64
	packetsUnsent       atomic.Uint64
	tlsLinks            atomic.Uint64
	tlsRefused          atomic.Uint64
}

// sent counts a packet of n bytes that was handed to the network, or an attempt that failed.
func (c *counters) sent(n int, err error) {
	if err != nil {
		c.packetErrors.Add(1)
		return
	}
	c.packetsSent.Add(1)
	c.packetBytesSent.Add(uint64(n))
}

// snapshot reads the counters, one after the other.
func (c *counters) snapshot() Counts {
	return Counts{
		PacketsSent:         c.packetsSent.Load(),
		PacketsReceived:     c.packetsReceived.Load(),
		PacketBytesSent:     c.packetBytesSent.Load(),
		PacketBytesReceived: c.packetBytesReceived.Load(),
		PacketsRefused:      c.packetsRefused.Load(),
		PacketsDropped:      c.packetsDropped.Load(),
		PacketErrors:        c.packetErrors.Load(),
		StreamsDialed:       c.streamsDialed.Load(),
		StreamsReused:       c.streamsReused.Load(),
		StreamsAccepted:     c.streamsAccepted.Load(),
		StreamsRefused:      c.streamsRefused.Load(),
		StreamErrors:        c.streamErrors.Load(),
		StreamBytesSent:     c.streamBytesSent.Load(),
		StreamBytesReceived: c.streamBytesReceived.Load(),
		PacketsUnsent:       c.packetsUnsent.Load(),
		TLSLinks:            c.tlsLinks.Load(),
		TLSRefused:          c.tlsRefused.Load(),
	}
}
