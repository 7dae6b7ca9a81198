package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

var errGone = errors.New("gone")

// testQueues returns stream queues whose streams write to sent, each when it gets a token from pass or its context ends; and what
// waits for them.
func testQueues() (qs *StreamQueues, pass chan error, sent chan string, wait func()) {
	var wg sync.WaitGroup
	pass, sent = make(chan error), make(chan string, 1000)
	qs = NewStreamQueues(func(ctx context.Context, load []wire.Stream, _ func()) (<-chan struct{}, error) {
		sent <- load[0].To.Name
		select {
		case err := <-pass:
			return nil, err
		case <-ctx.Done():
			return nil, errors.New("the stream broke")
		}
	}, func(f func()) bool {
		wg.Go(f)
		return true
	})
	return qs, pass, sent, wg.Wait
}

// testStream is a frame of that size, which reports its end to done.
func testStream(name string, size int, done chan error) (wire.Stream, func(error)) {
	return wire.Stream{To: wire.Peer{Name: name, ID: 1}, Size: size}, func(err error) { done <- err }
}

// bulkStream is the same of a large message.
func bulkStream(name string, size int, done chan error) (wire.Stream, func(error)) {
	s, report := testStream(name, size, done)
	s.Bulk = true
	return s, report
}

// TestStreamQueueHangs: a peer that hangs keeps one stream open in a lane, and holds up what is for itself alone.
func TestStreamQueueHangs(t *testing.T) {
	qs, pass, sent, wait := testQueues()
	done := make(chan error, 100)
	qs.Put(testStream("hangs", 10, done))
	if name := <-sent; name != "hangs" {
		t.Fatal(name)
	}
	for range 2 {
		qs.Put(testStream("hangs", 10, done))
	}
	for i := range 5 {
		qs.Put(testStream(fmt.Sprint("lives", i), 10, done))
	}
	for range 5 {
		if name := <-sent; name == "hangs" {
			t.Error("a second stream to the peer that hangs")
		}
	}
	for range 2 + 5 { // what waited for the peer that hangs goes together
		pass <- nil
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wait()
	if len(qs.lanes) != 0 {
		t.Errorf("%d queues are left of nothing", len(qs.lanes))
	}
}

// TestStreamQueueLoad: frames that wait for a member go in one stream, in order, up to streamFill bytes; a foreign member gets
// each in a stream of its own.
func TestStreamQueueLoad(t *testing.T) {
	for id, want := range map[uint64][]int{1: {3, 2, 1}, 0: {1, 1, 1, 1, 1, 1}} {
		qs := NewStreamQueues(nil, nil)
		q, key := &lane{running: true}, laneKey{id: id, name: "p"}
		qs.lanes[key] = q
		for i, size := range []int{1, 2, streamFill - 3, 4, streamFill - 4, streamFill + 1} {
			q.waiting = append(q.waiting, streamItem{Stream: wire.Stream{To: wire.Peer{Name: fmt.Sprint(i), ID: id}, Size: size}})
			q.bytes += size
		}
		var loads []int
		next := 0
		for _, load, done := qs.nextLoad(key, q); !done; _, load, done = qs.nextLoad(key, q) {
			loads = append(loads, len(load))
			for _, p := range load {
				if p.To.Name != fmt.Sprint(next) {
					t.Errorf("id %d: stream %s out of order", id, p.To.Name)
				}
				next++
			}
		}
		if !slices.Equal(loads, want) || q.bytes != 0 || q.running || len(qs.lanes) != 0 {
			t.Errorf("id %d: loads of %v, want %v; lane %+v", id, loads, want, q)
		}
	}
}

// flights is stream queues whose streams are written at once, and answered when the test says so.
type flights struct {
	*StreamQueues
	wg      sync.WaitGroup
	mu      sync.Mutex
	answers []chan struct{}
	moved   []func()
}

func newFlights() *flights {
	fs := &flights{}
	fs.StreamQueues = NewStreamQueues(func(_ context.Context, _ []wire.Stream, moved func()) (<-chan struct{}, error) {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.moved = append(fs.moved, moved)
		fs.answers = append(fs.answers, make(chan struct{}))
		return fs.answers[len(fs.answers)-1], nil
	}, func(f func()) bool {
		fs.wg.Go(f)
		return true
	})
	return fs
}

// written returns how many streams were written by now.
func (fs *flights) written() int {
	synctest.Wait()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.answers)
}

