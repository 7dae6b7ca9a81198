package interop

import (
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// fill gives a memory what others are to get, small and large together.
func fill(tb testing.TB, m *memory, group string) (ids []string) {
	tb.Helper()
	m.note(tb, group, 500)
	return []string{m.mute(tb, 50), m.mute(tb, 5_000)}
}

// same waits until to has all that fill gave to from.
func same(tb testing.TB, from, to *memory, group string, ids []string) {
	tb.Helper()
	sameNote(tb, from, to, group)
	for _, id := range ids {
		sameSilence(tb, from, to, id)
	}
}

// TestStatesAtJoin: what either had before the join the other has after it, whoever joins. Nothing is broadcast, and
// no periodic exchange can have brought it.
func TestStatesAtJoin(t *testing.T) {
	t.Parallel()
	for _, starlingJoins := range []bool{true, false} {
		name := "alertmanager joins"
		if starlingJoins {
			name = "starling joins"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options{label: t.Name(), mute: true}
			b := startMember(t, "starling", o)
			a := startAlertmanager(t, o, addr(b.Cluster))
			his, ours := fill(t, a.memory, "his"), fill(t, b.memory, "ours")
			if starlingJoins {
				dial(t, b.Cluster, a.addr())
			} else {
				a.join(t)
			}
			same(t, a.memory, b.memory, "his", his)
			same(t, b.memory, a.memory, "ours", ours)
			if n := a.count(t, "alertmanager_cluster_messages_received_total", "full_state"); !starlingJoins && n != 1 {
				t.Errorf("Alertmanager got %d full states, want 1", n)
			}
			if n := a.count(t, "alertmanager_cluster_messages_received_total", "update"); n != 0 {
				t.Errorf("Alertmanager got %d updates, want none", n)
			}
			a.journal.clean(t)
		})
	}
}

// TestStatesLater: the periodic exchange brings what was not broadcast since the join, both ways.
func TestStatesLater(t *testing.T) {
	t.Parallel()
	a, b := pair(t, options{label: t.Name(), mute: true, pushPull: 500 * time.Millisecond})
	his, ours := fill(t, a.memory, "his"), fill(t, b.memory, "ours")
	same(t, a.memory, b.memory, "his", his)
	same(t, b.memory, a.memory, "ours", ours)
	a.journal.clean(t)
}

// nothing is a state of no interest.
type nothing struct{}

func (nothing) MarshalBinary() ([]byte, error) { return []byte("nothing"), nil }
func (nothing) Merge([]byte) error             { return nil }

// TestUnknownState: a state of Starling's that Alertmanager has not is skipped and warned of, at each exchange; those that
// both have pass all the same. One of Alertmanager's that Starling has not is counted.
func TestUnknownState(t *testing.T) {
	t.Parallel()
	o := options{label: t.Name(), mute: true}
	b := startMember(t, "starling", o)
	_, err := starling.NewState(b.Cluster, "ours alone", nothing{})
	must(t, err)
	a := startAlertmanager(t, o, addr(b.Cluster))
	a.peer.AddState("his alone", nothing{}, a.reg)
	his, ours := fill(t, a.memory, "his"), fill(t, b.memory, "ours")
	a.join(t)
	same(t, a.memory, b.memory, "his", his)
	same(t, b.memory, a.memory, "ours", ours)
	counted := func() bool { return b.Stats().Dropped[starling.DropUnknownKey] == 1 }
	eventually(t, "Starling has counted the unknown state", counted)
	a.journal.only(t, `WARN unknown state key`, `key=ours alone`)
}
