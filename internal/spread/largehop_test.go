package spread

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// largeHop is a root among n members, and the hop of a piece to the head of all others. If n is 2 it is that of a large message in one
// part, to the only other one: nobody is behind it.
type largeHop struct {
	*testNet
	root *Spread
	*Hop
}

func newLargeHop(n, size int) *largeHop {
	f := newTestNet(n, nil)
	if n == 2 {
		f.root().Start(someParts, size, true, f.now)
	} else {
		f.startPieceOf(size)
	}
	l := &largeHop{f, f.root(), f.root().Sends[0].Hop}
	l.root.Sends = nil
	return l
}

// writtenHop is newLargeHop of a hop whose stream was written at once.
func writtenHop(n, size int) *largeHop {
	l := newLargeHop(n, size)
	l.root.Written(l.Hop, true, l.now)
	return l
}

func (l *largeHop) child() *Peer { return l.root.peer(l.To.ID) }

// passUntil lets time pass until cond holds, and returns how long that took since the start. Just before anything is due, meanwhile is
// called, unless it is nil.
func (l *largeHop) passUntil(t *testing.T, cond func() bool, meanwhile func(next time.Time)) time.Duration {
	t.Helper()
	for range 1000 {
		if cond() {
			return l.now.Sub(start)
		}
		next, due := l.root.Next()
		if !due {
			t.Fatalf("nothing is due any more after %v", l.now.Sub(start))
		}
		if meanwhile != nil {
			meanwhile(next)
		}
		l.now = next
		l.root.Tick(l.now)
	}
	t.Fatalf("it never comes to that: state %s after %v", stateLetters[l.state], l.now.Sub(start))
	return 0
}

func (l *largeHop) ended() bool { return l.state == hopEnded }
func (l *largeHop) sent() bool  { return len(l.root.Sends) > 0 }

// heardUntil lets the child answer other frames before each time that something is due, up to some time after the start.
func (l *largeHop) heardUntil(before, until time.Duration) func(time.Time) {
	return func(next time.Time) {
		if at := next.Add(-before); at.Sub(start) < until {
			l.child().heard(at)
		}
	}
}

// TestMuteChildIsGivenUp: a child that answers nothing is given up after four times what its answer is waited for, 1.5 s at least, and
// counts as silent; the window for large ones does not wait for that.
func TestMuteChildIsGivenUp(t *testing.T) {
	l := writtenHop(2, 2*testPacket)
	wait := largeWait + 2*testPacket*time.Second/firstRate
	if took := l.passUntil(t, func() bool { return l.root.Ahead == Ahead{} }, nil); took != wait || l.ended() {
		t.Errorf("the window waits for %v, ended %v", took, l.ended())
	}
	if took := l.passUntil(t, l.ended, nil); took != wait+2*silentMin || !l.child().Silent() || l.sent() {
		t.Errorf("given up after %v, silent %v, sent again %v", took, l.child().Silent(), l.sent())
	}
	for ok, want := range map[bool]time.Duration{true: wait + 2*silentMin, false: wait} {
		l = newLargeHop(2, 2*testPacket)
		const slow = 10 * time.Second
		l.passUntil(t, func() bool { return !l.now.Before(start.Add(slow - silentMin)) }, nil)
		l.now = start.Add(slow)
		l.root.Written(l.Hop, ok, l.now)
		if took := l.passUntil(t, l.ended, nil); took != slow+want {
			t.Errorf("given up %v after its stream was written, or could not be (%v), want %v", took-slow, ok, want)
		}
	}
	l = newLargeHop(2, 2*testPacket)
	l.root.answers = rtt{smooth: time.Second} // so long others take
	l.root.Written(l.Hop, true, l.now)
	if took := l.passUntil(t, l.ended, nil); took < largeMutes*time.Second || took > (largeMutes+1)*time.Second {
		t.Errorf("where others are slow, given up after %v", took)
	}
}

