package starling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// wraps are the ways in which memberlist may wrap a packet.
var wraps = map[string]func(*Config){
	"bare":          func(*Config) {},
	"label":         func(c *Config) { c.Label = "label" },
	"keys":          func(c *Config) { c.Keys = [][]byte{bytes.Repeat([]byte{7}, 32)} },
	"label and key": func(c *Config) { c.Label, c.Keys = strings.Repeat("l", 255), [][]byte{bytes.Repeat([]byte{7}, 32)} },
}

// pair makes two members that reach each other by taps, each with a channel of bytes, whose deliveries to b come out of got.
func pair(t *testing.T, wrapped func(*Config), tune func(*memberlist.Config)) (a, b *Cluster, ta, tb *tap, ch *Channel[[]byte], got chan Message[[]byte]) {
	ta, tb = newTap("10.0.0.1:7946"), newTap("10.0.0.2:7946")
	connect(ta, tb)
	got = make(chan Message[[]byte], 10_000)
	open := func(name string, tp *tap) (*Cluster, *Channel[[]byte]) {
		cfg := Config{Name: name, Transport: tp, Logger: slog.New(slog.DiscardHandler), Profile: Local, Tune: tune}
		wrapped(&cfg)
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ch, err := NewChannelOf(c, "ch", func(_ context.Context, m Message[[]byte]) { got <- m }, Bytes(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, ch
	}
	a, ch = open("a", ta)
	b, _ = open("b", tb)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Join(ctx, "10.0.0.1:7946"); err != nil {
		t.Fatal(err)
	}
	for c, other := range map[*Cluster]string{a: "b", b: "a"} { // seen as soon as events say so
		for e := range c.Events(ctx) {
			if e.Member.Name == other {
				break
			}
		}
	}
	return a, b, ta, tb, ch, got
}

// dataFor returns data that makes the next part on ch an encoded Part of so many bytes.
func dataFor(t *testing.T, r *replica, ch *channel, size int) []byte {
	t.Helper()
	for n := size; n >= 0; n-- {
		frame := appendIdentity(appendBody(nil, ch.key, make([]byte, n)), partID{r.id, r.seq + 1}, ch.last, 0)
		if len(frame) == size {
			return bytes.Repeat([]byte{byte(size)}, n)
		}
	}
	t.Fatalf("no part has %d bytes", size)
	return nil
}

// TestSizeRule: at 699 and 700 bytes of encoded Part packets and the queue get it, at 701 the streams do; whatever wraps the packets.
func TestSizeRule(t *testing.T) {
	for name, wrapped := range wraps {
		cfg := Config{}
		wrapped(&cfg)
		s, err := cfg.settle()
		if err != nil {
			t.Fatal(err)
		}
		c := &Cluster{cfg: s, log: s.Logger}
		c.wire()
		r := c.replica
		if r.lim.gossip != 700 {
			t.Errorf("%s: the limit is %d", name, r.lim.gossip)
		}
		ch := testChannel(r, "ch")
		r.change(Member{}, testPeer(1), dawn)
		r.change(Member{}, testPeer(2), dawn)
		for i, tt := range []struct{ size, queued, streams int }{{699, 1, 0}, {700, 1, 0}, {701, 0, 2}} {
			now := dawn.Add(time.Duration(i) * time.Second) // nothing lingers
			ch.say(r, "", dataFor(t, r, ch, tt.size))
			r.pump(now)
			if it := r.history.get(partID{r.id, r.seq}); len(it.frame) != tt.size {
				t.Fatalf("%s: a part of %d bytes, want %d", name, len(it.frame), tt.size)
			}
			if r.local.messages != tt.queued || len(r.packets) != 2*tt.queued || len(r.streams) != tt.streams {
				t.Errorf("%s: %d bytes: %d queued, %d packets, %d streams", name, tt.size, r.local.messages, len(r.packets), len(r.streams))
			}
			r.confirmAll(now)
		}
	}
}

// TestSizeRuleEndToEnd: the same seen by the receiver.
func TestSizeRuleEndToEnd(t *testing.T) {
	for name, wrapped := range wraps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, _, _, ch, got := pair(t, wrapped, nil)
			for size, want := range map[int]Via{699: Gossip, 700: Gossip, 701: Stream} {
				a.mu.Lock()
				data := dataFor(t, a.replica, ch.core, size)
				a.mu.Unlock()
				if err := ch.Broadcast(t.Context(), data); err != nil {
					t.Fatal(err)
				}
				select {
				case m := <-got:
					if m.Via != want || !bytes.Equal(m.Value, data) {
						t.Errorf("%d bytes came by %v as %d bytes of data, want %v and %d", size, m.Via, len(m.Value), want, len(data))
					}
				case <-time.After(time.Minute):
					t.Fatalf("%d bytes never came", size)
				}
			}
		})
	}
}

