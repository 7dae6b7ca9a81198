package starling_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// Leave that nobody can hear, or whose context is over. Before: nil, and with a context that is over it takes up to two
// seconds. Right: the error that its documentation promises where the leave may not have been heard; at once where the context
// is over.
func TestLeaveThatNobodyHears(t *testing.T) {
	for _, tt := range []leaving{
		{name: "cut off", cut: true, within: 10 * time.Second},
		{name: "cut off, with a message to be sent", cut: true, pending: true, within: 12 * time.Second}, // 10 s for the message, 1 s for the goodbye
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

// TestLeaveOfUnheld: what was given up for everybody is held by nobody else: Leave waits for somebody to get it while that may be, and then says so, also
// where it had been given up long before, and where the only other member takes no message of that size.
func TestLeaveOfUnheld(t *testing.T) {
	t.Parallel()
	leaves := func(t *testing.T, l *lab, n *node, unheld int, most time.Duration) {
		t.Helper()
		began := time.Now()
		err := n.Leave(context.Background())
		took := time.Since(began)
		l.gone(n)
		var e *starling.LeaveError
		if errors.As(err, &e); (e != nil && e.Unheld != unheld) || (e == nil) != (unheld == 0) || took > most {
			t.Errorf("Leave returned %v after %v; want %d unheld, and %v at most", err, took, unheld, most)
		}
	}
	for name, ends := range map[string]func(*lab, *node){
		"crash":  func(l *lab, n *node) { l.crash(n) },
		"freeze": func(l *lab, n *node) { l.Must(l.Net.Freeze(n.name)) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := slices.Clone(l.members(3))
				ends(l, nodes[1])
				ends(l, nodes[2])
				l.send(nodes[0], 100)
				time.Sleep(3 * time.Second)
				leaves(t, l, nodes[0], 1, 18*time.Second)
				if name == "freeze" {
					l.Must(l.Net.Thaw("m1"))
					l.Must(l.Net.Thaw("m2"))
				}
			})
		})
	}
	t.Run("heals", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			nodes := slices.Clone(l.members(3))
			l.Must(l.Net.Partition([]string{"m0"}, []string{"m1", "m2"}))
			id := l.send(nodes[0], 100)
			time.AfterFunc(3*time.Second, l.Net.Heal)
			leaves(t, l, nodes[0], 0, 15*time.Second)
			time.Sleep(time.Minute)
			l.delivered(time.Second, []uint64{id}, nodes[0], nodes[1:]...)
		})
	})
	t.Run("refused", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			a := l.member("a")
			l.configure = func(c *starling.Config) { c.MaxMessageSize = 1000 }
			b := l.member("b")
			l.join(b, a)
			l.whole(a, b)
			l.send(a, 5000)
			leaves(t, l, a, 1, 15*time.Second)
		})
	})
}
