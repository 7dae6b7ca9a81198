package starlingtest

// Counters is what one member, or the whole network, has sent, received and lost so far. It is a copy, exact for the moment at
// which it was taken.
//
// Invariant, over the whole network: Sent.Packets + Duplicated = Received.Packets + Dropped.Total() + those on their way.
type Counters struct {
	// Sent counts what the member handed to the network: packets, also those that are lost later; streams that it dialled
	// with success; bytes that its streams accepted.
	Sent Traffic

	// Received counts packets that reached the member's buffer, streams that others dialled to it, and stream bytes that it
	// has read.
	Received Traffic

	// Duplicated counts the second copies of packets that this member sent, which Link.Duplicate made.
	Duplicated uint64

	// Dropped counts packets that were dropped, by reason.
	Dropped Drops

	// DialsFailed counts the member's dials that timed out, were refused or met its own shutdown.
	DialsFailed uint64

	// StreamsReset counts the member's ends of streams that a crash or a cut has broken.
	StreamsReset uint64

	// BacklogFull counts attempts to dial this member that found its StreamBacklog full. One dial makes one each second.
	BacklogFull uint64
}

// Traffic is an amount of packets and streams. Bytes are those of packets and streams themselves, without any headers of a
// network.
type Traffic struct {
	Packets     uint64 // number of packets
	PacketBytes uint64 // bytes in them
	Streams     uint64 // number of streams
	StreamBytes uint64 // bytes in them
}

// Drops is how many packets were dropped, by reason. Loss, Partition, Size and Unknown count for the sender, Down for the
// member that was down, Buffer for the sender if the link was full and for the receiver if its buffer was.
type Drops struct {
	Loss      uint64 // by Link.Loss
	Partition uint64 // by Partition, Block or Link.BlockPackets
	Size      uint64 // larger than Link.MTU
	Buffer    uint64 // the link's queue, or the receiver's buffer, was full
	Down      uint64 // the sender or the receiver had crashed or was shut down
	Unknown   uint64 // nobody has the address that they were sent to
}

// Total returns the sum over all reasons.
func (d Drops) Total() uint64 {
	return d.Loss + d.Partition + d.Size + d.Buffer + d.Down + d.Unknown
}

func (c *Counters) add(o Counters) {
	c.Sent.add(o.Sent)
	c.Received.add(o.Received)
	c.Duplicated += o.Duplicated
	c.Dropped.add(o.Dropped)
	c.DialsFailed += o.DialsFailed
	c.StreamsReset += o.StreamsReset
	c.BacklogFull += o.BacklogFull
}

func (t *Traffic) add(o Traffic) {
	t.Packets += o.Packets
	t.PacketBytes += o.PacketBytes
	t.Streams += o.Streams
	t.StreamBytes += o.StreamBytes
}

func (d *Drops) add(o Drops) {
	d.Loss += o.Loss
	d.Partition += o.Partition
	d.Size += o.Size
	d.Buffer += o.Buffer
	d.Down += o.Down
	d.Unknown += o.Unknown
}

// Counters returns the counters of one member, over all its runs. Unknown names are an error.
func (n *Network) Counters(name string) (Counters, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.hosts.named(name)
	if err != nil {
		return Counters{}, err
	}
	return h.counters, nil
}

// Total returns the sum of all members' counters, taken at one moment.
func (n *Network) Total() Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum Counters
	for _, h := range n.hosts.byName {
		sum.add(h.counters)
	}
	return sum
}
