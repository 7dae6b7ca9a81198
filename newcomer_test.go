package starling_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// sees reports whether a node is among the members of another one.
func sees(n, other *node) bool {
	return slices.ContainsFunc(n.Members(), func(m starling.Member) bool { return m.ID == other.Self().ID })
}

// TestConfirmAwaitsNewcomers: Confirm waits for a newcomer whose Join has returned, on every member: on its seed, and on those that memberlist
// has yet to tell of it.
func TestConfirmAwaitsNewcomers(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(8))
		unknown := 0
		for round := range 12 {
			origin, newcomer := nodes[round%len(nodes)], l.member(fmt.Sprint("new", round))
			l.join(newcomer, nodes[0])
			if !sees(origin, newcomer) {
				unknown++
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			id, b := l.payload(origin, 200)
			began := time.Now()
			must(t, origin.ch.Confirm(ctx, b, &starling.ConfirmOptions{Handled: true}))
			cancel()
			took := time.Since(began)
			if newcomer.lacks([]uint64{id}) != 0 {
				t.Errorf("%s: Confirm returned nil after %v, and %s has not handled the message", origin.name, took, newcomer.name)
			}
			if took > 200*time.Millisecond { // it does not wait for memberlist to tell of the newcomer
				t.Errorf("%s: Confirm took %v", origin.name, took)
			}
		}
		if unknown == 0 {
			t.Error("every origin knew the newcomer already: nothing was tested")
		}
	})
}

// TestReplyToNewcomer: a newcomer asks everybody something as soon as its Join has returned, and everybody's reply reaches it, small or large, by
// name or to its run: though memberlist has told hardly anybody of it.
func TestReplyToNewcomer(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 3000, 2 << 20} {
		inLab(t, func(t *testing.T, l *lab) {
			const members = 6
			type reply struct {
				from string
				err  error
				seen bool
			}
			replies := make(chan reply, members)
			var answers *starling.Channel[[]byte]
			nodes := slices.Clone(l.members(members, func(n *node) {
				ch, err := starling.NewChannelOf(n.Cluster, "ask", func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
				must(t, err)
				_, err = starling.NewChannelOf(n.Cluster, "question", func(ctx context.Context, m starling.Message[[]byte]) {
					known := slices.ContainsFunc(n.Members(), func(o starling.Member) bool { return o.ID == m.From.ID })
					if n.name == "m1" {
						err = ch.Send(ctx, m.From.Name, make([]byte, size))
					} else {
						err = ch.SendMember(ctx, m.From, make([]byte, size))
					}
					replies <- reply{n.name, err, known}
				}, starling.Bytes(), nil)
				must(t, err)
			}))
			got := map[string]int{}
			arrived := make(chan string, members)
			newcomer := l.member("newcomer", func(n *node) {
				var err error
				answers, err = starling.NewChannelOf(n.Cluster, "question", func(context.Context, starling.Message[[]byte]) {}, starling.Bytes(), nil)
				must(t, err)
				_, err = starling.NewChannelOf(n.Cluster, "ask", func(_ context.Context, m starling.Message[[]byte]) {
					if len(m.Value) == size {
						arrived <- m.From.Name
					}
				}, starling.Bytes(), nil)
				must(t, err)
			})
			l.join(newcomer, nodes[0])
			must(t, answers.Broadcast(t.Context(), []byte("who is there?")))
			unknown := 0
			for range members {
				r := arrives(t, "the end of a Send", replies)
				if !r.seen {
					unknown++
				}
				if r.err != nil {
					t.Errorf("%s could not reply with %d bytes: %v", r.from, size, r.err)
				}
			}
			for range members {
				got[arrives(t, "a reply", arrived)]++
			}
			if len(got) != members || unknown == 0 {
				t.Errorf("%d bytes: replies of %v; %d of them did not know the newcomer", size, got, unknown)
			}
		})
	}
}

