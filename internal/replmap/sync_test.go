package replmap

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/wire"
)

// A comparison that ends in vain, since whose entries count has changed at the donor, gives no first values: the donor is asked again.
func TestComparedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		held := New(Options[string]{
			Self: 1, Limits: kv.Limits{Entries: 10, Bytes: 1 << 20, Tombstones: time.Hour, Owned: true},
			Append: func(b []byte, v string) ([]byte, error) { return append(b, v...), nil },
			Decode: func(b []byte) (string, error) { return string(b), nil },
		}, time.Now())
		asked := make(chan *wire.MapQuestion, 1)
		s := NewSync(ctx, held, Network{
			Send: func(_ context.Context, _ uint64, frame []byte) error {
				f, err := wire.ParseMapFrame(frame)
				asked <- f.Question
				return err
			},
			Met: func(uint64) bool { return true }, Name: func(uint64) string { return "donor" },
			Spawn: func(f func()) bool { go f(); return true }, Log: slog.New(slog.DiscardHandler),
		})
		s.Start()
		defer s.Wait()
		defer cancel()
		s.Membership(2, 0, kv.Standing{Weight: 2, Least: 1}, []uint64{2})
		s.Entered([]uint64{2})
		answer := func(first bool, a wire.MapAnswer) {
			t.Helper()
			q := <-asked
			if q.First != first {
				t.Fatalf("asked %+v, want a first question: %v", q, first)
			}
			a.ID, a.Last = q.ID, true
			if err := s.Handle(wire.AppendMapAnswer(nil, &a), true, 2, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		done := func() bool {
			select {
			case <-s.Done():
				return true
			default:
				return false
			}
		}
		cover := []wire.MapRun{{ID: 2, Stamp: 9}}
		answer(true, wire.MapAnswer{Members: 5, Cover: cover, Nodes: []wire.MapNode{{Value: 1}}, Weight: 2, Least: 1})
		answer(false, wire.MapAnswer{Members: 6})
		if done() || s.Counts().Compared != 0 {
			t.Error("it has its first values, and was given nothing")
		}
		answer(true, wire.MapAnswer{Members: 6, Equal: true, Cover: cover, Weight: 2, Least: 1})
		if !done() {
			t.Error("it does not have its first values")
		}
	})
}
