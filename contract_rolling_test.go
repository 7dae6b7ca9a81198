package starling_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

// rolling is a rolling restart: one member after the other ends, and comes back under its name and address, while all broadcast.
type rolling struct {
	*contract
	every  time.Duration // between two messages of one member
	runs   []*rollingRun
	latest map[string]*rollingRun // by member

	mu   sync.Mutex // of sent, and of dies of every run
	sent []rollingMessage
}

// rollingRun is one run of a member.
type rollingRun struct {
	*contractRun
	joined time.Time // when its Join returned
	ended  time.Time // when it was told to leave, or crashed; zero: it runs until the end
	dies   bool      // by a crash
	stop   context.CancelFunc
	done   chan struct{} // closed when it broadcasts no more
}

type rollingMessage struct {
	id   string
	from *rollingRun
	born time.Time
}

// start lets the latest run of a member, which has joined, broadcast.
func (r *rolling) start(name string) {
	ctx, stop := context.WithCancel(context.Background())
	run := &rollingRun{contractRun: r.run(name), joined: time.Now(), stop: stop, done: make(chan struct{})}
	r.runs = append(r.runs, run)
	r.latest[name] = run
	go func() {
		defer close(run.done)
		for ctx.Err() == nil {
			id, payload := r.message(100)
			born := time.Now()
			if err := run.ch.Broadcast(ctx, payload); err != nil {
				if ctx.Err() == nil && !r.crashed(run) {
					r.t.Errorf("%s: Broadcast: %v", run.name, err)
				}
				return
			}
			r.mu.Lock()
			r.sent = append(r.sent, rollingMessage{id, run, born})
			r.mu.Unlock()
			time.Sleep(r.every)
		}
	}()
}

// end ends the latest run of a member, politely or not.
func (r *rolling) end(name string, crash bool) {
	run := r.latest[name]
	if !crash {
		run.stop()
		<-run.done // whoever leaves accepts nothing any more
		run.ended = time.Now()
		r.Leave(name)
		return
	}
	r.mu.Lock()
	run.ended, run.dies = time.Now(), true
	r.mu.Unlock()
	r.Crash(name)
	run.stop()
	<-run.done
}

func (r *rolling) crashed(run *rollingRun) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return run.dies
}

// check returns how many deliveries were owed, how many died with each origin, and what was owed and did not come, or came twice.
// What was broadcast in the last second before a crash may be lost: all of it or, with a gap, some.
func (r *rolling) check() (owed int, died map[*rollingRun]int, faults []string) {
	died = map[*rollingRun]int{}
	for _, m := range r.sent {
		for _, to := range r.runs {
			stays := to.ended.IsZero() || to.ended.Sub(m.born) > time.Second // long enough to get it
			if to == m.from || !stays || m.born.Before(to.joined) {
				continue
			}
			owed++
			n := to.times(m.id)
			dying := m.from.dies && m.from.ended.Sub(m.born) < time.Second
			switch {
			case n > 1:
				faults = append(faults, fmt.Sprintf("%s, which joined at %v, was given %s of %s %d times",
					to.name, to.joined, m.id, m.from.name, n))
			case n == 0 && dying:
				died[m.from]++
			case n == 0:
				faults = append(faults, fmt.Sprintf("%s, which joined at %v, lacks %s that %s broadcast %v later",
					to.name, to.joined, m.id, m.from.name, m.born.Sub(to.joined)))
			}
		}
	}
	return owed, died, faults
}

// checkGaps returns which gaps were reported although nothing that was owed died with their origin.
func (r *rolling) checkGaps(died map[*rollingRun]int) (faults []string) {
	for _, run := range r.runs {
		for _, origin := range r.runs {
			if n := run.told(origin.Self().ID); run.ended.IsZero() && died[origin] == 0 && n > 0 {
				faults = append(faults, fmt.Sprintf("%s reports %d messages of %s missing, and lacks none", run.name, n, origin.name))
			}
		}
	}
	return faults
}

// Every member is restarted, one after the other, politely or by a crash, while all broadcast. Right: what every member that
// stayed is owed arrives once, and every newcomer misses nothing from the moment that its Join returns.
//
// STARLING_MEMBERS and STARLING_RATE (messages per second of all members) make it larger.
func TestRollingRestart(t *testing.T) {
	n, rate := seedtest.Number(t, "STARLING_MEMBERS", 6), seedtest.Number(t, "STARLING_RATE", 60)
	inContract(t, n, contractOptions{}, func(t *testing.T, c *contract) {
		r := &rolling{contract: c, latest: map[string]*rollingRun{}, every: time.Second * time.Duration(n) / time.Duration(rate)}
		names := c.Names()
		for _, name := range names {
			r.start(name)
		}
		for i, name := range names {
			time.Sleep(time.Second)
			r.end(name, i%2 == 1)
			began := time.Now()
			c.Restart(name)
			t.Logf("%s is back after %v", name, time.Since(began))
			r.start(name)
		}
		time.Sleep(time.Second)
		for _, run := range r.runs {
			run.stop()
			<-run.done
		}
		time.Sleep(15 * time.Second)
		owed, died, faults := r.check()
		faults = append(faults, r.checkGaps(died)...)
		for _, fault := range faults[:min(len(faults), 20)] {
			t.Error(fault)
		}
		lost := 0
		for _, n := range died {
			lost += n
		}
		t.Logf("%d messages, %d deliveries owed, of which %d died with their origin; %d faults", len(r.sent), owed, lost, len(faults))
		if owed < 200*n {
			t.Error("that is too few to mean anything")
		}
	})
}
