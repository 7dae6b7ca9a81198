package starling

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/wire"
)

// tap is a memberlist.Transport in memory that keeps what is written to it. Taps reach each other by connect.
type tap struct {
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	largest atomic.Int64 // bytes of the largest packet written, but to member
	member  string       // the address of one whose packets are not looked at

	mu      sync.Mutex
	peers   map[string]*tap
	written [][]byte // packets, if record is set
	record  bool
}

func newTap(addr string) *tap {
	return &tap{
		addr: netip.MustParseAddrPort(addr), packets: make(chan *memberlist.Packet, 10_000), streams: make(chan net.Conn),
		peers: map[string]*tap{},
	}
}

func connect(a, b *tap) {
	a.peers[b.addr.String()], b.peers[a.addr.String()] = b, a
}

func (t *tap) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

func (t *tap) WriteTo(b []byte, addr string) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if addr != t.member {
		t.largest.Store(max(t.largest.Load(), int64(len(b))))
	}
	if t.record {
		t.written = append(t.written, slices.Clone(b))
	}
	if peer, ok := t.peers[addr]; ok {
		select {
		case peer.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: net.UDPAddrFromAddrPort(t.addr), Timestamp: time.Now()}:
		default:
		}
	}
	return time.Now(), nil
}

func (t *tap) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *tap) StreamCh() <-chan net.Conn           { return t.streams }
func (t *tap) Shutdown() error                     { return nil }

func (t *tap) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	t.mu.Lock()
	peer, ok := t.peers[addr]
	t.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nobody at %s", addr)
	}
	near, far := net.Pipe()
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	select {
	case peer.streams <- far:
		return near, nil
	case <-expired.C:
		return nil, fmt.Errorf("%s does not accept", addr)
	}
}

// wraps are the ways in which memberlist may wrap a packet.
var wraps = map[string]func(*Config){
	"bare":          func(*Config) {},
	"label":         func(c *Config) { c.Label = "label" },
	"keys":          func(c *Config) { c.Keys = [][]byte{bytes.Repeat([]byte{7}, 32)} },
	"label and key": func(c *Config) { c.Label, c.Keys = strings.Repeat("l", 255), [][]byte{bytes.Repeat([]byte{7}, 32)} },
}

// inBubble runs a test in virtual time, where no member is slow, and lets memberlist's probes end, which outlive it.
func inBubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(30 * time.Second) })
		test(t)
	})
}

