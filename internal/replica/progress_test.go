package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/store"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// takeProgress takes what was told of progress, as "member/seq done of total state".
func takeProgress(r *Replica) (texts []string) {
	for _, p := range r.out.Progress {
		texts = append(texts, fmt.Sprintf("%s/%d %d of %d %d", p.Member.Name, p.Seq, p.Done, p.Total, p.State))
	}
	r.out.Progress = nil
	return texts
}

// tells fails the test unless exactly this was told of progress since the last call.
func tells(t *testing.T, r *Replica, what string, want ...string) {
	t.Helper()
	if got := takeProgress(r); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// TestProgressArriving: what arrives is told piece by piece, once there is somebody who wants to know, in whatever order, on a FIFO
// channel too.
func TestProgressArriving(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		r := testReplica(testLimits(), 2)
		ch := openChannel(r, Channel{Key: "ch", FIFO: fifo, FIFOHold: time.Minute})
		told(t, r, 1, 0, start)
		frames := piecesOf(someData(3*wire.MinChunk+5), 1)
		receivePart(t, r, frames[2], wire.RouteStream, start)
		tells(t, r, "unwatched")
		r.Observer.Watch(ch, true)
		receivePart(t, r, frames[3], wire.RouteStream, start)
		tells(t, r, "the second", "self/4 1029 of 3077 0")
		receivePart(t, r, frames[3], wire.RouteStream, start)
		tells(t, r, "again")
		receivePart(t, r, frames[0], wire.RouteStream, start)
		tells(t, r, "the third", "self/4 2053 of 3077 0")
		receivePart(t, r, frames[1], wire.RouteStream, start)
		tells(t, r, "the last", "self/4 3077 of 3077 1")
		receivePart(t, r, partOf("ch", []byte("small"), wire.PartID{Origin: 101, Seq: 5}, 4, 0), wire.RouteStream, start)
		handleAll(r, ch, start)
		receivePart(t, r, frames[1], wire.RouteStream, start)
		r.Observer.sweep(start)
		tells(t, r, "and nothing more")
		if len(r.Observer.arriving) > 0 {
			t.Error("it is remembered")
		}
	}
}

// TestProgressNotOwed: of a message that is not owed to us nothing is told, nor while it is not known whether it is, but for its end.
func TestProgressNotOwed(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	r.Observer.Watch(ch, true)
	frames := append(piecesOf(someData(2*wire.MinChunk), 1), piecesOf(someData(3*wire.MinChunk), 3)...)
	receivePart(t, r, frames[2], wire.RouteStream, start)
	tells(t, r, "no baseline")
	receivePart(t, r, frames[0], wire.RouteStream, start)
	receivePart(t, r, frames[1], wire.RouteStream, start)
	tells(t, r, "complete", "self/2 2048 of 2048 1")
	told(t, r, 4, 5, start)
	receivePart(t, r, frames[3], wire.RouteStream, start)
	receivePart(t, r, frames[4], wire.RouteStream, start)
	tells(t, r, "from before the baseline")
}

// TestProgressLost: what will never be complete ends, when a piece is given up, and at the latest with its age.
func TestProgressLost(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	r.Observer.Watch(ch, true)
	told(t, r, 1, 0, start)
	for _, first := range []uint64{1, 4} {
		frames := piecesOf(someData(3*wire.MinChunk), first)
		receivePart(t, r, frames[0], wire.RouteStream, start)
		receivePart(t, r, frames[2], wire.RouteStream, start)
	}
	takeProgress(r)
	r.intake.giveUp(r.roster.get(101), 2, 2, start)
	r.Tick(start)
	tells(t, r, "given up", "self/3 2048 of 3072 4")
	now := start
	for ; now.Sub(start) < 2*lim.Age && len(r.Observer.arriving) > 0; now = now.Add(100 * time.Millisecond) {
		r.Tick(now)
	}
	tells(t, r, "too old", "self/6 2048 of 3072 4")
	if took := now.Sub(start); took > lim.Age+2*sweepEvery {
		t.Errorf("it was lost after %v", took)
	}
	receivePart(t, r, piecesOf(someData(3*wire.MinChunk), 7)[0], wire.RouteStream, now)
	takeProgress(r)
	r.Observer.sweep(now.Add(lim.Age + time.Second)) // though nothing else has noticed
	tells(t, r, "much too old", "self/9 1024 of 3072 4")
}

// TestProgressEvicted: what history has no room for is not here any more, until it comes again.
func TestProgressEvicted(t *testing.T) {
	r := testReplica(testLimits(), 2)
	ch := testChannel(r, "ch")
	r.Observer.Watch(ch, true)
	told(t, r, 1, 0, start)
	frames := piecesOf(someData(3*wire.MinChunk), 1)
	receivePart(t, r, frames[0], wire.RouteStream, start)
	it := r.intake.history.Get(wire.PartID{Origin: 101, Seq: 1})
	for seq := uint64(100); it.Kept(); seq++ {
		filler := &store.Item{ID: wire.PartID{Origin: 102, Seq: seq}, Key: "none", Frame: make([]byte, 1000), Born: start.Add(time.Second)}
		r.intake.keep(filler, start)
	}
	takeProgress(r)
	receivePart(t, r, frames[1], wire.RouteStream, start)
	tells(t, r, "the first is gone", "self/3 1024 of 3072 0")
}

