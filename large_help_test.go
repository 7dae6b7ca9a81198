package starling_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What the tests of large messages share (large_*_test.go). What came out before large messages were cut into chunks stands in the
// comment of each, "at 13b025a".

// fast is 100 Mbit/s, in bytes per second.
const fast = 12_500_000

// bulkKey is the key of the channel of large messages, which the members of a bulk have open beside that of the lab.
const bulkKey = "bulk"

// bulk is a lab whose members give each other large messages. It knows them by their numbers, and compares what handlers are given
// with what was sent.
type bulk struct {
	*lab
	fill *rand.ChaCha8

	mu       sync.Mutex
	sent     [][]byte // by number
	began    []time.Time
	channels map[string]*starling.Channel[[]byte] // by member
	given    map[string]map[int][]handed          // by member and number
	damaged  map[string]int                       // messages that are not what was sent, by member
}

// handed is one call of a handler with a large message.
type handed struct {
	at  time.Time
	via starling.Via
}

// large lets a member take messages of up to 64 MiB, and keep some of them.
func large(c *starling.Config) {
	c.MaxMessageSize = 64 * mib
	c.Retention.Bytes = 256 * mib
	c.Queue.Bytes = 128 * mib // or a message that fills it would hold up those behind it before they are accepted
}

// fewer is how many, or how large, for a test that does so much that it does with less under the race detector, which makes it some ten
// times slower: the run without it does all.
func fewer(count, underRace int) int {
	if raced {
		return underRace
	}
	return count
}

// inBulk runs a test with n members that have met. configure may be nil.
func inBulk(t *testing.T, n int, configure func(*starling.Config), test func(t *testing.T, l *bulk, nodes []*node)) {
	t.Helper()
	inLab(t, func(t *testing.T, made *lab) {
		l := &bulk{
			lab: made, fill: rand.NewChaCha8([32]byte{1}), channels: map[string]*starling.Channel[[]byte]{},
			given: map[string]map[int][]handed{}, damaged: map[string]int{},
		}
		l.configure = configure
		test(t, l, slices.Clone(l.members(n, l.open)))
	})
}

// open opens the channel of large messages.
func (l *bulk) open(n *node) {
	l.t.Helper()
	handle := func(_ context.Context, m starling.Message[[]byte]) { l.handle(n.name, m) }
	ch, err := starling.NewChannelOf(n.Cluster, bulkKey, handle, starling.Bytes(), nil)
	l.Must(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.channels[n.name], l.given[n.name] = ch, map[int][]handed{}
}

func (l *bulk) handle(name string, m starling.Message[[]byte]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := -1
	if len(m.Value) >= 4 {
		number = int(binary.BigEndian.Uint32(m.Value))
	}
	if number < 0 || number >= len(l.sent) || !bytes.Equal(m.Value, l.sent[number]) {
		l.damaged[name]++
		return
	}
	l.given[name][number] = append(l.given[name][number], handed{time.Now(), m.Via})
}

// message makes a message that no compression makes smaller, and its number.
func (l *bulk) message(size int) (number int, b []byte) {
	b = make([]byte, size)
	l.fill.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	number = len(l.sent)
	binary.BigEndian.PutUint32(b, uint32(number))
	l.sent = append(l.sent, b)
	l.began = append(l.began, time.Now())
	return number, b
}

// push broadcasts a large message and returns its number.
func (l *bulk) push(from *node, size int) (number int) {
	l.t.Helper()
	number, b := l.message(size)
	l.Must(l.channels[from.name].Broadcast(context.Background(), b))
	return number
}

// has reports whether a member was given a message.
func (l *bulk) has(n *node, number int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.given[n.name][number]) > 0
}

// reached waits until the members were given a message, and returns how long after its broadcast the last of them was. The test
// fails for each that was not within limit.
func (l *bulk) reached(limit time.Duration, number int, nodes ...*node) (took time.Duration) {
	l.t.Helper()
	within(limit, func() bool { return !slices.ContainsFunc(nodes, func(n *node) bool { return !l.has(n, number) }) })
	l.mu.Lock()
	defer l.mu.Unlock()
	var lacking []string
	for _, n := range nodes {
		if calls := l.given[n.name][number]; len(calls) > 0 {
			took = max(took, calls[0].at.Sub(l.began[number]))
		} else {
			lacking = append(lacking, n.name)
		}
	}
	if len(lacking) > 0 {
		l.t.Errorf("%v later %v lack message %d of %d bytes", limit, lacking, number, len(l.sent[number]))
		return limit
	}
	return took
}