// TestSmallPackets: where half a packet is less than 700 bytes, or the label leaves even less, the rule follows.
func TestSmallPackets(t *testing.T) {
	for _, tt := range []struct{ packet, label, key, want int }{
		{1400, 0, 0, 700}, {65_000, 0, 0, 700}, {1000, 0, 0, 500}, {512, 0, 0, 256}, {512, 255, 0, 245}, {512, 255, 16, 215},
	} {
		cfg := memberlist.DefaultLANConfig()
		cfg.UDPBufferSize, cfg.Label = tt.packet, strings.Repeat("l", tt.label)
		if tt.key > 0 {
			cfg.Keyring, _ = memberlist.NewKeyring(nil, make([]byte, tt.key))
		}
		if got := gossipLimit(cfg); got != tt.want {
			t.Errorf("%+v: limit %d", tt, got)
		}
	}
}

// TestPacketsFit: no packet of ours is larger than UDPBufferSize, filled by gossip or sent to one member, whatever wraps it.
func TestPacketsFit(t *testing.T) {
	for name, wrapped := range wraps {
		for _, size := range []int{512, 1400} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				a, _, ta, tb, ch, got := pair(t, wrapped, func(c *memberlist.Config) {
					c.UDPBufferSize = size
				})
				// Of every size, so that some packets are filled to the last byte.
				n := 0
				for body := range a.replica.lim.gossip - 60 {
					if err := ch.Broadcast(t.Context(), make([]byte, body)); err != nil {
						t.Fatal(err)
					}
					n++
				}
				// And the largest that go to one member in a packet.
				for body := a.packetRoom - 150; body <= a.packetRoom; body++ {
					if err := ch.Send(t.Context(), "b", make([]byte, body)); err != nil {
						t.Fatal(err)
					}
					n++
				}
				// A busy machine may be so slow that some are left to repair.
				var late *FlushError
				if err := ch.Flush(t.Context()); err != nil && !errors.As(err, &late) {
					t.Fatal(err)
				}
				for range n {
					select {
					case <-got:
					case <-time.After(time.Minute):
						t.Fatal("messages are missing")
					}
				}
				if a, b := ta.largest.Load(), tb.largest.Load(); a > int64(size) || b > int64(size) {
					t.Errorf("the largest packets have %d and %d bytes, limit %d", a, b, size)
				} else if a < int64(size)-60 {
					t.Errorf("the largest packet has %d bytes of %d: nothing was tested", a, size)
				}
			})
		}
	}
}

// TestKeysHide: with keys, nothing of a message is in a packet as it is.
func TestKeysHide(t *testing.T) {
	t.Parallel()
	for name, hidden := range map[string]bool{"bare": false, "keys": true} {
		_, _, ta, _, ch, got := pair(t, wraps[name], nil)
		ta.mu.Lock()
		ta.record = true
		ta.mu.Unlock()
		if err := ch.Broadcast(t.Context(), []byte("a secret to all others")); err != nil {
			t.Fatal(err)
		}
		<-got
		ta.mu.Lock()
		if seen := bytes.Contains(bytes.Join(ta.written, nil), []byte("a secret to all")); seen == hidden {
			t.Errorf("%s: readable in the packets: %v", name, seen)
		}
		ta.mu.Unlock()
	}
}

// testLanes returns lanes whose streams write to sent, each when it gets a token from pass; and what waits for them.
func testLanes() (l *lanes, pass chan error, sent chan string, wait func()) {
	var wg sync.WaitGroup
	pass, sent = make(chan error), make(chan string, 1000)
	l = newLanes(func(load []parcel) error {
		sent <- load[0].to.Name
		return <-pass
	}, func(f func()) bool {
		wg.Go(f)
		return true
	})
	return l, pass, sent, wg.Wait
}

// testParcel is a parcel that reports its end to done.
func testParcel(name string, size int, done chan error) parcel {
	return parcel{to: Member{Name: name, ID: 1}, bytes: size, done: func(err error) { done <- err }}
}

