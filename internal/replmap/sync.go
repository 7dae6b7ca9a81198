package replmap

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/starling-go/starling/internal/hlc"
	"github.com/starling-go/starling/internal/kv"
	"github.com/starling-go/starling/internal/wire"
)

// Network is what a Sync needs of the cluster. Its functions may be called concurrently.
type Network struct {
	// Send gives a frame to one run of a member, and returns nil when it is there. ErrNotOpen: the member has not opened the map.
	Send func(ctx context.Context, to uint64, frame []byte) error
	Met  func(id uint64) bool // whether the membership knows a run
	Name func(id uint64) string
	// Spawn runs a function on a goroutine that the cluster waits for; false: the cluster is closing.
	Spawn func(func()) bool
	Log   *slog.Logger // it names the map
}

// ErrNotOpen says that a member has not opened the map.
var ErrNotOpen = errors.New("the map is not open there")

// A Sync keeps a Copy equal to those of other members: it compares with them, answers those who compare with it, and lets time pass.
// Its methods may be called concurrently.
type Sync[V any] struct {
	held     *Copy[V]
	net      Network
	ctx      context.Context // ends the goroutines
	wg       sync.WaitGroup
	comparer comparer[V]
	donor    donor[V]
	stirred  chan struct{} // holds a token when compareLoop has to look again
	done     chan struct{} // closed when the Map has its first values

	mu       sync.Mutex // taken before that of the Copy
	schedule *kv.Schedule
	census   *kv.Census
	told     bool // done is closed
	counts   Counts
	skewTold time.Time
	fullTold time.Time
	ownsTold time.Time
}

// Counts are what a Sync has done.
type Counts struct {
	Compared, Unequal, Fetched, Refused, Dropped uint64
}

const (
	frameSize = 256 << 10       // about the size of the frames that entries are given in
	silence   = 5 * time.Second // until an answer is given up of which no frame comes any more
	// silenceFirst is until somebody else is asked.
	silenceFirst = time.Second
	// metTries is how often a member that asks is looked for: it may have met us, and we not yet it.
	metTries     = 10
	metAgain     = 50 * time.Millisecond
	sendWithin   = 10 * time.Second // until a frame is given up that its receiver does not take
	maxQuestions = 64               // that wait
	maxAnswering = 4                // that are answered at a time
	maxAnswers   = 64
	overslept    = 5 * time.Second // so much later than it wanted, compareLoop knows that the process has slept
	skewMost     = 5 * time.Second // beyond it the log tells of a clock
	expireLate   = time.Millisecond
)

// NewSync returns a Sync that does nothing before Start. ctx ends it. first is this member alone.
func NewSync[V any](ctx context.Context, held *Copy[V], net Network) *Sync[V] {
	now, self := time.Now(), held.o.Self
	s := &Sync[V]{
		held: held, net: net, ctx: ctx,
		schedule: kv.NewSchedule(rand.New(rand.NewPCG(rand.Uint64(), self)), now),
		census:   kv.NewCensus(held.o.Limits.Tombstones, kv.Standing{Weight: 1, Least: self}, now),
		stirred:  make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.comparer = comparer[V]{Sync: s, answers: make(chan *wire.MapAnswer, maxAnswers)}
	s.donor = donor[V]{Sync: s, questions: map[uint64]*wire.MapQuestion{}}
	return s
}

// Start starts the goroutines. Wait waits for them, after the context has ended.
func (s *Sync[V]) Start() {
	s.spawn(s.comparer.compareLoop)
	s.spawn(s.expireLoop)
}

// Follow runs f, which follows the membership, on a goroutine that Wait waits for.
func (s *Sync[V]) Follow(f func()) { s.spawn(f) }

// Wait waits until all goroutines have ended.
func (s *Sync[V]) Wait() { s.wg.Wait() }

// Done is closed when the Copy has its first values.
func (s *Sync[V]) Done() <-chan struct{} { return s.done }

// Awaited returns the members that may have the first values, and have not given them.
func (s *Sync[V]) Awaited() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.schedule.Awaited()
}

// Counts returns what was done.
func (s *Sync[V]) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// spawn runs f on a goroutine that both the cluster and Wait wait for.
func (s *Sync[V]) spawn(f func()) bool {
	s.wg.Add(1)
	started := s.net.Spawn(func() {
		defer s.wg.Done()
		f()
	})
	if !started {
		s.wg.Done()
	}
	return started
}

// Membership notes a change of the membership: who came or is gone (0: nobody), and among whom this member is now.
func (s *Sync[V]) Membership(came, gone uint64, now kv.Standing, others []uint64) {
	s.held.SetMembers(others)
	s.mu.Lock()
	if came != 0 {
		s.schedule.Arrived(came, time.Now())
	}
	if gone != 0 {
		s.schedule.Departed(gone)
		s.comparer.departed(gone)
	}
	s.census.Change(now, time.Now())
	s.mu.Unlock()
	s.stir()
}

