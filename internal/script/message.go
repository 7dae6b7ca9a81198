package script

import (
	"encoding/binary"
	"time"
)

// MinSize is the smallest message: it carries who broadcast it and its number.
const MinSize = 20

// message is one that a process broadcast.
type message struct {
	number  uint64 // of what the process accepted
	channel int
	size    int
	born    time.Duration
}

// Number returns the number that a message carries.
func Number(data []byte) uint64 { return binary.BigEndian.Uint64(data[8:]) }

// payload is the message of that number: whoever reads it can tell whether it is whole.
func payload(origin, seq uint64, size int) []byte {
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint64(b, origin)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for i := len(b); i < size; i++ {
		b = append(b, byte(uint64(i)*(seq+1)))
	}
	return b
}
