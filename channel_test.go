package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/starling-go/starling"
)

func TestChannelFaults(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	channel(t, c, "taken", nil)
	channel(t, c, strings.Repeat("k", 255), nil)
	handle := new(recorder[text]).handle
	for _, tt := range []struct {
		name  string
		open  func() (*starling.Channel[text], error)
		field string
		says  string // all of it, if it begins with the prefix
		key   bool   // matches ErrChannelKey
	}{
		{"empty key", func() (*starling.Channel[text], error) { return starling.NewChannel(c, "", handle, nil) }, "key", "starling: channel key is empty", true},
		{"long key", func() (*starling.Channel[text], error) {
			return starling.NewChannel(c, strings.Repeat("k", 256), handle, nil)
		}, "key", "starling: channel key of 256 bytes, limit 255", true},
		{"key that is no UTF-8", func() (*starling.Channel[text], error) { return starling.NewChannel(c, "caf\xe9", handle, nil) }, "key", `starling: channel key "caf\xe9" is no UTF-8`, true},
		{"taken key", func() (*starling.Channel[text], error) { return starling.NewChannel(c, "taken", handle, nil) }, "key", `starling: channel "taken" is open already`, true},
		{"nil handler", func() (*starling.Channel[text], error) { return starling.NewChannel[text](c, "key", nil, nil) }, "handle", "handler", false},
		{"no cluster", func() (*starling.Channel[text], error) { return starling.NewChannel(nil, "key", handle, nil) }, "c", "no Cluster", false},
		{"nil codec", func() (*starling.Channel[text], error) { return starling.NewChannelOf(c, "key", handle, nil, nil) }, "codec", "codec", false},
		{"inbox", func() (*starling.Channel[text], error) {
			return starling.NewChannel(c, "key", handle, &starling.ChannelOptions[text]{Inbox: starling.Inbox{Messages: -1}})
		}, "Inbox.Messages", "starling: Inbox.Messages = -1: must be at least 1; 0 means 1024", false},
		{"negative hold", func() (*starling.Channel[text], error) {
			return starling.NewChannel(c, "key", handle, &starling.ChannelOptions[text]{FIFO: true, FIFOHold: -1})
		}, "FIFOHold", "must be positive", false},
		{"hold without FIFO", func() (*starling.Channel[text], error) {
			return starling.NewChannel(c, "key", handle, &starling.ChannelOptions[text]{FIFOHold: time.Second})
		}, "FIFOHold", "without FIFO", false},
	} {
		ch, err := tt.open()
		var fault *starling.ConfigError
		if ch != nil || !errors.As(err, &fault) || fault.Field != tt.field || !strings.Contains(err.Error(), tt.says) ||
			strings.HasPrefix(tt.says, "starling: ") && err.Error() != tt.says {
			t.Errorf("%s: %v, %v", tt.name, ch, err)
		}
		if errors.Is(err, starling.ErrChannelKey) != tt.key {
			t.Errorf("%s: is ErrChannelKey: %v", tt.name, !tt.key)
		}
	}
}

// embedded is a message by what it embeds: what Decode makes is none.
type embedded struct{ text }

