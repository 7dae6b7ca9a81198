package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// service is what the readers and writers of a test know: which members there are, and what each must know by now.
type service struct {
	mu        sync.Mutex
	members   []*rows
	known     map[uint64]map[string]int // the last write of each key that was confirmed by a member, by its ID
	confirmed int                       // writes that nobody was missing for
	partly    int                       // writes for which some were
	faults    []string
}

// options are those of a Lab whose members are all of the service.
func (s *service) options(db database) starlingtest.Options {
	return starlingtest.Options{
		Config: func(string) starling.Config { return starling.Config{MinMembers: 3} },
		Open: func(m *starlingtest.Member) error {
			r, err := openRows(m.Cluster, db)
			if err != nil {
				return err
			}
			go r.follow(context.Background()) // the bubble waits for it
			s.mu.Lock()
			defer s.mu.Unlock()
			s.members = append(s.members, r)
			return nil
		},
	}
}

func (s *service) any() *rows {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[rand.N(len(s.members))]
}

// write writes a key by way of any member, and notes by whom that was confirmed.
func (s *service) write(ctx context.Context, key string, n int) {
	r := s.any()
	before := r.cluster.Members()
	err := r.write(ctx, key, strconv.Itoa(n))
	confirmed := map[uint64]bool{}
	for _, m := range r.cluster.Members() {
		confirmed[m.ID] = true
	}
	unconfirmed := new(starling.UnconfirmedError)
	if err != nil && !errors.As(err, &unconfirmed) {
		return // not ready, or closed
	}
	for _, m := range unconfirmed.Missing {
		delete(confirmed, m.Member.ID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.confirmed++; err != nil {
		s.confirmed--
		s.partly++
	}
	for _, m := range before {
		if !confirmed[m.ID] {
			continue
		}
		if s.known[m.ID] == nil {
			s.known[m.ID] = map[string]int{}
		}
		s.known[m.ID][key] = n
	}
}

// read reads a key from any member, and holds it against what that one had confirmed before.
func (s *service) read(ctx context.Context, key string) {
	r := s.any()
	id := r.cluster.Self().ID
	s.mu.Lock()
	least := s.known[id][key]
	s.mu.Unlock()
	row, err := r.read(ctx, key)
	n, _ := strconv.Atoi(row)
	if least == 0 && err != nil || n >= least {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf("%s: key %s: write %d (%v), though it had confirmed %d", r.cluster.Self().Name, key, n, err, least))
}

// TestCoherent: while one of five members is killed, one joins and one is cut off for a while, no read that begins when a write is confirmed
// returns an older row on a member that has confirmed it; and in the end all have the same.
func TestCoherent(t *testing.T) {
	s := &service{known: map[uint64]map[string]int{}}
	db := newTable(20 * time.Millisecond)
	starlingtest.Run(t, 5, s.options(db), func(t *testing.T, l *starlingtest.Lab) {
		keys := []string{"a", "b", "c", "d"}
		ctx, stop := context.WithCancel(t.Context())
		last := make([]int, len(keys))
		reads := make([]int, 6)
		var clients sync.WaitGroup
		time.Sleep(5 * time.Second) // until all are ready
		for i, key := range keys {
			clients.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(rand.N(200 * time.Millisecond)) {
					last[i]++
					s.write(t.Context(), key, last[i])
				}
			})
		}
		for i := range reads {
			clients.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(rand.N(5 * time.Millisecond)) {
					reads[i]++
					s.read(t.Context(), keys[rand.N(len(keys))])
				}
			})
		}

		time.Sleep(5 * time.Second)
		s.gone("m1")
		l.Crash("m1")
		time.Sleep(5 * time.Second)
		l.Start("m5")
		time.Sleep(5 * time.Second)
		l.Must(l.Net.Partition([]string{"m2"}, []string{"m0", "m3", "m4", "m5"}))
		time.Sleep(30 * time.Second)
		l.Net.Heal()
		l.WaitAll(time.Minute)
		time.Sleep(5 * time.Second)
		stop()
		clients.Wait()
		s.check(t, keys)
		all := 0
		for _, n := range reads {
			all += n
		}
		t.Logf("%d writes confirmed by all, %d by some; %d reads, of which %d reached the database", s.confirmed, s.partly, all, db.gets.Load())
		if s.confirmed < 300 || s.partly == 0 || int(db.gets.Load()) > all/2 {
			t.Error("that says little")
		}
	})
}

// gone takes a member out of those that are asked.
func (s *service) gone(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.members {
		if r.cluster.Self().Name == name {
			s.members = append(s.members[:i:i], s.members[i+1:]...)
			return
		}
	}
}

// check checks that reads were right, and that all members return what the database has.
func (s *service) check(t *testing.T, keys []string) {
	for i, fault := range s.faults {
		if i == 10 {
			t.Errorf("and %d more", len(s.faults)-10)
			break
		}
		t.Error(fault)
	}
	for _, key := range keys {
		for _, r := range s.members {
			want, _ := r.db.get(t.Context(), key)
			if row, err := r.read(t.Context(), key); row != want {
				t.Errorf("in the end %s has %q (%v) for %s, not %q", r.cluster.Self().Name, row, err, key, want)
			}
		}
	}
}

// TestCutOff: a member that is cut off is named by those who write, until it counts as failed. When it knows, it caches nothing and writes
// nothing; and when it is back it has no old row, though nobody keeps for so long what it was not told.
func TestCutOff(t *testing.T) {
	s := new(service)
	starlingtest.Run(t, 5, s.options(newTable(time.Millisecond)), func(t *testing.T, l *starlingtest.Lab) {
		read := func(r *rows, want string) {
			t.Helper()
			if row, err := r.read(t.Context(), "a"); row != want || err != nil {
				t.Errorf("%s has %q (%v), not %q", r.cluster.Self().Name, row, err, want)
			}
		}
		writer, cut := s.members[0], s.members[2]
		l.Must(writer.cluster.Ready(t.Context()))
		l.Must(cut.cluster.Ready(t.Context()))
		l.Must(writer.write(t.Context(), "a", "1"))
		read(cut, "1")

		l.Must(l.Net.Partition([]string{"m2"}, []string{"m0", "m1", "m3", "m4"}))
		unconfirmed := new(starling.UnconfirmedError)
		err := writer.write(t.Context(), "a", "2")
		if !errors.As(err, &unconfirmed) || len(unconfirmed.Missing) != 1 || unconfirmed.Missing[0].Member.Name != "m2" {
			t.Errorf("while one is cut off: %v", err)
		}
		read(writer, "2")

		l.Within(40*time.Second, func() error { // keptFor is longer
			if cut.cluster.Health().NotReady == nil {
				return errors.New("m2 does not know that it is cut off")
			}
			return nil
		})
		time.Sleep(time.Second) // follow
		if _, kept := cut.cache.Load().GetIfPresent("a"); kept {
			t.Error("one that is cut off keeps what may be old")
		}
		l.Within(time.Minute, func() error { return writer.write(t.Context(), "a", "2") })
		for _, row := range []string{"3", "4"} {
			l.Must(writer.write(t.Context(), "a", row))
			read(cut, row)
		}
		if err, notReady := cut.write(t.Context(), "a", "5"), new(starling.NotReadyError); !errors.As(err, &notReady) {
			t.Errorf("a write of one that is cut off: %v", err)
		}
		read(writer, "4")

		time.Sleep(2 * time.Minute)
		l.Net.Heal()
		l.Must(cut.cluster.Ready(t.Context()))
		read(cut, "4")
	})
}
