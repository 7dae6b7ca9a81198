package interop

import (
	"slices"
	"testing"

	"github.com/starling-go/starling"
)

// joins are the two ways in which the two become a cluster.
var joins = []struct {
	name string
	pair func(testing.TB, options) (*alertmanager, *member)
}{
	{"alertmanager joins", pair},
	{"starling joins", func(tb testing.TB, o options) (*alertmanager, *member) {
		a, b := startAlertmanager(tb, o), startMember(tb, "starling", o)
		a.join(tb)
		dial(tb, b.Cluster, a.addr())
		together(tb, a, b.Cluster)
		return a, b
	}},
}

// TestJoin: each sees the other, Starling as a foreign member at its address, and each sees the other leave.
func TestJoin(t *testing.T) {
	t.Parallel()
	for _, j := range joins {
		for _, leaver := range []string{"starling", "alertmanager"} {
			t.Run(j.name+", "+leaver+" leaves", func(t *testing.T) {
				t.Parallel()
				a, b := j.pair(t, options{label: t.Name()})
				i := slices.IndexFunc(b.Members(), func(m starling.Member) bool { return m.Name == "alertmanager" })
				m := b.Members()[i]
				if !m.Foreign() || m.Version != 0 || m.Status != starling.StatusAlive || m.Addr.String() != a.addr() {
					t.Errorf("Starling sees %+v, want a foreign member at %s", m, a.addr())
				}
				if s := b.Stats(); s.Members != 2 || s.Foreign != 1 {
					t.Errorf("Starling counts %d members, %d of them foreign, want 2 and 1", s.Members, s.Foreign)
				}
				a.journal.clean(t)
				if leaver == "starling" {
					must(t, b.Leave(t.Context()))
					eventually(t, "Alertmanager is alone", func() bool { return slices.Equal(a.sees(), []string{"alertmanager"}) })
					a.journal.clean(t)
					return
				}
				must(t, a.leave())
				eventually(t, "Starling is alone", func() bool { return slices.Equal(sees(b.Cluster), []string{"starling"}) })
			})
		}
	}
}

// TestOtherLabel: a join needs the same label, so the tests' labels do keep them apart.
func TestOtherLabel(t *testing.T) {
	t.Parallel()
	b := startMember(t, "starling", options{label: "ours"})
	a := startAlertmanager(t, options{label: "theirs"}, addr(b.Cluster))
	if err := a.peer.Join(0, 0); err == nil {
		t.Error("an Alertmanager of another label has joined")
	}
	if got := sees(b.Cluster); len(got) != 1 {
		t.Errorf("Starling sees %v, want itself alone", got)
	}
}
