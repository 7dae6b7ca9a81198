package starlingtest_test

import (
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// The example of the package's documentation and of the README, word for word.
func TestPricesSurviveACut(t *testing.T) {
	var rec starlingtest.Recorder
	prices := map[string]*starling.Channel[[]byte]{}
	open := func(m *starlingtest.Member) (err error) { // at every start of a member, before it joins
		prices[m.Name], err = starling.NewChannelOf(m.Cluster, "prices", rec.Handler("prices", m.Name), starling.Bytes(), nil)
		return err
	}
	starlingtest.Run(t, 5, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2", "m3", "m4"}))
		l.Must(prices["m0"].Broadcast(t.Context(), rec.Payload("prices", "m0", 100)))
		time.Sleep(30 * time.Second) // virtual: takes no time
		l.Net.Heal()
		l.WaitAll(15 * time.Second)
		l.Within(5*time.Second, func() error { return rec.ExactlyOnce("prices") })
	})
}
