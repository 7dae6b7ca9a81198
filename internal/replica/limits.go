package replica

import "time"

// Limits are the bounds that a replica keeps.
type Limits struct {
	Gossip      int           // the largest encoded part that travels in packets, in bytes
	Packet      int           // the largest frame that fits a packet
	Message     int           // the largest encoded message
	GossipEvery time.Duration // between the two copies of a part that a foreign member gets
	Linger      time.Duration // how long a message may wait for company

	Bytes int           // of all that is kept, as store charges it
	Age   time.Duration // of what is kept

	QueueMessages int // accepted and not done
	QueueBytes    int
}
