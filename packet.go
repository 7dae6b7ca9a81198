package starling

import "time"

// packet is a frame for one member, in two pieces. Nobody owns their bytes, and nobody writes to them: tail is often that of
// other packets too.
type packet struct {
	to         Member
	head, tail []byte
	age        time.Duration // not 0: the frame is a kept part, and is so old
}

func (p *packet) len() int { return len(p.head) + len(p.tail) }

func (p *packet) frame() []byte { return p.append(make([]byte, 0, p.len())) }

// append appends the frame.
func (p *packet) append(b []byte) []byte {
	if p.age > 0 {
		return appendRestamped(b, p.head, p.age)
	}
	return append(append(b, p.head...), p.tail...)
}
