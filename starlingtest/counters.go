package starlingtest

// Counters is what one member, or the whole network, has sent, received and lost so far.
//
// Invariant, over the whole network: Sent.Packets + Duplicated = Received.Packets + Dropped.Total() + those on their way.
type Counters struct {
	// Sent counts what the member handed to the network: packets, also those that are lost later; streams it dialled
	// with success; bytes its streams accepted.
	Sent Traffic

	// Received counts packets that reached the member's buffer, streams it was offered, and stream bytes it has read.
	Received Traffic

	// Duplicated counts the second copies of packets this member sent.
	Duplicated uint64

	// Dropped counts packets where they died.
	Dropped Drops

	// DialsFailed counts the member's dials that timed out, were refused or met its own shutdown.
	DialsFailed uint64

	// StreamsReset counts the member's ends of streams that a crash or a cut has broken.
	StreamsReset uint64

	// BacklogFull counts how often somebody who dialled this member found its backlog full, each try counted.
	BacklogFull uint64
}

// Traffic is an amount of packets and streams, and their payload in bytes.
type Traffic struct {
	Packets, PacketBytes uint64
	Streams, StreamBytes uint64
}

// Drops is a number of dropped packets by reason. Loss, Partition, Size and Unknown count for the sender, Down for the
// member that was down, Buffer for the sender if the link was full and for the receiver if its buffer was.
type Drops struct {
	Loss      uint64 // Link.Loss
	Partition uint64 // Partition, Block or Link.BlockPackets
	Size      uint64 // larger than Link.MTU
	Buffer    uint64 // the link's queue, or the receiver's buffer, was full
	Down      uint64 // the sender or the receiver has crashed or shut down
	Unknown   uint64 // nobody has that address
}

// Total is the sum over all reasons.
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

// Counters returns the counters of one member, over all its incarnations. Unknown names are an error.
func (n *Network) Counters(name string) (Counters, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.host(name)
	if err != nil {
		return Counters{}, err
	}
	return h.counters, nil
}

// Total returns the sum of all members' counters.
func (n *Network) Total() Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum Counters
	for _, h := range n.hosts {
		sum.add(h.counters)
	}
	return sum
}
