package ratelimits

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// Three members let pass the limit together, and not three times as much; a second later they begin anew.
func TestLimiter(t *testing.T) {
	const limit = 30
	limiters := map[string]*Limiter{}
	open := func(m *starlingtest.Member) (err error) {
		limiters[m.Name], err = NewLimiter(m.Cluster, limit)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		ctx, cancel := context.WithCancel(t.Context())
		for _, limiter := range limiters {
			go limiter.Tell(ctx)
		}
		for range 2 {
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			passed := 0
			for range 45 { // nearly a second; no more than 6 pass between two calls of Tell
				for _, limiter := range limiters {
					if limiter.Allow("client") {
						passed++
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			if passed < limit || passed > limit+20 {
				t.Errorf("%d have passed, the limit is %d", passed, limit)
			}
		}
		cancel()
		time.Sleep(time.Second)
	})
}
