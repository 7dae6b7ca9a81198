package starling

import "sync/atomic"

// Traffic counts what a member's transport has carried since it was made. Bytes are those of packets and streams
// themselves, without the headers of UDP, TCP and IP. The counters of one snapshot are read one after the other, so sums
// over them are exact only while nothing moves. A received packet with one user message goes straight to the member where there
// is no label, key or compression; all others but the dropped go to memberlist.
type Traffic struct {
	PacketsSent         uint64 // packets given to the network; it may still lose them
	PacketsReceived     uint64 // packets that came from an allowed source
	PacketBytesSent     uint64 // bytes in PacketsSent
	PacketBytesReceived uint64 // bytes in PacketsReceived
	PacketsRefused      uint64 // packets from outside the allowed networks, or of unknown source
	PacketsDropped      uint64 // received packets that went to nobody: empty, or caught by the shutdown
	PacketErrors        uint64 // packets that could not be written, and failed reads of the socket
	StreamsDialed       uint64 // streams opened to other members
	StreamsAccepted     uint64 // streams opened by other members, from an allowed source
	StreamsRefused      uint64 // streams from outside the allowed networks, or of unknown source
	StreamErrors        uint64 // dials that failed, failed accepts, and streams that took no deadline
	StreamBytesSent     uint64 // bytes written to streams, dialled and accepted
	StreamBytesReceived uint64 // bytes read from streams, dialled and accepted
}

// counters is Traffic while it is being counted.
type counters struct {
	packetsSent         atomic.Uint64
	packetsReceived     atomic.Uint64
	packetBytesSent     atomic.Uint64
	packetBytesReceived atomic.Uint64
	packetsRefused      atomic.Uint64
	packetsDropped      atomic.Uint64
	packetErrors        atomic.Uint64
	streamsDialed       atomic.Uint64
	streamsAccepted     atomic.Uint64
	streamsRefused      atomic.Uint64
	streamErrors        atomic.Uint64
	streamBytesSent     atomic.Uint64
	streamBytesReceived atomic.Uint64
}

// sent counts a packet of n bytes that was given to the network, or could not be.
func (c *counters) sent(n int, err error) {
	if err != nil {
		c.packetErrors.Add(1)
		return
	}
	c.packetsSent.Add(1)
	c.packetBytesSent.Add(uint64(n))
}

func (c *counters) snapshot() Traffic {
	return Traffic{
		PacketsSent:         c.packetsSent.Load(),
		PacketsReceived:     c.packetsReceived.Load(),
		PacketBytesSent:     c.packetBytesSent.Load(),
		PacketBytesReceived: c.packetBytesReceived.Load(),
		PacketsRefused:      c.packetsRefused.Load(),
		PacketsDropped:      c.packetsDropped.Load(),
		PacketErrors:        c.packetErrors.Load(),
		StreamsDialed:       c.streamsDialed.Load(),
		StreamsAccepted:     c.streamsAccepted.Load(),
		StreamsRefused:      c.streamsRefused.Load(),
		StreamErrors:        c.streamErrors.Load(),
		StreamBytesSent:     c.streamBytesSent.Load(),
		StreamBytesReceived: c.streamBytesReceived.Load(),
	}
}
