package hlc

import (
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

// What was made after a stamp was seen is greater, whatever the clocks say; and a clock that is alone follows the wall clock.
func TestClocksNeverGoBack(t *testing.T) {
	rng := seedtest.Rand(t)
	wrong := []time.Duration{0, time.Hour, -time.Hour, 3 * time.Second}
	clocks := make([]Clock, len(wrong))
	made := make([]Stamp, len(wrong))
	now := time.UnixMilli(1_700_000_000_000)
	for range 100_000 {
		now = now.Add(time.Duration(rng.IntN(3)) * 100 * time.Microsecond)
		i, j := rng.IntN(len(clocks)), rng.IntN(len(clocks))
		clocks[i].See(made[j], now.Add(wrong[i]))
		s := clocks[i].Next(now.Add(wrong[i]))
		if s <= made[i] || s <= made[j] {
			t.Fatalf("clock %d made %v after %v and %v", i, s, made[i], made[j])
		}
		if s < At(now.Add(wrong[i])) {
			t.Fatalf("clock %d made %v, which is before its wall clock", i, s)
		}
		made[i] = s
	}
}

func TestSkew(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	var c Clock
	for _, ahead := range []time.Duration{-time.Hour, 0, time.Millisecond, time.Hour} {
		if skew := c.See(At(now.Add(ahead)), now); skew != max(ahead, 0) {
			t.Errorf("a stamp that is %v ahead has a skew of %v", ahead, skew)
		}
	}
	if s := c.Next(now); s <= At(now.Add(time.Hour)) {
		t.Errorf("the next stamp, %v, is not after the one that was seen", s)
	}
}

// The count overflows into the milliseconds, and what no stamp can hold is the nearest.
func TestEdges(t *testing.T) {
	now := time.UnixMilli(5)
	var c Clock
	first := c.Next(now)
	for range 1 << countBits {
		c.Next(now)
	}
	if last := c.Last(); last != first+1<<countBits || !last.Time().Equal(now.Add(time.Millisecond)) {
		t.Errorf("after %v and %d more: %v", first, 1<<countBits, last)
	}
	if s := At(time.Time{}); s != 0 {
		t.Errorf("the year 1 is %v", s)
	}
	if s := At(time.UnixMilli(1 << 62)); s != Limit {
		t.Errorf("the end of time is %v", s)
	}
	if text := Stamp(7<<countBits + 3).String(); text != "7.3" {
		t.Errorf("String: %s", text)
	}
}
