package starling

import (
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestMemoryOfHistory: what parts take is within a few times of what history counts for them, whatever came in the same packets:
// nothing else, repeats, announcements of parts that are none, or parts that are evicted before them.
func TestMemoryOfHistory(t *testing.T) {
	const kept = 1 << 20
	part := func(b []byte, key string, seq uint64, data int) []byte {
		frame := appendIdentity(appendBody(nil, key, make([]byte, data)), partID{2, seq}, 0, 0)
		return protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), frame)
	}
	for name, test := range map[string]struct {
		parts func(seq *uint64) []byte
		most  float64
	}{
		"all new": {func(seq *uint64) (b []byte) {
			for range 20 {
				*seq++
				b = part(b, "plain", *seq, 20)
			}
			return b
		}, 5},
		"all but one repeated": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 20)
			for range 19 {
				b = part(b, "plain", 1, 20)
			}
			return b
		}, 5},
		"all but one announced": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 1)
			for len(b) < 1300 {
				b = append(b, 5<<3|2, 0)
			}
			return b
		}, 5},
		"all but one of a channel that is not open": {func(seq *uint64) []byte {
			*seq++
			b := part(nil, "plain", *seq, 20)
			for range 19 {
				*seq++
				b = part(b, "nobody's", *seq, 20)
			}
			return b
		}, 6}, // each that is kept is a range of its own in the window
	} {
		before := heapInUse()
		n := newNode(0, 1, Retention{Bytes: kept, Age: time.Hour}, simEpoch)
		from := newNode(1, 2, Retention{Bytes: kept, Age: time.Hour}, simEpoch)
		n.change(Member{}, from.member, simEpoch)
		seq := uint64(0)
		for batch := range uint64(12_000) {
			now := simEpoch.Add(time.Duration(batch) * time.Millisecond)
			content := spreadContent(batchID{2, batch + 1}, position(n.member.Name)+1, 0, test.parts(&seq))
			if err := n.receive(frameControl(sender{id: 2}, bodySpread, content), now); err != nil {
				t.Fatal(err)
			}
			n.pump(now)
			n.outputs()
		}
		if times := float64(heapInUse()-before) / float64(n.r.history.bytes()); times > test.most || n.r.history.bytes() < kept/2 {
			t.Errorf("%s: %.1f bytes for each of the %d that history counts", name, times, n.r.history.bytes())
		}
		runtime.KeepAlive(n)
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
