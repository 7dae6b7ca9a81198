package transport

import (
	"sync/atomic"
	"time"
)

const (
	// windowLeast is how many bytes a lane may have under way: written, and not read by the other end. One stream may have more. What is
	// written waits in this machine's buffers and its network card's, where everything else waits behind it: so it must be little. The
	// largest piece of a message has streamFill bytes and what is before them: two of them must have room in twice as much.
	windowLeast = streamFill + streamFill/32
	// windowMost bounds how far that grows on a link with a long way and much room: it is what 1 Gbit/s carries in 67 ms.
	windowMost = 8 << 20
	// windowPatience is how long a stream counts that is not answered, and of which no more was read. A member that hangs holds up its lane so long, once for each stream,
	// and not until the stream has timed out: who waits for it to be written could not give it up before.
	windowPatience = 500 * time.Millisecond

	// windowQuiet is how long what is known of the way is good while nothing is sent. Then the way may be another one.
	windowQuiet = 10 * time.Second

	// fewAnswers is of how many streams, and of two windows at least, the answers are one measure.
	fewAnswers = 6
	// fewRests and manyRests bound the measures between two trials.
	fewRests, manyRests = 4, 64
)

// window bounds what a lane has under way, by trial: it is doubled, and stays so if a quarter more passes in the same time; then the way is long. Else
// what is under way waited for itself, and the window is halved again. At times half of it is tried too, and kept if nearly as much passes. What
// counts is how much is answered while a stream waits for room, and not how soon: answers take longer where others share the way, or where
// packets are lost. It belongs to the goroutine of its lane.
type window struct {
	size    int // Invariant: windowLeast ≤ size ≤ windowMost
	bytes   int // Invariant: bytes = Σ flights[i].size
	flights []*flight
	used    time.Time // when a stream was added last
	full    bool      // it has held up a stream since the last answer

	measure  measure
	trial    trial
	rate     float64 // what passed before the trial, in bytes a second
	upNext   bool    // the next trial is of twice the size, if there is a choice
	rest     int     // measures until the next trial
	restNext int     // what that is set to after one that was in vain; it doubles with each
}

// flight is a stream that was written.
type flight struct {
	size     int
	began    time.Time
	moved    atomic.Int64    // how long after it began more of it was read, in ns
	answered <-chan struct{} // closed when the other end has read it, or the connection has ended
}

func newFlight(load []streamItem) *flight {
	f := &flight{began: time.Now()}
	for i := range load {
		f.size += load[i].Size
	}
	return f
}

// move notes that more of the stream was read. Any goroutine may call it.
func (f *flight) move() { f.moved.Store(int64(time.Since(f.began))) }

// measure is how much was answered, and since when. The zero value has not begun: it does with an answer.
type measure struct {
	since   time.Time
	answers int
	bytes   int
}

// trial is what is being tried.
type trial uint8

const (
	trialNone trial = iota
	trialDouble
	trialHalf
)

func newWindow() window { return window{size: windowLeast, restNext: fewRests, upNext: true} }

// stale reports whether nothing is known any more, after a long quiet.
func (w *window) stale(now time.Time) bool { return now.Sub(w.used) > windowQuiet }

// room reports whether a stream of so many bytes may begin.
func (w *window) room(size int) bool {
	if len(w.flights) == 0 || w.bytes+size <= w.size {
		return true
	}
	w.full = true
	return false
}

// add notes a stream that was written. Nobody answers it if its answered is nil.
func (w *window) add(f *flight) {
	if w.used = f.began; f.answered != nil {
		w.bytes += f.size
		w.flights = append(w.flights, f)
	}
}

// next returns when the stream that began first is answered, and how long that is waited for. Something must be under way.
func (w *window) next(now time.Time) (answered <-chan struct{}, patience time.Duration) {
	first := w.flights[0]
	return first.answered, first.began.Add(time.Duration(first.moved.Load()) + windowPatience).Sub(now)
}

// over notes that the stream that began first was answered, or that this is waited for no longer.
func (w *window) over(answered bool, now time.Time) {
	f := w.flights[0]
	w.flights[0] = nil
	w.flights = w.flights[1:]
	w.bytes -= f.size
	m := &w.measure
	switch {
	case !answered || !w.full: // more might have passed
		*m = measure{}
	case m.since.IsZero():
		m.since = now
	default:
		m.answers++
		m.bytes += f.size
	}
	w.full = false
	if took := now.Sub(m.since); m.answers >= fewAnswers && m.bytes >= 2*w.size && took > 0 {
		w.judge(float64(m.bytes) / took.Seconds())
		*m = measure{}
	}
}

// judge fits the size to how much passes.
func (w *window) judge(rate float64) {
	switch {
	case w.trial == trialDouble && rate >= 1.25*w.rate && w.size < windowMost:
		w.restNext = fewRests
		w.try(trialDouble, rate)
	case w.trial == trialDouble && rate < 1.25*w.rate:
		w.size = max(w.size/2, windowLeast)
		w.settle()
	case w.trial == trialHalf && rate < 0.9*w.rate:
		w.size = min(2*w.size, windowMost)
		w.settle()
	case w.trial != trialNone:
		w.trial, w.restNext = trialNone, fewRests
	case w.rest > 0:
		w.rest--
	case w.size == windowMost || w.size > windowLeast && !w.upNext:
		w.upNext = true
		w.try(trialHalf, rate)
	default:
		w.upNext = false
		w.try(trialDouble, rate)
	}
}

// try changes the size.
func (w *window) try(t trial, rate float64) {
	w.trial, w.rate = t, rate
	if t == trialDouble {
		w.size = min(2*w.size, windowMost)
	} else {
		w.size = max(w.size/2, windowLeast)
	}
}

// settle ends a trial that was in vain.
func (w *window) settle() {
	w.trial, w.rest, w.restNext = trialNone, w.restNext, min(2*w.restNext, manyRests)
}