// TestProtoOfNoMessage: where Decode could not make a message of the type, NewChannel says so, and not the first message by a
// panic.
func TestProtoOfNoMessage(t *testing.T) {
	t.Parallel()
	c := start(t, config(t, "a"))
	refuses := func(name string, open func() error) {
		var fault *starling.ConfigError
		if err := open(); !errors.As(err, &fault) || fault.Field != "codec" || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refuses("ProtoMessage", func() error {
		_, err := starling.NewChannel(c, "interface", func(context.Context, starling.Message[proto.Message]) {}, nil)
		return err
	})
	refuses("ProtoMessage", func() error {
		_, err := starling.NewChannelOf(c, "interface", func(context.Context, starling.Message[proto.Message]) {}, starling.Proto[proto.Message](), nil)
		return err
	})
	refuses("dynamicpb.Message", func() error {
		_, err := starling.NewChannel(c, "dynamic", func(context.Context, starling.Message[*dynamicpb.Message]) {}, nil)
		return err
	})
	refuses("embedded", func() error {
		_, err := starling.NewChannel(c, "embedded", func(context.Context, starling.Message[embedded]) {}, nil)
		return err
	})
	if n := len(c.Stats().Channels); n != 0 {
		t.Errorf("%d channels are open", n)
	}
	// A type with required fields is as good as any.
	if _, err := starling.NewChannel(c, "required", func(context.Context, starling.Message[*descriptorpb.UninterpretedOption_NamePart]) {}, nil); err != nil {
		t.Error(err)
	}
}

// TestRefusedMessages: what cannot be sent is refused with its typed error, and what comes next is not affected.
func TestRefusedMessages(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, func(_ int, c *starling.Config) { c.MaxMessageSize = 2000 })
	chs, rs := channels(t, members, "ch", nil)
	join(t, members...)
	fits := strings.Repeat("x", 2000-3) // tag and length of the field
	calls := map[string]func(text) error{
		"Broadcast":    func(v text) error { return chs[0].Broadcast(soon(t), v) },
		"TryBroadcast": func(v text) error { return chs[0].TryBroadcast(v) },
		"Send":         func(v text) error { return chs[0].Send(soon(t), "m01", v) },
	}
	for name, call := range calls {
		if err := call(nil); !errors.Is(err, starling.ErrNilMessage) {
			t.Errorf("%s of nil: %v", name, err)
		}
		var large *starling.TooLargeError
		want := starling.TooLargeError{Channel: "ch", Size: 2001, Limit: 2000}
		if err := call(say(fits + "x")); !errors.As(err, &large) || *large != want {
			t.Errorf("%s of too much: %v", name, err)
		}
		if err := call(say("\xff")); err == nil {
			t.Errorf("%s of what protobuf cannot encode: no error", name)
		}
		if err := call(say(fits)); err != nil {
			t.Errorf("%s of the largest: %v", name, err)
		}
	}
	hears(t, "m01", rs[1], fits, fits, fits)
	if s := members[0].Stats().Channels["ch"]; s.Accepted != 2 {
		t.Errorf("%d accepted, want 2", s.Accepted)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	chs, rs := channels(t, members, "ch", &starling.ChannelOptions[text]{Echo: true})
	if err := chs[0].Broadcast(soon(t), say("alone")); err != nil {
		t.Fatal(err)
	}
	hears(t, "m00", rs[0], "alone")
	join(t, members...)
	large := strings.Repeat("large", 1000)
	if err := errors.Join(chs[0].Broadcast(soon(t), say("small")), chs[0].Broadcast(soon(t), say(large))); err != nil {
		t.Fatal(err)
	}
	hears(t, "m00", rs[0], "alone", "small", large)
	hears(t, "m01", rs[1], "alone", "small", large) // what was broadcast by one that was alone is owed
	inPieces := strings.Repeat("large", 20_000)
	if err := chs[0].Broadcast(soon(t), say(inPieces)); err != nil {
		t.Fatal(err)
	}
	hears(t, "m00", rs[0], "alone", "small", large, inPieces)
	hears(t, "m01", rs[1], "alone", "small", large, inPieces)
	for i, m := range rs[0].messages() {
		if m.Via != starling.ViaEcho || m.From.Name != "m00" || i < 3 && m.Seq != uint64(i+1) {
			t.Errorf("echo %d: via %v from %q, seq %d", i, m.Via, m.From.Name, m.Seq)
		}
	}
}

func TestAlwaysStream(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, nil)
	chs, rs := channels(t, members, "ch", &starling.ChannelOptions[text]{AlwaysStream: true})
	join(t, members...)
	if err := chs[0].Broadcast(soon(t), say("small")); err != nil {
		t.Fatal(err)
	}
	for i, r := range rs[1:] {
		hears(t, fmt.Sprint("member ", i+1), r, "small")
		if via := r.messages()[0].Via; via != starling.ViaStream {
			t.Errorf("member %d got it by %v", i+1, via)
		}
	}
}

