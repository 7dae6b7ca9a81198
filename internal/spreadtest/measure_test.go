package spreadtest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// settle is how long the traffic of the last message may go on. memberlist's queue sends for 4 s at most, at 1,000 members.
const settle = 5 * time.Second

// cluster is a cluster that has formed.
type cluster interface {
	// broadcast lets a member say something.
	broadcast(member int, payload []byte) error
}

// log notes what handlers are told. Members are known by number, messages too.
type log struct {
	mu         sync.Mutex
	n          int
	messages   []*message
	duplicates int
	strange    int
	gaps       int
}

// message is one broadcast.
type message struct {
	origin int
	sent   time.Time
	took   map[int]time.Duration // by member, the origin excepted
	all    chan struct{}         // closed when len(took) = n-1
}

// payload makes the next message of a member, and notes that it is sent now.
func (l *log) payload(origin, size int) ([]byte, *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &message{origin: origin, sent: time.Now(), took: make(map[int]time.Duration), all: make(chan struct{})}
	payload := make([]byte, size)
	binary.BigEndian.PutUint64(payload, uint64(len(l.messages)))
	l.messages = append(l.messages, m)
	return payload, m
}

// deliver notes a call of a member's handler.
func (l *log) deliver(member int, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(payload) < smallest || binary.BigEndian.Uint64(payload) >= uint64(len(l.messages)) {
		l.strange++
		return
	}
	m := l.messages[binary.BigEndian.Uint64(payload)]
	if _, again := m.took[member]; again || member == m.origin {
		l.duplicates++
		return
	}
	m.took[member] = time.Since(m.sent)
	if len(m.took) == l.n-1 {
		close(m.all)
	}
}

func (l *log) gap() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps++
}

// measure broadcasts through a cluster that has formed on links without faults, and counts.
func measure(t *testing.T, net *starlingtest.Network, c cluster, l *log, p params) result {
	t.Helper()
	if err := net.SetDefault(link(p, p.loss)); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(p.seed, 1))
	meter := newMeter(net)
	broadcast := func(count int) {
		for range count {
			origin := rng.IntN(p.n)
			payload, m := l.payload(origin, p.size)
			if err := c.broadcast(origin, payload); err != nil {
				t.Fatal(err)
			}
			select {
			case <-m.all:
			case <-time.After(p.patience):
			}
		}
		time.Sleep(settle)
	}
	broadcast(p.warmup)
	meter.reset()
	broadcast(p.count)
	sent, received := meter.read()

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strange > 0 {
		t.Errorf("%d messages were handled that nobody sent", l.strange)
	}
	r := result{TLS: p.tls, N: p.n, Loss: p.loss, Size: p.size, Count: p.count, Duplicates: l.duplicates, Gaps: l.gaps}
	_, r.ColdToAllMax = toAll(l.messages[:p.warmup], p)
	hot := l.messages[p.warmup:]
	r.ToAllP50, r.ToAllMax = toAll(hot, p)
	var members []time.Duration
	for _, m := range hot {
		for _, d := range m.took {
			members = append(members, d)
		}
	}
	slices.Sort(members)
	r.MemberP50, r.MemberP99 = percentile(members, 50), percentile(members, 99)
	deliveries := float64(len(members))
	r.Delivered = deliveries / float64(p.count*(p.n-1))
	if deliveries > 0 {
		r.ReceptionsPerDelivery = float64(received.parts) / deliveries
		r.SendsPerDelivery = float64(sent.parts) / deliveries
		r.BytesPerDelivery = float64(sent.bytes) / deliveries
	}
	return r
}

// link is every link of a measurement.
func link(p params, loss float64) starlingtest.Link {
	return starlingtest.Link{Latency: p.latency, Jitter: p.latency / 2, Loss: loss}
}

// toAll returns how long messages took to their last member, in ms; those that did not reach it took all our patience.
func toAll(messages []*message, p params) (median, longest float64) {
	var took []time.Duration
	for _, m := range messages {
		d := p.patience
		if len(m.took) == p.n-1 {
			d = 0
			for _, at := range m.took {
				d = max(d, at)
			}
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return percentile(took, 50), percentile(took, 100)
}

// percentile takes the smallest value that q percent of the sorted values do not exceed, in ms; 0 of none.
func percentile(sorted []time.Duration, q int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := max((len(sorted)*q+99)/100-1, 0)
	return float64(sorted[i].Microseconds()) / 1000
}

// report logs a result, and appends it to the file that SPREAD_OUT names, if it does.
func report(t *testing.T, p params, r result) {
	t.Helper()
	t.Logf("seed %d: %+v", p.seed, r)
	if p.out != "" {
		if err := r.appendTo(p.out); err != nil {
			t.Error(err)
		}
	}
}
