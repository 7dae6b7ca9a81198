package starling_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// receipt is who has not confirmed a message.
type receipt struct{ Missing []starling.Missing }

// receiptOf takes out of the error of Confirm who has not confirmed. Any other error fails the test.
func receiptOf(t testing.TB, err error) receipt {
	t.Helper()
	var u *starling.UnconfirmedError
	if err != nil && !errors.As(err, &u) {
		t.Fatal(err)
	}
	if u == nil {
		return receipt{}
	}
	return receipt{u.Missing}
}

// confirm confirms a message of a node, and returns the receipt and how long that took.
func (l *lab) confirm(n *node, limit time.Duration, o *starling.ConfirmOptions) (receipt, time.Duration) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, b := l.payload(n, 200)
	start := time.Now()
	r := receiptOf(l.t, n.ch.Confirm(ctx, b, o))
	return r, time.Since(start)
}

// missing returns the names in a receipt.
func missing(r receipt) (names []string) {
	for _, m := range r.Missing {
		names = append(names, m.Member.Name)
	}
	return names
}

// With all alive, a receipt comes within twice the time that a message takes to all: in the middle of many, and never later
// than the network can take, which is two hops there and two back of 1.5 ms at most.
func TestConfirm(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(30)
		var spreads, receipts []time.Duration
		for range 30 {
			start := time.Now()
			id := l.send(nodes[3], 200)
			l.delivered(time.Second, []uint64{id}, nodes[3], nodes...)
			spread := time.Duration(0)
			for _, n := range nodes {
				if n != nodes[3] {
					spread = max(spread, n.lastDelivery().Sub(start))
				}
			}
			time.Sleep(100 * time.Millisecond)
			receipt, took := l.confirm(nodes[3], time.Minute, nil)
			spreads, receipts = append(spreads, spread), append(receipts, took)
			if len(receipt.Missing) > 0 {
				t.Errorf("missing: %v", missing(receipt))
			}
			time.Sleep(100 * time.Millisecond)
		}
		slices.Sort(spreads)
		slices.Sort(receipts)
		spread, receipt, slowest := spreads[15], receipts[15], receipts[29]
		t.Logf("a spread takes %v, a receipt %v, up to %v", spread, receipt, slowest)
		if receipt > 2*spread || slowest > 6*time.Millisecond {
			t.Errorf("a receipt takes %v, up to %v, and a spread %v", receipt, slowest, spread)
		}
	})
}

// Who is cut off is named, at the deadline, and nobody else is.
func TestConfirmCutOff(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(10)
		for i, n := range nodes {
			if i != 5 {
				l.cut(n, nodes[5])
			}
		}
		for _, handled := range []bool{false, true} {
			receipt, took := l.confirm(nodes[2], 1500*time.Millisecond, &starling.ConfirmOptions{Handled: handled})
			named := slices.Equal(missing(receipt), []string{"m5"}) && receipt.Missing[0].Reason != starling.MissingGone
			if took != 1500*time.Millisecond || !named {
				t.Errorf("handled=%v: after %v: %+v", handled, took, receipt)
			}
		}
	})
}

// Handled waits for a slow handler, holding does not; and a member without the channel holds up neither.
func TestConfirmHandled(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(10)
		nodes[7].ch.Close()
		handled := &starling.ConfirmOptions{Handled: true}
		if receipt, took := l.confirm(nodes[2], time.Minute, handled); len(receipt.Missing) > 0 || took > 100*time.Millisecond {
			t.Errorf("without the channel on one member: after %v: %v", took, missing(receipt))
		}
		const pause = 3 * time.Second
		nodes[4].setBusy(func() { time.Sleep(pause) })
		if receipt, took := l.confirm(nodes[2], time.Minute, nil); len(receipt.Missing) > 0 || took > 50*time.Millisecond {
			t.Errorf("held: after %v: %v", took, missing(receipt))
		}
		time.Sleep(2 * pause)
		receipt, took := l.confirm(nodes[2], time.Minute, handled)
		if len(receipt.Missing) > 0 || took < pause || took > pause+300*time.Millisecond {
			t.Errorf("handled: after %v: %v", took, missing(receipt))
		}
		time.Sleep(2 * pause)
		// And names who has not handled it in time.
		receipt, took = l.confirm(nodes[2], time.Second, handled)
		if took != time.Second || !slices.Equal(missing(receipt), []string{"m4"}) {
			t.Errorf("handled, with a deadline: after %v: %v", took, missing(receipt))
		}
		// It holds the message, and its handler still sleeps: that is another matter than no sign of it.
		if len(receipt.Missing) == 1 && receipt.Missing[0].Reason != starling.MissingUnhandled {
			t.Errorf("the reason is %v", receipt.Missing[0].Reason)
		}
	})
}

