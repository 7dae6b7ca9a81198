package interop

import (
	"fmt"
	"testing"
)

// flock is an Alertmanager among two Starling members.
func flock(tb testing.TB, o options) (a *alertmanager, birds [2]*bird) {
	tb.Helper()
	a = startAlertmanager(tb, o)
	for i := range birds {
		birds[i] = startBird(tb, fmt.Sprintf("starling-%d", i), o)
		dial(tb, birds[i].Cluster, a.addr())
	}
	together(tb, a, birds[0].Cluster, birds[1].Cluster)
	return a, birds
}

// TestThree: updates of each get to the other two, and nobody passes them on for ever.
func TestThree(t *testing.T) {
	t.Parallel()
	a, birds := flock(t, options{label: t.Name()})
	all := []*memory{a.memory, birds[0].memory, birds[1].memory}
	for _, size := range []int{50, 5_000} {
		for _, from := range all {
			id := from.mute(t, size)
			for _, to := range all {
				sameSilence(t, from, to, id)
			}
		}
	}
	// A state broadcasts its own two, and once more what is small, new to it and came without an identity: two at most.
	for _, b := range birds {
		if n := b.Stats().Channels[silencesKey].Accepted; n > 4 {
			t.Errorf("%s broadcast %d times for six silences", b.Self().Name, n)
		}
	}
	a.journal.clean(t)
}
