package starling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// logBook is a slog.Handler that keeps lines as text. What With added comes after the message, then the line's own attributes.
type logBook struct {
	*logPages
	with string
}

type logPages struct {
	level slog.Level // the lowest that is kept
	busy  func()     // called by Handle, if set

	mu    sync.Mutex
	lines []string
}

func newLogBook(level slog.Level, busy func()) logBook {
	return logBook{logPages: &logPages{level: level, busy: busy}}
}

func (b logBook) Enabled(_ context.Context, l slog.Level) bool { return l >= b.level }

func (b logBook) Handle(_ context.Context, r slog.Record) error {
	if b.busy != nil {
		b.busy()
	}
	line := fmt.Sprint(r.Level, " ", r.Message, b.with)
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprint(" ", a)
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	return errors.New("whatever it says is of no interest")
}

func (b logBook) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		b.with += fmt.Sprint(" ", a)
	}
	return b
}

func (b logBook) WithGroup(name string) slog.Handler {
	b.with += " " + name + ":"
	return b
}

func (b logBook) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// TestMemberlistLevels: each line of memberlist's has the level that it names itself.
func TestMemberlistLevels(t *testing.T) {
	for line, want := range map[string]string{
		"[DEBUG] memberlist: Stream connection\n": "DEBUG Stream connection",
		"[INFO] memberlist: Suspect a":            "INFO Suspect a",
		"[WARN] memberlist: Refuting [a] message": "WARN Refuting [a] message",
		"[ERR] memberlist: failed":                "ERROR failed",
		"[ERROR] memberlist: failed":              "ERROR failed",
		"[ERR] Failed to shutdown transport":      "ERROR Failed to shutdown transport",
		"Err: Could not set the deadline":         "INFO Err: Could not set the deadline",
		"[OTHER] memberlist: text":                "INFO [OTHER] memberlist: text",
		"[unfinished":                             "INFO [unfinished",
		"":                                        "INFO ",
	} {
		book := newLogBook(slog.LevelDebug, nil)
		newMemberlistLogger(slog.New(book), func(string) {}, func() bool { return false }).Print(line)
		if got := book.all(); len(got) != 1 || got[0] != want+" component=memberlist" {
			t.Errorf("%q is logged as %q, want %q", line, got, want)
		}
	}
	book := newLogBook(slog.LevelWarn, nil)
	newMemberlistLogger(slog.New(book), func(string) {}, func() bool { return false }).Print("[INFO] memberlist: not asked for")
	if got := book.all(); len(got) != 0 {
		t.Errorf("below the level: %q", got)
	}
}

// TestStrangersLines: what a stranger calls itself is quoted by memberlist. It makes neither another address nor another kind of line of it.
func TestStrangersLines(t *testing.T) {
	book := newLogBook(slog.LevelWarn, nil)
	var r refusals
	l := newMemberlistLogger(slog.New(book), func(line string) { r.note(line, time.Now()) }, func() bool { return false })
	for c := range 300 {
		l.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=10.0.0.1:7", string(rune('a'+c))+" from=10.9.9.9:1")
	}
	if got := book.all(); len(got) != 1 {
		t.Errorf("%d lines of one stranger in one minute, such as %q", len(got), got[len(got)-1])
	}
	refused := r.list()
	if len(refused) != 1 || refused[0].From != "10.0.0.1:7" || refused[0].Count != 300 || refused[0].Reason != RefusedLabel {
		t.Errorf("%+v", refused)
	}
}

// TestRefusedIsOfOthers: bytes of others that were refused are counted, and nothing else that has an address: neither answers of ours that were not
// sent nor members that Config.AdmitMerge does not let in.
func TestRefusedIsOfOthers(t *testing.T) {
	for line, want := range map[string][]RefusedReason{
		"Failed to send ack: no route from=10.0.0.1:7":                     nil,
		"Failed push/pull merge: not of us from=10.0.0.1:7":                nil,
		"Received invalid msgType (71) from=10.0.0.1:7":                    {RefusedOther},
		"Decrypt packet failed: no key from=10.0.0.1:7":                    {RefusedKeys},
		`discarding packet with unacceptable label "x": from=10.0.0.1:7`:   {RefusedLabel},
		headerUnread + "unexpected EOF from=10.0.0.1:7":                    {RefusedOther},
		"Failed to send error: write: connection reset from=10.0.0.1:7946": nil,
	} {
		var r refusals
		r.note(line, time.Now())
		var got []RefusedReason
		for _, of := range r.list() {
			got = append(got, of.Reason)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// TestLogQueue: lines come in their order with all that belongs to them, those that wait at the end too, and none after it.
func TestLogQueue(t *testing.T) {
	q, book := newLogQueue(), newLogBook(slog.LevelInfo, nil)
	l := slog.New(queuedHandler{q, book}).With("member", "a")
	l.Info("first", "n", 1)
	l.Debug("not asked for")
	l.WithGroup("group").With("b", 2).Warn("second", "n", 3, "and", "more", "than", "a", "record", "holds", "in", "itself", "at", "once")
	go q.run()
	l.Info("third")
	q.close()
	l.Info("too late")
	want := []string{
		"INFO first member=a n=1",
		"WARN second member=a group: b=2 n=3 and=more than=a record=holds in=itself at=once",
		"INFO third member=a",
	}
	if got := book.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLogQueueFull: who logs never waits; what finds no room is counted, and the next line that is written says how much that
// was.
func TestLogQueueFull(t *testing.T) {
	entered, release := make(chan struct{}, 3*maxLogLines), make(chan struct{})
	book := newLogBook(slog.LevelInfo, func() {
		entered <- struct{}{}
		<-release
	})
	q := newLogQueue()
	go q.run()
	l := slog.New(queuedHandler{q, book})
	l.Info("hangs")
	<-entered
	l.Debug("first of those that wait, and not asked for")
	for n := 1; n < maxLogLines; n++ {
		l.Info("waits")
	}
	for range 7 {
		l.Info("lost")
	}
	close(release)
	for range maxLogLines - 1 {
		<-entered
	}
	l.Info("last")
	q.close()
	want := slices.Concat([]string{"INFO hangs", "INFO waits lines_lost=7"}, slices.Repeat([]string{"INFO waits"}, maxLogLines-2), []string{"INFO last"})
	if got := book.all(); !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d; they begin with %q and end with %q", len(got), len(want), got[:min(len(got), 3)], got[max(0, len(got)-3):])
	}
}

// talkative is a transport that has no address, and logs as memberlist does before it says so.
type talkative struct {
	memberlist.Transport
	conf *memberlist.Config
}

func (t *talkative) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	t.conf.Logger.Print("[ERR] memberlist: no address")
	return nil, 0, errors.New("no address")
}

// TestLogOfFailedNew: what was logged before New failed is written when it returns.
func TestLogOfFailedNew(t *testing.T) {
	book := newLogBook(slog.LevelInfo, nil)
	tr := &talkative{Transport: newTap("10.0.0.1:7946")}
	c, err := New(Config{Name: "a", Transport: tr, Logger: slog.New(book), Tune: func(c *memberlist.Config) { tr.conf = c }})
	if c != nil || err == nil {
		t.Fatalf("New: %v, %v", c, err)
	}
	if got := book.all(); !slices.Equal(got, []string{"ERROR no address member=a component=memberlist"}) {
		t.Errorf("logged %q", got)
	}
}
