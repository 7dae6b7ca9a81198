package starling_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// Bytes from outside: no key, and a sender that lies. A member that trusts whoever reaches it must still keep its bounds.

// One stream with a control frame of millions of empty elements, in the name of a live member. Before: 0.9 to 1.6 GB more in
// use, decoded under the lock. Right: limits are checked before anything is allocated; at most 32 MB more in use.
func TestHugeDigestIsRefused(t *testing.T) {
	const (
		many  = 2_000_000  // of two bytes; a stream of memberlist's holds nearly five times as many
		most  = 18_000_000 // of one byte
		limit = 32 << 20
	)
	// packed is a field of n zeros, and nested is field 1 around something.
	packed := func(field byte, n int) []byte {
		b := append([]byte{field<<3 | 2}, varint(n)...)
		return append(b, make([]byte, n)...)
	}
	nested := func(b []byte) []byte { return append(append([]byte{1<<3 | 2}, varint(len(b))...), b...) }
	for _, tt := range []struct {
		name    string
		body    protowire.Number // the field of Control
		content []byte
	}{
		{"digest of empty origins", 7, bytes.Repeat([]byte{1<<3 | 2, 0}, many)},
		{"sync of empty items", 12, bytes.Repeat([]byte{5<<3 | 2, 0}, many)},
		{"sync of empty digests", 12, bytes.Repeat([]byte{4<<3 | 2, 0}, many)},
		{"digest of many ranges", 7, nested(packed(5, most))},
		{"pull of empty ranges", 8, bytes.Repeat([]byte{2<<3 | 2, 0}, many)},
		{"pull of many spans", 8, append([]byte{2<<3 | 2}, nested(packed(2, most))[1:]...)},
		{"question for many states", 11, bytes.Repeat([]byte{2<<3 | 2, 0}, many/10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heap := watchLiveHeap(t)
			var rec recordedLab
			starlingtest.Run(t, 2, starlingtest.Options{Open: rec.open}, func(t *testing.T, l *starlingtest.Lab) {
				to, honest := l.Member("m0").Cluster, l.Member("m1").Cluster.Self()
				rec.broadcast(t, "m1", 100)
				frame := largeControl(honest, tt.body, tt.content)
				refused := refusals(to)
				before := heap.begin()
				if err := newOutsider(t, l, "outside").stream(to.Self(), frame, 5*time.Second); err != nil {
					t.Logf("the stream: %v", err)
				}
				time.Sleep(time.Second)
				more := heap.above(before)
				t.Logf("a stream of %.1f MB: %.1f MB more in use", float64(len(frame))/1e6, float64(more)/1e6)
				if more > limit {
					t.Errorf("%d bytes more in use, at most %d are right", more, limit)
				}
				if refusals(to) == refused {
					t.Error("nothing was counted")
				}
				rec.broadcast(t, "m1", 100)
				l.Within(5*time.Second, func() error { return rec.ExactlyOnce(contractKey) })
			})
		})
	}
}

