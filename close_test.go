package starling_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/starling-go/starling"
)

// TestMethodsAfterClose: after Close or Leave every method returns ErrClosed, or what it would have returned last.
func TestMethodsAfterClose(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*starling.Cluster) error{
		"Close": (*starling.Cluster).Close,
		"Leave": func(c *starling.Cluster) error { return c.Leave(soon(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := startMembers(t, 3, nil)
			ch, _ := channel(t, members[0], "ch", nil)
			join(t, members...)
			if err := ch.Broadcast(soon(t), say("counted")); err != nil {
				t.Fatal(err)
			}
			c := members[0]
			self := c.Self()
			if err := end(c); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"Join":                        c.Join(soon(t), addr(members[1])),
				"Join without a seed":         c.Join(soon(t)),
				"SetMeta":                     c.SetMeta(soon(t), nil),
				"Broadcast":                   ch.Broadcast(soon(t), say("x")),
				"TryBroadcast":                ch.TryBroadcast(say("x")),
				"Send":                        ch.Send(soon(t), "m01", say("x")),
				"Send to itself":              ch.Send(soon(t), "m00", say("x")),
				"Send to nobody":              ch.Send(soon(t), "nobody", say("x")),
				"Flush":                       ch.Flush(soon(t)),
				"NewChannel":                  openAgain(c, "other"),
				"NewChannel of an open key":   openAgain(c, "ch"),
				"Broadcast of a closed thing": ch.Broadcast(context.Background(), say("x")),
			} {
				if !errors.Is(err, starling.ErrClosed) || !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %v, want ErrClosed", what, err)
				}
			}
			ch.Close()
			if got := c.Self(); got.Name != self.Name || got.ID != self.ID || got.Addr != self.Addr {
				t.Errorf("Self is %+v, was %+v", got, self)
			}
			if got := names(c); !slices.Equal(got, []string{"m00", "m01", "m02"}) {
				t.Errorf("Members are %v", got)
			}
			if i, of := c.Position(); i != 0 || of != 3 {
				t.Errorf("Position is %d of %d", i, of)
			}
			if s := c.Stats(); s.Members != 3 {
				t.Errorf("Stats are %+v", s)
			}
			for e := range c.Events(soon(t)) {
				t.Errorf("event %+v", e)
			}
			if err := errors.Join(c.Close(), c.Leave(soon(t)), c.Close()); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func openAgain(c *starling.Cluster, key string) error {
	_, err := starling.NewChannel(c, key, new(recorder[text]).handle, nil)
	return err
}

// TestCloseConcurrently: Close and Leave, several times at once, among calls of other methods.
func TestCloseConcurrently(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, nil)
	chs, _ := channels(t, members, "ch", nil)
	join(t, members...)
	for i, c := range members {
		var all sync.WaitGroup
		started := make(chan struct{}, 8)
		for call := range 8 {
			all.Go(func() {
				started <- struct{}{}
				for err := error(nil); err == nil; {
					switch call % 4 {
					case 0:
						err = chs[i].Broadcast(context.Background(), say("busy"))
					case 1:
						if err = chs[i].TryBroadcast(say("busy")); errors.Is(err, starling.ErrQueueFull) {
							err = nil
						}
					case 2:
						err = chs[i].Flush(context.Background())
					case 3:
						err = c.Join(context.Background(), addr(c))
					}
					if err != nil && !errors.Is(err, starling.ErrClosed) {
						t.Errorf("call %d: %v", call, err)
					}
				}
			})
		}
		for range 8 {
			<-started
		}
		for call := range 6 {
			all.Go(func() {
				var err error
				if call%2 == i%2 {
					err = c.Close()
				} else if err = c.Leave(soon(t)); err != nil && call == 0 {
					t.Logf("Leave, cut short: %v", err)
					err = nil
				}
				if err != nil {
					t.Errorf("end %d: %v", call, err)
				}
				if conn, err := net.Dial("tcp", addr(c)); err == nil {
					conn.Close()
					t.Errorf("end %d: the member still listens", call)
				}
			})
		}
		all.Wait()
	}
}

// TestBroadcastWaitingAtClose: a Broadcast that waits for room, and a Flush, return ErrClosed when the cluster or the channel is
// closed.
func TestBroadcastWaitingAtClose(t *testing.T) {
	for name, end := range map[string]func(*starling.Cluster, *starling.Channel[text]){
		"cluster": func(c *starling.Cluster, _ *starling.Channel[text]) { c.Close() },
		"channel": func(_ *starling.Cluster, ch *starling.Channel[text]) { ch.Close() },
	} {
		inLab(t, func(t *testing.T, l *lab) {
			l.configure = func(c *starling.Config) { c.Queue = starling.Queue{Messages: 1} }
			nodes := l.members(2)
			c := nodes[0].Cluster
			ch, _ := channel(t, c, "ch", nil)
			l.cut(nodes[0], nodes[1])
			if err := ch.Broadcast(soon(t), say("fills the queue")); err != nil {
				t.Fatal(err)
			}
			waiting := make(chan error, 2)
			go func() { waiting <- ch.Broadcast(context.Background(), say("waits")) }()
			go func() { waiting <- ch.Flush(context.Background()) }()
			synctest.Wait()
			if n := starling.Waiting(c, ch); n != 2 {
				t.Errorf("%d wait", n)
			}
			end(c, ch)
			for range 2 {
				if err := arrives(t, "whoever waits returns", waiting); !errors.Is(err, starling.ErrClosed) {
					t.Errorf("%s closed: %v", name, err)
				}
			}
		})
	}
}

// TestCloseWaits: the end of a channel, or of its cluster, ends the context of the handler and waits for it.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*starling.Cluster, *starling.Channel[text]){
		"Channel.Close": func(_ *starling.Cluster, ch *starling.Channel[text]) { ch.Close() },
		"Cluster.Close": func(c *starling.Cluster, _ *starling.Channel[text]) { c.Close() },
		"Leave":         func(c *starling.Cluster, _ *starling.Channel[text]) { c.Leave(soon(t)) },
	} {
		c := start(t, config(t, "a"))
		entered, handled := make(chan struct{}), 0
		ch, err := starling.NewChannel(c, "ch", func(ctx context.Context, _ starling.Message[text]) {
			close(entered) // panics if what waited is handled too
			<-ctx.Done()
			for range 1000 {
				runtime.Gosched()
			}
			handled++ // the race detector sees whether anybody waits
		}, &starling.ChannelOptions[text]{Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(ch.Broadcast(soon(t), say("m")), ch.Broadcast(soon(t), say("dropped"))); err != nil {
			t.Fatal(err)
		}
		arrives(t, "the handler is called", entered)
		end(c, ch)
		if handled != 1 {
			t.Errorf("%s: the handler returned %d times", name, handled)
		}
	}
}

// TestEventsEndWithClose: a loop over events ends with the cluster.
func TestEventsEndWithClose(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	first, ended := make(chan starling.Event, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for e := range c.Events(context.Background()) {
			first <- e
		}
	}()
	if e := arrives(t, "the first event", first); e.Kind != starling.EventJoined || e.Member.Name != "a" {
		t.Errorf("first event %+v", e)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	arrives(t, "the loop ends", ended)
}

// TestCloseEndsGoroutines: after Close no goroutine of the member is left, but for memberlist's own that wait for probes and
// streams to time out.
func TestCloseEndsGoroutines(t *testing.T) {
	members := startMembers(t, 3, nil)
	chs, _ := channels(t, members, "ch", nil)
	join(t, members...)
	for _, ch := range chs {
		large := say(string(make([]byte, 100_000)))
		if err := errors.Join(ch.Broadcast(soon(t), say("small")), ch.Broadcast(soon(t), large)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range members {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := leftovers(patience); left != "" {
		t.Errorf("goroutines left:\n\n%s", left)
	}
}

// TestCloseFreesPorts: when Close or Leave has returned, another member can listen on the port.
func TestCloseFreesPorts(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	join(t, members...)
	if err := errors.Join(members[0].Leave(soon(t)), members[1].Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range members {
		cfg := config(t, "again")
		cfg.BindAddr = addr(c)
		start(t, cfg)
	}
}
