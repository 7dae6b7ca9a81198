package starling_test

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/script"
)

type labMember struct {
	cluster  *starling.Cluster
	ctx      context.Context                                 // ends with the process
	paused   int                                             // for how many reasons it is cut off, as one that stands still
	channels [len(script.Channels)]*starling.Channel[[]byte] // nil: not open
	stop     context.CancelFunc

	mu     sync.Mutex
	stalls [len(script.Channels)]time.Duration
}

func (l *laboratory) Start(member int) {
	if l.running[member] != nil {
		return
	}
	l.closing.Wait() // a name restarts when its last run is gone
	transport, err := l.net.Transport(labName(member))
	l.must(err)
	l.known[member] = true
	l.relink()
	l.repartition()
	c, err := starling.New(starling.Config{
		Name: labName(member), Transport: transport, Retention: l.retain, Logger: slog.New(slog.DiscardHandler),
		MaxMessageSize: min(l.script.MessageLimit(member), l.retain.Bytes/2),
	})
	l.must(err)
	ctx, stop := context.WithCancel(context.Background())
	m := &labMember{cluster: c, ctx: ctx, stop: stop}
	self := c.Self().ID
	l.model.Up(member, self, l.Now())
	for k, ch := range script.Channels {
		if ch.OpenOn(member) {
			m.channels[k] = l.open(m, self, k, ch)
		}
	}
	l.serving.Go(func() { l.watch(ctx, c, self) })
	var seeds []string
	for i, other := range l.running {
		if other != nil && i != member {
			seeds = append(seeds, other.cluster.Self().Addr.String())
		}
	}
	l.running[member] = m
	l.serving.Go(func() {
		if c.Join(ctx, seeds...) == nil {
			l.model.TakenIn(self, l.Now())
		}
	})
}

func (l *laboratory) open(m *labMember, self uint64, k int, ch script.Channel) *starling.Channel[[]byte] {
	handle := func(ctx context.Context, msg starling.Message[[]byte]) {
		switch msg.Via {
		case starling.ViaDirect:
			l.model.HandledDirect(self, msg.Value)
		case starling.ViaSync:
			l.model.States.Merged(self, k, msg.Value)
		default:
			l.model.Handled(self, msg.From.ID, msg.Seq, k, msg.Value)
		}
		select {
		case <-time.After(m.stall(k)):
		case <-ctx.Done():
		}
	}
	o := &starling.ChannelOptions[[]byte]{FIFO: ch.FIFO, AlwaysStream: ch.Stream, Supersede: l.name(ch)}
	if ch.State {
		o.Snapshot = func() iter.Seq[[]byte] { return slices.Values(l.model.States.Of(self, k)) }
	}
	opened, err := starling.NewChannelOf(m.cluster, ch.Key, handle, starling.Bytes(), o)
	l.must(err)
	return opened
}

// name returns what supersedes a message of a channel, nil for nothing.
func (l *laboratory) name(ch script.Channel) func([]byte) string {
	if !ch.Latest {
		return nil
	}
	return func(data []byte) string { return ch.Name(script.Number(data)) }
}

// watch tells the model what a member sees.
func (l *laboratory) watch(ctx context.Context, c *starling.Cluster, self uint64) {
	for e := range c.Events(ctx) {
		switch e.Kind {
		case starling.EventJoined:
			l.model.Sees(self, e.Member.ID, true, l.Now())
		case starling.EventLeft, starling.EventFailed:
			l.model.Sees(self, e.Member.ID, false, l.Now())
		case starling.EventGap:
			l.model.Gap(self, e.Gap.Origin.ID, e.Gap.First, e.Gap.Last)
		}
	}
}

func (l *laboratory) Stall(member, channel int, d time.Duration) {
	if m := l.running[member]; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stalls[channel] += d
	}
}

func (m *labMember) stall(channel int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.stalls[channel]
	m.stalls[channel] = 0
	return d
}

// Freeze lets a member neither read nor write. A process that stands still does no more, but its clock goes on.
func (l *laboratory) Freeze(member int, d time.Duration) {
	m := l.running[member]
	if m == nil {
		return
	}
	m.paused++
	l.repartition()
	l.later(d, func() {
		m.paused--
		l.repartition()
		l.model.Thawed(l.Now())
	})
}

// Flap is a freeze too: memberlist knows no failure that one alone sees, but as a rule one side finds the other failed first.
func (l *laboratory) Flap(member, _ int, d time.Duration) {
	if l.running[member] != nil {
		l.model.Frozen(member, d, l.Now())
		l.Freeze(member, d)
	}
}

func (l *laboratory) Crash(member int) {
	m := l.running[member]
	if m == nil {
		return
	}
	l.running[member] = nil
	l.model.Down(member, l.Now())
	l.must(l.net.Crash(labName(member)))
	l.close(m)
}

func (l *laboratory) Leave(member int) {
	m := l.running[member]
	if m == nil || m.paused > 0 {
		return
	}
	l.running[member] = nil
	l.model.Leaving(member)
	l.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err := m.cluster.Leave(ctx)
		l.model.Left(m.cluster.Self().ID, err, l.Now())
		m.stop()
	})
}

func (l *laboratory) close(m *labMember) {
	m.stop()
	l.closing.Go(func() {
		if err := m.cluster.Close(); err != nil {
			l.t.Error(err)
		}
	})
}