// Six such streams at once, while a member sends to the one that they are for. Real sockets on loopback: in virtual time
// decoding takes no time. Before: 2 GB more in use with the largest streams, and Sends that wait for seconds behind the lock.
// Right: the bytes of the streams and not much more, and a Send waits for none of them.
func TestHugeDigestsDoNotHoldUpSends(t *testing.T) {
	const (
		limit = 32 << 20
		slow  = time.Second // a Send on loopback takes less than a millisecond; this is for a machine that is busy
	)
	heap := watchLiveHeap(t)
	var rec recordedLab
	a, b := loopbackMember(t, "a", nil), loopbackMember(t, "b", nil)
	for _, c := range []*starling.Cluster{a, b} {
		if err := rec.openOn(c, c.Self().Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Join(endsIn(t, 10*time.Second), a.Self().Addr.String()); err != nil {
		t.Fatal(err)
	}
	first := func() error { return rec.channel("b").Send(endsIn(t, time.Second), "a", []byte("first")) }
	if err := soonWithin(10*time.Second, first); err != nil {
		t.Fatal(err)
	}
	frame := largeControl(b.Self(), 7, bytes.Repeat([]byte{1<<3 | 2, 0}, 1_200_000))
	head := append(append([]byte{rawUser, 0x81}, msgpackString("UserMsgLen")...), msgpackInt(len(frame))...)
	before := heap.begin()
	var streams sync.WaitGroup
	for range 6 {
		streams.Go(func() {
			conn, err := net.Dial("tcp", a.Self().Addr.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := converse(conn, 20*time.Second, head, frame); err != nil {
				t.Logf("a stream: %v", err)
			}
		})
	}
	over := make(chan struct{})
	go func() {
		streams.Wait()
		close(over)
	}()
	sends, slowest := 0, time.Duration(0)
	for attacked := true; attacked; {
		select {
		case <-over:
			attacked = false // one more, for what is still being decoded
		case <-time.After(5 * time.Millisecond):
		}
		began := time.Now()
		if err := rec.channel("b").Send(endsIn(t, 20*time.Second), "a", []byte("honest")); err != nil {
			t.Error(err)
		}
		sends, slowest = sends+1, max(slowest, time.Since(began))
	}
	more := heap.above(before)
	t.Logf("six streams of %.1f MB: %.1f MB more in use; %d Sends meanwhile, the slowest took %v",
		float64(len(frame))/1e6, float64(more)/1e6, sends, slowest)
	if more > limit {
		t.Errorf("%d bytes more in use, at most %d are right", more, limit)
	}
	if slowest > slow {
		t.Errorf("a Send took %v", slowest)
	}
	if n, m := len(a.Members()), len(b.Members()); n != 2 || m != 2 {
		t.Errorf("a sees %d members and b %d: a healthy one was declared failed", n, m)
	}
}

// Packets of 60 KB to a member with a Label, while memberlist is behind with its work: here because the admission hook takes
// its time, which stands in for a busy machine. Real sockets on loopback, since that hook runs under a lock. Before: memberlist
// keeps 16,384 packets, whatever their size: 1.8 GB in 20 s of a flood. Right: bounded in bytes; packets above UDPBufferSize
// are refused, and counted.
func TestLargePacketsAreBounded(t *testing.T) {
	const (
		flood = 3000
		size  = 60_000
		limit = 32 << 20
		label = "label"
	)
	for _, kind := range []struct {
		name string
		head byte // the type of memberlist's message
	}{{"user messages", rawUser}, {"deaths", rawDead}} {
		t.Run(kind.name, func(t *testing.T) {
			hold := make(chan struct{})
			release := sync.OnceFunc(func() { close(hold) })
			c := loopbackMember(t, "a", func(cfg *starling.Config) {
				cfg.Label = label
				cfg.Admit = func(starling.Member) error {
					<-hold
					return nil
				}
			})
			t.Cleanup(release) // before the member is closed
			conn, err := net.Dial("udp", c.Self().Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// read is how many packets the member has read, at least.
			read := func() uint64 { return c.Stats().Traffic.PacketsReceived + refusals(c) }
			send := func(b []byte) {
				before := read()
				if _, err := conn.Write(b); err != nil {
					t.Fatal(err)
				}
				for range 100 { // so that the socket buffer drops none
					if read() > before {
						return
					}
					time.Sleep(50 * time.Microsecond)
				}
			}
			head := append([]byte{rawLabel, byte(len(label))}, label...)
			here := netip.MustParseAddrPort(conn.LocalAddr().String())
			send(append(slices.Clone(head), aliveFrame(ghost{"ghost", here, 1})...))
			time.Sleep(20 * time.Millisecond) // now memberlist waits for the hook
			b := append(append(slices.Clone(head), kind.head), make([]byte, size)...)
			refused, before := refusals(c), bytesInUse()
			for range flood {
				send(b)
			}
			more := bytesInUse() - before
			t.Logf("%d packets of %d bytes: %.1f MB more in use", flood, size, float64(more)/1e6)
			if more > limit {
				t.Errorf("%d bytes more in use, at most %d are right", more, limit)
			}
			release()
			if n := refusals(c) - refused; n < flood*9/10 { // the system may drop some before anybody sees them
				t.Errorf("%d of %d packets were counted as refused", n, flood)
			}
		})
	}
}