// pair makes two members that reach each other by taps, each with a channel of bytes, whose deliveries to b come out of got.
func pair(t *testing.T, wrapped func(*Config), tune func(*memberlist.Config)) (a, b *Cluster, ta, tb *tap, ch *Channel[[]byte], got chan Message[[]byte]) {
	ta, tb = newTap("10.0.0.1:7946"), newTap("10.0.0.2:7946")
	connect(ta, tb)
	got = make(chan Message[[]byte], 10_000)
	open := func(name string, tp *tap) (*Cluster, *Channel[[]byte]) {
		cfg := Config{Name: name, Transport: tp, Logger: slog.New(slog.DiscardHandler), Profile: ProfileLocal, Tune: tune}
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

// dataFor returns data that makes a part of that seq, which follows prev on the channel "ch", an encoded Part of so many bytes.
func dataFor(t *testing.T, seq, prev uint64, size int) []byte {
	t.Helper()
	for n := size; n >= 0; n-- {
		frame := wire.AppendIdentity(wire.AppendBody(nil, "ch", make([]byte, n)), wire.PartID{Origin: 1, Seq: seq}, prev, 0)
		if len(frame) == size {
			return bytes.Repeat([]byte{byte(size)}, n)
		}
	}
	t.Fatalf("no part has %d bytes", size)
	return nil
}

// TestSizeRule: at 699 and 700 bytes of encoded Part packets and the queue get it, at 701 the streams do; whatever wraps the
// packets.
func TestSizeRule(t *testing.T) {
	for name, wrapped := range wraps {
		for _, tt := range []struct{ size, queued, streams int }{{699, 1, 0}, {700, 1, 0}, {701, 0, 2}} {
			cfg := Config{}
			wrapped(&cfg)
			c := unstarted(t, cfg)
			if c.inlet.gossipRoom != 700 {
				t.Errorf("%s: the limit is %d", name, c.inlet.gossipRoom)
			}
			r, now := c.replica, time.Now()
			core := &replica.Channel{Key: "ch"}
			r.Open(core, now)
			r.Change(wire.Peer{}, testPeer(1), now)
			r.Change(wire.Peer{}, testPeer(2), now)
			m := new(replica.Message)
			m.Init(core, "", dataFor(t, 1, 0, tt.size), nil, 1)
			if _, ok := r.Sender.Accept(m, now); !ok {
				t.Fatal("no room")
			}
			r.Sender.Pump(now)
			if len(m.Frame()) != tt.size {
				t.Fatalf("%s: a part of %d bytes, want %d", name, len(m.Frame()), tt.size)
			}
			if e := r.Effects(); len(e.Queue) != tt.queued || len(e.Packets) != 2*tt.queued || len(e.Streams) != tt.streams {
				t.Errorf("%s: %d bytes: %d queued, %d packets, %d streams", name, tt.size, len(e.Queue), len(e.Packets), len(e.Streams))
			}
		}
	}
}

// TestSizeRuleEndToEnd: the same seen by the receiver.
func TestSizeRuleEndToEnd(t *testing.T) {
	for name, wrapped := range wraps {
		inBubble(t, func(t *testing.T) {
			_, _, _, _, ch, got := pair(t, wrapped, nil)
			seq := uint64(0)
			for size, want := range map[int]Via{699: ViaGossip, 700: ViaGossip, 701: ViaStream} {
				seq++
				data := dataFor(t, seq, seq-1, size)
				if err := ch.Broadcast(t.Context(), data); err != nil {
					t.Fatal(err)
				}
				select {
				case m := <-got:
					if m.Via != want || !bytes.Equal(m.Value, data) {
						t.Errorf("%s: %d bytes came by %v as %d bytes of data, want %v and %d", name, size, m.Via, len(m.Value), want, len(data))
					}
				case <-time.After(time.Minute):
					t.Fatalf("%s: %d bytes never came", name, size)
				}
			}
		})
	}
}

// TestSmallPackets: where half a packet is less than 700 bytes, or the label leaves even less, the rule follows.
func TestSmallPackets(t *testing.T) {
	for _, tt := range []struct{ Packet, label, key, want int }{
		{1400, 0, 0, 700}, {65_000, 0, 0, 700}, {1000, 0, 0, 500}, {512, 0, 0, 256}, {512, 255, 0, 245}, {512, 255, 16, 215},
	} {
		cfg := memberlist.DefaultLANConfig()
		cfg.UDPBufferSize, cfg.Label = tt.Packet, strings.Repeat("l", tt.label)
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
			inBubble(t, func(t *testing.T) {
				a, _, ta, tb, ch, got := pair(t, wrapped, func(c *memberlist.Config) {
					c.UDPBufferSize = size
				})
				// Of every size, so that some packets are filled to the last byte.
				n := 0
				for body := range a.inlet.gossipRoom - 60 {
					if err := ch.Broadcast(t.Context(), make([]byte, body)); err != nil {
						t.Fatal(err)
					}
					n++
				}
				// And the largest that go to one member in a packet.
				for body := a.outlet.packetRoom - 150; body <= a.outlet.packetRoom; body++ {
					if err := ch.Send(t.Context(), "b", make([]byte, body)); err != nil {
						t.Fatal(err)
					}
					n++
				}
				if err := ch.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range n {
					select {
					case <-got:
					case <-time.After(time.Minute):
						t.Fatalf("%s: messages are missing", name)
					}
				}
				if a, b := ta.largest.Load(), tb.largest.Load(); a > int64(size) || b > int64(size) {
					t.Errorf("%s: the largest packets have %d and %d bytes, limit %d", name, a, b, size)
				} else if a < int64(size)-60 {
					t.Errorf("%s: the largest packet has %d bytes of %d: nothing was tested", name, a, size)
				}
			})
		}
	}
}

// TestKeysHide: with keys, nothing of a message is in a packet as it is.
func TestKeysHide(t *testing.T) {
	for name, hidden := range map[string]bool{"bare": false, "keys": true} {
		inBubble(t, func(t *testing.T) {
			_, _, ta, _, ch, got := pair(t, wraps[name], nil)
			ta.mu.Lock()
			ta.record = true
			ta.mu.Unlock()
			if err := ch.Broadcast(t.Context(), []byte("a secret to all others")); err != nil {
				t.Fatal(err)
			}
			<-got
			ta.mu.Lock()
			defer ta.mu.Unlock()
			if seen := bytes.Contains(bytes.Join(ta.written, nil), []byte("a secret to all")); seen == hidden {
				t.Errorf("%s: readable in the packets: %v", name, seen)
			}
		})
	}
}
