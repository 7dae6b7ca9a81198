package starling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling"
)

// TestFastPathCluster: real sockets, without a label; one member compresses, so that what it sends goes through memberlist.
// Messages are many and each is another, since a packet that is read overwrites the one before.
func TestFastPathCluster(t *testing.T) {
	members := flock(t, 4, func(i int, c *starling.Config) {
		c.Label = ""
		if i == 3 {
			c.Tune = func(m *memberlist.Config) { quick(m); m.EnableCompression = true }
		}
	})
	for i, c := range members {
		if starling.Direct(c) != (i != 3) {
			t.Errorf("member %d takes the fast path: %v", i, starling.Direct(c))
		}
	}
	var channels []*starling.Channel[text]
	var recorders []*recorder[text]
	for _, c := range members {
		ch, r := channel(t, c, "texts", nil)
		channels, recorders = append(channels, ch), append(recorders, r)
	}
	join(t, members...)
	var want []string
	for i := range 200 {
		for m, ch := range channels {
			said := fmt.Sprintf("%d of %d %s", i, m, strings.Repeat("x", i*5))
			want = append(want, said)
			if err := ch.Broadcast(t.Context(), say(said)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for m, r := range recorders {
		var others []string
		for i, said := range want {
			if i%len(members) != m {
				others = append(others, said)
			}
		}
		hears(t, members[m].Self().Name, r, others...)
	}
}
