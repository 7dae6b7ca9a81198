package starling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/transport"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// testPeer is the member p1, p2 and so on, of origin 101, 102 and so on.
func testPeer(i int) wire.Peer {
	return wire.Peer{
		Name: fmt.Sprint("p", i), ID: uint64(100 + i),
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i)),
	}
}

// unstarted is a cluster of which nothing runs: what it would send stays in its replica.
func unstarted(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	cfg.Name, cfg.Logger = "self", slog.New(slog.DiscardHandler)
	s, err := cfg.settle()
	if err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{id: 1, cfg: s, log: s.Logger}
	c.table = newMembership(s.Name, func(_, _ Member) {})
	c.keyring = newKeyring(c)
	c.build()
	c.outlet.streams = transport.NewStreamQueues(func(context.Context, []wire.Stream, func()) (<-chan struct{}, error) {
		return nil, errors.New("unstarted")
	}, func(func()) bool { return false })
	addr := testPeer(9).Addr
	c.addr.Store(&addr)
	return c
}

// openUnserved opens a channel without a goroutine: what comes waits in its inbox.
func openUnserved(c *Cluster, key string) *channel {
	ch := &channel{c: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	close(ch.done) // nothing of it runs that Close would have to wait for
	ch.core = replica.Channel{
		Key: key, Owner: ch, Inbox: replica.InboxLimits{Messages: DefaultInboxMessages, Bytes: DefaultInboxBytes},
	}
	c.do(func(r *replica.Replica, now time.Time) { r.Open(&ch.core, now) })
	return ch
}

// TestAnswerIsPosted: a goodbye is acknowledged by the outlet's loop, not by whoever reads packets.
func TestAnswerIsPosted(t *testing.T) {
	c := unstarted(t, Config{})
	from := wire.Peer{ID: 999, Name: "somebody", Addr: testPeer(7).Addr}
	c.inlet.receive(wire.EncodeControl(from, wire.BodyGoodbye, &starlingpb.Goodbye{}))
	c.inlet.receive(wire.EncodeControl(wire.Peer{ID: 998, Name: "s", Addr: from.Addr}, wire.BodyGoodbye, &starlingpb.Goodbye{}))
	packets := c.replica.Effects().Packets
	if len(packets) != 1 || packets[0].To.Addr != from.Addr || packets[0].To.ID != from.ID {
		t.Errorf("posted: %+v; want an answer to whom it is not longer than the question, and none to the other", packets)
	}
}

// TestDirectOfNoMember: a message for us alone from somebody who is no member is counted, and neither handled nor answered.
func TestDirectOfNoMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := newTap("10.0.0.1:7946")
		c, err := New(Config{Name: "self", Transport: tap, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ch := openUnserved(c, "ch")
		waiting := func() (n int) {
			c.do(func(*replica.Replica, time.Time) { n, _ = ch.core.Waiting() })
			return n
		}
		from := wire.Peer{ID: 101, Name: strings.Repeat("n", wire.MaxNameSize), Addr: netip.MustParseAddrPort("127.0.0.1:1")}
		frame := wire.EncodeControl(from, wire.BodyDirect, &starlingpb.Direct{To: c.id, Key: "ch", Id: 1})
		c.delegate.NotifyMsg(frame)
		synctest.Wait()
		if drops := c.Stats().Dropped; drops[DropStranger] != 1 || waiting() != 0 || tap.largest.Load() != 0 {
			t.Errorf("drops %v, inbox of %d, answer of %d bytes", drops, waiting(), tap.largest.Load())
		}
		c.table.NotifyJoin(testNode(from.Name, 101, 1, ""))
		c.delegate.NotifyMsg(frame)
		synctest.Wait()
		if waiting() != 1 || tap.largest.Load() == 0 {
			t.Errorf("of a member: inbox of %d, answer of %d bytes", waiting(), tap.largest.Load())
		}
	})
}
