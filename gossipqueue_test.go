package starling

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/seedtest"
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

// three is the number of members of which memberlist's queue believes to be one. Each message is then sent RetransmitMult times.
func three() int { return 3 }

// pushAll queues frames, each by an entry of its own.
func pushAll(t *testing.T, q *gossipQueue, frames ...string) []*entry {
	t.Helper()
	entries := make([]*entry, len(frames))
	for i, frame := range frames {
		entries[i] = new(entry)
		if !q.push(entries[i], []byte(frame)) {
			t.Fatalf("%q is refused with %d of %d slots taken", frame, q.messages, q.slots)
		}
	}
	return entries
}

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
	q := &memberlist.TransmitLimitedQueue{NumNodes: three, RetransmitMult: 4}
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
	q := newGossipQueue(100, 4, three)
	var entries []*entry
	n := idReuse(
		func(frame []byte) { entries = append(entries, pushAll(t, q, string(frame))...) },
		func(limit int) [][]byte { return q.next(0, limit) },
	)
	if n != 4 || q.messages != 0 || len(q.free) != 2 {
		t.Errorf("sent the first message %d times; %d messages are left, %d slots are free", n, q.messages, len(q.free))
	}
	for i, e := range entries {
		if e.frame != nil {
			t.Errorf("message %d is not finished", i)
		}
	}
}