// Trouble notes that something may have been missed.
func (s *Sync[V]) Trouble() {
	s.mu.Lock()
	s.schedule.Trouble(time.Now())
	s.mu.Unlock()
	s.stir()
}

// Entered notes that this member has joined, and whom it sees: if that is nobody, there are no first values.
func (s *Sync[V]) Entered(members []uint64) {
	s.mu.Lock()
	for _, id := range members {
		if !s.schedule.Knows(id) {
			s.schedule.Arrived(id, time.Now())
		}
	}
	s.schedule.Joined()
	s.mu.Unlock()
	s.stir()
}

func (s *Sync[V]) stir() {
	select {
	case s.stirred <- struct{}{}:
	default:
	}
}

// expireLoop lets entries expire.
func (s *Sync[V]) expireLoop() {
	for {
		var timer <-chan time.Time
		if next := s.held.Tick(); !next.IsZero() {
			timer = time.After(max(time.Until(next), expireLate))
		}
		select {
		case <-timer:
		case <-s.held.Armed():
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Sync[V]) synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.schedule.Synced()
}

func (s *Sync[V]) standing() kv.Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.census.Standing(time.Now())
}

// send gives a frame to a member, within a time.
func (s *Sync[V]) send(ctx context.Context, to uint64, frame []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return s.net.Send(ctx, to, frame)
}

// Handle takes a message of the map: a change, or, if it was sent to this member alone, a question or an answer. from is who sent it, so long
// ago. An error says that it cannot be decoded.
func (s *Sync[V]) Handle(message []byte, direct bool, from uint64, ago time.Duration) error {
	frame, err := wire.ParseMapFrame(message)
	if err != nil {
		return err
	}
	if frame.Later > 0 {
		s.refused("a later version of Starling knows what it is, and this one does not", nil)
	}
	switch {
	case !direct:
		for i := range frame.Entries {
			err = errors.Join(err, s.takeChange(&frame.Entries[i], ago))
		}
	case from == 0:
	case frame.Question != nil:
		s.donor.asked(from, frame.Question)
	case frame.Answer != nil:
		s.comparer.answered(from, &frame, ago)
	}
	return err
}

// takeChange applies a change that was broadcast.
func (s *Sync[V]) takeChange(e *wire.MapEntry, ago time.Duration) error {
	w, err := s.held.Read(e, ago)
	if err == nil {
		_, err = s.apply(w, nil, e.Prev)
	}
	if err != nil {
		s.refused("cannot be decoded or merged", err)
	}
	return err
}

// apply applies a write of another member. f is nil for what was broadcast; then prev is the stamp of the write before.
func (s *Sync[V]) apply(w kv.Write[V], f *kv.Filter, prev uint64) (kv.Verdict, error) {
	verdict, skew, err := s.held.Apply(w, f, hlc.Stamp(prev))
	switch {
	case err != nil:
		return kv.Full, err
	case verdict == kv.Full:
		s.refused("it is beyond twice MaxEntries or MaxBytes", nil)
	case verdict == kv.Suspect && f == nil: // whether it was deleted, a comparison says
		s.Trouble()
	}
	if skew > skewMost {
		s.skewed(skew, w.Origin)
	}
	return verdict, nil
}

// tellEvery is how often the log tells of the same trouble.
const tellEvery = time.Minute

// seldom reports whether the log is to be told, and notes that it was.
func seldom(last *time.Time) bool {
	now := time.Now()
	if !last.IsZero() && now.Sub(*last) < tellEvery {
		return false
	}
	*last = now
	return true
}

// skewed says in the log that somebody's clock is ahead of ours.
func (s *Sync[V]) skewed(skew time.Duration, origin uint64) {
	s.mu.Lock()
	due := seldom(&s.skewTold)
	s.mu.Unlock()
	if due {
		s.net.Log.Warn("map: the clock of a member is ahead; changes that are made after its changes were seen are later all the same",
			"from", s.net.Name(origin), "by", skew.Round(time.Millisecond))
	}
}

// refused notes that an entry of another member is not here.
func (s *Sync[V]) refused(why string, err error) {
	s.mu.Lock()
	s.counts.Refused++
	due := seldom(&s.fullTold)
	s.mu.Unlock()
	if due {
		attrs := []any{"why", why}
		if err != nil {
			attrs = append(attrs, "error", err)
		}
		s.net.Log.Warn("map: an entry of another member is not taken: this member is not equal to the others", attrs...)
	}
}

// mismatched says in the log that a member and this one have given the map different options.
func (s *Sync[V]) mismatched(from uint64) {
	s.mu.Lock()
	due := seldom(&s.ownsTold)
	s.mu.Unlock()
	if due {
		s.net.Log.Warn("map: a member has it open with another MapOptions.Owned; the two will never be equal: give the map another key",
			"from", s.net.Name(from), "owned here", s.held.o.Limits.Owned)
	}
}