// TestStreamQueueWaitsForAnswers: what is bulk is not written before what was written has been read, but for a window's bytes, or before
// patience is over; what is small is, and so is what is for another member.
func TestStreamQueueWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFlights()
		expect := func(want int) {
			t.Helper()
			if n := fs.written(); n != want {
				t.Fatalf("%d streams were written, want %d", n, want)
			}
		}
		done := make(chan error, 100)
		for range 6 {
			fs.Put(bulkStream("a", windowLeast, done))
		}
		expect(1)
		fs.Put(testStream("a", windowLeast, done))
		fs.Put(testStream("a", windowLeast, done))
		expect(3)
		fs.Put(bulkStream("b", windowLeast, done))
		expect(4)
		close(fs.answers[0]) // a's
		expect(5)
		time.Sleep(windowPatience - 1)
		expect(5)
		time.Sleep(time.Nanosecond)
		expect(6)
		fs.Cancel(wire.Peer{Name: "a", ID: 1}, errGone)
		fs.Cancel(wire.Peer{Name: "b", ID: 1}, errGone)
		now := time.Now()
		if fs.wg.Wait(); time.Since(now) > 0 { // though most have no answer
			t.Errorf("the lanes ended after %v", time.Since(now))
		}
		if len(fs.lanes) > 0 {
			t.Errorf("%d lanes are left", len(fs.lanes))
		}
		var failed int
		for len(done) > 0 {
			if <-done != nil {
				failed++
			}
		}
		if failed != 3 {
			t.Errorf("%d streams failed, want the three of a that waited", failed)
		}
	})
}

// TestStreamQueueWaitsWhileRead: what is bulk waits as long as more is read of what was written before it, and then for patience.
func TestStreamQueueWaitsWhileRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFlights()
		for range 2 {
			fs.Put(bulkStream("a", windowLeast, make(chan error, 1)))
		}
		for i := range 20 {
			time.Sleep(windowPatience - 1)
			if n := fs.written(); n != 1 {
				t.Fatalf("%d streams were written after %d reads, want 1", n, i)
			}
			fs.moved[0]()
		}
		time.Sleep(windowPatience - 1)
		if n := fs.written(); n != 1 {
			t.Errorf("%d streams were written before patience is over", n)
		}
		time.Sleep(time.Nanosecond)
		if n := fs.written(); n != 2 {
			t.Errorf("%d streams were written when patience is over", n)
		}
		fs.wg.Wait()
	})
}

// TestStreamQueueWindowOutlastsQuiet: a piece that comes when nothing waits waits for the answer to the one before it all the same.
func TestStreamQueueWindowOutlastsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFlights()
		fs.Put(bulkStream("a", windowLeast, make(chan error, 1)))
		fs.written()
		time.Sleep(windowPatience / 2)
		fs.Put(bulkStream("a", windowLeast, make(chan error, 1)))
		if n := fs.written(); n != 1 {
			t.Errorf("%d streams were written, want 1", n)
		}
		close(fs.answers[0])
		if n := fs.written(); n != 2 {
			t.Errorf("%d streams were written, want 2", n)
		}
		fs.wg.Wait() // by patience
		for _, l := range fs.lanes {
			l.under.size = 2 * windowLeast
		}
		for range 3 {
			fs.Put(bulkStream("a", windowLeast, make(chan error, 1)))
		}
		if n := fs.written(); n != 4 { // the window is kept
			t.Errorf("%d streams were written, want 4", n)
		}
		fs.Cancel(wire.Peer{Name: "a", ID: 1}, errGone)
		fs.wg.Wait()
	})
}

// TestStreamQueueLanes: what is small does not wait behind what is bulk, nor the other way round.
func TestStreamQueueLanes(t *testing.T) {
	qs, pass, sent, wait := testQueues()
	done := make(chan error, 100)
	for _, put := range []func(string, int, chan error) (wire.Stream, func(error)){bulkStream, testStream} {
		qs.Put(put("p", 10, done))
		<-sent
		qs.Put(put("p", 10, done)) // behind it
	}
	if len(sent) > 0 {
		t.Error("a lane has two streams open")
	}
	for range 4 {
		pass <- nil
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wait()
	if len(qs.lanes) != 1 { // that of what is bulk, for its window
		t.Errorf("%d lanes are left", len(qs.lanes))
	}
}

// TestStreamQueueForgets: a lane that is kept for its window is forgotten when another one is made, long after.
func TestStreamQueueForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		qs, pass, _, wait := testQueues()
		for i := range 3 {
			qs.Put(bulkStream(fmt.Sprint("p", i), 10, make(chan error, 1)))
			pass <- nil
			wait()
			if n := len(qs.lanes); n != 1 {
				t.Errorf("%d lanes, want 1", n)
			}
			time.Sleep(windowQuiet + 1)
		}
		qs.Put(bulkStream("late", 10, make(chan error, 1)))
		pass <- nil
		wait()
		time.Sleep(windowQuiet / 2)
		for _, l := range qs.lanes {
			l.under.used = time.Time{}
		}
		qs.Put(testStream("small", 10, make(chan error, 1)))
		pass <- nil
		if wait(); len(qs.lanes) != 1 {
			t.Errorf("%d lanes: all of them were looked at for a small stream, soon after the last time", len(qs.lanes))
		}
	})
}

