package starling_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// labLink is the link between every two members of a lab, unless a test sets another.
var labLink = starlingtest.Link{Latency: time.Millisecond, Jitter: 500 * time.Microsecond}

// rough is a link that does everything to a packet that a network may do.
var rough = starlingtest.Link{
	Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05,
}

// mixed is the size of the i-th of many messages: one in fifty does not fit a packet.
func mixed(i int) int {
	if i%50 == 49 {
		return 3000
	}
	return 200
}

// lab is a starlingtest.Lab in a bubble of virtual time. Its members each open a channel on which the test broadcasts, and they
// join only whom the test says.
type lab struct {
	*starlingtest.Lab
	t     *testing.T
	nodes []*node               // those that run, in the order of their start
	rec   starlingtest.Recorder // of the channel labKey
	sent  []string              // the recorder's id of each message that payload has made

	// configure, if set, changes the configuration of members that start from now on.
	configure func(*starling.Config)
	// options are those of the channel labKey on members that start from now on. nil: the defaults.
	options *starling.ChannelOptions[[]byte]
}

// labKey is the key of the channel that every member of a lab opens.
const labKey = "lab"

// node is one run of a member of a lab.
type node struct {
	*starling.Cluster
	name   string
	lab    *lab
	ch     *starling.Channel[[]byte]
	events *watcher

	mu       sync.Mutex
	busy     func()            // called by the handler of ch, if set
	newest   map[uint64]uint64 // the highest seq handled, by origin
	unsorted int               // handler calls with a lower seq than one before. Read by order_test.go; else see inOrder
}

// inLab runs a test in a bubble, and ends what it started.
func inLab(t *testing.T, test func(t *testing.T, l *lab)) {
	l := new(lab)
	o := starlingtest.Options{Link: labLink, Open: l.open, Config: func(string) (c starling.Config) {
		if l.configure != nil {
			l.configure(&c)
		}
		return c
	}}
	starlingtest.Run(t, 0, o, func(t *testing.T, made *starlingtest.Lab) {
		l.Lab, l.t = made, t
		test(t, l)
	})
}

// open is called at every start of a member.
func (l *lab) open(m *starlingtest.Member) (err error) {
	n := &node{Cluster: m.Cluster, name: m.Name, lab: l, newest: map[uint64]uint64{}}
	n.events = watch(l.t, m.Cluster)
	handle := starlingtest.Record(&l.rec, labKey, m.Name, starlingtest.PayloadID, n.handle)
	n.ch, err = starling.NewChannelOf(m.Cluster, labKey, handle, starling.Bytes(), l.options)
	l.nodes = append(l.nodes, n)
	return err
}

func (n *node) handle(_ context.Context, m starling.Message[[]byte]) {
	n.mu.Lock()
	if m.Seq != 0 && m.Seq <= n.newest[m.From.ID] {
		n.unsorted++
	}
	n.newest[m.From.ID] = max(n.newest[m.From.ID], m.Seq)
	busy := n.busy
	n.mu.Unlock()
	if busy != nil {
		busy()
	}
}

// setBusy has the handler of ch call f from now on.
func (n *node) setBusy(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = f
}

// links sets every link.
func (l *lab) links(k starlingtest.Link) {
	l.t.Helper()
	l.Must(l.Net.SetDefault(k))
}

// cut lets nothing pass between two members until the network is healed.
func (l *lab) cut(a, b *node) {
	l.t.Helper()
	l.Must(l.Net.Partition([]string{a.name}, []string{b.name}))
}

// member starts a member that knows nobody, and calls open before anything can reach it.
func (l *lab) member(name string, open ...func(*node)) *node {
	l.t.Helper()
	l.StartAlone(name)
	n := l.nodes[len(l.nodes)-1]
	for _, o := range open {
		o(n)
	}
	return n
}

// members starts n members m0, m1, … that have met, and waits until their traffic has settled.
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
	l.Must(n.Join(l.t.Context(), addr(seed.Cluster)))
}

// gone takes a member off the list of those that run, because the test ends it.
func (l *lab) gone(n *node) {
	l.nodes = slices.DeleteFunc(l.nodes, func(m *node) bool { return m == n })
}