// exact fails the test unless each of the members was given each of the messages exactly once, as it was sent, and nothing was
// reported lost. Call it when everything has had its time.
func (l *bulk) exact(numbers []int, nodes ...*node) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		lacking, again := 0, 0
		for _, number := range numbers {
			switch len(l.given[n.name][number]) {
			case 0:
				lacking++
			case 1:
			default:
				again++
			}
		}
		if damaged := l.damaged[n.name]; lacking > 0 || again > 0 || damaged > 0 {
			l.t.Errorf("%s: of %d messages %d are lacking, %d came more than once, and %d are not what was sent",
				n.name, len(numbers), lacking, again, damaged)
		}
	}
	l.noGaps(nodes...)
}

// rates limits what each member sends and gets in all, in bytes per second.
func (l *bulk) rates(rate int) {
	l.t.Helper()
	for _, n := range l.nodes {
		l.Must(l.Net.SetRate(n.name, rate, rate))
	}
}

// wire returns the bytes that a member, or with "" all together, has sent so far.
func (l *bulk) wire(name string) int {
	l.t.Helper()
	c := l.Net.Total()
	if name != "" {
		c = l.Counters(name)
	}
	return int(c.Sent.StreamBytes + c.Sent.PacketBytes)
}

// ratio logs a figure, and fails the test if it is above its limit.
func (l *bulk) ratio(what string, is, of, limit float64) {
	l.t.Helper()
	if of == 0 {
		l.t.Errorf("%s: of nothing", what)
		return
	}
	l.t.Logf("%s: %.3f (limit %.2f)", what, is/of, limit)
	if is/of > limit {
		l.t.Errorf("%s: %.3f, more than %.2f", what, is/of, limit)
	}
}

// atMost logs a time, and fails the test if it is above its limit.
func (l *bulk) atMost(what string, took, limit time.Duration) {
	l.t.Helper()
	l.t.Logf("%s: %v (limit %v)", what, took, limit)
	if took > limit {
		l.t.Errorf("%s: %v, more than %v", what, took, limit)
	}
}

// small lets members broadcast small messages on the lab's channel, each every interval, until done reports true, and returns how
// long each took from the call of Broadcast to each handler, the shortest first.
func (l *bulk) small(every time.Duration, from []*node, done func() bool) (took []time.Duration) {
	l.t.Helper()
	began := map[string]time.Time{}
	first := len(l.lab.sent)
	for !done() {
		for _, n := range from {
			at := time.Now()
			began[l.lab.sent[l.send(n, 200)]] = at
		}
		time.Sleep(every)
	}
	time.Sleep(10 * time.Second)
	for _, n := range l.nodes {
		for _, d := range l.rec.Deliveries(labKey, n.name) {
			if at, ok := began[d.ID]; ok {
				took = append(took, d.At.Sub(at))
			}
		}
	}
	if want := (len(l.lab.sent) - first) * (len(l.nodes) - 1); len(took) != want {
		l.t.Errorf("%d deliveries of small messages, want %d", len(took), want)
	}
	slices.Sort(took)
	return took
}

// after returns a done for small.
func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return !time.Now().Before(end) }
}

// p99 takes times in order.
func p99(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return took[len(took)*99/100]
}

// deaf starts a member that answers packets and never reads a stream that others dial to it. stop ends it.
func (l *bulk) deaf(name string) (n *node, stop func()) {
	l.t.Helper()
	tr, err := l.Net.Transport(name)
	l.Must(err)
	cfg := starling.Config{Name: name, Transport: deafTransport{tr}, Logger: slog.New(slog.DiscardHandler)}
	if l.configure != nil {
		l.configure(&cfg)
	}
	c, err := starling.New(cfg)
	l.Must(err)
	l.Must(l.lab.open(&starlingtest.Member{Name: name, Cluster: c}))
	n = l.nodes[len(l.nodes)-1]
	l.open(n)
	return n, func() {
		l.Must(l.Net.Crash(name))
		l.gone(n)
		c.Close()
	}
}

// deafTransport has nobody who accepts streams, so that they are connected, fill their buffers, and hang.
type deafTransport struct{ *starlingtest.Transport }

func (deafTransport) StreamCh() <-chan net.Conn { return nil }

// allBut returns the nodes without one.
func allBut(nodes []*node, but *node) []*node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == but })
}

func mibs(size int) string {
	if size%mib == 0 {
		return fmt.Sprint(size/mib, " MiB")
	}
	return fmt.Sprint(size, " B")
}
