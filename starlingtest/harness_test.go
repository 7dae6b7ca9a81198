package starlingtest_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/starling-go/starling/starlingtest"
)

// bubble runs f in virtual time, on a network that is closed at the end.
func bubble(t *testing.T, f func(t *testing.T, n *starlingtest.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := starlingtest.NewNetwork(starlingtest.Seed(t))
		defer n.Close()
		f(t, n)
	})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, n *starlingtest.Network, name string) *starlingtest.Transport {
	t.Helper()
	tr, err := n.Transport(name)
	ok(t, err)
	return tr
}

// two starts members a and b with the given default link.
func two(t testing.TB, n *starlingtest.Network, l starlingtest.Link) (a, b *starlingtest.Transport) {
	t.Helper()
	ok(t, n.SetDefault(l))
	return start(t, n, "a"), start(t, n, "b")
}

func counters(t testing.TB, n *starlingtest.Network, name string) starlingtest.Counters {
	t.Helper()
	c, err := n.Counters(name)
	ok(t, err)
	return c
}

// number makes a packet that says which it is.
func number(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

// send sends count numbered packets, gap apart.
func send(t testing.TB, from, to *starlingtest.Transport, count int, gap time.Duration) {
	t.Helper()
	for i := range count {
		_, err := from.WriteTo(number(i), to.Addr().String())
		ok(t, err)
		if gap > 0 {
			time.Sleep(gap)
		}
	}
}

// received returns the numbers of the packets that wait at tr, in order.
func received(tr *starlingtest.Transport) []int {
	var got []int
	for {
		select {
		case p := <-tr.PacketCh():
			got = append(got, int(binary.BigEndian.Uint32(p.Buf)))
		default:
			return got
		}
	}
}

// connect dials from a to b and returns both ends.
func connect(t testing.TB, a, b *starlingtest.Transport) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := a.DialTimeout(b.Addr().String(), 10*time.Second)
	ok(t, err)
	return dialled, <-b.StreamCh()
}

// wantOp checks that err has the shape that memberlist looks for.
func wantOp(t testing.TB, err error, op string) {
	t.Helper()
	if e, is := err.(*net.OpError); !is || e.Op != op || e.Net != "tcp" {
		t.Fatalf("%#v is not a tcp %s error", err, op)
	}
}

func wantTimeout(t testing.TB, err error) {
	t.Helper()
	if e, is := err.(net.Error); !is || !e.Timeout() {
		t.Fatalf("%v is not a timeout", err)
	}
}

// list makes a memberlist on a new run of the named member.
func list(t testing.TB, n *starlingtest.Network, name string, tune ...func(*memberlist.Config)) *memberlist.Memberlist {
	t.Helper()
	conf := memberlist.DefaultLANConfig()
	conf.Name = name
	conf.Transport = start(t, n, name)
	conf.EnableCompression = false
	conf.LogOutput = io.Discard
	for _, f := range tune {
		f(conf)
	}
	m, err := memberlist.Create(conf)
	ok(t, err)
	return m
}

// lists makes count memberlists that have all joined the first.
func lists(t testing.TB, n *starlingtest.Network, count int) []*memberlist.Memberlist {
	t.Helper()
	var all []*memberlist.Memberlist
	for i := range count {
		m := list(t, n, fmt.Sprintf("m%d", i))
		all = append(all, m)
		if i > 0 {
			_, err := m.Join([]string{all[0].LocalNode().Address()})
			ok(t, err)
		}
	}
	return all
}

// settled waits until every list has so many members alive, and returns how long that took.
func settled(t testing.TB, all []*memberlist.Memberlist, want int, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		i := slices.IndexFunc(all, func(m *memberlist.Memberlist) bool { return m.NumMembers() != want })
		if i < 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("%s sees %d members, not %d, after %v", all[i].LocalNode().Name, all[i].NumMembers(), want, limit)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// shutDown shuts all down and waits until memberlist's probes have ended.
func shutDown(t testing.TB, all ...*memberlist.Memberlist) {
	t.Helper()
	for _, m := range all {
		ok(t, m.Shutdown())
	}
	time.Sleep(30 * time.Second)
}
