package starling_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// resolver is a Config.Resolve that does what the test says at the moment.
type resolver struct {
	mu     sync.Mutex
	answer func(context.Context) ([]string, error)
	asked  []time.Time
	now    atomic.Int64
	twice  atomic.Bool // it was asked while it was running
}

func (r *resolver) resolve(ctx context.Context) ([]string, error) {
	if r.now.Add(1) > 1 {
		r.twice.Store(true)
	}
	defer r.now.Add(-1)
	r.mu.Lock()
	answer := r.answer
	r.asked = append(r.asked, time.Now())
	r.mu.Unlock()
	return answer(ctx)
}

func (r *resolver) set(answer func(context.Context) ([]string, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *resolver) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

func seedsAre(texts ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return texts, nil }
}

// withResolver makes a member whose Config.Resolve is r.
func (l *lab) withResolver(r *resolver, lines slog.Handler, seeds ...string) *starling.Cluster {
	l.t.Helper()
	c, _ := l.metered("resolves", func(cfg *starling.Config) {
		cfg.Resolve, cfg.Seeds = r.resolve, seeds
		if lines != nil {
			cfg.Logger = slog.New(lines)
		}
	})
	return c
}

// TestResolve: what Config.Resolve returns are seeds. It is asked again: who is lost to all others, and whom it names later, is joined. What
// is no seed in its answer is said, and loses no other.
func TestResolve(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.member("a"), l.member("b")
		r, lines := new(resolver), &logCounter{from: slog.LevelWarn}
		r.set(seedsAre("${POD_IP}", addr(a.Cluster), "srv+x"))
		c := l.withResolver(r, lines)
		defer c.Close()
		time.Sleep(time.Minute)
		if r.times() > 0 {
			t.Error("it is asked before Join")
		}
		l.Must(c.Join(soon(t)))
		if len(c.Members()) != 2 {
			t.Errorf("there are %d members", len(c.Members()))
		}
		said := lines.warnings("Config.Resolve has returned what is no seed")
		if len(said) != 1 {
			t.Fatalf("%d lines: %q", len(said), said)
		}
		holdsAll(t, said[0], `"${POD_IP}": a variable`, `"srv+x": unknown scheme`)
		r.set(seedsAre(addr(b.Cluster)))
		if took, ok := within(16*time.Second, func() bool { return len(b.Members()) == 3 }); !ok {
			t.Errorf("after %v whom it names is no member", took)
		}
	})
}

// TestResolveNobody: an empty answer is no success, and an address of this very member is one.
func TestResolveNobody(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		r := new(resolver)
		r.set(seedsAre())
		c := l.withResolver(r, nil)
		defer c.Close()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		err := c.Join(ctx)
		if e := seedErrors(err)["Config.Resolve"]; e == nil || !strings.Contains(e.Error(), "it knows of nobody") {
			t.Errorf("Join: %v", err)
		}
		if n := r.times(); n < 5 || n > 12 {
			t.Errorf("it was asked %d times in 20 s", n)
		}
		r.set(seedsAre(addr(c)))
		l.Must(c.Join(soon(t)))
	})
}

// TestResolveFails: an error, and a panic, are why Join goes on. The log has them, once in a while, and they lose no other seed.
func TestResolveFails(t *testing.T) {
	for name, answer := range map[string]func(context.Context) ([]string, error){
		"the API is down":  func(context.Context) ([]string, error) { return nil, errors.New("the API is down") },
		"panic: no client": func(context.Context) ([]string, error) { panic("no client") },
	} {
		inLab(t, func(t *testing.T, l *lab) {
			r, lines := new(resolver), &logCounter{from: slog.LevelWarn}
			r.set(answer)
			c := l.withResolver(r, lines)
			defer c.Close()
			ctx, stop := context.WithTimeout(t.Context(), 50*time.Second)
			defer stop()
			err := c.Join(ctx)
			if e := seedErrors(err)["Config.Resolve"]; e == nil || !strings.Contains(e.Error(), name) {
				t.Errorf("Join: %v", err)
			}
			failed, unanswered := lines.warnings("Config.Resolve has failed"), lines.warnings("no seed has answered")
			if len(failed) != 1 || len(unanswered) < 3 || len(unanswered) > 4 {
				t.Fatalf("in 50 s %d lines that it fails, %d that no seed answers", len(failed), len(unanswered))
			}
			holdsAll(t, failed[0], name)
			holdsAll(t, unanswered[0], "Config.Resolve: "+name)
			if strings.HasPrefix(name, "panic") {
				holdsAll(t, failed[0], "resolve_test.go")
			}
			a := l.member("a")
			l.Must(c.Join(soon(t), addr(a.Cluster)))
		})
	}
}

