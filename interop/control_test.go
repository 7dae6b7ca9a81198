package interop

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/starling-go/starling"
)

// mergeCounter is a state that counts what an Alertmanager merges into it: all messages under its key.
type mergeCounter struct {
	nothing
	mu     sync.Mutex
	merged int
}

func (c *mergeCounter) Merge([]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.merged++
	return nil
}

func (c *mergeCounter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.merged
}

// TestNoControlFrames: no control frame that Starling members send each other comes to an Alertmanager, which would take it for a
// message under the empty key. Messages of channels that it does not have do not make it complain.
func TestNoControlFrames(t *testing.T) {
	t.Parallel()
	a, members := startThree(t, options{label: t.Name()})
	var controls, chats mergeCounter
	a.peer.AddState("", &controls, a.reg)
	const n = 200
	got := make(chan struct{}, n)
	chat := openChats(t, members, func() { got <- struct{}{} })
	for i := range n {
		size := 100
		if i%20 == 0 {
			size = 5_000
		}
		must(t, chat.Broadcast(t.Context(), []byte(noise(size))))
	}
	must(t, chat.Send(t.Context(), members[1].Self().Name, []byte("direct")))
	eventually(t, "the other Starling has all", func() bool { return len(got) == n })
	a.peer.AddState("chat", &chats, a.reg)
	must(t, chat.Broadcast(t.Context(), []byte("the last")))
	eventually(t, "Alertmanager hears the channel, now that it has it", func() bool { return chats.count() > 0 })
	must(t, members[1].Leave(t.Context()))
	eventually(t, "one has left", func() bool { return len(a.sees()) == 2 })
	id := members[0].mute(t, 50)
	sameSilence(t, members[0].memory, a.memory, id)
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
	stray := plainMember(t, o.label)
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

	// An Alertmanager with a state under the empty key merges each of them: so TestNoControlFrames would see them.
	var controls mergeCounter
	a.peer.AddState("", &controls, a.reg)
	for _, frame := range controlFrames(t) {
		must(t, stray.SendReliable(a.peer.Self(), frame))
		must(t, stray.SendBestEffort(a.peer.Self(), frame))
	}
	eventually(t, "all are merged", func() bool { return controls.count() == strays })
	a.journal.clean(t)
}

// openChats opens a channel that Alertmanager does not have on both members, and returns the first one's.
func openChats(tb testing.TB, members [2]*member, heard func()) *starling.Channel[[]byte] {
	tb.Helper()
	handle := func(_ context.Context, m starling.Message[[]byte]) {
		if m.Via != starling.ViaDirect && !slices.Equal(m.Value, []byte("the last")) {
			heard()
		}
	}
	var first *starling.Channel[[]byte]
	for _, b := range slices.Backward(members[:]) {
		ch, err := starling.NewChannelOf(b.Cluster, "chat", handle, starling.Bytes(), nil)
		must(tb, err)
		first = ch
	}
	return first
}
