package starling

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hashicorp/memberlist"
)

// bare is a broadcast for memberlist's queue as a tutorial writes it.
type bare struct {
	frame    []byte
	finished *int
}

func (b bare) Message() []byte                       { return b.frame }
func (b bare) Finished()                             { *b.finished++ }
func (b bare) Invalidates(memberlist.Broadcast) bool { return false }
func (b bare) UniqueBroadcast()                      {}

// idReuse queues and sends so that memberlist's queue runs empty while a message is between two of its transmissions: its
// ids then begin again, and the next message of the same length gets the same one. It returns how often the first was sent.
func idReuse(push func(frame []byte), next func(limit int) [][]byte) (transmissions int) {
	first, second := []byte("first!"), []byte("second")
	count := func(frames [][]byte) {
		for _, f := range frames {
			if bytes.Equal(f, first) {
				transmissions++
			}
		}
	}
	push(first)
	count(next(len(first))) // the tree is empty for a moment
	push(second)
	for range 50 {
		count(next(len(first))) // room for one: the fresher goes first, to where the other is
	}
	return transmissions
}

// TestBareQueueLoses documents what gossipQueue's pin is for. When this test fails, memberlist has been mended: take the pin
// out, and this test.
func TestBareQueueLoses(t *testing.T) {
	finished := 0
	q := &memberlist.TransmitLimitedQueue{NumNodes: func() int { return 3 }, RetransmitMult: 4}
	n := idReuse(
		func(frame []byte) { q.QueueBroadcast(bare{frame, &finished}) },
		func(limit int) [][]byte { return q.GetBroadcasts(0, limit) },
	)
	if n != 1 || finished != 1 {
		t.Errorf("memberlist's queue sent the first message %d times and finished %d messages; it used to send it once, and finish one", n, finished)
	}
}

// TestQueueDoesNotLose: the same with ours: each is sent as often as it should be, and finished.
func TestQueueDoesNotLose(t *testing.T) {
	finished := map[string]int{}
	q := newGossipQueue(100, 4, func() int { return 3 }, func(it *item) { finished[string(it.frame)]++ })
	n := idReuse(
		func(frame []byte) { q.push(new(entry), &item{frame: frame}) },
		func(limit int) [][]byte { return q.next(0, limit) },
	)
	if n != 4 || finished["first!"] != 1 || finished["second"] != 1 {
		t.Errorf("sent the first message %d times, finished %v", n, finished)
	}
}

// TestQueueBursts: the loss as users meet it, in bursts of messages of one length, with packets that hold several.
func TestQueueBursts(t *testing.T) {
	rng := seeded(t)
	sent := map[string]int{}
	q := newGossipQueue(1000, 4, func() int { return 3 }, func(*item) {})
	for burst := range 300 {
		for i := range 1 + rng.IntN(5) {
			frame := fmt.Appendf(nil, "%05d %05d", burst, i)
			sent[string(frame)] = 0
			q.push(new(entry), &item{frame: frame})
		}
		for range rng.IntN(6) {
			for _, f := range q.next(3, 40) {
				sent[string(f)]++
			}
		}
	}
	for q.messages > 0 {
		for _, f := range q.next(3, 1400) {
			sent[string(f)]++
		}
	}
	for frame, n := range sent {
		if n != 4 {
			t.Errorf("%s was sent %d times, want 4", frame, n)
		}
	}
}

// TestQueueSlots: names are used again, a full queue refuses, and what is refused costs nothing.
func TestQueueSlots(t *testing.T) {
	finished := 0
	q := newGossipQueue(3, 1, func() int { return 1 }, func(*item) { finished++ })
	for round := range 10 {
		var entries [3]entry
		for i := range entries {
			if !q.push(&entries[i], &item{frame: []byte{byte(round), byte(i)}}) {
				t.Fatalf("round %d: refused with %d of 3 slots taken", round, i)
			}
		}
		if !q.full() || q.push(new(entry), &item{}) || q.messages != 3 || q.bytes != 6 {
			t.Fatalf("full: %d messages, %d bytes", q.messages, q.bytes)
		}
		if round%2 == 0 {
			q.next(3, 1400) // one transmission is enough: all finish
		} else {
			for i := range entries {
				entries[i].done()
			}
		}
		if q.messages != 0 || q.bytes != 0 || len(q.free) != 3 {
			t.Fatalf("round %d: %d messages, %d bytes, %d slots free", round, q.messages, q.bytes, len(q.free))
		}
	}
	if q.used != 3 || finished != 15 {
		t.Errorf("%d slots were named, %d parts finished", q.used, finished)
	}
	if n := q.queue.NumQueued(); n > 4 {
		t.Errorf("memberlist's queue holds %d broadcasts", n)
	}
}

