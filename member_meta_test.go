package starling_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// Metadata that changes faster than memberlist tells it, by callers that do not wait, piles up nothing: the latest is told soon, and nothing holds
// up Close. What piles up would wait for a lock, by which the clock of the lab stands still, and the test hangs.
func TestSetMetaPilesUpNothing(t *testing.T) {
	starlingtest.Run(t, 2, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		m0, m1 := l.Member("m0").Cluster, l.Member("m1").Cluster
		over, cancel := context.WithCancel(context.Background())
		cancel()
		burst := func() {
			for i := range 100 {
				// One that is told at once is as good.
				if err := m0.SetMeta(over, fmt.Append(nil, i)); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		}
		burst()
		l.Within(3*time.Second, func() error {
			if meta := string(m1.Members()[0].Meta); meta != "99" {
				return fmt.Errorf("m0 is seen with %q", meta)
			}
			return nil
		})
		burst()
		waits := make(chan error)
		go func() { waits <- m0.SetMeta(context.Background(), []byte("last")) }()
		time.Sleep(time.Millisecond)
		begun := time.Now()
		must(t, m0.Close())
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-waits; err != nil && !errors.Is(err, starling.ErrClosed) && time.Since(begun) > 5*time.Second {
			t.Errorf("SetMeta during Close: %v", err)
		}
	})
}
