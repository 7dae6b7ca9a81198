package presence

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

func TestOffers(t *testing.T) {
	offers := map[string]*Offers{}
	open := func(m *starlingtest.Member) (err error) {
		offers[m.Name], err = NewOffers(m.Cluster)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		go offers["m0"].Log(t.Context(), slog.New(slog.DiscardHandler)) // it ends with the cluster
		for _, m := range l.Members() {
			l.Must(offers[m.Name].Announce(t.Context(), Offer{URL: "http://" + m.Name, Shards: []string{"s1"}}))
		}
		holders := func(want int) func() error {
			return func() error {
				if got := offers["m0"].Holders("s1"); len(got) != want {
					return fmt.Errorf("%v hold the shard, should be %d", got, want)
				}
				return nil
			}
		}
		l.Within(time.Second, holders(3))
		l.Leave("m1")
		l.Within(time.Second, holders(2))
		l.Crash("m2")
		l.Within(time.Minute, holders(1))
	})
}
