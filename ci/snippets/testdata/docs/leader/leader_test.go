package leader

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestNightly(t *testing.T) {
	starlingtest.Run(t, 3, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		time.Sleep(time.Second)
		ran := 0
		job := func(context.Context) error { ran++; return nil }
		for _, m := range l.Members() {
			l.Must(Nightly(t.Context(), m.Cluster, job))
		}
		if ran != 1 {
			t.Errorf("the job ran %d times", ran)
		}
	})
}