// TestQueueFull: TryBroadcast never waits, Broadcast waits until its context ends or there is room, and nothing that was
// refused is ever heard.
func TestQueueFull(t *testing.T) {
	for name, queue := range map[string]starling.Queue{"messages": {Messages: 3}, "bytes": {Bytes: 50}} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.configure = func(c *starling.Config) { c.Queue = queue }
				nodes := l.members(2)
				ch, _ := channel(t, nodes[0].Cluster, "ch", &starling.ChannelOptions[text]{Echo: true})
				_, r := channel(t, nodes[1].Cluster, "ch", nil)
				l.cut(nodes[0], nodes[1])
				var said []string
				for ch.TryBroadcast(say("tried")) == nil {
					if said = append(said, "tried"); len(said) > 50 {
						t.Fatal("the queue is never full")
					}
				}
				if len(said) < 2 {
					t.Errorf("%d accepted", len(said))
				}
				if err := ch.TryBroadcast(say("refused")); err != starling.ErrQueueFull {
					t.Errorf("full: %v", err)
				}
				if err := ch.Broadcast(brief(t), say("refused")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("full, until the context ends: %v", err)
				}
				waiting := make(chan error, 1)
				go func() { waiting <- ch.Broadcast(soon(t), say("waited")) }()
				l.Net.Heal()
				if err := arrives(t, "a Broadcast that waited for room", waiting); err != nil {
					t.Error(err)
				}
				if err := ch.Broadcast(soon(t), say("with room")); err != nil {
					t.Errorf("with room: %v", err)
				}
				said = append(said, "waited", "with room")
				s := nodes[0].Stats()
				if s.Channels["ch"].Accepted != uint64(len(said)) ||
					s.Queue.Messages == 0 || s.Queue.Messages > len(said) || s.Queue.Bytes <= 0 {
					t.Errorf("stats %+v, %d accepted", s.Queue, len(said))
				}
				if err := ch.Flush(soon(t)); err != nil {
					t.Error(err)
				}
				if q := nodes[0].Stats().Queue; q.Messages != 0 || q.Bytes != 0 || q.Oldest != 0 {
					t.Errorf("drained: %+v", q)
				}
				hears(t, "the other", r, said...)
			})
		})
	}
}

// TestContextEnded: whoever gives a context that has ended gets its error, and nothing is accepted, though there is room.
func TestContextEnded(t *testing.T) {
	t.Parallel()
	members := flock(t, 2, nil)
	chs, rs := channels(t, members, "ch", nil)
	state, err := starling.NewState(members[0], "state", noState{})
	if err != nil {
		t.Fatal(err)
	}
	join(t, members...)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for name, err := range map[string]error{
		"Broadcast":           chs[0].Broadcast(over, say("refused")),
		"Confirm":             chs[0].Confirm(over, say("refused"), nil),
		"Confirm, handled":    chs[0].Confirm(over, say("refused"), &starling.ConfirmOptions{Handled: true}),
		"Confirm of a State":  state.Confirm(over, []byte("refused"), nil),
		"Broadcast, too late": chs[0].Broadcast(late, say("refused")),
		"Confirm, too late":   chs[0].Confirm(late, say("refused"), nil),
	} {
		want := context.Canceled
		if strings.Contains(name, "late") {
			want = context.DeadlineExceeded
		}
		if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), `starling: channel "`) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if err := chs[0].Broadcast(soon(t), say("accepted")); err != nil {
		t.Fatal(err)
	}
	hears(t, "m01", rs[1], "accepted")
	stats := members[0].Stats().Channels
	if n, m := stats["ch"].Accepted, stats["state"].Accepted; n != 1 || m != 0 {
		t.Errorf("%d messages accepted, and %d changes of a state", n, m)
	}
}

// noState is a State with nothing in it.
type noState struct{}