// TestQueueBursts: the loss as users meet it, in bursts of messages of one length, with packets that hold several.
func TestQueueBursts(t *testing.T) {
	rng := seedtest.Rand(t)
	sent := map[string]int{}
	q := newGossipQueue(1000, 4, three)
	for burst := range 300 {
		for i := range 1 + rng.IntN(5) {
			frame := fmt.Sprintf("%05d %05d", burst, i)
			sent[frame] = 0
			pushAll(t, q, frame)
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
	q := newGossipQueue(3, 1, func() int { return 1 })
	for round := range 10 {
		entries := pushAll(t, q, fmt.Sprint(round, "a"), fmt.Sprint(round, "b"), fmt.Sprint(round, "c"))
		if refused := new(entry); q.push(refused, []byte("refused")) || q.messages != 3 || len(q.free) != 0 || refused.slot != "" {
			t.Fatalf("full: %d messages, %d slots free, what is refused has slot %q", q.messages, len(q.free), refused.slot)
		}
		if round%2 == 0 {
			q.next(3, 1400) // one transmission is enough: all finish
			for _, e := range entries {
				if e.frame == nil {
					finished++
				}
			}
		} else {
			for _, e := range entries {
				e.done()
			}
		}
		if q.messages != 0 || len(q.free) != 3 {
			t.Fatalf("round %d: %d messages, %d slots free", round, q.messages, len(q.free))
		}
	}
	if q.used != 3 || finished != 15 {
		t.Errorf("%d slots were named, %d parts finished", q.used, finished)
	}
	if n := q.queue.NumQueued(); n > 4 {
		t.Errorf("memberlist's queue holds %d broadcasts", n)
	}
}

// TestQueueDone: a part that is done is not sent any more, nor finished again by the queue.
func TestQueueDone(t *testing.T) {
	q := newGossipQueue(10, 4, three)
	e := pushAll(t, q, "done")[0]
	if got := q.next(3, 100); len(got) != 1 || string(got[0]) != "done" {
		t.Fatalf("sent %q", got)
	}
	for range 2 { // the second time nothing happens
		if e.done(); q.messages != 0 || len(q.free) != 1 || e.frame != nil {
			t.Errorf("done: %d messages, %d slots free", q.messages, len(q.free))
		}
	}
	for range 10 {
		if frames := q.next(3, 100); len(frames) > 0 {
			t.Errorf("sent %q", frames)
		}
	}
	// The one that takes the slot replaces it without finishing anything again.
	next := pushAll(t, q, "next")[0]
	if next.slot != e.slot || q.messages != 1 || len(q.free) != 0 || next.frame == nil {
		t.Errorf("slot %s after %s: %d messages, %d slots free", next.slot, e.slot, q.messages, len(q.free))
	}
	for range 10 {
		for _, f := range q.next(3, 100) {
			if string(f) != "next" {
				t.Errorf("sent %q", f)
			}
		}
	}
	if q.messages != 0 || len(q.free) != 1 || q.queue.NumQueued() != 1 {
		t.Errorf("%d messages, %d slots free, memberlist's queue holds %d", q.messages, len(q.free), q.queue.NumQueued())
	}
}

// TestQueueClear: all finish, and the queue goes on as if new.
func TestQueueClear(t *testing.T) {
	finished := 0
	q := newGossipQueue(10, 4, three)
	for range 2 {
		entries := pushAll(t, q, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		q.next(0, 5)
		q.clear()
		for _, e := range entries {
			if e.frame == nil {
				finished++
			}
		}
		if q.messages != 0 || len(q.free) != 10 || len(q.next(0, 1400)) != 0 {
			t.Errorf("%d messages are left, %d slots are free", q.messages, len(q.free))
		}
	}
	if finished != 20 {
		t.Errorf("finished %d, want 20", finished)
	}
	if n := idReuse(func(f []byte) { pushAll(t, q, string(f)) }, func(limit int) [][]byte { return q.next(0, limit) }); n != 4 {
		t.Errorf("after a clear the first message was sent %d times", n)
	}
}

// TestQueueLargeLimits: however much memberlist asks for, it gets no frame that its compound messages cannot carry.
func TestQueueLargeLimits(t *testing.T) {
	q := newGossipQueue(10, 4, three)
	pushAll(t, q, "small")
	frames := q.next(0, 1<<20)
	if len(frames) != 1 {
		t.Errorf("%d frames", len(frames))
	}
	for _, f := range frames {
		if len(f) > maxGossipFrame {
			t.Errorf("a frame of %d bytes", len(f))
		}
	}
}

// TestQueueModel holds the queue against what is expected of it, under random calls.
func TestQueueModel(t *testing.T) {
	rng := seedtest.Rand(t)
	for range 50 {
		newQueueWalk(t, rng.IntN).walk()
	}
}

// queueWalk calls a queue at random. Every part is sent at most limit times, and exactly so often before it finishes.
type queueWalk struct {
	t    *testing.T
	intN func(int) int
	q    *gossipQueue

	parts map[string]*walkedPart // by frame
	live  int                    // of those, how many have not ended
}

type walkedPart struct {
	e     *entry
	sent  int
	ended bool
}

const (
	walkLimit    = 4
	walkOverhead = 3
)

func newQueueWalk(t *testing.T, intN func(int) int) *queueWalk {
	return &queueWalk{t: t, intN: intN, q: newGossipQueue(1+intN(20), walkLimit, three), parts: map[string]*walkedPart{}}
}

func (w *queueWalk) walk() {
	for op := range 500 {
		switch w.intN(10) {
		default:
			w.push(fmt.Sprintf("%06d%s", op, bytes.Repeat([]byte("x"), w.intN(3)*w.intN(50))))
		case 5, 6, 7:
			w.next(20 + w.intN(200))
		case 8:
			for _, p := range w.parts { // any; one that has ended stays so
				before := w.q.messages
				if p.e.done(); p.ended && w.q.messages != before {
					w.t.Fatal("a part ended twice")
				}
				break
			}
			w.end(func(*walkedPart) {})
		case 9:
			if w.intN(20) == 0 {
				w.q.clear()
				if w.end(func(*walkedPart) {}); w.live != 0 {
					w.t.Fatalf("%d parts are left after a clear", w.live)
				}
			}
		}
		q := w.q
		if q.messages != w.live || len(q.free)+q.messages != q.used || q.used > q.slots {
			w.t.Fatalf("%d messages, %d of %d slots free; want %d messages", q.messages, len(q.free), q.used, w.live)
		}
	}
	for range 10 * walkLimit * (w.live + 1) {
		w.next(1400)
	}
	if w.live != 0 {
		w.t.Fatalf("%d parts are never sent to the end", w.live)
	}
}

func (w *queueWalk) push(frame string) {
	e := new(entry)
	if ok := w.q.push(e, []byte(frame)); ok != (w.live < w.q.slots) {
		w.t.Fatalf("push with %d of %d slots taken: %v", w.live, w.q.slots, ok)
	} else if ok {
		w.parts[frame] = &walkedPart{e: e}
		w.live++
	}
}

// next takes what fits into so many bytes.
func (w *queueWalk) next(room int) {
	used := 0
	for _, f := range w.q.next(walkOverhead, room) {
		used += walkOverhead + len(f)
		p := w.parts[string(f)]
		if p == nil || p.ended {
			w.t.Fatalf("sent %q, which has ended or never was", f)
		}
		if p.sent++; p.sent > walkLimit {
			w.t.Fatalf("sent %q %d times", f, p.sent)
		}
	}
	if used > room {
		w.t.Fatalf("%d bytes for a room of %d", used, room)
	}
	w.end(func(p *walkedPart) {
		if p.sent != walkLimit {
			w.t.Fatalf("finished after %d transmissions", p.sent)
		}
	})
}

// end notes which parts have ended.
func (w *queueWalk) end(ended func(*walkedPart)) {
	for _, p := range w.parts {
		if p.e.frame == nil && !p.ended {
			p.ended = true
			w.live--
			ended(p)
		}
	}
}
