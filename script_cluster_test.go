package starling_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/starlingtest"
)

// laboratory is a script.World of whole clusters: memberlist, transports and goroutines, in virtual time.
type laboratory struct {
	t      *testing.T
	net    *starlingtest.Network
	model  *script.Model
	retain starling.Retention
	start  time.Time

	running [script.MaxMembers]*labMember // nil: down
	known   [script.MaxMembers]bool       // was up at least once
	cut     []int
	loss    float64
	mute    [script.MaxMembers][script.MaxMembers]bool
	closing sync.WaitGroup // members that crashed
	serving sync.WaitGroup // what runs beside each member
}

type labMember struct {
	cluster  *starling.Cluster
	channels [len(script.Channels)]*starling.Channel[[]byte] // nil: not open
	stop     context.CancelFunc

	mu     sync.Mutex
	stalls [len(script.Channels)]time.Duration
}

func labName(member int) string { return fmt.Sprint("m", member) }

func (l *laboratory) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *laboratory) Now() time.Duration     { return time.Since(l.start) }
func (l *laboratory) Wait(d time.Duration)   { time.Sleep(d) }
func (l *laboratory) Settled() time.Duration { return 40 * time.Second }

func (l *laboratory) Broadcast(member, channel int, data []byte) bool {
	return l.running[member].channels[channel].TryBroadcast(data) == nil
}

func (l *laboratory) Loss(rate float64) {
	l.loss = rate
	l.relink()
}

func (l *laboratory) Mute(a, b int) {
	for i := range l.mute {
		if i == b || b == script.Everybody {
			l.mute[a][i], l.mute[i][a] = true, true
		}
	}
	l.relink()
}

func (l *laboratory) Clear() {
	l.mute = [script.MaxMembers][script.MaxMembers]bool{}
	l.relink()
}

// relink sets every link as it should be.
func (l *laboratory) relink() {
	for a := range l.known {
		for b := range l.known {
			if a != b && l.known[a] && l.known[b] {
				l.must(l.net.SetLink(labName(a), labName(b), starlingtest.Link{
					Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Duplicate: 0.03, Reorder: 0.03,
					Loss: l.loss, BlockPackets: l.mute[a][b],
				}))
			}
		}
	}
}

func (l *laboratory) Cut(group []int) {
	l.cut = group
	l.repartition()
}

func (l *laboratory) repartition() {
	l.net.Heal()
	var off [script.MaxMembers]bool
	for _, i := range l.cut {
		off[i] = true
	}
	var sides [2][]string
	for i, known := range l.known {
		switch {
		case !known:
		case off[i]:
			sides[1] = append(sides[1], labName(i))
		default:
			sides[0] = append(sides[0], labName(i))
		}
	}
	if len(sides[0]) > 0 && len(sides[1]) > 0 {
		l.must(l.net.Partition(sides[0], sides[1]))
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

func (l *laboratory) close(m *labMember) {
	m.stop()
	l.closing.Go(func() {
		if err := m.cluster.Close(); err != nil {
			l.t.Error(err)
		}
	})
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
		MaxMessageSize: min(1<<20, l.retain.Bytes/2),
	})
	l.must(err)
	ctx, stop := context.WithCancel(context.Background())
	m := &labMember{cluster: c, stop: stop}
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
	l.serving.Go(func() { _ = c.Join(ctx, seeds...) })
}

func (l *laboratory) open(m *labMember, self uint64, k int, ch script.Channel) *starling.Channel[[]byte] {
	handle := func(ctx context.Context, msg starling.Message[[]byte]) {
		l.model.Handled(self, msg.From.ID, msg.Seq, k, msg.Value)
		select {
		case <-time.After(m.stall(k)):
		case <-ctx.Done():
		}
	}
	opened, err := starling.NewChannelOf(m.cluster, ch.Key, handle, starling.Bytes(),
		&starling.ChannelOptions[[]byte]{FIFO: ch.FIFO, AlwaysStream: ch.Stream})
	l.must(err)
	return opened
}

// watch tells the model what a member sees.
func (l *laboratory) watch(ctx context.Context, c *starling.Cluster, self uint64) {
	for e := range c.Events(ctx) {
		switch e.Kind {
		case starling.Joined:
			l.model.Sees(self, e.Member.ID, true, l.Now())
		case starling.Left, starling.Failed:
			l.model.Sees(self, e.Member.ID, false, l.Now())
		case starling.GapFound:
			l.model.Gap(self, e.Gap.Origin.ID, e.Gap.First, e.Gap.Last)
		}
	}
}

// playOnCluster plays a script on a cluster, in a bubble of its own.
func playOnCluster(t *testing.T, s script.Script) (err error) {
	synctest.Test(t, func(t *testing.T) {
		model := script.NewModel(s)
		l := &laboratory{
			t: t, net: starlingtest.NewNetwork(s.Seed), model: model, start: time.Now(),
			retain: starling.Retention{Bytes: s.Keep, Age: s.Retain},
		}
		if s.Keep == 0 {
			l.retain.Bytes = starling.DefaultRetentionBytes
		}
		err = script.Play(s, l, model)
		for _, m := range l.running {
			if m != nil {
				l.close(m)
			}
		}
		l.closing.Wait()
		l.serving.Wait()
		time.Sleep(30 * time.Second) // memberlist's probes outlive it
		l.net.Close()
	})
	return err
}

// TestScriptsOnClusters plays the scripts of TestScripts on whole clusters, four times as slow: so long memberlist takes to
// notice a failure. A run cannot be repeated exactly, since memberlist draws from a global source; but its script can.
func TestScriptsOnClusters(t *testing.T) {
	first, n := rand.Uint64(), 20
	for variable, set := range map[string]func(uint64){
		"STARLING_SEED":    func(v uint64) { first = v },
		"STARLING_SCRIPTS": func(v uint64) { n = int(min(v, 1<<20)) },
	} {
		if text := os.Getenv(variable); text != "" {
			v, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			set(v)
		}
	}
	for i := range uint64(n) {
		s := script.Generate(rand.New(rand.NewPCG(first+i, 0)))
		if err := playOnCluster(t, s.Stretch(4)); err != nil {
			s = script.Shrink(s, func(s script.Script) bool { return playOnCluster(t, s.Stretch(4)) != nil }, 30)
			t.Errorf("STARLING_SEED=%d, shortened:\n%v\nat first: %v", first+i, s.Stretch(4), err)
		}
	}
}