func (noState) MarshalBinary() ([]byte, error) { return nil, nil }
func (noState) Merge([]byte) error             { return nil }

// TestAloneQueuesNothing: with nobody to send to, nothing fills up.
func TestAloneQueuesNothing(t *testing.T) {
	t.Parallel()
	cfg := config(t, "alone")
	cfg.Queue = starling.Queue{Messages: 2}
	c := start(t, cfg)
	plain, _ := channel(t, c, "plain", nil)
	flags, _ := channel(t, c, "flags", &starling.ChannelOptions[text]{Supersede: func(text) string { return "one" }})
	for range 100 {
		if err := errors.Join(plain.Broadcast(soon(t), say("m")), flags.Broadcast(soon(t), say("m"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(plain.Flush(soon(t)), flags.Flush(soon(t))); err != nil {
		t.Error(err)
	}
	if q := c.Stats().Queue; q != (starling.QueueStats{}) {
		t.Errorf("queue %+v", q)
	}
}

// TestFlush: it returns when every member has what the channel has sent, and says what was given up.
func TestFlush(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(2)
		ch, _ := channel(t, nodes[0].Cluster, "ch", nil)
		other, _ := channel(t, nodes[0].Cluster, "other", nil)
		if err := ch.Flush(soon(t)); err != nil {
			t.Errorf("nothing to flush: %v", err)
		}
		l.cut(nodes[0], nodes[1])
		if err := ch.Broadcast(soon(t), say("m")); err != nil {
			t.Fatal(err)
		}
		if err := other.Flush(soon(t)); err != nil {
			t.Errorf("another channel: %v", err)
		}
		if err := ch.Flush(brief(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody has it: %v", err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- ch.Flush(soon(t)) }()
		l.Net.Heal()
		if err := arrives(t, "Flush returns", flushed); err != nil {
			t.Error(err)
		}
		// What a member does not take is left to repair after a while, and Flush says so.
		for i, size := range []int{100, 200} { // a large one is waited for until the member has failed
			l.cut(nodes[0], nodes[1])
			if err := ch.Broadcast(soon(t), say(strings.Repeat("x", size))); err != nil {
				t.Fatal(err)
			}
			var unflushed *starling.FlushError
			if err := ch.Flush(soon(t)); !errors.As(err, &unflushed) || unflushed.Channel != "ch" || unflushed.WrittenOff != uint64(i+1) ||
				len(unflushed.Members) != 1 || unflushed.Members[0].Name != nodes[1].name {
				t.Errorf("%d bytes to a member that is cut off: %v", size, err)
			}
			l.Net.Heal()
			time.Sleep(time.Second)
		}
	})
}

func TestChannelClose(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	chs, rs := channels(t, members, "ch", nil)
	join(t, members...)
	chs[1].Close()
	chs[1].Close()
	for name, err := range map[string]error{
		"Broadcast": chs[1].Broadcast(soon(t), say("m")), "TryBroadcast": chs[1].TryBroadcast(say("m")),
		"Send": chs[1].Send(soon(t), "m00", say("m")), "Flush": chs[1].Flush(soon(t)),
	} {
		if !errors.Is(err, starling.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := chs[0].Broadcast(soon(t), say("nobody listens")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted as a drop", func() bool { return members[1].Stats().Dropped[starling.DropUnknownKey] > 0 })
	_, again := channel(t, members[1], "ch", nil)
	if err := chs[0].Broadcast(soon(t), say("again")); err != nil {
		t.Fatal(err)
	}
	hears(t, "the new channel", again, "again")
	if n := rs[1].count(); n != 0 {
		t.Errorf("the closed channel heard %d messages", n)
	}
}

// TestSlowHandler: a handler that hangs holds up neither another channel, nor another member, nor the sender, and loses
// nothing.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 3, nil)
	fast, fastHeard := channels(t, members, "fast", nil)
	release := make(chan struct{})
	slowHeard := new(recorder[text])
	if _, err := starling.NewChannel(members[1], "slow", func(ctx context.Context, m starling.Message[text]) {
		<-release
		slowHeard.handle(ctx, m)
	}, nil); err != nil {
		t.Fatal(err)
	}
	slow, _ := channel(t, members[0], "slow", nil)
	_, elsewhere := channel(t, members[2], "slow", nil)
	join(t, members...)
	var said []string
	for i := range 200 {
		said = append(said, fmt.Sprint("m", i))
		if err := errors.Join(slow.Broadcast(soon(t), say(said[i])), fast[0].Broadcast(soon(t), say(said[i]))); err != nil {
			t.Fatal(err)
		}
	}
	hears(t, "the fast channel beside the slow one", fastHeard[1], said...)
	hears(t, "the slow channel elsewhere", elsewhere, said...)
	if n := slowHeard.count(); n != 0 {
		t.Errorf("the slow handler returned %d times", n)
	}
	close(release)
	hears(t, "the slow channel", slowHeard, said...)
}

// TestCodecs: each carries its values, and refuses those of another.
func TestCodecs(t *testing.T) {
	t.Parallel()
	members := startMembers(t, 2, nil)
	type price struct {
		Name  string
		Cents int
	}
	prices, bytesHeard, textHeard := new(recorder[price]), new(recorder[[]byte]), new(recorder[*wrapperspb.BytesValue])
	open := func(c *starling.Cluster) (
		p *starling.Channel[price], b *starling.Channel[[]byte], v *starling.Channel[*wrapperspb.BytesValue],
	) {
		var err [3]error
		p, err[0] = starling.NewChannelOf(c, "json", prices.handle, starling.JSON[price](), nil)
		b, err[1] = starling.NewChannelOf(c, "bytes", bytesHeard.handle, starling.Bytes(), nil)
		v, err[2] = starling.NewChannelOf(c, "proto", textHeard.handle, starling.Proto[*wrapperspb.BytesValue](), nil)
		if err := errors.Join(err[:]...); err != nil {
			t.Fatal(err)
		}
		return
	}
	open(members[1])
	p, b, v := open(members[0])
	mixed, err := starling.NewChannelOf(members[0], "mixed", new(recorder[string]).handle, starling.JSON[string](), nil)
	if err != nil {
		t.Fatal(err)
	}
	mixedHeard := new(recorder[price])
	if _, err := starling.NewChannelOf(members[1], "mixed", mixedHeard.handle, starling.JSON[price](), nil); err != nil {
		t.Fatal(err)
	}
	join(t, members...)
	if err := errors.Join(
		p.Broadcast(soon(t), price{"tea", 250}), b.Broadcast(soon(t), []byte{0, 1, 2}), b.Broadcast(soon(t), nil),
		v.Broadcast(soon(t), wrapperspb.Bytes([]byte("proto"))), v.Broadcast(soon(t), wrapperspb.Bytes(nil)),
		mixed.Broadcast(soon(t), "no price"),
	); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all arrive", func() bool { return prices.count() == 1 && bytesHeard.count() == 2 && textHeard.count() == 2 })
	if got := prices.messages()[0].Value; got != (price{"tea", 250}) {
		t.Errorf("JSON: %+v", got)
	}
	sizes := []int{len(bytesHeard.messages()[0].Value), len(bytesHeard.messages()[1].Value)}
	if slices.Sort(sizes); !slices.Equal(sizes, []int{0, 3}) {
		t.Errorf("bytes: lengths %v", sizes)
	}
	for _, m := range textHeard.messages() {
		if got := m.Value.GetValue(); len(got) > 0 && !bytes.Equal(got, []byte("proto")) {
			t.Errorf("proto: %q", got)
		}
	}
	eventually(t, "what cannot be decoded is counted", func() bool {
		return members[1].Stats().Dropped[starling.DropUndecodable] == 1
	})
	if mixedHeard.count() != 0 {
		t.Error("and is delivered all the same")
	}
	if err := b.Send(soon(t), "m00", []byte("to itself")); err != nil {
		t.Error(err)
	}
}
