package interop

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// A journal keeps what an Alertmanager complains of: its own warnings and errors, and those of its memberlist, which it
// logs as debug.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	memberlists := strings.HasPrefix(r.Message, "[WARN]") || strings.HasPrefix(r.Message, "[ERR]")
	if r.Level < slog.LevelWarn && !memberlists {
		return nil
	}
	line := r.Level.String() + " " + strings.TrimSpace(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	return nil
}

// What Alertmanager adds to its loggers does not matter here.
func (j *journal) WithAttrs([]slog.Attr) slog.Handler { return j }
func (j *journal) WithGroup(string) slog.Handler      { return j }

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// clean fails the test if anything was complained of.
func (j *journal) clean(tb testing.TB) {
	tb.Helper()
	if got := j.text(); got != "" {
		tb.Errorf("Alertmanager complains:\n%s", got)
	}
}

// only waits for a complaint, and fails the test unless it is the only one and holds all these.
func (j *journal) only(tb testing.TB, parts ...string) {
	tb.Helper()
	eventually(tb, "Alertmanager complains", func() bool { return j.text() != "" })
	got := j.text()
	for _, part := range parts {
		if !strings.Contains(got, part) || strings.Contains(got, "\n") {
			tb.Errorf("Alertmanager complains:\n%s\nwant one line with %q", got, part)
		}
	}
}
