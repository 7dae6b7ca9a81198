package interop

import (
	"fmt"
	"testing"
)

// startThree makes an Alertmanager and two Starling members that all see each other.
func startThree(tb testing.TB, o options) (a *alertmanager, members [2]*member) {
	tb.Helper()
	a = startAlertmanager(tb, o)
	for i := range members {
		members[i] = startMember(tb, fmt.Sprintf("starling-%d", i), o)
		dial(tb, members[i].Cluster, a.addr())
	}
	together(tb, a, members[0].Cluster, members[1].Cluster)
	return a, members
}

// TestThree: updates of each get to the other two, and nobody passes them on for ever.
func TestThree(t *testing.T) {
	t.Parallel()
	a, members := startThree(t, options{label: t.Name()})
	all := []*memory{a.memory, members[0].memory, members[1].memory}
	for _, size := range []int{50, 5_000} {
		for _, from := range all {
			id := from.mute(t, size)
			for _, to := range all {
				sameSilence(t, from, to, id)
			}
		}
	}
	// A state broadcasts its own two, and once more what is small, new to it and came without an identity: two at most.
	for _, b := range members {
		if n := b.Stats().Channels[silencesKey].Accepted; n > 4 {
			t.Errorf("%s broadcast %d times for six silences", b.Self().Name, n)
		}
	}
	a.journal.clean(t)
}
