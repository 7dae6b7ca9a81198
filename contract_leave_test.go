package starling_test

import (
	"context"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// Leave that nobody can hear, or whose context is over. Before: nil, and with a context that is over it takes up to two
// seconds. Right: the error that its documentation promises where the leave may not have been heard; at once where the context
// is over.
func TestLeaveThatNobodyHears(t *testing.T) {
	for _, tt := range []leaving{
		{name: "cut off", cut: true, within: 10 * time.Second},
		{name: "cut off, with a message to be sent", cut: true, pending: true, within: 10 * time.Second},
		{name: "nobody reads", frozen: true, within: 10 * time.Second},
		{name: "cut off, context over", ctx: overAlready, cut: true, pending: true, within: leaveAtOnce},
		{name: "context over", ctx: overAlready, within: leaveAtOnce},
		{name: "context over, with a message to be sent", ctx: overAlready, pending: true, within: leaveAtOnce},
	} {
		t.Run(tt.name, tt.unheard)
	}
}

// A deadline is kept, as it was before.
func TestLeaveWithinItsDeadline(t *testing.T) {
	in := func(d time.Duration) func(*testing.T) context.Context {
		return func(t *testing.T) context.Context { return endsIn(t, d) }
	}
	for _, tt := range []leaving{
		{name: "300 ms", ctx: in(300 * time.Millisecond), cut: true, pending: true, within: 300*time.Millisecond + leaveAtOnce},
		{name: "over", ctx: in(-time.Second), within: leaveAtOnce},
	} {
		t.Run(tt.name, tt.unheard)
	}
}

const leaveAtOnce = 100 * time.Millisecond // of virtual time

// leaving is how one of three members leaves.
type leaving struct {
	name    string
	ctx     func(*testing.T) context.Context // nil: one that never ends
	cut     bool                             // it is cut off from the others
	frozen  bool                             // the others do not read
	pending bool                             // it has just broadcast
	within  time.Duration
}

// overAlready is a context that was cancelled, and has no deadline.
func overAlready(*testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// unheard lets a member leave so that nobody can be known to have heard it.
func (tt leaving) unheard(t *testing.T) {
	var rec recordedLab
	starlingtest.Run(t, 3, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
		time.Sleep(5 * time.Second)
		if tt.cut {
			l.Must(l.Net.Partition([]string{"m0"}, []string{"m1", "m2"}))
		}
		if tt.frozen {
			l.Must(l.Net.Freeze("m1"))
			l.Must(l.Net.Freeze("m2"))
		}
		if tt.pending {
			rec.broadcast(t, "m0", 100)
		}
		ctx := context.Background()
		if tt.ctx != nil {
			ctx = tt.ctx(t)
		}
		began := time.Now()
		err := l.Member("m0").Cluster.Leave(ctx)
		took := time.Since(began)
		t.Logf("Leave: %v, after %v", err, took)
		if err == nil {
			t.Error("Leave says nil, and nobody is known to have heard it")
		}
		if took > tt.within {
			t.Errorf("Leave took %v, at most %v is right", took, tt.within)
		}
	})
}

// Leave of a member that is heard, or that has nobody to tell, says nil.
func TestLeaveThatIsHeard(t *testing.T) {
	for name, n := range map[string]int{"alone": 1, "in company": 3} {
		t.Run(name, func(t *testing.T) {
			var rec recordedLab
			starlingtest.Run(t, n, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
				rec.broadcast(t, "m0", 100)
				if err := l.Member("m0").Cluster.Leave(endsIn(t, 10*time.Second)); err != nil {
					t.Errorf("Leave: %v", err)
				}
			})
		})
	}
}
