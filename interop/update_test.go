package interop

import (
	"fmt"
	"testing"
)

// ends are a pair's memories, as the way of an update.
func ends(fromStarling bool, a *alertmanager, b *member) (from, to *memory) {
	if fromStarling {
		return b.memory, a.memory
	}
	return a.memory, b.memory
}

// route is how many streams were used before something was sent.
type route struct {
	a      *alertmanager
	b      *member
	key    string
	his    int
	dialed uint64
}

func watch(tb testing.TB, a *alertmanager, b *member, key string) route {
	return route{a, b, key, a.streamed(tb, key), b.Stats().Traffic.StreamsDialed}
}

// streams is how many the sender has used since.
func (r route) streams(tb testing.TB, fromStarling bool) int {
	tb.Helper()
	if fromStarling {
		return int(r.b.Stats().Traffic.StreamsDialed - r.dialed)
	}
	return r.a.streamed(tb, r.key) - r.his
}

// check fails the test unless one large update went by stream, or one small one did not.
func (r route) check(tb testing.TB, fromStarling, large bool) {
	tb.Helper()
	want := 0
	if large {
		want = 1
	}
	if got := r.streams(tb, fromStarling); got != want {
		tb.Errorf("it went by %d streams, want %d", got, want)
	}
}

// TestUpdates: a silence, or an entry of the notification log, that is new on one side gets to the other, in a packet if it
// is small and in a stream if it is large, as does what the other side then makes of it. States are exchanged at the join
// alone, so nothing else can bring it.
func TestUpdates(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"", "label"} { // without a label, Starling's packets pass its memberlist by
		for _, large := range []bool{false, true} {
			for _, fromStarling := range []bool{false, true} {
				t.Run(fmt.Sprintf("label=%q/large=%v/fromStarling=%v", label, large, fromStarling), func(t *testing.T) {
					t.Parallel()
					a, b := pair(t, options{label: label})
					from, to := ends(fromStarling, a, b)
					comment, alerts := 50, 5
					if large {
						comment, alerts = 5_000, 500
					}

					r := watch(t, a, b, silencesKey)
					id := from.mute(t, comment)
					sameSilence(t, from, to, id)
					r.check(t, fromStarling, large)
					must(t, to.silences.Expire(t.Context(), id))
					sameSilence(t, to, from, id)

					r = watch(t, a, b, logKey)
					from.note(t, "group", alerts)
					sameNote(t, from, to, "group")
					r.check(t, fromStarling, large)
					to.note(t, "group", alerts+1)
					sameNote(t, to, from, "group")
					a.journal.clean(t)
				})
			}
		}
	}
}

// TestSizes: silences of every size around the one where packets end and streams begin get through, both ways.
func TestSizes(t *testing.T) {
	t.Parallel()
	a, b := pair(t, options{label: t.Name()})
	for _, fromStarling := range []bool{false, true} {
		from, to := ends(fromStarling, a, b)
		r := watch(t, a, b, silencesKey)
		var ids []string
		for size := 400; size < 600; size += 3 {
			ids = append(ids, from.mute(t, size))
		}
		for _, id := range ids {
			sameSilence(t, from, to, id)
		}
		if n := r.streams(t, fromStarling); n == 0 || n == len(ids) {
			t.Errorf("%d of %d went by stream: the sizes do not span the limit", n, len(ids))
		}
	}
	a.journal.clean(t)
}
