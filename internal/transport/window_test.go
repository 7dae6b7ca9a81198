package transport

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

// piece is the size of the largest piece of a message, with what is before its data.
const piece = 256<<10 + 100

// way carries streams at a rate, one after the other, and answers each after a round trip, or up to jitter before or after that.
type way struct {
	rate         int
	trip, jitter time.Duration
}

// carry carries streams when a window bounds what is under way. It returns how many bytes a second pass, and how many streams are under way on
// average.
func (y way) carry(t *testing.T, rng *rand.Rand, w *window, streams int) (passed, under float64) {
	t.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now, free := start, start // when the link has carried all that was written
	var answers []time.Time
	for range streams {
		for !w.room(piece) {
			if answers[0].After(now) {
				now = answers[0]
			}
			answers = answers[1:]
			w.over(true, now)
			if w.size < windowLeast || w.size > windowMost {
				t.Fatalf("a window of %d bytes", w.size)
			}
		}
		if free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(piece) * time.Second / time.Duration(y.rate))
		answers = append(answers, free.Add(y.trip-y.jitter+time.Duration(rng.Int64N(2*int64(y.jitter)+1))))
		w.add(&flight{size: piece, began: now, answered: make(chan struct{})})
		under += float64(len(w.flights))
	}
	for len(w.flights) > 0 {
		w.over(true, answers[len(answers)-1])
	}
	return float64(piece*streams) / now.Sub(start).Seconds(), under / float64(streams)
}

// TestWindow: on a link with little room one stream is under way, which is enough; on one with a long way as many as it takes.
func TestWindow(t *testing.T) {
	rng := seedtest.Rand(t)
	for _, c := range []struct {
		name string
		way
		least, most float64 // of the streams under way
		share       float64 // of the rate that is used
	}{
		{"100 Mbit/s in a LAN", way{12_500_000, time.Millisecond, 0}, 1, 1.3, 0.9},
		{"100 Mbit/s in a LAN with jitter", way{12_500_000, 5 * time.Millisecond, 4 * time.Millisecond}, 1, 2.6, 0.8},
		{"10 Gbit/s in a LAN", way{1_250_000_000, 200 * time.Microsecond, 0}, 1, 4, 0.5},
		{"100 Mbit/s across a continent", way{12_500_000, 40 * time.Millisecond, 0}, 1.5, 5, 0.7},
		{"1 Gbit/s across a country with jitter", way{125_000_000, 40 * time.Millisecond, 20 * time.Millisecond}, 2, 32, 0.08},
		{"1 Gbit/s across an ocean", way{125_000_000, 100 * time.Millisecond, 0}, 8, 32, 0.2},
		{"1 Gbit/s across two", way{125_000_000, 300 * time.Millisecond, 0}, 8, 32, 0.05},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWindow()
			passed, under := c.carry(t, rng, &w, 400)
			share := passed / float64(c.rate)
			t.Logf("%.1f of %.1f MB/s, with %.1f streams under way", passed/1e6, float64(c.rate)/1e6, under)
			if under < c.least || under > c.most || share < c.share {
				t.Errorf("%.2f streams are under way, want %v to %v; %.2f of the rate is used, want %.2f", under, c.least, c.most, share, c.share)
			}
		})
	}
}

// TestWindowOfOtherWay: where the way is another one while streams go, the window comes to fit that.
func TestWindowOfOtherWay(t *testing.T) {
	rng := seedtest.Rand(t)
	w := newWindow()
	long, narrow := way{125_000_000, 100 * time.Millisecond, 0}, way{12_500_000, time.Millisecond, 0}
	for i := range 2 {
		long.carry(t, rng, &w, 1000)
		if w.size < 8*windowLeast {
			t.Errorf("round %d: %d bytes on a long way", i, w.size)
		}
		narrow.carry(t, rng, &w, 1000)
		if w.size > 2*windowLeast {
			t.Errorf("round %d: %d bytes on a narrow way", i, w.size)
		}
	}
}

