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
// whether each message came exactly once. The zero value is ready. Its methods and the handlers that it makes may be called
// concurrently.
//
// A Recorder knows a message by its id: a word that [Recorder.Payload] makes, or one that [Record] finds in messages of your own
// type. It knows a channel and a member by whatever names you give them. It keeps all that it is told, without a bound.
type Recorder struct {
	mu       sync.Mutex
	channels map[string]*history
}

// Delivery is one call of a handler.
type Delivery struct {
	ID  string       // the message's
	At  time.Time    // when the handler was called, virtual in a bubble
	Via starling.Via // the way on which the message came
}

// history is what is known of one channel.
type history struct {
	sent  []sent
	known map[string]int // the index in sent of each id
	made  map[string]int // how many Payload has made for each origin
	runs  map[string]*run
}

type sent struct{ id, from string }

// run is what one run of one member was given.
type run struct {
	since      int // sent[:since] was broadcast before this run began
	deliveries []Delivery
}

// Sent notes that a member is about to broadcast a message of that id. From now on the message is owed to every other member
// that records the channel at this moment. Sent panics if the id was noted before on that channel, because the assertions would
// mean nothing.
//
// Sent is for broadcasts only. Let a handler of its own, on a channel of its own, take what you send to one member.
func (r *Recorder) Sent(channel, from, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(channel).note(from, id)
}

// Payload makes a message for from to broadcast, and notes it as [Recorder.Sent] does. Its id is from/1, from/2 and so on, by
// channel. The payload is size bytes long, or as long as the id and a space if that is more; the caller owns it.
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

// PayloadID returns the id of a message that [Recorder.Payload] made: what comes before the first space.
func PayloadID(payload []byte) string {
	id, _, _ := bytes.Cut(payload, []byte(" "))
	return string(id)
}

// Handler returns a handler that notes messages of [Recorder.Payload]. It is [Record] for them.
func (r *Recorder) Handler(channel, member string) func(context.Context, starling.Message[[]byte]) {
	return Record(r, channel, member, PayloadID, nil)
}

// Record returns a handler that notes each message by its id, and then calls next unless that is nil. id and next are called on
// the channel's goroutine. Each call of Record begins a new run of the member, as a restart does: what the member was given
// before is forgotten, and nothing that was broadcast before is owed to it.
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

// Deliveries returns what a member's handler was given in its present run, in order; nil if the member does not record the
// channel. The caller owns it.
func (r *Recorder) Deliveries(channel, member string) []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of(channel).runs[member]; s != nil {
		return slices.Clone(s.deliveries)
	}
	return nil
}

// ExactlyOnce returns nil if each of the members, or without members everybody who records the channel, was given exactly once
// every message that is owed to it: those that others broadcast during its present run. A message that is not owed, because it
// is older or the member's own, may have been given once. Otherwise the error has lines for each member that lacks messages, got
// some more than once, or got some that nobody sent; each line names 12 ids at most. Messages from a snapshot (starling.ViaSync)
// do not count. It is an error too if a member does not record the channel, or nobody does, or nothing was sent on it.
func (r *Recorder) ExactlyOnce(channel string, members ...string) error {
	return r.check(channel, members, func(c *history, member string, s *run) (faults []string) {
		times := make(map[string]int)
		for _, d := range s.deliveries {
			if d.Via != starling.ViaSync {
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
// of each origin in the order in which they were noted as sent; it may lack some. Messages from a snapshot (starling.ViaSync) do
// not count. Errors are like those of [Recorder.ExactlyOnce].
func (r *Recorder) InOrder(channel string, members ...string) error {
	return r.check(channel, members, func(c *history, _ string, s *run) (faults []string) {
		last := make(map[string]int)
		for _, d := range s.deliveries {
			i, known := c.known[d.ID]
			if !known || d.Via == starling.ViaSync {
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

// check collects the faults of each member into one error of a line each. Where nothing was sent nothing is tested, which is an error.
func (r *Recorder) check(channel string, members []string, faults func(*history, string, *run) []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(channel)
	if len(members) == 0 {
		members = slices.Sorted(maps.Keys(c.runs))
	}
	if len(members) == 0 {
		return fmt.Errorf("channel %q: nobody records it", channel)
	}
	var errs []error
	for _, member := range members {
		s := c.runs[member]
		if s == nil {
			errs = append(errs, fmt.Errorf("  %s does not record it", member))
			continue
		}
		for _, f := range faults(c, member, s) {
			errs = append(errs, fmt.Errorf("  %s %s", member, f))
		}
	}
	if len(errs) == 0 && len(c.sent) == 0 {
		return fmt.Errorf("channel %q: no message was noted as sent (by Payload or Sent): nothing is tested", channel)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("channel %q, %s, %s:\n%w", channel, count(len(c.sent), "message"), count(len(members), "member"), errors.Join(errs...))
}

func (r *Recorder) begin(channel, member string) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(channel)
	s := &run{since: len(c.sent)}
	c.runs[member] = s
	return s
}

func (r *Recorder) deliver(s *run, d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.deliveries = append(s.deliveries, d)
}

// of returns the record of a channel. r.mu is held.
func (r *Recorder) of(channel string) *history {
	c := r.channels[channel]
	if c == nil {
		c = &history{known: make(map[string]int), made: make(map[string]int), runs: make(map[string]*run)}
		if r.channels == nil {
			r.channels = make(map[string]*history)
		}
		r.channels[channel] = c
	}
	return c
}

func (c *history) note(from, id string) {
	if _, again := c.known[id]; again {
		panic(fmt.Sprintf("starlingtest: message %q was sent before", id))
	}
	c.known[id] = len(c.sent)
	c.sent = append(c.sent, sent{id, from})
}

// count is a number of things: "1 member", "2 members".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
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