// TestQueueDone: a part that is done is not sent any more, nor finished by the queue.
func TestQueueDone(t *testing.T) {
	q := newGossipQueue(10, 4, func() int { return 3 }, func(it *item) { t.Errorf("finished %s", it.frame) })
	var e entry
	it := &item{frame: []byte("done")}
	q.push(&e, it)
	if got := q.next(3, 100); len(got) != 1 || string(got[0]) != "done" {
		t.Fatalf("sent %q", got)
	}
	if e.done() != it || e.done() != nil {
		t.Error("done yields its part once")
	}
	for range 10 {
		for _, f := range q.next(3, 100) {
			if len(f) > 0 {
				t.Errorf("sent %q", f)
			}
		}
	}
	// The one that takes the slot replaces it without finishing anything again.
	q.finished = func(it *item) {
		if string(it.frame) != "next" {
			t.Errorf("finished %s", it.frame)
		}
	}
	q.push(new(entry), &item{frame: []byte("next")})
	for range 10 {
		q.next(3, 100)
	}
	if q.messages != 0 || q.queue.NumQueued() != 1 {
		t.Errorf("%d messages, memberlist's queue holds %d", q.messages, q.queue.NumQueued())
	}
}

// TestQueueClear: all finish, and the queue goes on as if new.
func TestQueueClear(t *testing.T) {
	finished := 0
	q := newGossipQueue(10, 4, func() int { return 3 }, func(*item) { finished++ })
	for range 2 {
		for i := range 10 {
			q.push(new(entry), &item{frame: []byte{byte(i)}})
		}
		q.next(0, 5)
		q.clear()
		if q.messages != 0 || q.bytes != 0 || len(q.next(0, 1400)) != 0 {
			t.Errorf("%d messages, %d bytes are left", q.messages, q.bytes)
		}
	}
	if finished != 20 {
		t.Errorf("finished %d, want 20", finished)
	}
	if n := idReuse(func(f []byte) { q.push(new(entry), &item{frame: f}) }, func(limit int) [][]byte { return q.next(0, limit) }); n != 4 {
		t.Errorf("after a clear the first message was sent %d times", n)
	}
}

// TestQueueLargeLimits: however much memberlist asks for, it gets no frame that its compound messages cannot carry.
func TestQueueLargeLimits(t *testing.T) {
	q := newGossipQueue(10, 4, func() int { return 3 }, func(*item) {})
	q.push(new(entry), &item{frame: []byte("small")})
	for _, f := range q.next(0, 1<<20) {
		if len(f) > maxGossipFrame {
			t.Errorf("a frame of %d bytes", len(f))
		}
	}
}

// TestQueueModel holds the queue against what is expected of it, under random calls.
func TestQueueModel(t *testing.T) {
	rng := seeded(t)
	for range 50 {
		queueWalk(t, rng.IntN)
	}
}

// queueWalk calls a queue at random. Every part is sent at most limit times, and exactly so often before it finishes.
func queueWalk(t *testing.T, intN func(int) int) {
	type tracked struct {
		e     *entry
		sent  int
		ended bool
	}
	const limit, overhead = 4, 3
	parts := map[string]*tracked{}
	live, liveBytes := 0, 0
	q := newGossipQueue(1+intN(20), limit, func() int { return 3 }, nil)
	end := func(frame []byte) *tracked {
		p := parts[string(frame)]
		if p == nil || p.ended {
			t.Fatalf("%q ended, who had ended or never was", frame)
		}
		p.ended = true
		live--
		liveBytes -= len(frame)
		return p
	}
	clearing := false
	var counted []*tracked
	q.finished = func(it *item) {
		if p := end(it.frame); clearing {
			return
		} else {
			counted = append(counted, p)
		}
	}
	next := func(room int) {
		used := 0
		for _, f := range q.next(overhead, room) {
			used += overhead + len(f)
			if len(f) == 0 {
				continue
			}
			p := parts[string(f)]
			if p == nil {
				t.Fatalf("sent %q, which never was", f)
			}
			if p.sent++; p.sent > limit {
				t.Fatalf("sent %q %d times", f, p.sent)
			}
		}
		if used > room {
			t.Fatalf("%d bytes for a room of %d", used, room)
		}
		for _, p := range counted {
			if p.sent != limit {
				t.Fatalf("finished after %d transmissions", p.sent)
			}
		}
		counted = nil
	}
	for op := range 500 {
		switch intN(10) {
		default:
			frame := fmt.Appendf(nil, "%06d%s", op, bytes.Repeat([]byte("x"), intN(3)*intN(50)))
			e := new(entry)
			if ok := q.push(e, &item{frame: frame}); ok != (live < q.slots) {
				t.Fatalf("push with %d of %d slots taken: %v", live, q.slots, ok)
			} else if ok {
				parts[string(frame)] = &tracked{e: e}
				live++
				liveBytes += len(frame)
			}
		case 5, 6, 7:
			next(20 + intN(200))
		case 8:
			for frame, p := range parts {
				if it := p.e.done(); (it != nil) != !p.ended {
					t.Fatalf("done %q: %v, ended %v", frame, it, p.ended)
				} else if it != nil {
					end(it.frame)
					break
				}
			}
		case 9:
			if intN(20) == 0 {
				clearing = true
				q.clear()
				clearing = false
			}
		}
		if q.messages != live || q.bytes != liveBytes || len(q.free)+q.messages != q.used || q.used > q.slots {
			t.Fatalf("%d messages, %d bytes, %d of %d slots free; want %d messages, %d bytes", q.messages, q.bytes, len(q.free), q.used, live, liveBytes)
		}
	}
	for range 10 * limit * (live + 1) {
		next(1400)
	}
	if live != 0 {
		t.Fatalf("%d parts are never sent to the end", live)
	}
}
