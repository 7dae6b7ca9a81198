package starlingtest_test

import (
	"testing"

	"github.com/starling-go/starling/starlingtest"
)

// BenchmarkPacket is the network's own cost of one packet of 1,400 bytes: sent, decided, handed over, read.
func BenchmarkPacket(b *testing.B) {
	for name, l := range map[string]starlingtest.Link{
		"perfect": {}, "lossy": {Loss: 0.05, Duplicate: 0.05}, "typical": typical,
	} {
		b.Run(name, func(b *testing.B) {
			n := starlingtest.NewNetwork(1)
			defer n.Close()
			x, y := two(b, n, l)
			to, payload := y.Addr().String(), make([]byte, 1400)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.WriteTo(payload, to); err != nil {
					b.Fatal(err)
				}
				select {
				case <-y.PacketCh():
				default:
				}
			}
		})
	}
}
