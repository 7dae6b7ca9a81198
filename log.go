package starling

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/starling-go/starling/internal/replica"
)

// maxLogLines bounds the lines that wait for the handler. When a thousand members fail at once, memberlist says so of each.
const maxLogLines = 1024

// logQueue takes log lines to the handler of Config.Logger, which is the user's code. Lines are written wherever something
// happens, under locks of memberlist and of ours, or on goroutines that read the network; the handler runs on none of those,
// but on the queue's own goroutine. A slow one loses lines and holds up nothing else.
type logQueue struct {
	lines chan *logLine
	lost  atomic.Uint64 // lines that found no room, and of which no line has told yet
	end   chan struct{} // closed: what waits now is the last
	done  chan struct{} // closed when run has returned
}

type logLine struct {
	slog.Record
	to slog.Handler
}

func newLogQueue() *logQueue {
	return &logQueue{lines: make(chan *logLine, maxLogLines), end: make(chan struct{}), done: make(chan struct{})}
}

// run writes lines until the queue is closed.
func (q *logQueue) run() {
	defer close(q.done)
	for {
		select {
		case l := <-q.lines:
			q.write(l)
			continue
		case <-q.end:
		}
		for {
			select {
			case l := <-q.lines:
				q.write(l)
			default:
				return
			}
		}
	}
}

func (q *logQueue) write(l *logLine) {
	ctx := context.Background()
	if !l.to.Enabled(ctx, l.Level) {
		return
	}
	if n := q.lost.Swap(0); n > 0 {
		l.AddAttrs(slog.Uint64("lines_lost", n))
	}
	_ = l.to.Handle(ctx, l.Record) // there is nobody to tell
}

// close writes what waits, and waits for that. Lines that come later go nowhere: memberlist has some to say after its end.
func (q *logQueue) close() {
	close(q.end)
	<-q.done
}

// queuedHandler is a slog.Handler that gives its lines to another one by a queue.
type queuedHandler struct {
	queue *logQueue
	to    slog.Handler
}

// Enabled lets every line pass: the other handler is asked on the queue's goroutine.
func (h queuedHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h queuedHandler) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.queue.lines <- &logLine{r.Clone(), h.to}:
	default:
		h.queue.lost.Add(1)
	}
	return nil
}

func (h queuedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queuedHandler{h.queue, h.to.WithAttrs(attrs)}
}

func (h queuedHandler) WithGroup(name string) slog.Handler {
	return queuedHandler{h.queue, h.to.WithGroup(name)}
}

// seldom lets the first line of a kind pass, and then one a minute. The cluster's mu guards it.
type seldom struct{ last time.Time }

// due reports whether a line may be written now, which it takes for written. Do not call it under do.
func (s *seldom) due(c *Cluster) (due bool) {
	c.do(func(_ *replica.Replica, now time.Time) { due = s.take(now) })
	return due
}

// take is due under do.
func (s *seldom) take(now time.Time) bool {
	if !s.last.IsZero() && now.Sub(s.last) < linesEvery {
		return false
	}
	s.last = now
	return true
}

const (
	growFirst   = 10 * time.Second
	growLongest = 5 * time.Minute
)

// growing lets the first line of a kind pass, and then others at pauses that double, up to 5 minutes. The cluster's mu guards it.
type growing struct {
	next  time.Time
	pause time.Duration
}

// due reports whether a line may be written now, which it takes for written. Do not call it under do.
func (g *growing) due(c *Cluster) (due bool) {
	c.do(func(_ *replica.Replica, now time.Time) {
		if due = !now.Before(g.next); due {
			g.pause = min(max(2*g.pause, growFirst), growLongest)
			g.next = now.Add(g.pause)
		}
	})
	return due
}

// newMemberlistLogger returns what memberlist wants to log to, at the level that each line names for itself. refused is
// called for each line about bytes that memberlist has refused.
func newMemberlistLogger(l *slog.Logger, refused func()) *log.Logger {
	to := l.Handler().WithAttrs([]slog.Attr{slog.String("component", "memberlist")})
	return log.New(&levelWriter{to: to, refused: refused, kinds: map[string]*lineKind{}}, "", 0)
}

// levelWriter turns lines like "[WARN] memberlist: text" into records of their own level. Of lines of WARN and above that are
// alike but for numbers and addresses it passes on the first in a minute, and says with it how many it did not pass on in the
// minute before: strangers must not be able to fill a disk. log.Logger calls it from one goroutine at a time.
type levelWriter struct {
	to      slog.Handler
	refused func()
	kinds   map[string]*lineKind // Invariant: at most maxLineKinds
}

// lineKind is lines that are alike.
type lineKind struct {
	since time.Time // when the last was passed on
	more  int       // how many came since
}

const (
	linesEvery   = time.Minute
	maxLineKinds = 64
)

var levelNames = map[string]slog.Level{
	"DEBUG": slog.LevelDebug,
	"INFO":  slog.LevelInfo,
	"WARN":  slog.LevelWarn,
	"ERR":   slog.LevelError,
	"ERROR": slog.LevelError,
}

func (w *levelWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, string(bytes.TrimSpace(line))
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if name, rest, ok := strings.Cut(rest, "]"); ok {
			if l, ok := levelNames[name]; ok {
				level, text = l, strings.TrimSpace(rest)
			}
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	if level >= slog.LevelError && strings.Contains(text, " from=") {
		w.refused()
	}
	r := slog.NewRecord(time.Now(), level, text, 0) // who has called is of no interest: it is always this method
	if ctx := context.Background(); w.to.Enabled(ctx, level) && w.passes(&r) {
		_ = w.to.Handle(ctx, r)
	}
	return len(line), nil
}

// passes reports whether a line is to be passed on, and adds to it how many like it were not.
func (w *levelWriter) passes(r *slog.Record) bool {
	if r.Level < slog.LevelWarn {
		return true
	}
	kind := kindOf(r.Message)
	k, known := w.kinds[kind]
	switch {
	case !known:
		if len(w.kinds) >= maxLineKinds {
			clear(w.kinds)
		}
		k = new(lineKind)
		w.kinds[kind] = k
	case r.Time.Sub(k.since) < linesEvery:
		k.more++
		return false
	case k.more > 0:
		r.AddAttrs(slog.Int("more_like_it", k.more))
	}
	k.since, k.more = r.Time, 0
	return true
}

// kindOf is a line up to whom it is about, without its numbers.
func kindOf(text string) string {
	text, _, _ = strings.Cut(text, " from=")
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, text)
}
