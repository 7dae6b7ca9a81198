package starling

import "testing"

// BenchmarkReplicaBroadcast is Broadcast below the lock, without the encoding of the message: what the protocol itself costs.
func BenchmarkReplicaBroadcast(b *testing.B) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "bench")
	data := make([]byte, 200)
	b.ReportAllocs()
	queued := 0
	for b.Loop() {
		ch.say(r, "", data)
		if queued++; queued == 64 {
			b.StopTimer()
			r.confirmAll(dawn)
			queued = 0
			b.StartTimer()
		}
	}
}
