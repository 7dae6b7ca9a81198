package starling

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/transport"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestSendWaitsFromWritten: the pause before the next try counts from when the bytes were written, or could not be; a verdict ends it
// before. What is on its way for a minute is not sent a second time.
func TestSendWaitsFromWritten(t *testing.T) {
	const pause, slow = time.Second, time.Minute
	for name, test := range map[string]struct {
		err     error         // of the stream
		verdict time.Duration // when it comes; 0: never
		after   time.Duration // how long is waited
		done    bool
	}{
		"no verdict":                {nil, 0, slow + pause, false},
		"it could not be written":   {errors.New("reset"), 0, slow + pause, false},
		"a verdict while it writes": {nil, slow / 2, slow / 2, true},
		"a verdict when it has":     {nil, slow + pause/2, slow + pause/2, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sd := &sending{ch: &channel{ctx: t.Context()}, verdicts: make(verdicts, 1)}
				written, began := make(chan error, 1), time.Now()
				time.AfterFunc(slow, func() { written <- test.err })
				if test.verdict > 0 {
					time.AfterFunc(test.verdict, func() { sd.verdicts.put(starlingpb.DirectAck_ACCEPTED) })
				}
				done, err := sd.verdict(t.Context(), written, pause)
				if took := time.Since(began); done != test.done || err != nil || took != test.after {
					t.Errorf("done %v after %v: %v", done, took, err)
				}
				time.Sleep(slow) // for what fires later
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		sd := &sending{ch: &channel{ctx: t.Context()}, verdicts: make(verdicts, 1)}
		ctx, cancel := context.WithTimeout(t.Context(), slow)
		defer cancel()
		var failed *SendError
		if done, err := sd.verdict(ctx, nil, pause); !done || !errors.As(err, &failed) || failed.Reason != SendNoAnswer {
			t.Errorf("never written, until its context ends: %v, %v", done, err)
		}
	})
}

// TestSendRetry: how long the acknowledgement of each try is waited for: of a large message, as long as a slow link needs for it besides.
func TestSendRetry(t *testing.T) {
	sd := &sending{data: make([]byte, 3<<20)}
	for try, want := range []time.Duration{50, 100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		if got := sd.retryAfter(try, false); got != want*time.Millisecond {
			t.Errorf("try %d: %v", try, got)
		}
	}
	for try, want := range []time.Duration{4, 5, 7, 8, 8} {
		if got := sd.retryAfter(try, true); got != want*time.Second {
			t.Errorf("try %d of a large one: %v", try, got)
		}
	}
	if got := sd.retryAfter(1<<30, true); got != 8*time.Second {
		t.Errorf("a later one: %v", got)
	}
}

// TestSendWholeToOlder: a member that knows no pieces is sent the message whole, and what is too large for that is refused.
func TestSendWholeToOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := unstarted(t, Config{MaxMessageSize: 32 << 20, Retention: Retention{Bytes: 64 << 20}})
		var streams []int
		c.outlet.streams = transport.NewStreamQueues(func(_ context.Context, load []wire.Stream, _ func()) (<-chan struct{}, error) {
			streams = append(streams, len(load[0].Encode(time.Time{}))>>10)
			return nil, nil
		}, func(f func()) bool { go f(); return true })
		ch := openUnserved(c, "ch")
		ch.ctx = t.Context()
		older := testNode("older", 0, 1, "")
		older.Meta = wire.EncodeMeta(3, wire.OwnFeatures&^wire.FeaturePieces, nil)
		c.table.NotifyJoin(older)
		c.table.NotifyJoin(testNode("same", 2, 2, ""))
		for _, id := range []uint64{2, 3} {
			m := c.table.origin(id)
			c.do(func(r *replica.Replica, now time.Time) { r.Change(wire.Peer{}, m.peer(), now) })
		}
		send := func(to string, size int) SendReason {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			var failed *SendError
			if err := ch.send(ctx, to, 0, make([]byte, size), nil); !errors.As(err, &failed) {
				t.Fatalf("Send to %s: %v", to, err)
			}
			return failed.Reason
		}
		for _, test := range []struct {
			to      string
			size    int
			reason  SendReason
			streams []int
		}{
			{"same", replica.WholeSend, SendNoAnswer, []int{512}},
			{"same", 1 << 20, SendNoAnswer, []int{256, 256}},
			{"same", 21 << 20, SendNoAnswer, []int{448, 448}},
			{"older", 1 << 20, SendNoAnswer, []int{1024}},
			{"older", 21 << 20, SendTooLarge, nil},
		} {
			streams = nil
			if reason := send(test.to, test.size); reason != test.reason || !slices.Equal(streams, test.streams) {
				t.Errorf("%d bytes to %s: %v, streams of %v KiB", test.size, test.to, reason, streams)
			}
		}
	})
}