// TestProgressArrivingIsBounded: who begins many messages and ends none does not make us remember more than the bound.
func TestProgressArrivingIsBounded(t *testing.T) {
	lim := testLimits()
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	r.Observer.Watch(ch, true)
	told(t, r, 1, 0, start)
	c := wire.Chunk{Total: 2 * wire.MinChunk, Size: wire.MinChunk, Index: 1}
	body := wire.AppendChunk(wire.AppendBody(nil, "ch", make([]byte, wire.MinChunk)), c)
	r.intake.rebase(r.roster.get(102), 1, 0, start)
	for seq := uint64(2); seq < 2*maxArriving; seq += 2 {
		for _, origin := range []uint64{101, 102} {
			frame := wire.AppendIdentity(slices.Clone(body), wire.PartID{Origin: origin, Seq: seq}, 0, 0)
			receivePart(t, r, frame, wire.RouteStream, start)
		}
	}
	if len(r.Observer.arriving) != maxArriving {
		t.Errorf("%d messages are followed", len(r.Observer.arriving))
	}
	r.Observer.Watch(ch, false)
	if len(r.Observer.arriving) > 0 || r.Observer.watched != 0 {
		t.Error("followed although nobody wants to know")
	}
}

// TestProgressSending: a message of our own is told of from when it leaves, with what hops and digests tell, and ends for each member once.
func TestProgressSending(t *testing.T) {
	r := testReplica(testLimits(), 3)
	ch := testChannel(r, "ch")
	r.Observer.Watch(ch, true)
	if !say(r, ch, "", someData(2*wholeMost)) {
		t.Fatal("no room")
	}
	tells(t, r, "accepted")
	r.Sender.Pump(start)
	zero := takeProgress(r)
	slices.Sort(zero)
	if want := []string{"p1/8 0 of 262144 0", "p2/8 0 of 262144 0", "p3/8 0 of 262144 0"}; !slices.Equal(zero, want) {
		t.Errorf("left: told %q, want %q", zero, want)
	}
	digest := receipt.EncodeDigest(1, receipt.Digest{Top: 8, Known: 8, Held: []seqset.Span{{Lo: 1, Hi: 1}, {Lo: 7, Hi: 8}}})
	left := len(r.spreader.spread.Batches)
	for range 2 {
		receiveControl(t, r, testPeer(2), wire.BodyDigest, &starlingpb.Digest{Answer: true, Origins: []*starlingpb.OriginDigest{digest}}, start)
	}
	if left > 6 {
		t.Fatalf("%d pieces have left: the digest names none that has not", left)
	}
	tells(t, r, "a digest, of what has left", "p2/8 32768 of 262144 0")
	r.Change(testPeer(3), wire.Peer{}, start)
	tells(t, r, "gone", "p3/8 0 of 262144 2")
	confirmAll(r, start)
	ends := map[string]int{}
	for _, p := range r.out.Progress {
		if p.State != ProgressUnderWay {
			ends[fmt.Sprint(p.Member.Name, " ", p.Done, " ", p.State)]++
		}
	}
	if len(ends) != 2 || ends["p1 262144 1"] != 1 || ends["p2 262144 1"] != 1 {
		t.Errorf("ends: %v", ends)
	}
	if len(r.Observer.sending) > 0 {
		t.Error("it is remembered")
	}
}

// TestProgressMidway: whoever begins to watch a message that is under way is told how it stands with its next change, and nothing any more
// once nobody watches.
func TestProgressMidway(t *testing.T) {
	lim := testLimits()
	lim.QueueBytes = 8 << 20
	r := testReplica(lim, 2)
	ch := testChannel(r, "ch")
	if !say(r, ch, "", someData(20*maxPiece)) {
		t.Fatal("no room")
	}
	r.Sender.Pump(start)
	first := len(r.spreader.spread.Batches)
	confirmOnce(r, start)
	r.Sender.Pump(start)
	tells(t, r, "unwatched")
	r.Observer.Watch(ch, true)
	r.Sender.Pump(start)
	confirmOnce(r, start)
	r.Sender.Pump(start)
	most := map[string]int{}
	for _, p := range r.out.Progress {
		most[p.Member.Name] = max(most[p.Member.Name], p.Done)
	}
	if want := (first + 1) * maxPiece; most["p1"] < want || most["p2"] < want {
		t.Errorf("told of %v, want more than the %d pieces from before", most, first)
	}
	for range 2 {
		r.Observer.Watch(ch, false)
	}
	r.out.Progress = nil
	r.Observer.Watch(ch, true)
	confirmOnce(r, start)
	r.Sender.Pump(start)
	if len(r.Observer.sending) != 1 || len(r.out.Progress) < 4 || r.out.Progress[0].Done != 0 {
		t.Errorf("watched anew: %d followed, told %v", len(r.Observer.sending), r.out.Progress)
	}
	r.out.Progress = nil
	r.Observer.Watch(ch, false)
	confirmAll(r, start)
	tells(t, r, "unwatched again")
	if r.spreader.spread.Watch || r.Observer.watched != 0 {
		t.Error("the spread is still asked")
	}
}

// TestProgressForeign: a foreign member has nothing until the message was written to its connection, and then all of it.
func TestProgressForeign(t *testing.T) {
	for _, outcome := range []string{"written", "not written", "unwatched"} {
		r := testReplica(testLimits(), 0)
		r.Change(wire.Peer{}, wire.Peer{Name: "plain", Addr: testPeer(1).Addr}, start)
		ch := testChannel(r, "ch")
		r.Observer.Watch(ch, true)
		if !say(r, ch, "", someData(2*wholeMost)) {
			t.Fatal("no room")
		}
		r.Sender.Pump(start)
		tells(t, r, "left", "plain/8 0 of 262144 0")
		for _, s := range r.out.Streams {
			r.Observer.Watch(ch, outcome != "unwatched")
			wasWritten(s, outcome != "not written", start)
		}
		switch outcome {
		case "written":
			tells(t, r, outcome, "plain/8 262144 of 262144 1")
		case "not written":
			tells(t, r, outcome, "plain/8 0 of 262144 3")
		default:
			tells(t, r, outcome)
		}
	}
}