// TestLeaveTellsNewcomers: a member that leaves says so to a newcomer, too, that memberlist has not told it of; and takes a newcomer's word that
// it leaves. So neither counts the other as failed.
func TestLeaveTellsNewcomers(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(8))
		stays, goes := l.member("stays"), l.member("goes")
		l.join(stays, nodes[0])
		unaware := slices.IndexFunc(nodes, func(n *node) bool { return !sees(n, stays) })
		if unaware < 0 {
			t.Fatal("memberlist has told everybody of the newcomer already: nothing is tested")
		}
		l.join(goes, nodes[0])
		must(t, nodes[unaware].Leave(t.Context()))
		must(t, goes.Leave(t.Context()))
		time.Sleep(30 * time.Second)
		for _, n := range l.nodes {
			for _, m := range l.nodes {
				if slices.Contains(n.events.of(m.name), starling.EventFailed) {
					t.Errorf("%s was told that %s has failed", n.name, m.name)
				}
			}
		}
	})
}

// TestBriefMember: a member that leaves as soon as it has broadcast something after its Join has left to all others, and not failed; they know from
// whom its message was, and what it had said of itself.
func TestBriefMember(t *testing.T) {
	t.Parallel()
	for _, members := range []int{2, 8} {
		inLab(t, func(t *testing.T, l *lab) {
			l.configure = func(c *starling.Config) { c.Meta = []byte("role=x") }
			hello := func(n *node, told func(starling.Message[[]byte])) *starling.Channel[[]byte] {
				handle := func(_ context.Context, m starling.Message[[]byte]) { told(m) }
				ch, err := starling.NewChannelOf(n.Cluster, "hello", handle, starling.Bytes(), nil)
				must(t, err)
				return ch
			}
			var heard atomic.Int32
			nodes := slices.Clone(l.members(members, func(n *node) {
				hello(n, func(m starling.Message[[]byte]) {
					heard.Add(1)
					if string(m.From.Meta) != "role=x" || m.From.Version != n.Self().Version || !m.From.Has(starling.FeaturePieces) {
						t.Errorf("%s: a message of %+v", n.name, m.From)
					}
				})
			}))
			const rounds = 5
			for round := range rounds {
				brief := l.member(fmt.Sprint("brief", round))
				ch := hello(brief, func(starling.Message[[]byte]) {})
				l.join(brief, nodes[0])
				must(t, ch.Broadcast(t.Context(), []byte("hello")))
				must(t, brief.Leave(t.Context()))
				l.gone(brief)
				time.Sleep(20 * time.Second)
				for _, n := range nodes {
					if slices.Contains(n.events.of(brief.name), starling.EventFailed) {
						t.Errorf("%s of %d was told of %s: %v", n.name, members, brief.name, n.events.of(brief.name))
					}
				}
			}
			if n := int(heard.Load()); n != rounds*members {
				t.Errorf("%d messages were handled, want %d", n, rounds*members)
			}
		})
	}
}

// TestRestartedNewcomer: a newcomer that crashes at once, and runs again at its address, is waited for as the run that is there: neither Confirm nor the
// Join of later ones waits for the other.
func TestRestartedNewcomer(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := slices.Clone(l.members(12))
		first := l.member("new")
		l.join(first, nodes[0])
		l.Crash("new")
		l.gone(first)
		l.join(l.member("new"), nodes[0])
		l.whole(l.nodes...)
		var wg sync.WaitGroup
		for _, n := range nodes {
			_, b := l.payload(n, 200)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				err := n.ch.Confirm(ctx, b, nil)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("%s sees the run that is there, and Confirm took %v: %v", n.name, took, err)
				}
			})
		}
		wg.Wait()
		for i := range 4 {
			time.Sleep(8 * time.Second)
			n := l.member(fmt.Sprint("later", i))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if err := n.Join(ctx, addr(nodes[i].Cluster)); err != nil {
				t.Error(err)
			}
			cancel()
			if receipt, took := l.confirm(n, 5*time.Second, nil); took > time.Second || len(receipt.Missing) > 0 {
				t.Errorf("%s: Confirm took %v; missing: %v", n.name, took, missing(receipt))
			}
		}
	})
}