// TestResolveHangs: it holds up neither the seeds, nor Close for more than 2 s, though it ignores its context; the log names it; it is not asked
// twice at once, and is asked again when it has returned.
func TestResolveHangs(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.member("a"), l.member("b")
		r, lines := new(resolver), &logCounter{from: slog.LevelWarn}
		release := make(chan struct{})
		hangs := func(context.Context) ([]string, error) {
			<-release
			return nil, errors.New("late")
		}
		r.set(hangs)
		c := l.withResolver(r, lines)
		little, stop := context.WithTimeout(t.Context(), 7*time.Second)
		defer stop()
		err := c.Join(little)
		if e := seedErrors(err)["Config.Resolve"]; e == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join: %v", err)
		}
		if said := lines.warnings("Config.Resolve has not returned"); len(said) != 1 {
			t.Errorf("%d lines after 7 s: %q", len(said), said)
		}
		if said := lines.warnings("no seed has answered"); len(said) != 1 || !strings.Contains(said[0], "Config.Resolve: no answer yet") {
			t.Errorf("said: %q", said)
		}
		began := time.Now()
		l.Must(c.Join(soon(t), addr(a.Cluster)))
		if took := time.Since(began); took > time.Second {
			t.Errorf("it holds up a seed: %v", took)
		}
		time.Sleep(time.Minute)
		if n := r.times(); n != 1 || r.twice.Load() {
			t.Errorf("it was asked %d times", n)
		}
		if n := len(lines.warnings("Config.Resolve has not returned")); n < 3 || n > 5 {
			t.Errorf("%d lines in a minute", n)
		}
		r.set(seedsAre(addr(b.Cluster)))
		close(release)
		if took, ok := within(20*time.Second, func() bool { return len(b.Members()) == 3 }); !ok {
			t.Errorf("after %v it is not asked again", took)
		}
		release = make(chan struct{})
		r.set(hangs)
		time.Sleep(20 * time.Second)
		began = time.Now()
		l.Must(c.Close())
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("Close took %v", took)
		}
		if said := lines.warnings("left behind"); len(said) != 1 {
			t.Errorf("%d lines that it is left behind", len(said))
		}
		close(release)
	})
}

// TestResolveHeedsItsContext: it gets a deadline, and closing does not wait then.
func TestResolveHeedsItsContext(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		r := new(resolver)
		r.set(func(ctx context.Context) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		c := l.withResolver(r, nil)
		joined := make(chan error, 1)
		go func() { joined <- c.Join(context.Background()) }()
		time.Sleep(25 * time.Second)
		if n := r.times(); n != 3 {
			t.Errorf("it was asked %d times, each time with 10 s", n)
		}
		began := time.Now()
		l.Must(c.Close())
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-joined; !errors.Is(err, starling.ErrClosed) {
			t.Errorf("Join: %v", err)
		}
	})
}

// TestJoinMoreSeeds: a member that runs takes further seeds, by Join, which joins clusters that had not met, and keeps the seeds.
func TestJoinMoreSeeds(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b, c, d := l.member("a"), l.member("b"), l.member("c"), l.member("d")
		l.join(b, a)
		l.join(d, c)
		time.Sleep(time.Minute)
		l.join(b, c)
		t.Logf("whole after %v", l.whole(a, b, c, d))
		late, err := l.Net.Transport("late")
		l.Must(err)
		l.Must(late.Shutdown())
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		l.Must(b.Join(ctx, late.Addr().String())) // the seeds from before answer
		e := l.member("late")
		if took, ok := within(20*time.Second, func() bool { return len(e.Members()) == 5 }); !ok {
			t.Errorf("after %v the seed that was added is no member: %v", took, names(e.Cluster))
		}
	})
}