// A member whose codec refuses the message holds it, and has not handled it.
func TestConfirmUndecodable(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(3)
		var channels []*starling.Channel[[]byte]
		ignore := func(context.Context, starling.Message[[]byte]) {}
		for _, n := range nodes[:2] {
			ch, err := starling.NewChannelOf(n.Cluster, "odd", ignore, starling.Bytes(), nil)
			must(t, err)
			channels = append(channels, ch)
		}
		never := func(context.Context, starling.Message[int]) { t.Error("a handler ran") }
		_, err := starling.NewChannelOf(nodes[2].Cluster, "odd", never, struct{ starling.Codec[int] }{starling.JSON[int]()}, nil) // which tells no type
		must(t, err)
		for _, handled := range []bool{false, true} {
			receipt := receiptOf(t, channels[0].Confirm(t.Context(), []byte("no number"), &starling.ConfirmOptions{Handled: handled}))
			want := []string(nil)
			if handled {
				want = []string{"m2"}
			}
			if !slices.Equal(missing(receipt), want) || handled && receipt.Missing[0].Reason != starling.MissingUndecodable {
				t.Errorf("handled=%v: %+v", handled, receipt.Missing)
			}
		}
	})
}

// With Echo, handled means handled by the own handler too.
func TestConfirmEcho(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.options = &starling.ChannelOptions[[]byte]{Echo: true}
		nodes := l.members(3)
		const pause = time.Second
		nodes[0].setBusy(func() { time.Sleep(pause) })
		receipt, took := l.confirm(nodes[0], time.Minute, &starling.ConfirmOptions{Handled: true})
		if len(receipt.Missing) > 0 || took < pause || took > 2*pause {
			t.Errorf("after %v: %v", took, missing(receipt))
		}
		receipt, took = l.confirm(nodes[0], pause/2, &starling.ConfirmOptions{Handled: true})
		if !slices.Equal(missing(receipt), []string{"m0"}) || took != pause/2 {
			t.Errorf("not waited for long enough: after %v: %v", took, missing(receipt))
		}
	})
}

// The crash of a member in the middle of a message delays the receipt by no more than the failure costs anyway: until the
// membership knows of it.
func TestConfirmCrash(t *testing.T) {
	t.Parallel()
	for _, victim := range []int{1, 6, 11, 16} { // some of them have a slice to serve
		inLab(t, func(t *testing.T, l *lab) {
			nodes := append([]*node(nil), l.members(20)...)
			origin, crashed := nodes[0], nodes[victim]
			l.confirm(origin, time.Minute, nil) // round trips are known
			type answer struct {
				receipt receipt
				took    time.Duration
			}
			answers := make(chan answer, 1)
			go func() {
				receipt, took := l.confirm(origin, time.Minute, nil)
				answers <- answer{receipt, took}
			}()
			must(t, l.Net.Crash(crashed.name))
			l.gone(crashed)
			whole := l.whole(l.nodes...)
			a := arrives(t, "a receipt", answers)
			t.Logf("%s: a receipt after %v, the membership whole after %v", crashed.name, a.took, whole)
			others := slices.DeleteFunc(missing(a.receipt), func(name string) bool { return name == crashed.name })
			if a.took > whole+500*time.Millisecond || len(others) > 0 || len(a.receipt.Missing) > 1 {
				t.Errorf("after %v, whole after %v: missing %v", a.took, whole, missing(a.receipt))
			}
			crashed.Close()
		})
	}
}

// TestConfirmClosed: where the channel or the cluster is closed while Confirm waits, the message was accepted: the error names who has not confirmed
// it, and is ErrClosed too.
func TestConfirmClosed(t *testing.T) {
	for name, end := range map[string]func(*lab, *node){
		"channel": func(_ *lab, n *node) { n.ch.Close() },
		"cluster": func(l *lab, n *node) { l.Must(n.Close()); l.gone(n) },
		"leave":   func(l *lab, n *node) { l.Must(n.Leave(context.Background())); l.gone(n) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				nodes := slices.Clone(l.members(4))
				nodes[3].setBusy(func() { time.Sleep(5 * time.Second) })
				_, b := l.payload(nodes[1], 200)
				confirmed := make(chan error, 1)
				go func() {
					confirmed <- nodes[1].ch.Confirm(context.Background(), b, &starling.ConfirmOptions{Handled: true})
				}()
				time.Sleep(time.Second)
				end(l, nodes[1])
				err := arrives(t, "the end of Confirm", confirmed)
				if r := receiptOf(t, err); !errors.Is(err, starling.ErrClosed) || !slices.Equal(missing(r), []string{"m3"}) {
					t.Errorf("%v: %v", err, missing(r))
				}
			})
		})
	}
}
