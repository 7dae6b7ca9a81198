package dial

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const first = 100 * time.Millisecond

// scene is a queue and what lives at its addresses.
type scene struct {
	*Queue
	wg   sync.WaitGroup
	live map[netip.AddrPort]time.Duration // how long a dial takes; others are silent
	ping map[netip.AddrPort]bool          // who answers pings

	mu        sync.Mutex
	now, most int
	dialled   []netip.AddrPort
	told      map[netip.AddrPort]error
}

var errSilent = errors.New("silent")

func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
}

func addrs(from, n int) (all []netip.AddrPort) {
	for i := range n {
		all = append(all, at(from+i))
	}
	return all
}

// inScene runs a test in a bubble.
func inScene(t *testing.T, test func(t *testing.T, s *scene)) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{live: map[netip.AddrPort]time.Duration{}, ping: map[netip.AddrPort]bool{}, told: map[netip.AddrPort]error{}}
		ctx, cancel := context.WithCancel(t.Context())
		s.Queue = New(ctx, Options{
			Join: s.join, First: first, Longest: 100 * first,
			Ping: func(a netip.AddrPort) bool {
				if !s.ping[a] {
					time.Sleep(5 * first)
				}
				return s.ping[a]
			},
			Go: func(f func()) bool {
				if ctx.Err() == nil {
					s.wg.Go(f)
				}
				return ctx.Err() == nil
			},
		})
		test(t, s)
		cancel()
		s.wg.Wait()
	})
}

func (s *scene) join(_ context.Context, a netip.AddrPort, dial, _ time.Duration) error {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.dialled = append(s.dialled, a)
	s.mu.Unlock()
	takes, ok := s.live[a]
	time.Sleep(min(takes+dial*time.Duration(btoi(!ok)), dial))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	if !ok || takes > dial {
		return errSilent
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *scene) done(a netip.AddrPort, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[a] = err
}

// after returns what was told after some time.
func (s *scene) after(d time.Duration) (told map[netip.AddrPort]error, dials int) {
	time.Sleep(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	told = map[netip.AddrPort]error{}
	for a, err := range s.told {
		told[a] = err
	}
	return told, len(s.dialled)
}

// TestQueueTriesAll: each address once, AtOnce at once, those behind silent ones too; whoever asks for it is told.
func TestQueueTriesAll(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.live[at(99)] = time.Millisecond
		s.Try(addrs(0, 100), 0, s.done)
		again := 0
		s.Try(addrs(0, 50), 0, func(netip.AddrPort, error) { s.mu.Lock(); again++; s.mu.Unlock() })
		told, dials := s.after(100 / AtOnce * first * 11 / 10)
		if len(told) != 100 || dials != 100 || s.most != AtOnce || again != 50 {
			t.Errorf("%d told, %d dialled, %d at once, %d told twice", len(told), dials, s.most, again)
		}
		if told[at(99)] != nil || told[at(0)] != errSilent {
			t.Errorf("told %v of who lives, %v of who is silent", told[at(99)], told[at(0)])
		}
		s.Queue.mu.Lock()
		defer s.Queue.mu.Unlock()
		if len(s.tries) != 0 {
			t.Errorf("%d tries are remembered", len(s.tries))
		}
	})
}

// TestQueuePings: who answers a ping goes before those that do not, and before that has little time to answer its dial.
func TestQueuePings(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.live[at(999)], s.ping[at(999)] = 3*first, true
		s.Try(addrs(0, 1000), 0, s.done)
		told, _ := s.after(2 * time.Second)
		if err, ok := told[at(999)]; !ok || err != nil {
			t.Errorf("after 2 s %v is known of who answers: %v", ok, err)
		}
	})
}

// TestQueueLeavesRoom: addresses that are dialled for long leave room for others.
func TestQueueLeavesRoom(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.live[at(500)] = time.Millisecond
		s.Try(addrs(0, 100), Late, s.done)
		for i := range 10 {
			s.Now(at(200+i), s.done)
		}
		s.Try(addrs(500, 1), 0, s.done)
		if told, _ := s.after(first); len(told) != 1 {
			t.Errorf("%d told, want 1", len(told))
		}
	})
}

// TestQueueKnock: of these only who answers is dialled.
func TestQueueKnock(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.live[at(7)], s.ping[at(7)] = time.Millisecond, true
		s.Knock(addrs(0, 1000), s.done)
		if told, dials := s.after(2 * time.Second); len(told) != 1 || dials != 1 {
			t.Errorf("%d told, %d dialled", len(told), dials)
		}
	})
}

// TestQueuePatience: a dial that takes longer than the first round's patience gets through in a later one.
func TestQueuePatience(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.live[at(0)] = 10 * first
		for round, want := range []error{errSilent, errSilent, nil} {
			s.Try(addrs(0, 1), round, s.done)
			if told, _ := s.after(20 * first); told[at(0)] != want {
				t.Errorf("round %d: %v", round, told[at(0)])
			}
		}
		if p := s.patience(Late); p != s.Longest {
			t.Errorf("late patience %v", p)
		}
	})
}

// TestQueueBound: beyond maxWaiting addresses are refused.
func TestQueueBound(t *testing.T) {
	inScene(t, func(t *testing.T, s *scene) {
		s.Try(addrs(0, maxWaiting+100), 0, s.done)
		if told, _ := s.after(time.Millisecond); len(told) != 100 || told[at(maxWaiting+99)] != errFull {
			t.Errorf("%d refused", len(told))
		}
	})
}
