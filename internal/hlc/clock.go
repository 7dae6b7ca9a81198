// Package hlc is a hybrid logical clock: its stamps follow the wall clock, and a stamp that is made after another one was seen is
// always greater than that, however wrong the clocks are.
//
// The package is pure: the time comes in as a value.
package hlc

import (
	"fmt"
	"time"
)

// A Stamp is a point in the order of events: milliseconds since 1970 in the upper 48 bits, a count within the millisecond in the
// lower 16. A count that overflows goes into the milliseconds. 0 is before every stamp that a Clock makes.
type Stamp uint64

// countBits is how many of a stamp's bits count within a millisecond.
const countBits = 16

// Limit bounds the stamps that are taken from others. It leaves a clock room to go on, whatever it was told: some 2,000 years.
const Limit = Stamp(1) << 62

// At returns the first stamp of a time. What no stamp can hold is the nearest that can be.
func At(t time.Time) Stamp {
	return Stamp(min(max(t.UnixMilli(), 0), int64(Limit>>countBits))) << countBits
}

// Time returns the wall clock's part of a stamp.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> countBits)) }

func (s Stamp) String() string {
	return fmt.Sprintf("%d.%d", uint64(s)>>countBits, uint64(s)&(1<<countBits-1))
}

// A Clock makes stamps. The zero value is ready. It takes no lock.
type Clock struct {
	// Invariant: last ≥ every stamp that was made or seen.
	last Stamp
}

// Next returns a stamp that is greater than all that were made and seen before, and not before now.
func (c *Clock) Next(now time.Time) Stamp {
	c.last = max(c.last+1, At(now))
	return c.last
}

// See notes a stamp that somebody else has made, so that the next one here is greater. It is never refused: a member whose stamps
// others refused would never be equal to them. skew is how far the stamp is ahead of the clock here: that of its maker, or of
// somebody whom its maker has seen, is at least so much ahead. A stamp of the past has none.
func (c *Clock) See(s Stamp, now time.Time) (skew time.Duration) {
	c.last = max(c.last, s)
	return max(s.Time().Sub(now.Round(0)), 0)
}

// Last returns the greatest stamp that was made or seen.
func (c *Clock) Last() Stamp { return c.last }
