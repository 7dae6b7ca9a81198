package starling_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// What the contract_*_test.go files share. It needs no other test file.

// contractKey is the key of the channel that these tests broadcast on.
const contractKey = "p"

// recordedLab opens the channel contractKey at every start of a member of a starlingtest.Lab, and records what its handler
// is given.
type recordedLab struct {
	starlingtest.Recorder
	// options, if set, gives the options of the channel of a member.
	options func(member string) *starling.ChannelOptions[[]byte]

	mu       sync.Mutex
	channels map[string]*starling.Channel[[]byte]
}

func (r *recordedLab) open(m *starlingtest.Member) error { return r.openOn(m.Cluster, m.Name) }

// openOn opens the channel of a member that the Lab did not start.
func (r *recordedLab) openOn(c *starling.Cluster, name string) error {
	var o *starling.ChannelOptions[[]byte]
	if r.options != nil {
		o = r.options(name)
	}
	ch, err := starling.NewChannelOf(c, contractKey, r.Handler(contractKey, name), starling.Bytes(), o)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.channels == nil {
		r.channels = map[string]*starling.Channel[[]byte]{}
	}
	r.channels[name] = ch
	return err
}

func (r *recordedLab) channel(name string) *starling.Channel[[]byte] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.channels[name]
}

// broadcast broadcasts a recorded message of about size bytes.
func (r *recordedLab) broadcast(t *testing.T, from string, size int) {
	t.Helper()
	if err := r.channel(from).Broadcast(t.Context(), r.Payload(contractKey, from, size)); err != nil {
		t.Fatalf("Broadcast: %v", err)
	}
}

// handled returns the ids of what the member's handler was given, in order.
func (r *recordedLab) handled(member string) []string {
	var ids []string
	for _, d := range r.Deliveries(contractKey, member) {
		ids = append(ids, d.ID)
	}
	return ids
}

// soonWithin polls check until it returns nil, and returns its last error when the time is up.
func soonWithin(limit time.Duration, check func() error) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if err := check(); err == nil || time.Since(began) > limit {
			return err
		}
	}
}

// endsIn returns a context that ends by itself.
func endsIn(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// unconfirmed broadcasts by Confirm and returns the names of the members that it says are missing.
func unconfirmed(ctx context.Context, ch *starling.Channel[[]byte], v []byte, handled bool) ([]string, error) {
	err := ch.Confirm(ctx, v, &starling.ConfirmOptions{Handled: handled})
	var names []string
	var u *starling.UnconfirmedError
	if errors.As(err, &u) {
		for _, m := range u.Missing {
			names = append(names, m.Member.Name)
		}
		err = nil
	}
	return names, err
}

// configFaults returns the ConfigErrors in err.
func configFaults(err error) (found []*starling.ConfigError) {
	switch e := err.(type) {
	case *starling.ConfigError:
		return []*starling.ConfigError{e}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			found = append(found, configFaults(err)...)
		}
	case interface{ Unwrap() error }:
		return configFaults(e.Unwrap())
	}
	return found
}

// faultOf reports whether a ConfigError in err is about that field.
func faultOf(err error, field string) bool {
	return slices.ContainsFunc(configFaults(err), func(e *starling.ConfigError) bool { return e.Field == field })
}

// refusals is everything that a member counts as refused or dropped, whatever the reason.
func refusals(c *starling.Cluster) uint64 {
	s := c.Stats()
	n := s.Traffic.PacketsRefused + s.Traffic.StreamsRefused + s.Traffic.PacketsDropped + s.Traffic.StreamErrors
	for _, k := range s.Dropped {
		n += k
	}
	return n
}

// logCounter is a slog.Handler that counts the lines from a level up, and keeps some.
type logCounter struct {
	from slog.Level

	mu    sync.Mutex
	count int
	lines []string
}

func (l *logCounter) Enabled(_ context.Context, level slog.Level) bool { return level >= l.from }
func (l *logCounter) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logCounter) WithGroup(string) slog.Handler                    { return l }

func (l *logCounter) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count++; len(l.lines) < 50 {
		l.lines = append(l.lines, line)
	}
	return nil
}

// taken returns how many lines there were since the last call, and the first of them.
func (l *logCounter) taken() (int, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, lines := l.count, l.lines
	l.count, l.lines = 0, nil
	return n, lines
}

// bytesInUse is the live heap after a collection.
func bytesInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// livePeak follows the heap that collections find in use. It runs in real time: make it outside of a bubble.
type livePeak struct {
	most atomic.Int64
	stop chan struct{}
	done chan struct{}
}

func watchLiveHeap(t *testing.T) *livePeak {
	p := &livePeak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for {
			select {
			case <-p.stop:
				return
			case <-time.After(time.Millisecond):
			}
			live := liveAtLastCollection()
			for old := p.most.Load(); live > old && !p.most.CompareAndSwap(old, live); old = p.most.Load() {
			}
		}
	}()
	t.Cleanup(func() {
		close(p.stop)
		<-p.done
	})
	return p
}

func liveAtLastCollection() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// begin collects, and follows the heap anew from here.
func (p *livePeak) begin() (before int64) {
	runtime.GC()
	runtime.GC()
	before = liveAtLastCollection()
	p.most.Store(before)
	return before
}

// above returns how far the heap in use has been above before.
func (p *livePeak) above(before int64) int64 {
	runtime.GC()
	return max(p.most.Load(), liveAtLastCollection()) - before
}

// loopbackMember is a member with sockets of its own, on loopback and a port that the system chooses. It is closed when the
// test ends.
func loopbackMember(t *testing.T, name string, change func(*starling.Config)) *starling.Cluster {
	t.Helper()
	cfg := starling.Config{Name: name, BindAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	c, err := starling.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// openState opens a channel with a State that is those bytes, for ever.
func openState(c *starling.Cluster, key string, b []byte) error {
	_, err := starling.NewState(c, key, fixedState(b))
	return err
}

type fixedState []byte

func (s fixedState) MarshalBinary() ([]byte, error) { return s, nil }
func (fixedState) Merge([]byte) error               { return nil }

// fewLines joins the first lines for a message of a test.
func fewLines(lines []string) string { return strings.Join(lines[:min(len(lines), 4)], "\n\t") }

const mib = 1 << 20
