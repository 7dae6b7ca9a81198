package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

type traceKey struct{}

// under is a context whose messages belong to that trace.
func under(ctx context.Context, trace string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

func traceOf(ctx context.Context, b []byte) []byte {
	trace, _ := ctx.Value(traceKey{}).(string)
	return append(b, trace...)
}

// traces is which context each handler was given with each message. The messages of a channel of its own begin with 24 bytes that tell them apart.
type traces struct {
	mu  sync.Mutex
	got map[string]string // by member and message, "none" where there was none
}

func traceID(member string, data []byte) string { return member + ":" + string(data[:24]) }

// channel opens the channel "traced" on a member.
func (ts *traces) channel(n *node, o starling.ChannelOptions[[]byte]) *starling.Channel[[]byte] {
	o.TraceContext = traceOf
	ch, err := starling.NewChannelOf(n.Cluster, "traced", func(_ context.Context, m starling.Message[[]byte]) {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		if ts.got == nil {
			ts.got = map[string]string{}
		}
		id := traceID(n.name, m.Value)
		if was, twice := ts.got[id]; twice {
			ts.got[id] = was + ", again"
			return
		}
		if ts.got[id] = "none"; m.TraceContext != nil {
			ts.got[id] = string(m.TraceContext)
		}
	}, starling.Bytes(), &o)
	n.lab.Must(err)
	return ch
}

// tracePayload makes a message of that number.
func tracePayload(i, size int) []byte {
	return append(fmt.Appendf(nil, "%-24d", i), bytes.Repeat([]byte("x"), max(size-24, 0))...)
}

// all waits until every node but one was given the messages, each with its context, and nothing else.
func (ts *traces) all(l *lab, want map[int]string, but *node) {
	l.t.Helper()
	l.Within(50*time.Second, func() (err error) {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		for _, n := range l.nodes {
			for i, trace := range want {
				id := traceID(n.name, tracePayload(i, 0))
				if got := ts.got[id]; n != but && got != trace {
					err = errors.Join(err, fmt.Errorf("%s was given %q, want %q", id, got, trace))
				}
			}
		}
		return err
	})
}

// TestTraceContext: whatever the size of a message and the state of the network, its context comes with it: by packets, streams, in
// pieces, by repair after losses and a partition, to a newcomer, and by Confirm.
func TestTraceContext(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var ts traces
		chs := map[*node]*starling.Channel[[]byte]{}
		open := func(n *node) { chs[n] = ts.channel(n, starling.ChannelOptions[[]byte]{}) }
		nodes := l.members(5, open)
		l.links(starlingtest.Link{Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.3})
		sizes := []int{24, 590, 600, 3000, 300 << 10}
		want := map[int]string{}
		say := func(rounds int, confirm bool) {
			for range rounds {
				for _, size := range sizes {
					i := len(want)
					want[i] = "none"
					ctx := context.Background()
					if i%7 != 0 {
						want[i] = fmt.Sprint("trace ", i)
						ctx = under(ctx, want[i])
					}
					if confirm {
						l.Must(chs[nodes[0]].Confirm(ctx, tracePayload(i, size), nil))
					} else {
						l.Must(chs[nodes[0]].Broadcast(ctx, tracePayload(i, size)))
					}
				}
			}
		}
		say(3, false)
		ts.all(l, want, nodes[0])
		say(1, true)
		ts.all(l, want, nodes[0])

		clear(want) // numbers begin anew, so what the handlers were given is forgotten
		ts.mu.Lock()
		clear(ts.got)
		ts.mu.Unlock()
		l.links(labLink)
		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2", "m3", "m4"}))
		time.Sleep(time.Second)
		say(2, false)
		time.Sleep(20 * time.Second) // failed, on both sides
		l.Net.Heal()
		l.whole(nodes...)
		newcomer := l.member("m5", open)
		l.join(newcomer, nodes[3])
		ts.all(&lab{Lab: l.Lab, t: t, nodes: nodes}, want, nodes[0])
		say(1, true)
		late := map[int]string{}
		for i := len(want) - len(sizes); i < len(want); i++ {
			late[i] = want[i]
		}
		ts.all(l, late, nodes[0])
		l.noGaps(l.nodes...)
	})
}

// TestTraceContextOfSend: a message to one member has its own context, by packet, by stream, and to oneself; Echo has that of its Broadcast.
func TestTraceContextOfSend(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var ts traces
		chs := map[*node]*starling.Channel[[]byte]{}
		nodes := l.members(2, func(n *node) { chs[n] = ts.channel(n, starling.ChannelOptions[[]byte]{Echo: true}) })
		l.links(starlingtest.Link{Latency: time.Millisecond, Loss: 0.3})
		ctx, ch := t.Context(), chs[nodes[0]]
		for i, size := range []int{24, 3000} {
			l.Must(ch.Send(under(ctx, fmt.Sprint("sent ", i)), "m1", tracePayload(i, size)))
			l.Must(ch.SendMember(under(ctx, fmt.Sprint("sent ", i)), nodes[0].Self(), tracePayload(i, size)))
		}
		ts.all(l, map[int]string{0: "sent 0", 1: "sent 1"}, nil)
		l.Must(ch.Send(ctx, "m1", tracePayload(2, 24)))
		l.Must(ch.SendMember(ctx, nodes[0].Self(), tracePayload(2, 24)))
		l.Must(ch.Broadcast(under(ctx, "said"), tracePayload(3, 24)))
		l.Must(ch.TryBroadcast(tracePayload(4, 24))) // which has no context
		ts.all(l, map[int]string{2: "none", 3: "said", 4: "none"}, nil)
	})
}

// TestTraceContextTooLong: what is longer than may travel, and nonsense, does not travel; the message does, unharmed.
func TestTraceContextTooLong(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		appended := map[string]func(b []byte) []byte{
			"none":                    func([]byte) []byte { return nil },
			"just":                    func(b []byte) []byte { return append(b, bytes.Repeat([]byte("t"), starling.MaxTraceContext)...) },
			"too long":                func(b []byte) []byte { return append(b, bytes.Repeat([]byte("t"), starling.MaxTraceContext+1)...) },
			"something else, instead": func(b []byte) []byte { return bytes.Repeat([]byte("t"), len(b)+3) },
		}
		want := map[string]string{"none": "", "too long": "", "just": string(bytes.Repeat([]byte("t"), 64)), "something else, instead": "ttt"}
		for key, f := range appended {
			o := &starling.ChannelOptions[[]byte]{Echo: true, TraceContext: func(_ context.Context, b []byte) []byte { return f(b) }}
			n := l.member(key)
			r := new(recorder[[]byte])
			ch, err := starling.NewChannelOf(n.Cluster, "ch", r.handle, starling.Bytes(), o)
			l.Must(err)
			l.Must(ch.Broadcast(t.Context(), []byte("data")))
			l.Must(ch.Send(t.Context(), n.name, []byte("data")))
			l.Must(ch.TryBroadcast([]byte("none"))) // which has no context, and does not ask for one
			time.Sleep(time.Second)
			got := r.messages()
			if len(got) != 3 || string(got[2].Value) != "none" || got[2].TraceContext != nil {
				t.Fatalf("%s: %d messages", key, len(got))
			}
			for _, m := range got[:2] {
				if string(m.Value) != "data" || string(m.TraceContext) != want[key] {
					t.Errorf("%s: %q by %v came with %q", key, m.Value, m.Via, m.TraceContext)
				}
			}
		}
	})
}