// TestLaneHangs: a peer that hangs holds up itself alone, in order, with one stream.
func TestLaneHangs(t *testing.T) {
	l, pass, sent, wait := testLanes()
	done := make(chan error, 100)
	l.put(testParcel("hangs", 10, done))
	if name := <-sent; name != "hangs" {
		t.Fatal(name)
	}
	for range 2 {
		l.put(testParcel("hangs", 10, done))
	}
	for i := range 5 {
		l.put(testParcel(fmt.Sprint("lives", i), 10, done))
	}
	for range 5 {
		if name := <-sent; name == "hangs" {
			t.Error("a second stream to the peer that hangs")
		}
	}
	for range 2 + 5 { // what waited for the peer that hangs goes together
		pass <- nil
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wait()
	if len(l.byPeer) != 0 {
		t.Errorf("%d lanes are left of nothing", len(l.byPeer))
	}
}

// TestLaneLoad: what waits for a member goes in one stream, in order, as far as that may be filled; to a foreign member
// each goes alone.
func TestLaneLoad(t *testing.T) {
	for id, want := range map[uint64][]int{1: {3, 2, 1}, 0: {1, 1, 1, 1, 1, 1}} {
		l := newLanes(nil, nil)
		ln := &lane{running: true}
		l.byPeer["p"] = ln
		for i, size := range []int{1, 2, laneFill - 3, 4, laneFill - 4, laneFill + 1} {
			ln.waiting = append(ln.waiting, parcel{to: Member{Name: fmt.Sprint(i), ID: id}, bytes: size})
			ln.bytes += size
		}
		var loads []int
		next := 0
		for load := l.load("p", ln); load != nil; load = l.load("p", ln) {
			loads = append(loads, len(load))
			for _, p := range load {
				if p.to.Name != fmt.Sprint(next) {
					t.Errorf("id %d: parcel %s out of order", id, p.to.Name)
				}
				next++
			}
		}
		if !slices.Equal(loads, want) || ln.bytes != 0 || ln.running || len(l.byPeer) != 0 {
			t.Errorf("id %d: loads of %v, want %v; lane %+v", id, loads, want, ln)
		}
	}
}

// TestLaneSlots: however many peers hang, so many streams are open and no more.
func TestLaneSlots(t *testing.T) {
	l, pass, sent, wait := testLanes()
	done := make(chan error, 100)
	for i := range 2 * streamSlots {
		l.put(testParcel(fmt.Sprint("p", i), 10, done))
	}
	for range streamSlots {
		<-sent
	}
	if n := len(l.slots); n != streamSlots || len(sent) != 0 {
		t.Errorf("%d streams are open", n+len(sent))
	}
	for range 2 * streamSlots {
		pass <- nil
		<-done
	}
	wait()
}

// TestLaneFull: what waits for one peer is bounded in bytes; a parcel larger than the bound goes if it is alone.
func TestLaneFull(t *testing.T) {
	l, pass, sent, wait := testLanes()
	done := make(chan error, 100)
	l.put(testParcel("p", 1, done))
	<-sent                                    // in flight, not waiting
	l.put(testParcel("p", laneBytes+1, done)) // alone
	l.put(testParcel("p", 1, done))
	if err := <-done; !errors.Is(err, errLaneFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	l.put(testParcel("q", 1, done)) // another peer's lane is empty
	<-sent
	for range 3 {
		pass <- nil
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wait()
}

// TestLaneDrop: what waits for a peer that has gone fails, each with the reason, and each once; and all at the end.
func TestLaneDrop(t *testing.T) {
	l, pass, sent, wait := testLanes()
	done := make(chan error, 100)
	broken := errors.New("stream broke")
	l.put(testParcel("p", 1, done))
	<-sent
	for range 2 {
		l.put(testParcel("p", 1, done))
	}
	l.drop("nobody", errMemberGone)
	l.drop("p", errMemberGone)
	for range 2 {
		if err := <-done; !errors.Is(err, errMemberGone) {
			t.Error(err)
		}
	}
	pass <- broken
	if err := <-done; !errors.Is(err, broken) {
		t.Error(err)
	}
	wait()
	for _, name := range []string{"p", "q"} {
		l.put(testParcel(name, 1, done))
		<-sent
		l.put(testParcel(name, 1, done))
	}
	l.dropAll(ErrClosed)
	for range 2 {
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	pass <- nil
	pass <- nil
	wait()
	// And a closed cluster starts nothing.
	l.spawn = func(func()) bool { return false }
	for len(done) > 0 {
		<-done
	}
	l.put(testParcel("late", 1, done))
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
