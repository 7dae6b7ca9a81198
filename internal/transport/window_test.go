package transport

import (
	"testing"
	"time"
)

// piece is the size of the largest piece of a message, with what is before its data.
const piece = 256<<10 + 100

// pipe carries streams of one size at a rate, one after the other, and answers each after a round trip. It returns how many bytes a second pass
// when a window bounds what is under way, and how much that is on average.
func pipe(t *testing.T, rate int, trip time.Duration) (passed, under int) {
	t.Helper()
	const size, streams = piece, 400
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now, free := start, start // when the link has carried all that was written
	var answers []time.Time
	w := newWindow()
	for range streams {
		for !w.room(size) {
			now = answers[0]
			answers = answers[1:]
			w.over(true, now)
			if w.size < windowLeast || w.size > windowMost {
				t.Fatalf("a window of %d bytes", w.size)
			}
		}
		if free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(size) * time.Second / time.Duration(rate))
		answers = append(answers, free.Add(trip))
		w.add(size, now, make(chan struct{}))
		under += w.bytes
	}
	return int(float64(size*streams) / now.Sub(start).Seconds()), under / streams
}

// TestWindow: on a link with little room one stream is under way, which is enough; on one with a long way as many as it takes.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name        string
		rate        int
		trip        time.Duration
		least, most float64 // of the streams under way
		share       float64 // of the rate that is used
	}{
		{"100 Mbit/s in a LAN", 12_500_000, time.Millisecond, 1, 1.2, 0.9},
		{"10 Gbit/s in a LAN", 1_250_000_000, 200 * time.Microsecond, 1, 3, 0.5},
		{"100 Mbit/s across a continent", 12_500_000, 40 * time.Millisecond, 1, 3, 0.4},
		{"1 Gbit/s across an ocean", 125_000_000, 100 * time.Millisecond, 8, 32, 0.3},
	} {
		t.Run(c.name, func(t *testing.T) {
			passed, bytes := pipe(t, c.rate, c.trip)
			under, share := float64(bytes)/piece, float64(passed)/float64(c.rate)
			t.Logf("%.1f of %.1f MB/s, with %.1f streams under way", float64(passed)/1e6, float64(c.rate)/1e6, under)
			if under < c.least || under > c.most || share < c.share {
				t.Errorf("%.2f streams are under way, want %v to %v; %.2f of the rate is used, want %.2f", under, c.least, c.most, share, c.share)
			}
		})
	}
}

// TestWindowOfUnanswered: a stream that nobody answers does not count for the size, and one that nobody could answer is not waited for.
func TestWindowOfUnanswered(t *testing.T) {
	w, now := newWindow(), time.Now()
	w.add(windowLeast, now, nil)
	if !w.room(1) {
		t.Error("a stream is waited for that cannot be answered")
	}
	w.add(windowLeast, now, make(chan struct{}))
	if w.room(1) {
		t.Error("there is room beside a whole window")
	}
	w.over(false, now.Add(windowPatience))
	if w.soonest != 0 || w.size != windowLeast || !w.room(1) {
		t.Errorf("%+v after a stream that nobody has answered", w)
	}
	if !w.room(windowMost) {
		t.Error("a stream that is larger than the window never has room")
	}
}

