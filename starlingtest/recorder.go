package starlingtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

// Recorder remembers which messages were broadcast on which channel, and what each member's handler was given, and tells
// whether each message came exactly once. The zero value is ready. Its methods may be called concurrently.
//
// A message is known by an id: a word that [Recorder.Payload] makes, or one that you find in messages of your own type
// ([Record]).
type Recorder struct {
	mu       sync.Mutex
	channels map[string]*record
}

// Delivery is one call of a handler.
type Delivery struct {
	ID  string       // of the message
	At  time.Time    // when the handler was called
	Via starling.Via // the way it came
}

// record is what is known of one channel.
type record struct {
	sent   []sent
	known  map[string]int // id → its index in sent
	made   map[string]int // by Payload, for each origin
	sheets map[string]*sheet
}

type sent struct{ id, from string }

// sheet is what one run of one member was given.
type sheet struct {
	since      int // Invariant: of sent[:since] nothing is owed
	deliveries []Delivery
}

// Sent notes, for broadcasts only (let what is sent to one member go to a handler of its own), that a member is about to broadcast a message of that id. It is owed to everybody else who records the channel
// now. An id that was noted before on that channel panics: the assertions would mean nothing.
func (r *Recorder) Sent(channel, from, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(channel).note(from, id)
}

// Payload makes a message of size bytes, or of a few more if that is too small, for from to broadcast, and notes it like
// [Recorder.Sent]. Its id is from/1, from/2 and so on; the rest of it is dots.
func (r *Recorder) Payload(channel, from string, size int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(channel)
	c.made[from]++
	id := fmt.Sprintf("%s/%d", from, c.made[from])
	c.note(from, id)
	payload := append([]byte(id), ' ')
	return append(payload, bytes.Repeat([]byte("."), max(0, size-len(payload)))...)
}

// PayloadID returns the id of a message that [Recorder.Payload] made.
func PayloadID(payload []byte) string {
	id, _, _ := bytes.Cut(payload, []byte(" "))
	return string(id)
}

// Handler returns a handler for messages of [Recorder.Payload], like [Record].
func (r *Recorder) Handler(channel, member string) func(context.Context, starling.Message[[]byte]) {
	return Record(r, channel, member, PayloadID, nil)
}

// Record returns a handler that notes each message by its id and then calls next, if that is not nil. Calling Record begins a
// new run of the member: what it was given before is forgotten, and nothing broadcast before is owed to it.
func Record[T any](r *Recorder, channel, member string, id func(T) string,
	next func(context.Context, starling.Message[T])) func(context.Context, starling.Message[T]) {
	s := r.begin(channel, member)
	return func(ctx context.Context, m starling.Message[T]) {
		r.deliver(s, Delivery{ID: id(m.Value), At: time.Now(), Via: m.Via})
		if next != nil {
			next(ctx, m)
		}
	}
}

// Deliveries returns what a member's handler was given in its present run, in order. It is the caller's own.
func (r *Recorder) Deliveries(channel, member string) []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of(channel).sheets[member]; s != nil {
		return slices.Clone(s.deliveries)
	}
	return nil
}

// ExactlyOnce returns nil if each of the members, or without members everybody who records the channel, was given exactly
// once every message that it is owed: those that others broadcast during its present run. What is not owed, because it is
// older or the member's own, it may have been given once. Otherwise the error says who lacks what, who got what twice, and
// who got what nobody has sent. Messages from a snapshot (starling.Sync) may come any number of times and do not count.
func (r *Recorder) ExactlyOnce(channel string, members ...string) error {
	return r.check(channel, members, func(c *record, member string, s *sheet) (faults []string) {
		times := make(map[string]int)
		for _, d := range s.deliveries {
			if d.Via != starling.Sync {
				times[d.ID]++
			}
		}
		var lacks, twice, strange []string
		for _, m := range c.sent[s.since:] {
			if times[m.id] == 0 && m.from != member {
				lacks = append(lacks, m.id)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(times)) {
			if _, known := c.known[id]; !known {
				strange = append(strange, id)
			} else if n := times[id]; n > 1 {
				twice = append(twice, fmt.Sprintf("%s (%d times)", id, n))
			}
		}
		for _, f := range []struct {
			format string
			ids    []string
		}{{"lacks %d: %s", lacks}, {"got %d more than once: %s", twice}, {"got %d that nobody sent: %s", strange}} {
			if len(f.ids) > 0 {
				faults = append(faults, fmt.Sprintf(f.format, len(f.ids), list(f.ids)))
			}
		}
		return faults
	})
}

// InOrder returns nil if each of the members, or without members everybody who records the channel, was given the messages
// of each origin in the order in which they were broadcast; it may lack some.
func (r *Recorder) InOrder(channel string, members ...string) error {
	return r.check(channel, members, func(c *record, _ string, s *sheet) (faults []string) {
		last := make(map[string]int)
		for _, d := range s.deliveries {
			i, known := c.known[d.ID]
			if !known || d.Via == starling.Sync {
				continue
			}
			from := c.sent[i].from
			if before, any := last[from]; any && i <= before {
				faults = append(faults, fmt.Sprintf("got %s after %s", d.ID, c.sent[before].id))
			}
			last[from] = i
		}
		return faults
	})
}

// check collects the faults of each member into one error of a line each.
func (r *Recorder) check(channel string, members []string, faults func(*record, string, *sheet) []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(channel)
	if len(members) == 0 {
		members = slices.Sorted(maps.Keys(c.sheets))
	}
	if len(members) == 0 {
		return fmt.Errorf("channel %q: nobody records it", channel)
	}
	var errs []error
	for _, member := range members {
		s := c.sheets[member]
		if s == nil {
			errs = append(errs, fmt.Errorf("  %s does not record it", member))
			continue
		}
		for _, f := range faults(c, member, s) {
			errs = append(errs, fmt.Errorf("  %s %s", member, f))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("channel %q, %d messages, %d members:\n%w", channel, len(c.sent), len(members), errors.Join(errs...))
}

func (r *Recorder) begin(channel, member string) *sheet {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(channel)
	s := &sheet{since: len(c.sent)}
	c.sheets[member] = s
	return s
}

func (r *Recorder) deliver(s *sheet, d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.deliveries = append(s.deliveries, d)
}

// of returns the record of a channel. r.mu is held.
func (r *Recorder) of(channel string) *record {
	c := r.channels[channel]
	if c == nil {
		c = &record{known: make(map[string]int), made: make(map[string]int), sheets: make(map[string]*sheet)}
		if r.channels == nil {
			r.channels = make(map[string]*record)
		}
		r.channels[channel] = c
	}
	return c
}

func (c *record) note(from, id string) {
	if _, again := c.known[id]; again {
		panic(fmt.Sprintf("starlingtest: message %q was sent before", id))
	}
	c.known[id] = len(c.sent)
	c.sent = append(c.sent, sent{id, from})
}

// longestList is how many names an error lists.
const longestList = 12

// list names the first few.
func list(names []string) string {
	if len(names) > longestList {
		return strings.Join(names[:longestList], " ") + " …"
	}
	return strings.Join(names, " ")
}
