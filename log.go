package starling

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/starling-go/starling/internal/replica"
	"github.com/starling-go/starling/internal/transport"
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

// RefusedReason tells why bytes of others were refused.
type RefusedReason int

const (
	RefusedLabel RefusedReason = iota // they have another Config.Label, or none
	RefusedKeys                       // none of this member's keys opens them; or they are encrypted and this member has no keys, or the other way round
	RefusedOther                      // they are of another protocol, or damaged
)

var refusedReasons = []string{"label", "keys", "other"}

func (r RefusedReason) String() string { return nameOf(r, refusedReasons) }

// A Refusal is bytes of others that were refused for one reason: DropRefused, with whose they were.
type Refusal struct {
	Reason RefusedReason
	Count  uint64
	From   string    // where the last came from: "ip:port", where the port of a stream says nothing
	Last   time.Time // when
	Said   string    // what memberlist said of the last, at most 300 bytes
}

// fromMark stands before an address, at the end of a line of memberlist's about what has come from there.
const fromMark = " from="

// maxSaid bounds what is kept of a line of memberlist's: it may quote a stranger.
const maxSaid = 300

// refusals counts what memberlist has refused, by its lines. Safe for concurrent use.
type refusals struct {
	mu       sync.Mutex
	byReason [len(phrasedReasons) + 1]Refusal
}

// phrasedReasons are the reasons that a line is known by.
var phrasedReasons = [...]string{RefusedLabel: refusedLabel, RefusedKeys: refusedKeys, RefusedOther: refusedOther}

