package starling_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/internal/seedtest"
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
	script  script.Script
	due     []labEvent // by time
	cut     [][]int
	loss    float64
	width   int
	mute    [script.MaxMembers][script.MaxMembers]bool
	blocked map[[2]int]bool
	sent    sentMessages
	closing sync.WaitGroup // members that crashed or leave
	waiting sync.WaitGroup // calls that wait for others
	serving sync.WaitGroup // what runs beside each member
}

// labEvent is something that happens while the script waits.
type labEvent struct {
	at time.Duration
	do func()
}

func labName(member int) string { return fmt.Sprint("m", member) }

func (l *laboratory) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *laboratory) Now() time.Duration { return time.Since(l.start) }

// later does something when the script has waited for so long.
func (l *laboratory) later(d time.Duration, do func()) {
	at := l.Now() + d
	i := slices.IndexFunc(l.due, func(e labEvent) bool { return e.at > at })
	if i < 0 {
		i = len(l.due)
	}
	l.due = slices.Insert(l.due, i, labEvent{at, do})
}

func (l *laboratory) Wait(d time.Duration) {
	until := l.Now() + d
	for len(l.due) > 0 && l.due[0].at <= until {
		e := l.due[0]
		l.due = l.due[1:]
		time.Sleep(e.at - l.Now())
		e.do()
	}
	time.Sleep(until - l.Now())
}

func (l *laboratory) Settled() time.Duration { return 40 * time.Second }

func (l *laboratory) Broadcast(member, channel int, _ string, data []byte) script.Accepted {
	return l.accepting(member, channel, func() error {
		_, err := l.sent.broadcast(context.Background(), l.running[member], channel, data, false)
		return err
	})
}

// accepting reports what becomes of a message while it is broadcast.
func (l *laboratory) accepting(member, channel int, broadcast func() error) script.Accepted {
	before := l.superseded(member, channel)
	switch err := broadcast(); {
	case err != nil:
		return script.Refused
	case l.superseded(member, channel) > before:
		return script.Superseded
	}
	return script.Taken
}

// superseded is how many messages of a channel were superseded by newer ones.
func (l *laboratory) superseded(member, channel int) uint64 {
	return l.running[member].cluster.Stats().Channels[script.Channels[channel].Key].Superseded
}

// Confirm is never refused: it waits for room, if there is none.
func (l *laboratory) Confirm(member, channel int, _ string, data []byte, confirmed func(error)) script.Accepted {
	m := l.running[member]
	return l.accepting(member, channel, func() error {
		l.waiting.Go(func() {
			ctx, cancel := context.WithTimeout(m.ctx, l.retain.Age)
			defer cancel()
			wait, err := l.sent.broadcast(ctx, m, channel, data, true)
			if err == nil {
				err = wait(ctx)
			}
			confirmed(err)
		})
		synctest.Wait() // it is accepted: there is room
		return nil
	})
}

func (l *laboratory) Direct(member, other int, run uint64, data []byte, patience time.Duration, sent func(error)) {
	m := l.running[member]
	l.waiting.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, patience)
		defer cancel()
		sent(m.channels[script.DirectChannel].SendMember(ctx, starling.Member{Name: labName(other), ID: run}, data))
	})
}

func (l *laboratory) Span(process, number uint64) (first, last uint64) {
	return l.sent.span(process, number)
}

// sentMessages is what members have accepted, so that the model can be told which parts became of it.
type sentMessages struct {
	mu sync.Mutex
	by map[uint64][]starling.Tracked // by the id of the process
}

// broadcast lets a member broadcast a message, without or with Confirm.
func (s *sentMessages) broadcast(ctx context.Context, m *labMember, channel int, data []byte, confirm bool) (func(context.Context) error, error) {
	tr, wait, err := starling.Broadcast(ctx, m.channels[channel], data, confirm)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.by == nil {
			s.by = map[uint64][]starling.Tracked{}
		}
		id := m.cluster.Self().ID
		s.by[id] = append(s.by[id], tr)
	}
	return wait, err
}

// span returns the seqs of a message's parts. Which message carries that number is seen once it has left: it may have superseded
// another one.
func (s *sentMessages) span(process, number uint64) (first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tr := range s.by[process] {
		if data, first, last := tr.Left(); len(data) >= script.MinSize && script.Number(data) == number {
			return first, last
		}
	}
	return 0, 0
}

// playOnCluster plays a script on a cluster, in a bubble of its own.
func playOnCluster(t *testing.T, s script.Script) (err error) {
	synctest.Test(t, func(t *testing.T) {
		model := script.NewModel(s)
		l := &laboratory{
			t: t, net: starlingtest.NewNetwork(s.Seed), model: model, script: s, start: time.Now(), blocked: map[[2]int]bool{},
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
		l.waiting.Wait()
		l.serving.Wait()
		time.Sleep(30 * time.Second) // memberlist's probes outlive it
		l.net.Close()
	})
	return err
}

// TestScriptsOnClusters plays the scripts of TestScripts on whole clusters, four times as slow: so long memberlist takes to
// notice a failure. A run cannot be repeated exactly, since memberlist draws from a global source; but its script can.
func TestScriptsOnClusters(t *testing.T) {
	t.Parallel()
	first, n := seedtest.New(t), seedtest.Scripts(t, 20)
	for i := range uint64(n) {
		s := script.Generate(rand.New(rand.NewPCG(first+i, 0)))
		if err := playOnCluster(t, s.Stretch(4)); err != nil {
			s = script.Shrink(s, func(s script.Script) bool { return playOnCluster(t, s.Stretch(4)) != nil }, 30)
			t.Errorf("STARLING_SEED=%d, shortened:\n%v\nat first: %v", first+i, s.Stretch(4), err)
		}
	}
}
