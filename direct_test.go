package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// TestSendReasons: each failure of Send has its reason.
func TestSendReasons(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	ch, _ := channel(t, members[0], "only here", nil)
	join(t, members...)
	for member, want := range map[string]starling.SendReason{"nobody": starling.SendUnknown, "m01": starling.SendNoChannel} {
		var refused *starling.SendError
		if err := ch.Send(soon(t), member, say("m")); !errors.As(err, &refused) || refused.Member != member || refused.Reason != want {
			t.Errorf("Send to %s: %v, want %v", member, err, want)
		}
	}
	if err := members[1].Leave(soon(t)); err != nil {
		t.Fatal(err)
	}
	allSee(t, members[0])
	var refused *starling.SendError
	if err := ch.Send(soon(t), "m01", say("m")); !errors.As(err, &refused) || refused.Reason != starling.SendUnknown {
		t.Errorf("Send to who has left: %v", err)
	}
}

// TestSendMemberGone: who waits for a member that dies is told so, and does not wait for the context.
func TestSendMemberGone(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := append([]*node(nil), l.members(3)...)
		ch, _ := channel(t, nodes[0].Cluster, "ch", nil)
		l.crash(nodes[2])
		for _, s := range []string{"small", strings.Repeat("large", 1000)} {
			err := ch.Send(soon(t), nodes[2].name, say(s))
			var refused *starling.SendError
			if !errors.As(err, &refused) || refused.Reason != starling.SendMemberGone && refused.Reason != starling.SendUnknown {
				t.Errorf("Send of %d bytes: %v", len(s), err)
			}
		}
	})
}

// TestSendNoAnswer: who is silent is waited for until the context ends.
func TestSendNoAnswer(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, func(_ int, c *starling.Config) { c.Tune = still })
	chs, _ := channels(t, members, "ch", nil)
	join(t, members...)
	if err := members[1].Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := chs[0].Send(ctx, "m01", say("m"))
	var refused *starling.SendError
	if !errors.As(err, &refused) || refused.Reason != starling.SendNoAnswer || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send: %v", err)
	}
}

// TestSendBusy: a full inbox refuses, the sender tries again, and what was accepted is handled once.
func TestSendBusy(t *testing.T) {
	for _, to := range []string{"m1", "m0"} { // another member, and this very one
		t.Run(to, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				entered, release := make(chan struct{}, 10), make(chan struct{})
				r := new(recorder[text])
				var chs []*starling.Channel[text]
				l.members(2, func(n *node) {
					ch, err := starling.NewChannel(n.Cluster, "ch", func(ctx context.Context, m starling.Message[text]) {
						entered <- struct{}{}
						<-release
						r.handle(ctx, m)
					}, &starling.ChannelOptions[text]{Inbox: starling.Inbox{Messages: 1}})
					must(t, err)
					chs = append(chs, ch)
				})
				ch := chs[0]
				must(t, ch.Send(soon(t), to, say("in hand")))
				arrives(t, "the handler is called", entered)
				must(t, ch.Send(soon(t), to, say("in the inbox")))
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				err := ch.Send(ctx, to, say("refused"))
				var refused *starling.SendError
				if !errors.As(err, &refused) || refused.Reason != starling.SendBusy || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Send to a full inbox: %v", err)
				}
				sent := make(chan error, 1)
				go func() { sent <- ch.Send(soon(t), to, say("later")) }()
				close(release)
				if err := arrives(t, "Send returns", sent); err != nil {
					t.Errorf("Send when there is room again: %v", err)
				}
				hears(t, to, r, "in hand", "in the inbox", "later")
			})
		})
	}
}

// TestSendSizes: from nothing to megabytes, each arrives byte for byte and once.
func TestSendSizes(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	r := new(recorder[[]byte])
	var chs []*starling.Channel[[]byte]
	for _, c := range members {
		ch, err := starling.NewChannelOf(c, "ch", r.handle, starling.Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		chs = append(chs, ch)
	}
	join(t, members...)
	sizes := []int{0, 1, 500, 600, 700, 1200, 1300, 1400, 10_000, 3 << 20, starling.DefaultMaxMessageSize}
	for i, size := range sizes {
		blob := bytes.Repeat([]byte{byte(i + 1)}, size)
		if err := chs[0].Send(soon(t), "m01", blob); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		eventually(t, fmt.Sprintf("%d bytes arrive", size), func() bool { return r.count() > i })
		if m := r.messages()[i]; !bytes.Equal(m.Value, blob) {
			t.Errorf("%d bytes arrived as %d others", size, len(m.Value))
		}
	}
	if n := r.count(); n != len(sizes) {
		t.Errorf("%d messages arrived, want %d", n, len(sizes))
	}
}

// TestSendTooLarge: what is larger than this member's limit is refused here, and what is larger than the receiver's is there, at the first piece.
func TestSendTooLarge(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.configure = func(c *starling.Config) { c.MaxMessageSize, c.Retention.Bytes = 32<<20, 128<<20 }
		nodes := append([]*node(nil), l.members(1)...)
		l.configure = nil
		nodes = append(nodes, l.member("m1"))
		l.join(nodes[1], nodes[0])
		l.whole(nodes...)
		var large *starling.TooLargeError
		if err := nodes[0].ch.Send(soon(t), "m1", make([]byte, 32<<20+1)); !errors.As(err, &large) || large.Size != 32<<20+1 || large.Limit != 32<<20 {
			t.Errorf("Send beyond our own limit: %v", err)
		}
		before := l.Net.Total().Sent.StreamBytes
		var refused *starling.SendError
		if err := nodes[0].ch.Send(soon(t), "m1", make([]byte, 32<<20)); !errors.As(err, &refused) || refused.Reason != starling.SendTooLarge {
			t.Errorf("Send beyond the receiver's limit: %v", err)
		}
		time.Sleep(time.Second) // for what is still in the lane
		if sent := l.Net.Total().Sent.StreamBytes - before; sent > 3<<20 {
			t.Errorf("%d bytes were sent in vain", sent)
		}
	})
}