// note counts what a line of memberlist's has refused, if it is about that: an answer of ours that was not sent has an address, too.
func (r *refusals) note(line string, now time.Time) {
	_, ours, _ := rephrase(slog.LevelWarn, line)
	i := slices.Index(phrasedReasons[:], ours)
	if i < 0 {
		return
	}
	reason := RefusedReason(i)
	said, from := line, ""
	if i := strings.LastIndex(line, fromMark); i >= 0 { // the last, for what comes before may quote a stranger
		said, from = line[:i], line[i+len(fromMark):]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	of := &r.byReason[reason]
	*of = Refusal{reason, of.Count + 1, from, now, strings.ToValidUTF8(said[:min(len(said), maxSaid)], "")}
}

// list returns the reasons for which something was refused.
func (r *refusals) list() (all []Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range r.byReason {
		if of.Count > 0 {
			all = append(all, of)
		}
	}
	return all
}

// newMemberlistLogger returns what memberlist wants to log to, at the level that each line names for itself, or that ours has (phrases).
// refused is called with each line about bytes that memberlist has refused. While ending reports true, what goes wrong is no trouble: streams
// are cut off, and so it says at DEBUG.
func newMemberlistLogger(l *slog.Logger, refused func(line string), ending func() bool) *log.Logger {
	to := l.Handler().WithAttrs([]slog.Attr{slog.String("component", "memberlist")})
	return log.New(&levelWriter{to: to, refused: refused, ending: ending, kinds: lineKinds{}}, "", 0)
}

// phrase says in our words what a line of memberlist's means to an operator, and how much.
type phrase struct {
	in    string // the line contains it
	level slog.Level
	ours  string
}

const (
	refusedLabel = "bytes with another label, or without one, were refused (Config.Label)"
	refusedKeys  = "bytes that none of our keys opens, or that are not encrypted as ours are, were refused (Config.Keys)"
	refusedOther = "bytes of another protocol were refused"
	cutOff       = "a stream was cut off"
	unreached    = "a member was not reached this time"
	takenForDead = "others took this member for failed: it, or the network, is too slow or loses packets"
)

// What memberlist says of a stream whose beginning it could not read, and of one that has none.
const headerUnread = "failed to receive and remove the stream label header: "

var nothingSaid = headerUnread + transport.ErrNothingSaid.Error()

// phrases are asked in this order; the first that fits holds. A line that none fits is passed on as it is.
var phrases = [...]phrase{
	{"Conflicting address for", slog.LevelWarn, "a name that a member has, or had a moment ago, is claimed from another address, and refused: " +
		"each member needs a name of its own; one that was restarted elsewhere is let in when its failure has been noticed"},
	{headerUnread, slog.LevelWarn, refusedOther}, // or it was cut off there
	{"label", slog.LevelWarn, refusedLabel},
	{"decrypt", slog.LevelWarn, refusedKeys},
	{"Decrypt", slog.LevelWarn, refusedKeys},
	{"ncrypt", slog.LevelWarn, refusedKeys},
	{"use of closed network connection", slog.LevelInfo, cutOff},
	{"connection reset", slog.LevelInfo, cutOff},
	{"broken pipe", slog.LevelInfo, cutOff},
	{"Failed to send", slog.LevelInfo, unreached},
	{"Failed to forward ack", slog.LevelInfo, unreached},
	{"Failed fallback TCP ping", slog.LevelInfo, unreached},
	{"Push/Pull with", slog.LevelInfo, unreached},
	{"over TCP but UDP probes failed", slog.LevelWarn, "streams reach a member and packets do not: is UDP let through on the way?"},
	{"Refuting a suspect message", slog.LevelWarn, takenForDead},
	{"Refuting a dead message", slog.LevelWarn, takenForDead},
	{"Refuting an alive message", slog.LevelInfo, "an earlier run of this member, or another member of its name, is still remembered by others"},
	{"gnoring alive message", slog.LevelWarn, "a member is not let in"},
	{"gnoring an alive message", slog.LevelWarn, "a member is not let in"},
	{"Failed push/pull merge", slog.LevelWarn, "the members that somebody told of are not let in (Config.AdmitMerge)"},
	{"Rejected", slog.LevelWarn, "a member is not let in: its address is outside the allowed networks (Config.Networks)"},
	{"handler queue full", slog.LevelWarn, "what members say about each other was dropped: this process is too busy"},
	{fromMark, slog.LevelWarn, refusedOther},
}

// rephrase puts a line of WARN or above into our words. What memberlist has said goes with it.
func rephrase(level slog.Level, text string) (slog.Level, string, []any) {
	if level < slog.LevelWarn {
		return level, text, nil
	}
	for _, p := range phrases {
		if strings.Contains(text, p.in) {
			return p.level, p.ours, []any{"said", text}
		}
	}
	return level, text, nil
}

// levelWriter turns lines like "[WARN] memberlist: text" into records of their own level, in our words. Of lines of WARN and above that are
// alike but for numbers and addresses it passes on the first in a minute, and says with it how many it did not pass on in the
// minute before: strangers must not be able to fill a disk. log.Logger calls it from one goroutine at a time.
type levelWriter struct {
	to      slog.Handler
	refused func(line string)
	ending  func() bool
	kinds   lineKinds
}

// lineKinds lets the first line of each kind in a minute pass.
type lineKinds map[string]*lineKind // Invariant: at most maxLineKinds

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
	switch {
	case strings.HasPrefix(text, nothingSaid):
		level = slog.LevelDebug // no bytes were refused
	case level >= slog.LevelError && strings.Contains(text, fromMark):
		w.refused(text)
	}
	kind := kindOf(text)
	level, text, said := rephrase(level, text)
	if level >= slog.LevelWarn && w.ending() {
		level = slog.LevelDebug
	}
	r := slog.NewRecord(time.Now(), level, text, 0) // who has called is of no interest: it is always this method
	r.Add(said...)
	if ctx := context.Background(); w.to.Enabled(ctx, level) && w.passes(&r, kind) {
		_ = w.to.Handle(ctx, r)
	}
	return len(line), nil
}

// passes reports whether a line is to be passed on, and adds to it how many like it were not.
func (w *levelWriter) passes(r *slog.Record, kind string) bool {
	if r.Level < slog.LevelWarn {
		return true
	}
	more, ok := w.kinds.pass(kind, r.Time)
	r.Add(more...)
	return ok
}

// pass reports whether a line of that kind may be written now, and returns attributes for it: how many like it were not.
func (ks lineKinds) pass(kind string, now time.Time) (more []any, ok bool) {
	k, known := ks[kind]
	switch {
	case !known:
		if len(ks) >= maxLineKinds {
			clear(ks)
		}
		k = new(lineKind)
		ks[kind] = k
	case now.Sub(k.since) < linesEvery:
		k.more++
		return nil, false
	case k.more > 0:
		more = []any{"more_like_it", k.more}
	}
	k.since, k.more = now, 0
	return more, true
}

// kindOf is a line without its numbers. Of one about what has come from an address it is our phrase alone: the line may quote whoever has sent
// that, and strangers must not be able to make kinds.
func kindOf(text string) string {
	if strings.Contains(text, fromMark) {
		_, text, _ = rephrase(slog.LevelWarn, text)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, text)
}
