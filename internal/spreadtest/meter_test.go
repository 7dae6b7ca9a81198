package spreadtest

import (
	"sync"

	"github.com/starling-go/starling/starlingtest"
)

// meter counts what passes a network.
type meter struct {
	mu       sync.Mutex
	sent     traffic // as it is written, before any loss
	received traffic // as it arrives
	streams  map[way]*stream
}

type traffic struct {
	messages int // user messages
	parts    int
	bytes    int
}

// way is one direction of one stream, where it is written or where it arrives.
type way struct {
	stream  uint64
	from    string
	arrived bool
}

func newMeter(n *starlingtest.Network) *meter {
	m := &meter{streams: make(map[way]*stream)}
	n.Tap(func(e starlingtest.Event) { m.see(e, &m.sent, false) })
	n.TapArrivals(func(e starlingtest.Event) { m.see(e, &m.received, true) })
	return m
}

// read returns what has been counted since the last reset.
func (m *meter) read() (sent, received traffic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent, m.received
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent, m.received = traffic{}, traffic{}
}

func (m *meter) see(e starlingtest.Event, t *traffic, arrived bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Stream == 0 {
		for message := range userMessages(e.Data) {
			t.add(message, 1+len(message))
		}
		return
	}
	w := way{e.Stream, e.From, arrived}
	s := m.streams[w]
	if s == nil {
		s = new(stream)
		m.streams[w] = s
	}
	if message, total, ok := s.add(e.Data); ok {
		t.add(message, total)
	}
}

func (t *traffic) add(message []byte, bytes int) {
	t.messages++
	t.parts += parts(message)
	t.bytes += bytes
}