// TestSeldomHeardChild: a child that is heard now and then, though not when its answer is waited for, is given up later than a mute one;
// so is one that is heard for long and answers nothing, and that one is sent the piece again before.
func TestSeldomHeardChild(t *testing.T) {
	l := writtenHop(2, 2*testPacket)
	if took := l.passUntil(t, l.ended, l.heardUntil(silentMin/2, time.Hour)); took < heardMutes*largeMute || took > heardMutes*largeMute+2*silentMin {
		t.Errorf("heard now and then, it is given up after %v", took)
	}
	if l.child().Silent() {
		t.Error("it was heard, and counts as silent")
	}
	l = writtenHop(2, 2*testPacket)
	heard := l.heardUntil(1, largePatience-100*time.Millisecond)
	if took := l.passUntil(t, l.sent, heard); took < largePatience || took > largePatience+2*silentMin || l.ended() {
		t.Errorf("sent again after %v, given up %v", took, l.ended())
	}
	l = writtenHop(10, 2*testPacket) // and if it goes on being heard, it is not waited for any longer
	if took := l.passUntil(t, l.sent, l.heardUntil(1, time.Hour)); took < largePatience || took > largePatience+silentMin {
		t.Errorf("its slice is given to others after %v", took)
	}
}

// TestReadingChildIsWaitedFor: a child that reads on is waited for, however long that takes, and is sent nothing again; its slice is given to others.
// One that has read, and does not any more, is given up; where that was slow, later.
func TestReadingChildIsWaitedFor(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second} {
		l := writtenHop(2, 2*testPacket)
		last := start
		reads := func(until time.Duration) func(time.Time) {
			return func(next time.Time) {
				for at := last.Add(every); !at.After(next) && at.Sub(start) < until; at = at.Add(every) {
					l.root.Read(l.Hop, at)
					last = at
				}
			}
		}
		const long = 2 * time.Minute
		if took := l.passUntil(t, func() bool { return l.ended() || l.sent() }, reads(long)); took < long || l.sent() {
			t.Errorf("read each %v: ended %v, sent again %v, after %v", every, l.ended(), l.sent(), took)
		}
		mute := max(largeMute, largeMutes*every)
		if took := l.now.Sub(last); took < mute || took > mute+2*max(largeWait, silentMin) {
			t.Errorf("read each %v, it is given up %v after the last", every, took)
		}
		ended := l.now
		if l.root.Read(l.Hop, ended.Add(time.Second)); l.child().heardAt.After(ended) {
			t.Error("what is read of a batch that has ended is heard")
		}
	}
}

// TestFailedStream: a stream that failed is tried again though its member is heard. If it fails again and again the member counts as
// silent. While a later one is being written, the slice is given to others in time, heard or not.
func TestFailedStream(t *testing.T) {
	l := newLargeHop(2, 2*testPacket)
	heard := l.heardUntil(1, time.Hour)
	l.root.Written(l.Hop, false, l.now)
	if took := l.passUntil(t, l.sent, heard); took >= largeWait+silentMin/2 {
		t.Errorf("tried again after %v", took)
	}
	for tries := 2; !l.ended(); tries++ {
		if l.root.Written(l.Hop, false, l.now); tries > largeTries {
			t.Fatalf("tried %d times", tries)
		}
		l.root.Sends = nil
		l.passUntil(t, func() bool { return l.sent() || l.ended() }, heard)
	}
	if !l.child().Silent() {
		t.Error("all its streams fail, and it does not count as silent")
	}
	l = newLargeHop(10, 2*testPacket)
	l.root.Written(l.Hop, false, l.now)
	again := l.passUntil(t, l.sent, nil)
	l.root.Sends = nil
	if took := l.passUntil(t, l.sent, l.heardUntil(1, time.Hour)) - again; took != l.flight() {
		t.Errorf("handed on after %v", took)
	}
}

// TestSliceIsGivenToMany: the slice of the head of a piece that hangs is given to several at once, all of it, and no more; after a time
// that its size allows for.
func TestSliceIsGivenToMany(t *testing.T) {
	const n, size = 20, 1 << 20
	l := newLargeHop(n, size)
	from, to, end := l.View.from, l.View.to, l.End
	if took := l.passUntil(t, l.sent, nil); took != flyFor+size*time.Second/flyRate {
		t.Errorf("after %v", took)
	}
	if len(l.root.Sends) != fanOut || l.View.Len() != 1 || l.End != l.root.Ring.at(from+1).Pos {
		t.Errorf("given to %d, to the head alone: %s", len(l.root.Sends), view(l.Hop))
	}
	next := from + 1
	for _, send := range l.root.Sends {
		at, stop := send.Hop.View.from, end
		if at == next+1 && l.root.Ring.at(next).Member.ID == l.root.self {
			next++ // it has it, and heads nothing
		}
		if send.Hop.View.to < to {
			stop = l.root.Ring.at(send.Hop.View.to).Pos
		}
		if at != next || send.Hop.End != stop || send.Hop == l.Hop {
			t.Errorf("given %s, want from %d on", view(send.Hop), next)
		}
		next = send.Hop.View.to
	}
	if next != to {
		t.Errorf("given up to %d, want %d", next, to)
	}
	if again := l.passUntil(t, func() bool { return l.due.After(l.now) }, nil); l.due.Sub(start)-again != l.flight() {
		t.Errorf("looked at again after %v", l.due.Sub(start)-again)
	}
}