// TestStreamQueueYouth: however many peers hang, they hold up others for the youth of a stream at most, and streams of the other
// kind not at all; a stream that ends makes room at once.
func TestStreamQueueYouth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		qs, pass, sent, wait := testQueues()
		done := make(chan error, 1000)
		began := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := len(sent); n != want {
				t.Errorf("%d streams have begun, want %d", n, want)
			}
		}
		for i := range 2 * youngStreams {
			qs.Put(bulkStream(fmt.Sprint("p", i), 10, done))
		}
		began(youngStreams)
		pass <- nil
		began(youngStreams + 1)
		qs.Put(testStream("p0", 10, done))
		began(youngStreams + 2)
		time.Sleep(youth - 1)
		began(youngStreams + 2)
		time.Sleep(time.Nanosecond)
		began(2*youngStreams + 1)
		qs.Put(bulkStream("q", 10, done)) // one place is left, of the stream that began at 0 and ended
		began(2*youngStreams + 2)
		for range 2*youngStreams + 1 {
			pass <- nil
		}
		wait()
		if len(done) != 2*youngStreams+2 || len(qs.small)+len(qs.bulk) != 0 {
			t.Errorf("%d streams are done; %d tokens are left", len(done), len(qs.small)+len(qs.bulk))
		}
	})
}

