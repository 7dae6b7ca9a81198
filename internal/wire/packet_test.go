package wire

import (
	"testing"
	"time"
)

// TestPacket: a packet's frame is its two pieces, and a kept part gets the age it has by now.
func TestPacket(t *testing.T) {
	p := Packet{Head: []byte("head "), Tail: []byte("tail")}
	if string(p.Frame()) != "head tail" || p.Len() != 9 || string(p.Append([]byte("a "))) != "a head tail" {
		t.Errorf("%q, %d bytes", p.Frame(), p.Len())
	}
	p = Packet{Head: testPart(), Age: time.Minute}
	got, err := ParsePart(p.Frame())
	if err != nil || got.Age != time.Minute || len(p.Frame()) != p.Len() {
		t.Errorf("%+v, %v", got, err)
	}
	if got := RawStream(Peer{}, p.Head); got.Size != len(p.Head) || &got.Encode(time.Time{})[0] != &p.Head[0] {
		t.Errorf("a stream of %d bytes, or of another frame", got.Size)
	}
}
