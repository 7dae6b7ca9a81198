package spread

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// TestFlow: the window grows with what is done, keeps its bounds, and reopens.
func TestFlow(t *testing.T) {
	const packet = 1000
	f := newFlow(packet)
	for f.Open() {
		f.spend(packet)
	}
	if f.Sent != windowFirst*packet {
		t.Errorf("%d bytes fill the first window", f.Sent)
	}
	if f.refund(packet); !f.Open() || f.Window <= windowFirst*packet {
		t.Errorf("it does not reopen, or not grow: %+v", f)
	}
	for range 100_000 {
		f.spend(packet)
		f.refund(packet)
	}
	if f.Window != windowMax*packet {
		t.Errorf("it grew to %d packets", f.Window/packet)
	}
	for i := range 100 {
		f.timedOut(start.Add(time.Duration(i+1)*time.Second), time.Second)
	}
	if f.Window != windowMin*packet {
		t.Errorf("it shrank to %d packets", f.Window/packet)
	}
	f.spend(100 * packet)
	if f.refund(100 * packet); f.Sent != windowFirst*packet-packet {
		t.Errorf("%d bytes are on their way", f.Sent)
	}
	f.Sent = 0
	if f.spend(1 << 30); f.Open() {
		t.Error("a second batch beyond the window")
	}
	if f.refund(1 << 30); !f.Open() {
		t.Error("one batch may always leave")
	}
}

// TestFlowHalves: the window halves at most once per time-out, and gets back one halving for each that was spurious.
func TestFlowHalves(t *testing.T) {
	const packet = 1000
	f := newFlow(packet)
	f.Window = windowMax * packet
	f.timedOut(start, time.Second)
	f.timedOut(start.Add(999*time.Millisecond), time.Second)
	if f.Window != windowMax*packet/2 {
		t.Errorf("%d packets after one time-out", f.Window/packet)
	}
	for range 2 {
		if f.undoTimeout(); f.Window != windowMax*packet {
			t.Errorf("%d packets when the time-out turned out to be none", f.Window/packet)
		}
	}
	for i := range 3 {
		f.timedOut(start.Add(time.Duration(i+1)*time.Second), time.Second)
	}
	if f.undoTimeout(); f.Window != windowMax*packet/4 {
		t.Errorf("%d packets when one of three time-outs was none", f.Window/packet)
	}
}

// TestSpuriousTimeout: an answer to an earlier try gives the window back what the time-out took; one to the last does not.
func TestSpuriousTimeout(t *testing.T) {
	for try, want := range map[uint64]int{1: windowFirst, 2: windowFirst / 2} {
		f := newTestNet(2, nil)
		root := f.root()
		b := f.startBatch()
		f.now, _ = root.Next()
		root.Tick(f.now)
		if got := root.Flow.Window; got != windowFirst/2*testPacket {
			t.Fatalf("a window of %d bytes after the time-out", got)
		}
		own := Position(f.members[1].Name)
		root.Report(f.members[1].ID, wire.Report{ID: b.ID, Done: true, Count: 1, Sum: own, Try: try}, f.now)
		if got := root.Flow.Window / testPacket; got != want {
			t.Errorf("an answer to try %d leaves a window of %d packets, want %d", try, got, want)
		}
	}
}
