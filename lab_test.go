package starling_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// lab is a cluster on the in-memory network in a bubble of virtual time. Links take 1 ms with half jitter.
type lab struct {
	t     *testing.T
	net   *starlingtest.Network
	nodes []*node // those that run
	// configure, if set, changes the configuration of those started from now on.
	configure func(*starling.Config)
	// options of the channel that every node opens; nil: none.
	options *starling.ChannelOptions[[]byte]

	next uint64 // id of the next message
}

// node is one member, and what its handlers have seen.
type node struct {
	*starling.Cluster
	name string
	ch   *starling.Channel[[]byte]
	busy func() // called by the handler of ch, if set

	mu       sync.Mutex
	seen     map[uint64]int    // how often, by the id of the message
	missed   map[partKey]int   // how often a seq was reported in a gap
	order    map[uint64]uint64 // the last seq, by origin
	unsorted int               // handler calls with a lower seq than the one before
	last     time.Time         // of the last handler call
}

type partKey struct{ origin, seq uint64 }

// labLink is what issue and design measure on.
var labLink = starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond}

// inLab runs a test in a bubble, and ends what it started.
func inLab(t *testing.T, test func(t *testing.T, l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: starlingtest.NewNetwork(starlingtest.Seed(t))}
		l.links(labLink)
		defer func() {
			for _, n := range l.nodes {
				n.Close()
			}
			time.Sleep(30 * time.Second) // memberlist's probes outlive it
			l.net.Close()
		}()
		test(t, l)
	})
}

func (l *lab) links(k starlingtest.Link) {
	l.t.Helper()
	must(l.t, l.net.SetDefault(k))
}

// cut lets nothing pass between two members until the network is healed.
func (l *lab) cut(a, b *node) {
	l.t.Helper()
	must(l.t, l.net.Partition([]string{a.name}, []string{b.name}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// member starts a member that knows nobody.
func (l *lab) member(name string, open ...func(*node)) *node {
	l.t.Helper()
	tr, err := l.net.Transport(name)
	must(l.t, err)
	cfg := starling.Config{Name: name, Transport: tr, Logger: slog.New(slog.DiscardHandler)}
	if l.configure != nil {
		l.configure(&cfg)
	}
	c, err := starling.New(cfg)
	must(l.t, err)
	n := &node{Cluster: c, name: name, seen: map[uint64]int{}, missed: map[partKey]int{}, order: map[uint64]uint64{}}
	go n.watch()
	n.ch, err = starling.NewChannelOf(c, "lab", n.handle, starling.Bytes(), l.options)
	must(l.t, err)
	for _, o := range open {
		o(n)
	}
	l.nodes = append(l.nodes, n)
	return n
}

// members starts n members m0, m1, … that have met, and lets them come to rest.
func (l *lab) members(n int, open ...func(*node)) []*node {
	l.t.Helper()
	for i := range n {
		m := l.member(fmt.Sprint("m", len(l.nodes)), open...)
		if i > 0 {
			l.join(m, l.nodes[0])
		}
	}
	l.whole(l.nodes...)
	time.Sleep(3 * time.Second)
	return l.nodes
}

func (l *lab) join(n, seed *node) {
	l.t.Helper()
	must(l.t, n.Join(l.t.Context(), seed.Self().Addr.String()))
}

// gone takes a member off the list, for it has been closed or will be.
func (l *lab) gone(n *node) {
	l.nodes = slices.DeleteFunc(l.nodes, func(m *node) bool { return m == n })
}

// crash takes a member off the network without a goodbye.
func (l *lab) crash(n *node) {
	l.t.Helper()
	must(l.t, l.net.Crash(n.name))
	l.gone(n)
	n.Close()
}

// whole waits until the given members see each other and nobody else, and returns how long that took.
func (l *lab) whole(nodes ...*node) time.Duration {
	l.t.Helper()
	took, ok := within(5*time.Minute, func() bool {
		for _, n := range nodes {
			if len(n.Members()) != len(nodes) {
				return false
			}
		}
		return true
	})
	if !ok {
		l.t.Fatal("the membership never became whole")
	}
	return took
}

// within waits until ok reports true, and returns how long that took.
func within(d time.Duration, ok func() bool) (time.Duration, bool) {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if took := time.Since(start); ok() || took > d {
			return took, took <= d
		}
	}
}

// payload returns a new message of a size, and its id.
func (l *lab) payload(size int) (id uint64, b []byte) {
	l.next++
	b = make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(b, l.next)
	return l.next, b
}

// send broadcasts a message of a size and returns its id.
func (l *lab) send(n *node, size int) uint64 {
	l.t.Helper()
	id, b := l.payload(size)
	must(l.t, n.ch.Broadcast(context.Background(), b))
	return id
}

func (l *lab) sendMany(n *node, count, size int) (ids []uint64) {
	l.t.Helper()
	for range count {
		ids = append(ids, l.send(n, size))
	}
	return ids
}

func (n *node) handle(_ context.Context, m starling.Message[[]byte]) {
	n.mu.Lock()
	n.seen[binary.BigEndian.Uint64(m.Value)]++
	if m.Seq != 0 && m.Seq <= n.order[m.From.ID] {
		n.unsorted++
	}
	n.order[m.From.ID] = max(n.order[m.From.ID], m.Seq)
	n.last = time.Now()
	busy := n.busy
	n.mu.Unlock()
	if busy != nil {
		busy()
	}
}

func (n *node) setBusy(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = f
}

func (n *node) watch() {
	for e := range n.Events(context.Background()) {
		if e.Kind != starling.GapFound {
			continue
		}
		n.mu.Lock()
		for seq := e.Gap.First; seq <= e.Gap.Last && seq-e.Gap.First < 100_000; seq++ {
			n.missed[partKey{e.Gap.Origin.ID, seq}]++
		}
		n.mu.Unlock()
	}
}

// lacks returns how many of the messages the member's handler has not seen.
func (n *node) lacks(ids []uint64) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	lacking := 0
	for _, id := range ids {
		if n.seen[id] == 0 {
			lacking++
		}
	}
	return lacking
}

func (n *node) gaps() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.missed)
}