// TestWindowOfUnanswered: a stream that nobody answers does not count for the size, and one that nobody could answer is not waited for.
func TestWindowOfUnanswered(t *testing.T) {
	w, now := newWindow(), time.Now()
	w.add(&flight{size: windowLeast, began: now, answered: nil})
	if !w.room(1) {
		t.Error("a stream is waited for that cannot be answered")
	}
	for range 100 {
		w.add(&flight{size: windowLeast, began: now, answered: make(chan struct{})})
		if w.room(1) {
			t.Fatal("there is room beside a whole window")
		}
		now = now.Add(windowPatience)
		w.over(false, now)
	}
	if w.size != windowLeast {
		t.Errorf("a window of %d bytes", w.size)
	}
	if !w.room(2 * windowMost) {
		t.Error("a stream that is larger than the window never has room")
	}
}

// TestWindowMeasures: a measure is of what is answered while a stream waits for room all the time.
func TestWindowMeasures(t *testing.T) {
	w, now := newWindow(), time.Now()
	answer := func(answered, full bool) int {
		w.add(&flight{size: windowLeast, began: now, answered: make(chan struct{})})
		if full {
			w.room(1)
		}
		now = now.Add(time.Millisecond)
		w.over(answered, now)
		return w.size
	}
	for _, breaks := range []func() int{
		func() int { return answer(true, false) },
		func() int { return answer(false, true) },
	} {
		for range fewAnswers {
			answer(true, true)
		}
		if breaks() != windowLeast {
			t.Error("a measure of too few answers")
		}
	}
	for range fewAnswers {
		if answer(true, true) != windowLeast {
			t.Error("a measure that goes on after a break")
		}
	}
	if answer(true, true) != 2*windowLeast {
		t.Error("no trial after a measure")
	}
}

// TestWindowTrials: what a measure says of the size.
func TestWindowTrials(t *testing.T) {
	const least = windowLeast
	type step struct {
		rate float64
		want int // the size after it, in windowLeast
	}
	resting := func(n, size int) (steps []step) {
		for range n {
			steps = append(steps, step{100, size})
		}
		return steps
	}
	sequence := func(parts ...[]step) (all []step) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	inVain := []step{{100, 2}, {124, 1}}
	for name, steps := range map[string][]step{
		"doubled as long as a quarter more passes": {{100, 2}, {125, 4}, {157, 8}, {190, 4}, {190, 4}},
		"rests grow while trials are in vain":      sequence(inVain, resting(4, 1), inVain, resting(8, 1), inVain, resting(16, 1), inVain, resting(32, 1), inVain, resting(64, 1), inVain, resting(64, 1), inVain),
		"rests are short after one that was not":   sequence(inVain, resting(4, 1), inVain, resting(8, 1), []step{{100, 2}, {200, 4}, {200, 2}}, resting(4, 2), []step{{100, 1}}),
		"half is tried, and kept":                  sequence([]step{{100, 2}, {200, 4}, {200, 2}}, resting(4, 2), []step{{100, 1}, {90, 1}}, []step{{90, 2}}),
		"half is tried, and given up":              sequence([]step{{100, 2}, {200, 4}, {200, 2}}, resting(4, 2), []step{{100, 1}, {89, 2}}, resting(8, 2), []step{{100, 4}}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindow()
			for i, s := range steps {
				if w.judge(s.rate); w.size != s.want*least {
					t.Fatalf("%.1f after step %d, want %d", float64(w.size)/least, i, s.want)
				}
			}
		})
	}
}

// TestWindowMost: a window that cannot be doubled any more is halved at times, to see whether that is enough.
func TestWindowMost(t *testing.T) {
	w := newWindow()
	rate, tries := 1.0, 0
	for ; w.size < windowMost && tries < 100; tries++ {
		w.judge(rate)
		rate *= 2
	}
	w.judge(rate) // the last trial was a good one
	w.judge(rate)
	if w.size != windowMost/2 {
		t.Errorf("%d bytes after %d trials", w.size, tries)
	}
	if w.judge(rate / 2); w.size != windowMost {
		t.Errorf("%d bytes: half of the most passes half", w.size)
	}
}
