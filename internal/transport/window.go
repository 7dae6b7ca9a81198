package transport

import "time"

const (
	// windowLeast is how many bytes a lane may have under way: written, and not read by the other end. One stream may have more. What is
	// written waits in this machine's buffers and its network card's, where everything else waits behind it: so it must be little. The
	// largest piece of a message has streamFill bytes and what is before them: two of them must have room in twice as much.
	windowLeast = streamFill + streamFill/32
	// windowMost bounds how far that grows on a link with a long way and much room: it is what 1 Gbit/s carries in 67 ms.
	windowMost = 8 << 20
	// windowPatience is how long a stream counts that is not answered. A member that hangs holds up its lane so long, once for each stream,
	// and not until the stream has timed out: who waits for it to be written could not give it up before.
	windowPatience = 250 * time.Millisecond
	// windowPatient bounds that where answers are known to come later: across two oceans, or where a stream takes longer on a slow link.
	windowPatient = time.Second

	// windowQuiet is how long what is known of the way is good. Then the way may be another one.
	windowQuiet = 10 * time.Second

	fewRests, manyRests = 8, 256
)

// window is what a lane has under way. It is doubled while answers come about as soon as the soonest ever did, and halved when they take longer:
// then what is under way waits for itself. That is the idea of TCP Vegas (Brakmo and Peterson, 1995). It belongs to the goroutine of its lane.
type window struct {
	size    int // Invariant: windowLeast ≤ size ≤ windowMost
	bytes   int // Invariant: bytes = Σ flights[i].size
	flights []flight
	late    flight        // the first one whose answer was not waited for, and may still come; none if answered is nil
	soonest time.Duration // that an answer took to a stream of about the largest size, or takes since the way is another one; 0: none has come
	largest int           // the size that soonest is of, at most windowLeast
	heard   time.Time     // when an answer came as soon
	full    bool          // it has held up a stream since the last answer
	rest    int           // answers until it may be doubled again
	used    time.Time     // when a stream was added last
	rests   int           // what that is set to when it is halved: it doubles while that is all that doubling brings
}

// flight is a stream that was written.
type flight struct {
	size     int
	window   int  // when it began
	last     bool // no other one of its size had room beside it
	began    time.Time
	answered <-chan struct{} // closed when the other end has read it, or the connection has ended
}

func newWindow() window { return window{size: windowLeast, rests: fewRests} }

// stale reports whether nothing is known any more, after a long quiet: the way may be another one.
func (w *window) stale(now time.Time) bool { return now.Sub(w.used) > windowQuiet }

// room reports whether a stream of so many bytes may begin.
func (w *window) room(size int) bool {
	if len(w.flights) == 0 || w.bytes+size <= w.size {
		return true
	}
	w.full = true
	return false
}

// add notes a stream that began and was written. Nobody answers it if answered is nil.
func (w *window) add(size int, began time.Time, answered <-chan struct{}) {
	if w.used = began; answered != nil {
		w.bytes += size
		w.flights = append(w.flights, flight{size, w.size, w.bytes+size > w.size, began, answered})
	}
}

// next returns when the stream that began first is answered, and how long that is waited for. Something must be under way.
func (w *window) next(now time.Time) (answered <-chan struct{}, patience time.Duration) {
	w.learn(now)
	first := w.flights[0]
	return first.answered, first.began.Add(min(max(2*w.soonest, windowPatience), windowPatient)).Sub(now)
}

// learn looks whether there was an answer that was not waited for: where all are late, nothing else would tell how long they take.
func (w *window) learn(now time.Time) {
	took := now.Sub(w.late.began)
	select {
	case <-w.late.answered:
		if took <= windowPatient && took > w.soonest {
			w.soonest, w.largest, w.heard = took, min(w.late.size, windowLeast), now
		}
		w.late = flight{}
	default:
		if took > windowPatient {
			w.late = flight{}
		}
	}
}

// over notes that the stream that began first was answered, or that this is waited for no longer.
func (w *window) over(answered bool, now time.Time) {
	f := w.flights[0]
	w.flights[0] = flight{}
	w.flights = w.flights[1:]
	w.bytes -= f.size
	if answered {
		w.judge(f, max(now.Sub(f.began), 1), now)
	} else if w.late.answered == nil && f.size >= streamFill/2 {
		w.late = f
	}
	w.full = false
}

// judge fits the size to how long an answer took. One that began under another size says nothing of this one, and a small one nothing of the
// room that there is. The sooner answer to a smaller one says nothing of a larger one's: each waits for all its bytes.
func (w *window) judge(f flight, took time.Duration, now time.Time) {
	if f.size < streamFill/2 {
		return
	}
	size, alone := min(f.size, windowLeast), f.window == windowLeast
	if size > w.largest+w.largest/8 || size >= w.largest-w.largest/8 && (took <= w.soonest || alone && now.Sub(w.heard) > windowQuiet) {
		w.soonest, w.largest, w.heard = took, max(size, w.largest), now
	}
	switch {
	case f.window != w.size:
	case took*2 > w.soonest*3 && w.size > windowLeast:
		w.size = max(w.size/2, windowLeast)
		w.rest, w.rests = w.rests, min(2*w.rests, manyRests)
	case took*4 > w.soonest*5 || !f.last || !w.full:
	case w.rest > 0:
		w.rest--
	default:
		if w.size > windowLeast {
			w.rests = fewRests
		}
		w.size = min(2*w.size, windowMost)
	}
}
