package interop

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/starling-go/starling"
)

// TestChannel: a channel of bytes under Alertmanager's key, in place of a state, hears what it broadcasts and is heard. What
// comes has no identity.
func TestChannel(t *testing.T) {
	t.Parallel()
	for _, size := range []int{50, 5_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			o := options{label: t.Name()}
			a, c := startAlertmanager(t, o), newCluster(t, "starling", o)
			heard := make(chan starling.Message[[]byte], 1)
			ch, err := starling.NewChannelOf(c, silencesKey, func(ctx context.Context, m starling.Message[[]byte]) {
				select {
				case heard <- m:
				case <-ctx.Done():
				}
			}, starling.Bytes(), nil)
			must(t, err)
			dial(t, c, a.addr())
			together(t, a, c)

			id := a.mute(t, size)
			ours := merged(t, receive(t, heard))
			sameSilence(t, a.memory, ours, id)
			must(t, ours.silences.Expire(t.Context(), id))
			state, err := ours.silences.MarshalBinary()
			must(t, err)
			must(t, ch.Broadcast(t.Context(), state))
			sameSilence(t, ours, a.memory, id)
			a.journal.clean(t)
		})
	}
}

// receive returns the next message, which must be a foreign member's.
func receive(tb testing.TB, heard <-chan starling.Message[[]byte]) []byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	select {
	case m := <-heard:
		if m.From.Name != "" || m.From.ID != 0 || m.Seq != 0 {
			tb.Errorf("it is from %+v, number %d, and should be from nobody", m.From, m.Seq)
		}
		return m.Value
	case <-ctx.Done():
		tb.Fatal("heard nothing")
		return nil
	}
}

// merged returns real silences that hold this state.
func merged(tb testing.TB, state []byte) *memory {
	tb.Helper()
	m := newMemory(tb, prometheus.NewRegistry())
	must(tb, m.silences.Merge(state))
	return m
}