// TestStreamQueueFull: what waits for one peer is bounded in bytes; a frame larger than the bound goes if it is alone.
func TestStreamQueueFull(t *testing.T) {
	qs, pass, sent, wait := testQueues()
	done := make(chan error, 100)
	qs.Put(testStream("p", 1, done))
	<-sent                                     // in flight, not waiting
	qs.Put(testStream("p", laneBytes+1, done)) // alone
	if len(done) > 0 {
		t.Fatalf("one alone is refused: %v", <-done)
	}
	qs.Put(testStream("p", 1, done))
	if len(done) != 1 {
		t.Fatal("it takes more than the bound")
	}
	if err := <-done; !errors.Is(err, ErrStreamQueueFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	qs.Put(testStream("q", 1, done)) // another peer's lane is empty
	<-sent
	qs.Put(bulkStream("p", 1, done)) // and so is the other one of this peer
	<-sent
	for range 4 {
		pass <- nil
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wait()
}

// TestStreamQueueCancelMakesRoom: what was cancelled takes no room in the lane any more, though what is in flight has not ended yet.
func TestStreamQueueCancelMakesRoom(t *testing.T) {
	var wg sync.WaitGroup
	sent, pass := make(chan struct{}, 2), make(chan struct{})
	qs := NewStreamQueues(func(context.Context, []wire.Stream, func()) (<-chan struct{}, error) {
		sent <- struct{}{}
		<-pass // whatever becomes of its context
		return nil, nil
	}, func(f func()) bool {
		wg.Go(f)
		return true
	})
	done := make(chan error, 4)
	qs.Put(testStream("p", 1, done))
	<-sent
	qs.Put(testStream("p", laneBytes, done))
	if qs.Cancel(wire.Peer{Name: "p", ID: 1}, errGone); !errors.Is(<-done, errGone) {
		t.Error("what waits was not cancelled")
	}
	qs.Put(testStream("p", 1, done))
	qs.Put(testStream("p", 1, done))
	if len(done) > 0 {
		t.Errorf("the lane is empty, and says: %v", <-done)
	}
	close(pass)
	wg.Wait()
}

// TestStreamQueueCancel: every frame for a peer that has gone fails once, with the reason: what waits at once, what is in flight as
// soon as its stream has broken, and what may not begin yet. What is for another run goes on.
func TestStreamQueueCancel(t *testing.T) {
	qs, pass, sent, wait := testQueues()
	done, other := make(chan error, 100), make(chan error, 100)
	for _, put := range []func(string, int, chan error) (wire.Stream, func(error)){testStream, bulkStream} {
		qs.Put(put("p", 1, done))
		<-sent
		qs.Put(put("p", 1, done))
		s, report := put("p", 1, other)
		s.To.ID = 2
		qs.Put(s, report)
		<-sent
	}
	qs.Cancel(wire.Peer{Name: "nobody", ID: 1}, errGone)
	qs.Cancel(wire.Peer{Name: "p", ID: 3}, errGone)
	if len(done) > 0 {
		t.Error("another run's end has cancelled something")
	}
	qs.Cancel(wire.Peer{Name: "p", ID: 1}, errGone)
	for range 4 {
		if err := <-done; !errors.Is(err, errGone) {
			t.Error(err)
		}
	}
	broken := errors.New("stream broke")
	for range 2 {
		pass <- broken
		if err := <-other; !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	wait()
	for range youngStreams {
		qs.small <- struct{}{}
	}
	qs.Put(testStream("p", 1, done))
	waitUntil(t, "the frame is on its way to the gate", func() bool {
		qs.mu.Lock()
		defer qs.mu.Unlock()
		l := qs.lanes[laneKey{id: 1, name: "p"}]
		return len(l.waiting) == 0
	})
	qs.Cancel(wire.Peer{Name: "p", ID: 1}, errGone)
	if err := <-done; !errors.Is(err, errGone) || len(sent) > 0 {
		t.Errorf("before the gate: %v", err)
	}
	wait()
}

// TestStreamQueueCancelAll: at the end everything fails, and a closed cluster starts nothing.
func TestStreamQueueCancelAll(t *testing.T) {
	qs, _, sent, wait := testQueues()
	done := make(chan error, 100)
	for _, name := range []string{"p", "q"} {
		qs.Put(testStream(name, 1, done))
		<-sent
		qs.Put(testStream(name, 1, done))
	}
	qs.CancelAll(net.ErrClosed)
	for range 4 {
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	wait()
	qs.spawn = func(func()) bool { return false }
	qs.Put(testStream("late", 1, done))
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestStreamQueueGoesOn: a lane whose stream was cancelled sends what is put later.
func TestStreamQueueGoesOn(t *testing.T) {
	qs, pass, sent, wait := testQueues()
	done := make(chan error, 100)
	for range 3 {
		qs.Put(testStream("p", 1, done))
		<-sent
		qs.Cancel(wire.Peer{Name: "p", ID: 1}, errGone)
		if err := <-done; !errors.Is(err, errGone) {
			t.Error(err)
		}
	}
	qs.Put(testStream("p", 1, done))
	<-sent
	pass <- nil
	if err := <-done; err != nil {
		t.Error(err)
	}
	wait()
}

// TestStreamQueueClosed: what is put when the cluster has closed fails, each time anew, and nothing of it is kept.
func TestStreamQueueClosed(t *testing.T) {
	qs := NewStreamQueues(func(context.Context, []wire.Stream, func()) (<-chan struct{}, error) { return nil, nil }, func(func()) bool { return false })
	done := make(chan error, 3)
	for range 3 {
		qs.Put(testStream("p", 1, done))
		select {
		case err := <-done:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		default:
			t.Error("Put does not say that the cluster has closed")
		}
	}
	if len(qs.lanes) > 0 {
		t.Errorf("%d queues are kept", len(qs.lanes))
	}
}

// TestStreamQueueOfRun: whoever claims the name of a member shares nothing with it.
func TestStreamQueueOfRun(t *testing.T) {
	var mu sync.Mutex
	to := map[uint64]int{}
	var wg sync.WaitGroup
	qs := NewStreamQueues(func(_ context.Context, load []wire.Stream, _ func()) (<-chan struct{}, error) {
		mu.Lock()
		defer mu.Unlock()
		to[load[0].To.ID] += len(load)
		return nil, nil
	}, func(f func()) bool {
		wg.Go(f)
		return true
	})
	for range 10 {
		for id := range uint64(2) {
			qs.Put(wire.RawStream(wire.Peer{Name: "p", ID: id + 1}, []byte("x")), nil)
		}
	}
	wg.Wait()
	if to[1] != 10 || to[2] != 10 {
		t.Errorf("frames by the run that they went to: %v", to)
	}
}
