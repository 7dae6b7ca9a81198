package kv

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
)

// play plays a random script: writes, deletions, times to live, loss, crashes, newcomers, and partitions of at most longest. With
// oneAway a partition leaves out one member, who does nothing until it has
// compared with somebody again, and neither does a newcomer: their clocks may be behind those deletions.
func play(s *sim, steps int, longest time.Duration, oneAway bool) {
	letters := "abcdefghijklmnopqrstuvwxyz"
	if !oneAway { // else who has missed a packet and is then away for long is as one who was away when it was sent
		s.loss = []float64{0, 0, 0.1, 0.3}[s.rng.IntN(4)]
	}
	healAt := time.Time{}
	for range steps {
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		if n.away || oneAway && !n.sched.Synced() {
			s.run(50 * time.Millisecond)
			continue
		}
		key := fmt.Sprint("key", s.rng.IntN(s.keys))
		switch s.rng.IntN(20) {
		default:
			value := fmt.Sprint(s.made + 1)
			if s.limits.Merge {
				value = string(letters[s.rng.IntN(len(letters))])
			}
			n.write(key, value, Live, 0)
		case 0, 1, 2, 3:
			n.write(key, "", Deleted, 0)
		case 4, 5:
			if !s.limits.Merge {
				n.write(key, fmt.Sprint(s.made+1), Live, time.Duration(s.rng.IntN(20_000))*time.Millisecond+time.Millisecond)
			}
		case 6:
			if len(s.nodes) > 2 && !oneAway || len(s.nodes) > 3 {
				s.crash(n)
			}
		case 7:
			if len(s.nodes) < 6 {
				s.start()
			}
		case 8:
			if healAt.IsZero() && oneAway && len(s.nodes) > 2 {
				s.run(100 * time.Millisecond) // what it has written is with somebody
				n.away = true
				s.split(func(_ int, m *simNode) int { return map[bool]int{true: 1}[m == n] })
				healAt = s.now.Add(time.Duration(s.rng.Int64N(int64(longest))))
			} else if healAt.IsZero() && !oneAway {
				groups := 2 + s.rng.IntN(3)
				s.split(func(int, *simNode) int { return s.rng.IntN(groups) })
				healAt = s.now.Add(time.Duration(s.rng.Int64N(int64(longest))))
			}
		}
		switch s.rng.IntN(10) {
		case 0:
			s.run(time.Duration(s.rng.Int64N(int64(longest / 4))))
		case 1, 2, 3:
			s.run(time.Duration(s.rng.IntN(1_000)) * time.Millisecond)
		}
		if !healAt.IsZero() && s.now.After(healAt) {
			s.heal()
			healAt = time.Time{}
			if s.limits.Merge { // what is merged with a new value before the comparison is as new as that
				s.run(5 * time.Second)
			}
		}
	}
}

// scripts plays scripts of all kinds, each with a seed of its own that a failure is repeated by.
func scripts(t *testing.T, count int, one func(t *testing.T, seed uint64)) {
	first := seedtest.New(t)
	if testing.Short() {
		count /= 10
	}
	count = seedtest.Scripts(t, count)
	for i := range count {
		seed := first + uint64(i)
		ok := t.Run("", func(t *testing.T) { one(t, seed) })
		if !ok {
			t.Fatalf("script %d of %d: repeat it with STARLING_SEED=%d", i, count, seed)
		}
	}
}

// However members come, go and are cut off, as long as it is for less than tombstones are kept: all have the same in the end, and of each
// key the latest that anybody who is left has seen.
func TestScripts(t *testing.T) {
	for _, merge := range []bool{false, true} {
		t.Run(map[bool]string{false: "later wins", true: "merge"}[merge], func(t *testing.T) {
			scripts(t, 50, func(t *testing.T, seed uint64) {
				l := Limits{Entries: 1000, Bytes: 1 << 20, Tombstones: 10 * time.Minute, Merge: merge}
				s := newSim(t, seed, 3, l)
				play(s, 100, 30*time.Second, false)
				s.check(2*time.Minute, true)
			})
		})
	}
}

// The same with partitions beyond the tombstones: all have the same in the end.
func TestScriptsBeyondTombstones(t *testing.T) {
	for _, merge := range []bool{false, true} {
		t.Run(map[bool]string{false: "later wins", true: "merge"}[merge], func(t *testing.T) {
			scripts(t, 50, func(t *testing.T, seed uint64) {
				l := Limits{Entries: 1000, Bytes: 1 << 20, Tombstones: 5 * time.Second, Merge: merge}
				s := newSim(t, seed, 3, l)
				play(s, 100, 60*time.Second, false)
				s.check(2*time.Minute, false)
			})
		})
	}
}

// A member that is away for longer than tombstones are kept brings nothing back that was deleted meanwhile, and loses nothing that is new.
func TestNothingComesBack(t *testing.T) {
	dropped := 0
	for _, merge := range []bool{false, true} {
		t.Run(map[bool]string{false: "later wins", true: "merge"}[merge], func(t *testing.T) {
			scripts(t, 15, func(t *testing.T, seed uint64) {
				l := Limits{Entries: 1000, Bytes: 1 << 20, Tombstones: 3 * time.Minute, Merge: merge}
				s := newSim(t, seed, 4, l)
				s.keys = 20
				play(s, 150, 10*time.Minute, true)
				s.check(2*time.Minute, true)
				for _, n := range s.nodes {
					dropped += n.drops
				}
			})
		})
	}
	if dropped == 0 && !t.Failed() {
		t.Error("nothing was ever dropped: the test tests nothing")
	}
}