// TestGivenUpTogether: what was sent to a member before it was given up is given up when it is due. Where a small batch was given up, what
// is being written is not.
func TestGivenUpTogether(t *testing.T) {
	for _, flying := range []bool{false, true} {
		l := newLargeHop(2, 2*testPacket)
		if !flying {
			l.root.Written(l.Hop, true, l.now)
		}
		for gaveUp, want := range map[time.Duration]bool{-1: false, 1: !flying} {
			l.child().gaveUpAt = start.Add(gaveUp)
			if ev := l.timeoutEvent(l.child(), start.Add(2)); (ev == dueGiveUp) != want {
				t.Errorf("flying %v, given up after %d: %s", flying, gaveUp, eventNames[ev])
			}
		}
		l = writtenHop(2, 2*testPacket)
		l.passUntil(t, func() bool { return l.now.Sub(start) > silentMin }, nil)
		l.startPiece()
		second := l.root.Sends[0].Hop
		if !flying {
			l.root.Written(second, true, l.now)
		}
		l.passUntil(t, l.ended, nil)
		left := l.now
		l.passUntil(t, func() bool { return second.state == hopEnded || l.now.Sub(left) > 2*silentMin }, nil)
		if took := l.now.Sub(left); second.state != hopEnded || took > silentMin {
			t.Errorf("flying %v: %v after the first piece, given up %v", flying, took, second.state == hopEnded)
		}
	}
}

// TestPiecesDoNotWaitBehind: a member that does not answer is asked one small batch at a time. Pieces wait for none of these, and these
// for no piece.
func TestPiecesDoNotWaitBehind(t *testing.T) {
	l := newLargeHop(2, 2*testPacket)
	small := l.startBatch().Hops[0]
	l.passUntil(t, func() bool { return len(small.Sent) > 1 }, nil)
	if ev := l.timeoutEvent(l.child(), l.now); l.child().retried != small || ev == dueBehind || ev == dueBehindReleased {
		t.Errorf("a piece waits behind a small batch: %s", eventNames[ev])
	}
	l = writtenHop(2, 2*testPacket)
	l.passUntil(t, func() bool { return l.unanswered > 1 }, nil)
	small = l.startBatch().Hops[0]
	if ev := small.timeoutEvent(l.child(), l.now); ev != dueRetry {
		t.Errorf("a small batch behind a piece: %s", eventNames[ev])
	}
}

// TestAnswerWait: the answer to a piece is waited for as long as others took, and as the member takes otherwise; before the first one, as
// long as a slow link would need.
func TestAnswerWait(t *testing.T) {
	const size = 1 << 20
	l := newLargeHop(2, size)
	for _, test := range []struct {
		others, member rtt
		want           time.Duration
	}{
		{rtt{}, rtt{}, 4300 * time.Millisecond},
		{rtt{}, rtt{smooth: time.Second}, 12 * time.Second},
		{rtt{smooth: 1}, rtt{}, 300 * time.Millisecond},
		{rtt{smooth: 1}, rtt{smooth: time.Second}, 8 * time.Second},
		{rtt{smooth: 2 * time.Second, vary: time.Second}, rtt{}, 6 * time.Second},
	} {
		l.root.answers, l.child().rtt = test.others, test.member
		if got := l.root.answerWait(l.Hop, l.child()); got != test.want {
			t.Errorf("others %+v, the member %+v: %v", test.others, test.member, got)
		}
	}
}

// TestAnswersAreMeasured: from when the stream was written to the first answer, unless it was written twice.
func TestAnswersAreMeasured(t *testing.T) {
	answer := func(l *largeHop, after time.Duration) time.Duration {
		l.root.Report(l.To.ID, wire.Report{ID: l.Batch.ID}, l.now.Add(after))
		return l.root.answers.smooth
	}
	l := newLargeHop(10, 2*testPacket)
	if got := answer(l, time.Second); got != 0 {
		t.Errorf("measured %v before it was written", got)
	}
	l = newLargeHop(10, 2*testPacket)
	l.now = l.now.Add(time.Second / 8)
	l.root.Written(l.Hop, true, l.now)
	if got := answer(l, time.Second/4); got != time.Second/4 {
		t.Errorf("measured %v", got)
	}
	if got := answer(l, time.Second); got != time.Second/4 {
		t.Errorf("measured %v by a later answer", got)
	}
	l = newLargeHop(10, 2*testPacket)
	l.root.Written(l.Hop, false, l.now)
	l.passUntil(t, l.sent, nil)
	l.root.Written(l.Hop, true, l.now)
	if got := answer(l, time.Second); got != 0 {
		t.Errorf("measured %v, of either stream", got)
	}
}

