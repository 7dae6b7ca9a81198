package main

import (
	"context"
	"time"
)

// pace calls send for each message that is due, from its own schedule and not from when the last one was done: a sender
// that was held up catches up. Rate 0 means one after the other. It ends after lasts, or with the first error, and returns
// how many were sent, the longest call and the most that the schedule was missed by.
func pace(ctx context.Context, rate int, lasts time.Duration, send func(number int) error) (p pacing, err error) {
	start := time.Now()
	for now := start; now.Sub(start) < lasts && ctx.Err() == nil; now = time.Now() {
		if rate > 0 {
			due := start.Add(time.Duration(p.sent) * time.Second / time.Duration(rate))
			if wait := due.Sub(now); wait > 0 {
				time.Sleep(wait)
				continue
			}
			p.late = max(p.late, now.Sub(due))
		}
		if err := send(p.sent); err != nil {
			return p, err
		}
		p.longest = max(p.longest, time.Since(now))
		p.sent++
	}
	p.took = time.Since(start)
	return p, nil
}

// pacing is how sending went.
type pacing struct {
	sent    int
	took    time.Duration
	longest time.Duration // wait in one call
	late    time.Duration // most behind the schedule
}

func (p pacing) plus(q pacing) pacing {
	return pacing{p.sent + q.sent, max(p.took, q.took), max(p.longest, q.longest), max(p.late, q.late)}
}
