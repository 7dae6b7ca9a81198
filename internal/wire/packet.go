package wire

import "time"

// Packet is a frame for one member, in two pieces. Nobody may change their bytes: Tail is often shared with other packets.
type Packet struct {
	To         Peer
	Head, Tail []byte
	Age        time.Duration // not 0: Head is a kept part, which is that old by now
}

// Len is the length of the frame.
func (p *Packet) Len() int { return len(p.Head) + len(p.Tail) }

// Frame returns the frame in memory of its own.
func (p *Packet) Frame() []byte { return p.Append(make([]byte, 0, p.Len())) }

// Append appends the frame.
func (p *Packet) Append(b []byte) []byte {
	if p.Age > 0 {
		return AppendRestamped(b, p.Head, p.Age)
	}
	return append(append(b, p.Head...), p.Tail...)
}

// Stream is a frame for one member that goes by stream.
type Stream struct {
	To   Peer
	Size int // about as many bytes as travel

	// Bulk is true for pieces of large messages and of states, which small frames do not wait behind.
	Bulk bool

	// Encode makes the frame when it leaves, on the goroutine that sends it: a large part waits without a copy for each member.
	Encode func(now time.Time) []byte

	// Written is called, as the replica is, when the stream was written or could not be; nil: nobody wants to know.
	Written func(ok bool, now time.Time)

	// Moved is called, as the replica is, whenever the receiver says that it has read more of the stream, before Written or after it, and perhaps
	// never; nil: nobody wants to know.
	Moved func(now time.Time)
}

// RawStream returns a stream of a frame that is encoded already.
func RawStream(to Peer, frame []byte) Stream {
	return Stream{To: to, Size: len(frame), Encode: func(time.Time) []byte { return frame }}
}
