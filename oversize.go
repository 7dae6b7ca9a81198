package starling

import "github.com/hashicorp/memberlist"

// MaxGossipPacketSize is the packet size that Starling and its peers in the field use by default, in bytes. An encoded
// Part of at most half of it travels in packets, a larger one in streams.
const MaxGossipPacketSize = 1400

// What the packets of memberlist may be.
const (
	minPacketSize = 512
	maxPacketSize = 1<<16 - 1 - 48 // what fits a UDP datagram, headers of IPv6 and UDP aside
)

// packetSlack is by how much memberlist may exceed UDPBufferSize: it forgets its checksum.
const packetSlack = 64

// What memberlist puts around a user message in a packet.
const (
	packetTypeByte   = 1
	packetCRC        = 5
	packetCompound   = 2 + 2  // header, and the length of one message
	packetEncryption = 1 + 29 // version, nonce and tag
	packetLabel      = 2      // magic and length, before the label itself
)

// packetRoom returns how many bytes of a user message fit into one packet of a memberlist so configured.
func packetRoom(c *memberlist.Config) int {
	room := c.UDPBufferSize - packetTypeByte - packetCRC - packetCompound
	if c.EncryptionEnabled() {
		room -= packetEncryption
	}
	if c.Label != "" {
		room -= packetLabel + len(c.Label)
	}
	return room
}

// gossipLimit is the size rule: the largest encoded Part that travels in packets. Half a packet leaves room for another
// and for membership, which goes first; and whatever the overhead, the part must fit.
func gossipLimit(c *memberlist.Config) int {
	return min(MaxGossipPacketSize/2, c.UDPBufferSize/2, packetRoom(c))
}
