package starlingtest_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

const scriptChannel = "news"

// stage is where a script is played.
type stage struct {
	options  scriptOptions
	lab      *starlingtest.Lab
	rec      starlingtest.Recorder
	channels map[string]*starling.Channel[[]byte]
	began    time.Time
	sent     []string // every id, in order

	mu         sync.Mutex
	transcript strings.Builder
	events     map[string][]starling.Event  // by who was told
	states     map[string]map[string][]byte // by member, then id: what it was told in its present run
}

// play runs a script in a bubble. The transcript is logged: it is seen when the test fails, or with -v.
func play(t *testing.T, sc *script) {
	s := &stage{
		options:  sc.options,
		channels: make(map[string]*starling.Channel[[]byte]),
		events:   make(map[string][]starling.Event),
		states:   make(map[string]map[string][]byte),
	}
	options := starlingtest.Options{Open: s.open, Config: func(string) starling.Config {
		return starling.Config{Retention: starling.Retention{Age: s.options.retention}}
	}}
	starlingtest.Run(t, 0, options, func(t *testing.T, l *starlingtest.Lab) {
		s.lab, s.began = l, time.Now()
		defer func() { t.Logf("transcript:\n%s", s.written()) }()
		for _, step := range sc.steps {
			s.note("", step.text)
			if err := step.run(s); err != nil {
				s.note("", fmt.Sprintf("line %d failed: %v", step.line, err))
				t.Fatalf("line %d: %s: %v", step.line, step.text, err)
			}
		}
	})
}

// note writes a line of the transcript: a step, or what a member was told.
func (s *stage) note(member, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if member != "" {
		text = fmt.Sprintf("    %s: %s", member, text)
	}
	fmt.Fprintf(&s.transcript, "%9.3fs  %s\n", time.Since(s.began).Seconds(), text)
}

func (s *stage) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transcript.String()
}

// open is called at every start of a member.
func (s *stage) open(m *starlingtest.Member) (err error) {
	state := make(map[string][]byte)
	s.mu.Lock()
	s.states[m.Name] = state
	s.events[m.Name] = nil
	s.mu.Unlock()
	keep := func(_ context.Context, msg starling.Message[[]byte]) { s.learn(state, msg.Value) }
	o := &starling.ChannelOptions[[]byte]{FIFO: s.options.fifo}
	if s.options.snapshot {
		o.Snapshot = func() iter.Seq[[]byte] { return slices.Values(s.snapshot(state)) }
	}
	handle := starlingtest.Record(&s.rec, scriptChannel, m.Name, starlingtest.PayloadID, keep)
	s.channels[m.Name], err = starling.NewChannelOf(m.Cluster, scriptChannel, handle, starling.Bytes(), o)
	go s.follow(m)
	return err
}

// follow writes down what a member is told of the membership, until it is gone.
func (s *stage) follow(m *starlingtest.Member) {
	for e := range m.Cluster.Events(context.Background()) {
		text := fmt.Sprintf("%v %s", e.Kind, e.Member.Name)
		if e.Kind == starling.EventGap {
			text += fmt.Sprintf(" %d to %d", e.Gap.First, e.Gap.Last)
		}
		s.note(m.Name, text)
		s.mu.Lock()
		s.events[m.Name] = append(s.events[m.Name], e)
		s.mu.Unlock()
	}
}

func (s *stage) learn(state map[string][]byte, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state[starlingtest.PayloadID(payload)] = slices.Clone(payload)
}

func (s *stage) snapshot(state map[string][]byte) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(state))
}

func (s *stage) form(names []string) error {
	for _, name := range names {
		s.lab.Start(name)
	}
	return s.within(time.Minute, func(s *stage) error { return s.lab.AllSeeAll() })
}

func (s *stage) command(verb, name string) error {
	switch verb {
	case "start":
		s.lab.Start(name)
	case "crash":
		s.lab.Crash(name)
	case "leave":
		s.lab.Leave(name)
	case "restart":
		s.lab.Restart(name)
	case "freeze":
		return s.lab.Net.Freeze(name)
	case "thaw":
		return s.lab.Net.Thaw(name)
	}
	return nil
}

// broadcast lets a member broadcast; its own state knows what it says.
func (s *stage) broadcast(name string, count, size int) error {
	for range count {
		payload := s.rec.Payload(scriptChannel, name, size)
		s.learn(s.states[name], payload)
		s.sent = append(s.sent, starlingtest.PayloadID(payload))
		if err := s.channels[name].Broadcast(context.Background(), payload); err != nil {
			return err
		}
	}
	return nil
}

// within waits until check returns nil, or returns its last error.
func (s *stage) within(limit time.Duration, check func(*stage) error) error {
	began := time.Now()
	for {
		err := check(s)
		if err == nil {
			s.note("", fmt.Sprintf("  so it is, after %v", time.Since(began).Round(time.Millisecond)))
			return nil
		}
		if time.Since(began) >= limit {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *stage) who(names []string) []string {
	if len(names) == 0 {
		return s.lab.Names()
	}
	return names
}

// sameState checks that members know all that was ever broadcast.
func (s *stage) sameState(members []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range members {
		for _, id := range s.sent {
			if _, ok := s.states[name][id]; !ok {
				errs = append(errs, fmt.Errorf("%s does not know %s", name, id))
			}
		}
	}
	return errors.Join(errs...)
}

// hasEvent checks that each of at has been told of an event.
func (s *stage) hasEvent(kind, about string, at []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range at {
		if !slices.ContainsFunc(s.events[name], func(e starling.Event) bool {
			return e.Kind.String() == kind && e.Member.Name == about
		}) {
			errs = append(errs, fmt.Errorf("%s was not told that %s %s", name, about, kind))
		}
	}
	return errors.Join(errs...)
}

func (s *stage) noGaps() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, events := range s.events {
		for _, e := range events {
			if e.Kind == starling.EventGap {
				errs = append(errs, fmt.Errorf("%s lost %d to %d of %s", name, e.Gap.First, e.Gap.Last, e.Member.Name))
			}
		}
	}
	return errors.Join(errs...)
}