// TestWindowJudges: what an answer says of the size.
func TestWindowJudges(t *testing.T) {
	const least, ms = windowLeast, time.Millisecond
	type step struct {
		size int
		took time.Duration
		full bool // a stream waited for room meanwhile
		want int  // the size after it
	}
	for name, steps := range map[string][]step{
		"a small one says nothing":           {{least / 4, ms, true, least}, {least, 20 * ms, true, 2 * least}},
		"nobody waited":                      {{least, 20 * ms, false, least}, {least, 20 * ms, true, 2 * least}},
		"neither soon nor late":              {{least, 20 * ms, true, 2 * least}, {2 * least, 27 * ms, true, 2 * least}, {2 * least, 31 * ms, true, least}},
		"one with room beside it":            {{least, 20 * ms, true, 2 * least}, {least, 20 * ms, true, 2 * least}, {2 * least, 20 * ms, true, 4 * least}},
		"never less than the least":          {{least, 20 * ms, true, 2 * least}, {2 * least, 99 * ms, true, least}, {least, 99 * ms, true, least}},
		"a rest after it was halved, of few": {{least, 20 * ms, true, 2 * least}, {2 * least, 99 * ms, true, least}, {least, 20 * ms, true, least}},
	} {
		t.Run(name, func(t *testing.T) {
			w, now := newWindow(), time.Now()
			for i, s := range steps {
				w.add(s.size, now, make(chan struct{}))
				if s.full && w.room(windowMost) {
					t.Fatal("there is room beside what is under way")
				}
				now = now.Add(s.took)
				if w.over(true, now); w.size != s.want {
					t.Errorf("%d bytes after step %d, want %d", w.size, i, s.want)
				}
			}
		})
	}
}

// TestWindowOfSizes: answers to large streams are not late because those to smaller ones came sooner, as they do where less than a stream has
// room on the way.
func TestWindowOfSizes(t *testing.T) {
	w, now := newWindow(), time.Now()
	for _, size := range []int{piece / 2, piece, piece, piece / 2, piece} {
		for w.room(size) {
			w.add(size, now, make(chan struct{}))
		}
		now = now.Add(time.Duration(size) * time.Microsecond)
		for len(w.flights) > 0 {
			w.room(windowMost)
			w.over(true, now)
		}
	}
	if w.size < 8*windowLeast {
		t.Errorf("a window of %d bytes", w.size)
	}
}

// TestWindowOfOtherWay: where answers take longer than they did, with one stream under way too, the way is a longer one, which holds more.
func TestWindowOfOtherWay(t *testing.T) {
	w, now := newWindow(), time.Now()
	for i, took := range []time.Duration{10 * time.Millisecond, 30 * time.Millisecond} {
		for began := now; now.Sub(began) < 2*windowQuiet; now = now.Add(took) {
			for w.room(piece) {
				w.add(piece, now, make(chan struct{}))
			}
			for answered := now.Add(took); len(w.flights) > 0; w.over(true, answered) {
				w.room(windowMost)
			}
		}
		if w.size != windowMost {
			t.Errorf("a window of %d bytes on way %d", w.size, i)
		}
	}
}

// TestWindowOfBefore: an answer to a stream that began under another size does not change this one.
func TestWindowOfBefore(t *testing.T) {
	w, now := newWindow(), time.Now()
	answer := make(chan struct{})
	w.add(windowLeast, now, answer)
	w.add(windowLeast, now, answer) // as it may, after one that is not answered in time
	w.room(1)
	w.over(true, now.Add(20*time.Millisecond))
	w.room(1)
	if w.over(true, now.Add(40*time.Millisecond)); w.size != 2*windowLeast {
		t.Errorf("%d bytes", w.size)
	}
}

// TestWindowRests: the pauses between attempts to double it grow while they are in vain, and are short again once one was not.
func TestWindowRests(t *testing.T) {
	w, now := newWindow(), time.Now()
	answers := func(n int, took time.Duration) {
		for range n {
			w.add(w.size, now, make(chan struct{}))
			w.room(1)
			now = now.Add(took)
			w.over(true, now)
		}
	}
	const soon, late = 20 * time.Millisecond, time.Second
	rest := fewRests
	for range 3 {
		answers(1, soon) // doubled
		answers(1, late) // halved
		if answers(rest, soon); w.size != windowLeast {
			t.Fatalf("doubled after less than %d answers", rest)
		}
		rest *= 2
	}
	answers(2, soon) // doubled twice
	answers(1, late)
	answers(fewRests, soon)
	if answers(1, soon); w.size != 4*windowLeast {
		t.Errorf("%d bytes: the pause is long after doubling was of use", w.size)
	}
}