// crash takes a member off the network without a goodbye.
func (l *lab) crash(n *node) {
	l.t.Helper()
	l.Must(l.Net.Crash(n.name))
	l.gone(n)
	n.Close()
}

// whole waits until each of the members sees as many as they are, and returns how long that took.
func (l *lab) whole(nodes ...*node) time.Duration {
	l.t.Helper()
	took, ok := within(5*time.Minute, func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return len(n.Members()) != len(nodes) })
	})
	if !ok {
		l.t.Fatalf("the members of %v never saw each other", nodeNames(nodes))
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

// payload makes a message for a member to broadcast on its channel, and returns the number by which the lab knows it.
func (l *lab) payload(from *node, size int) (id uint64, b []byte) {
	b = l.rec.Payload(labKey, from.name, size)
	l.sent = append(l.sent, starlingtest.PayloadID(b))
	return uint64(len(l.sent) - 1), b
}

// send broadcasts a message and returns its number.
func (l *lab) send(n *node, size int) uint64 {
	l.t.Helper()
	id, b := l.payload(n, size)
	l.Must(n.ch.Broadcast(context.Background(), b))
	return id
}

func (l *lab) sendMany(n *node, count, size int) (ids []uint64) {
	l.t.Helper()
	for range count {
		ids = append(ids, l.send(n, size))
	}
	return ids
}

// deliveries returns how often the member's handler was given each message, by the recorder's id.
func (n *node) deliveries() map[string]int {
	times := map[string]int{}
	for _, d := range n.lab.rec.Deliveries(labKey, n.name) {
		times[d.ID]++
	}
	return times
}

// lastDelivery returns when the member's handler was called last.
func (n *node) lastDelivery() time.Time {
	d := n.lab.rec.Deliveries(labKey, n.name)
	return d[len(d)-1].At
}

// lacks returns how many of the messages the member's handler was not given.
func (n *node) lacks(ids []uint64) (lacking int) {
	times := n.deliveries()
	for _, id := range ids {
		if times[n.lab.sent[id]] == 0 {
			lacking++
		}
	}
	return lacking
}

// delivered waits until every node but the origin was given the messages.
func (l *lab) delivered(limit time.Duration, ids []uint64, origin *node, nodes ...*node) time.Duration {
	l.t.Helper()
	lacking := func(n *node) bool { return n != origin && n.lacks(ids) > 0 }
	took, ok := within(limit, func() bool { return !slices.ContainsFunc(nodes, lacking) })
	if !ok {
		for _, n := range nodes {
			if k := n.lacks(ids); k > 0 && n != origin {
				l.t.Errorf("%s lacks %d of %d messages after %v", n.name, k, len(ids), limit)
			}
		}
	}
	return took
}

// once fails the test for every message that a node was given twice, or reported as lost.
func (l *lab) once(nodes ...*node) {
	l.t.Helper()
	for _, n := range nodes {
		for id, times := range n.deliveries() {
			if times > 1 {
				l.t.Errorf("%s: message %s was handled %d times", n.name, id, times)
			}
		}
	}
	l.noGaps(nodes...)
}

// noGaps fails the test for every gap that a node reported.
func (l *lab) noGaps(nodes ...*node) {
	l.t.Helper()
	for _, n := range nodes {
		for _, g := range n.events.gaps() {
			l.t.Errorf("%s reported messages %d to %d of %s as lost", n.name, g.First, g.Last, g.Origin.Name)
		}
	}
}

// inOrder fails the test for every node that was given messages of one origin out of order.
func (l *lab) inOrder(nodes ...*node) {
	l.t.Helper()
	if err := l.rec.InOrder(labKey, nodeNames(nodes)...); err != nil {
		l.t.Error(err)
	}
}

// told returns how many messages of an origin the node reported as lost. One that it reported twice counts twice.
func (n *node) told(origin uint64) (count int) {
	for _, g := range n.events.gaps() {
		if g.Origin.ID == origin {
			count += int(g.Last - g.First + 1)
		}
	}
	return count
}

func nodeNames(nodes []*node) (names []string) {
	for _, n := range nodes {
		names = append(names, n.name)
	}
	return names
}