// have reports whether all nodes but the origin have seen all messages.
func have(ids []uint64, origin *node, nodes []*node) bool {
	for _, n := range nodes {
		if n != origin && n.lacks(ids) > 0 {
			return false
		}
	}
	return true
}

// once fails the test for what the nodes have seen twice, and for false gaps.
func (l *lab) once(nodes ...*node) {
	l.t.Helper()
	for _, n := range nodes {
		n.mu.Lock()
		twice := 0
		for _, times := range n.seen {
			if times > 1 {
				twice++
			}
		}
		if twice > 0 {
			l.t.Errorf("%s: %d messages were handled more than once", n.name, twice)
		}
		if len(n.missed) > 0 {
			l.t.Errorf("%s: %d messages were reported missing: %v", n.name, len(n.missed), few(n.missed))
		}
		n.mu.Unlock()
	}
}

func few(m map[partKey]int) (some []partKey) {
	for k := range m {
		if some = append(some, k); len(some) == 5 {
			break
		}
	}
	return some
}

// delivered waits until every node but the origin has seen the messages.
func (l *lab) delivered(limit time.Duration, ids []uint64, origin *node, nodes ...*node) time.Duration {
	l.t.Helper()
	took, ok := within(limit, func() bool { return have(ids, origin, nodes) })
	if !ok {
		for _, n := range nodes {
			if k := n.lacks(ids); k > 0 && n != origin {
				l.t.Errorf("%s lacks %d of %d messages after %v", n.name, k, len(ids), limit)
			}
		}
	}
	return took
}

func nodeNames(nodes []*node) (out []string) {
	for _, n := range nodes {
		out = append(out, n.name)
	}
	return out
}
