package kv

import "time"

// Standing decides which of two members is reset when each may have missed deletions that the other has let go: the one that was among
// fewer members, and of the same number the one whose group has the greater least id.
type Standing struct {
	Weight int    // among how many members it has been for most of the time that matters
	Least  uint64 // the least id among them
}

// yields reports whether who has this standing is reset, and not the other.
func (s Standing) yields(o Standing) bool {
	return s.Weight < o.Weight || s.Weight == o.Weight && s.Least > o.Least
}

// Census keeps a Standing up to date. It counts for how long this member was among how many, in the last one to two spans.
type Census struct {
	span    time.Duration
	now     Standing
	since   time.Time // when now began, or was counted up to
	began   time.Time // the span that is counted
	current map[Standing]time.Duration
	last    map[Standing]time.Duration
}

// NewCensus begins to count. span is how long tombstones are kept.
func NewCensus(span time.Duration, first Standing, now time.Time) *Census {
	return &Census{span: span, now: first, since: now, began: now, current: map[Standing]time.Duration{}}
}

// Change notes among whom this member is from now on.
func (c *Census) Change(s Standing, now time.Time) {
	c.count(now)
	c.now = s
}

// Adopt begins anew with the standing of the member that this one has its first state of.
func (c *Census) Adopt(s Standing, now time.Time) {
	c.count(now)
	c.last, c.current, c.began = map[Standing]time.Duration{s: c.span}, map[Standing]time.Duration{}, now
}

func (c *Census) count(now time.Time) {
	if now.Sub(c.began) >= c.span {
		c.last, c.current, c.began = c.current, map[Standing]time.Duration{}, now
	}
	c.current[c.now] += now.Sub(c.since)
	c.since = now
}

// Standing returns among whom this member was for most of the time.
func (c *Census) Standing(now time.Time) (most Standing) {
	c.count(now)
	longest := time.Duration(-1)
	for _, m := range []map[Standing]time.Duration{c.current, c.last} {
		for s := range m {
			if d := c.current[s] + c.last[s]; d > longest || d == longest && most.yields(s) {
				longest, most = d, s
			}
		}
	}
	return most
}
