package interop

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/starling-go/starling"
)

// ear is a state of Alertmanager's that hears what comes under its key.
type ear struct {
	nothing
	mu    sync.Mutex
	heard int
}

func (e *ear) Merge([]byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard++
	return nil
}

func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// TestNoControlFrames: none of what Starling members say to each other comes to an Alertmanager, which would hear it under
// the empty key; nor do messages of channels that it does not have make it complain.
func TestNoControlFrames(t *testing.T) {
	t.Parallel()
	a, birds := flock(t, options{label: t.Name()})
	var controls, chats ear
	a.peer.AddState("", &controls, a.reg)
	const n = 200
	got := make(chan struct{}, n)
	chat := openChats(t, birds, func() { got <- struct{}{} })
	for i := range n {
		size := 100
		if i%20 == 0 {
			size = 5_000
		}
		must(t, chat.Broadcast(t.Context(), []byte(noise(size))))
	}
	must(t, chat.Send(t.Context(), birds[1].Self().Name, []byte("direct")))
	eventually(t, "the other Starling has all", func() bool { return len(got) == n })
	a.peer.AddState("chat", &chats, a.reg)
	must(t, chat.Broadcast(t.Context(), []byte("the last")))
	eventually(t, "Alertmanager hears the channel, now that it has it", func() bool { return chats.count() > 0 })
	must(t, birds[1].Leave(t.Context()))
	eventually(t, "one has left", func() bool { return len(a.sees()) == 2 })
	id := birds[0].mute(t, 50)
	sameSilence(t, birds[0].memory, a.memory, id)
	if controls.count() != 0 {
		t.Errorf("Alertmanager has got %d control frames", controls.count())
	}
	a.journal.clean(t)
}

// TestStrayControlFrame: if a control frame comes to an Alertmanager all the same, by packet or by stream, it is counted by
// Alertmanager and does nothing else.
func TestStrayControlFrame(t *testing.T) {
	t.Parallel()
	o := options{label: t.Name()}
	a, b := pair(t, o)
	stray := stranger(t, o.label)
	received := func() int { return a.count(t, "alertmanager_cluster_messages_received_total", "update") }
	before := received()
	strays := 0
	for _, frame := range controlFrames(t) {
		must(t, stray.SendReliable(a.peer.Self(), frame))
		must(t, stray.SendBestEffort(a.peer.Self(), frame))
		strays += 2
	}
	eventually(t, "Alertmanager has counted them", func() bool { return received() == before+strays })
	id := b.mute(t, 50)
	sameSilence(t, b.memory, a.memory, id)
	a.journal.clean(t)

	// With an empty key in its hands Alertmanager hears each of them: so the ear of TestNoControlFrames is a good one.
	var controls ear
	a.peer.AddState("", &controls, a.reg)
	for _, frame := range controlFrames(t) {
		must(t, stray.SendReliable(a.peer.Self(), frame))
		must(t, stray.SendBestEffort(a.peer.Self(), frame))
	}
	eventually(t, "the ear has heard them", func() bool { return controls.count() == strays })
	a.journal.clean(t)
}

// openChats opens a channel that Alertmanager does not have on both members, and returns the first one's.
func openChats(tb testing.TB, birds [2]*bird, heard func()) *starling.Channel[[]byte] {
	tb.Helper()
	handle := func(_ context.Context, m starling.Message[[]byte]) {
		if m.Via != starling.Direct && !slices.Equal(m.Value, []byte("the last")) {
			heard()
		}
	}
	var first *starling.Channel[[]byte]
	for _, b := range slices.Backward(birds[:]) {
		ch, err := starling.NewChannelOf(b.Cluster, "chat", handle, starling.Bytes(), nil)
		must(tb, err)
		first = ch
	}
	return first
}