// TestHeldBeforeWritten: a child may say that it holds a piece before the system says that the stream was written. It is asked as late as
// any other whether its slice is done, and as often.
func TestHeldBeforeWritten(t *testing.T) {
	l := newLargeHop(10, 2*testPacket)
	l.root.Report(l.To.ID, wire.Report{ID: l.Batch.ID}, l.now)
	l.root.Written(l.Hop, true, l.now)
	if took := l.passUntil(t, func() bool { return l.sent() || l.ended() }, nil); took != heldRTOs*RTOFirst || l.ended() || !l.root.Sends[0].Query {
		t.Errorf("asked after %v, given up %v", took, l.ended())
	}
	if took := l.passUntil(t, l.ended, nil); took != (1+leafTries)*heldRTOs*RTOFirst {
		t.Errorf("given up after %v, want as many questions as others get", took)
	}
}

// TestHeldIsAskedLessAndLess: a child that holds a piece, and says each time that its slice is not done, is asked after pauses that double. One that
// does not answer a question is asked again as soon as any other.
func TestHeldIsAskedLessAndLess(t *testing.T) {
	l := newLargeHop(10, 2*testPacket)
	l.root.Written(l.Hop, true, l.now)
	untilAsked := func() time.Duration {
		l.root.Sends = nil
		from := l.now
		l.passUntil(t, func() bool { return len(l.root.Sends) > 0 }, nil)
		if !l.root.Sends[0].Query {
			t.Error("it is sent the batch again")
		}
		return l.now.Sub(from)
	}
	for i := range 5 {
		l.root.Report(l.To.ID, wire.Report{ID: l.Batch.ID}, l.now)
		if took, want := untilAsked(), min(heldRTOs*l.child().RTO()<<i, heldPause); took != want {
			t.Errorf("question %d after %v, want %v", i, took, want)
		}
	}
	if took, want := untilAsked(), heldRTOs*l.child().RTO(); took != want {
		t.Errorf("without an answer asked again after %v, want %v", took, want)
	}
}

// TestMuteFromTheQuestion: a child that held a piece long ago, and is asked now, is not mute before it could answer.
func TestMuteFromTheQuestion(t *testing.T) {
	l := writtenHop(10, 2*testPacket)
	l.root.Report(l.To.ID, wire.Report{ID: l.Batch.ID}, l.now)
	asked := l.now.Add(time.Minute)
	l.Sent = append(l.Sent, asked)
	if l.mute(l.child(), asked.Add(l.muteAfter-1)) || !l.mute(l.child(), asked.Add(l.muteAfter)) {
		t.Error("it is mute at another time")
	}
}

// TestSilentGetsNoPiece: a member that answers nothing is probed with small batches only.
func TestSilentGetsNoPiece(t *testing.T) {
	f := newTestNet(2, nil)
	f.root().peer(f.members[1].ID).silent = true
	f.startPiece()
	if root := f.root(); len(root.Sends) != 0 || len(root.Finished) != 1 || len(root.Finished[0].Gone) != 1 {
		t.Errorf("sent %d, finished %v", len(root.Sends), root.Finished)
	}
	if f.startBatch(); len(f.root().Sends) != 1 {
		t.Error("not probed with a small batch")
	}
}

// TestLeafKeepsItsEnd: a hop to one member alone is not handed on behind another hop, and its slice ends where it did.
func TestLeafKeepsItsEnd(t *testing.T) {
	f := newTestNet(5, nil)
	b, root := f.startBatch(), f.root()
	p, other := root.Ring.at(1), &Hop{Batch: b}
	root.startHop(b, p.Member, Arc{root.Ring, 1, 2}, p.Pos+1, f.now)
	h := b.Hops[len(b.Hops)-1]
	root.peer(p.Member.ID).retried = other
	root.step(h, dueBehindReleased, wire.Report{}, f.now)
	if h.state != hopAskedReleased || h.End != p.Pos+1 {
		t.Errorf("state %s, %s", stateLetters[h.state], view(h))
	}
}
