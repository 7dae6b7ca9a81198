package spread

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/timeheap"
	"github.com/starling-go/starling/internal/wire"
)

// roughNet is a testNet that drops, delays and repeats frames, with members that crash, members that are slow, and one that lies
// in its reports.
type roughNet struct {
	*testNet
	rng    *rand.Rand
	events timeheap.Heap[func()]
	loss   float64
	liar   uint64
	crash  map[uint64]time.Time // when a member crashes
	slow   map[uint64]time.Duration
	buried map[uint64]bool // members whose crash the others have noticed
	has    map[uint64]map[wire.BatchID]bool
}

const roughBatches = 6

func newRoughNet(seed uint64) *roughNet {
	rng := rand.New(rand.NewPCG(seed, 7))
	n, blind := 2+rng.IntN(40), rng.IntN(3) == 0
	r := &roughNet{
		testNet: newTestNet(n, func(who, whom int) bool { return !blind || (who*31+whom*17)%11 != 0 || who == 0 }),
		rng:     rng, loss: []float64{0, .1, .3, .6}[rng.IntN(4)], crash: map[uint64]time.Time{},
		slow: map[uint64]time.Duration{}, buried: map[uint64]bool{}, has: map[uint64]map[wire.BatchID]bool{},
	}
	if rng.IntN(3) == 0 {
		r.liar = r.members[1+rng.IntN(n-1)].ID
	}
	for _, m := range r.members {
		r.has[m.ID] = map[wire.BatchID]bool{}
	}
	for _, m := range r.members[1:] {
		switch rng.IntN(12) {
		case 0:
			r.crash[m.ID] = start.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		case 1:
			r.slow[m.ID] = time.Duration(rng.IntN(2000)) * time.Millisecond
		}
	}
	return r
}

func (r *roughNet) up(id uint64) bool {
	at, crashes := r.crash[id]
	return !crashes || r.now.Before(at)
}

func (r *roughNet) after(d time.Duration, do func()) {
	r.events.Push(r.now.Add(d).Sub(start), do)
}

// carry takes a frame to a member: late, twice (one in ten) or not at all. A stream drops nothing.
func (r *roughNet) carry(to uint64, stream bool, slow time.Duration, arrives func()) {
	for range 1 + r.rng.IntN(10)/9 {
		if !stream && r.rng.Float64() < r.loss {
			continue
		}
		r.after(time.Duration(500+r.rng.IntN(1500))*time.Microsecond+slow, func() {
			if r.up(to) {
				arrives()
				r.flush(to)
			}
		})
	}
}

// flush sends the frames that a member has.
func (r *roughNet) flush(from uint64) {
	s := r.spreads[from]
	sends, reports := s.Sends, s.Reports
	s.Sends, s.Reports = nil, nil
	for _, send := range sends {
		s.Written(send.Hop, true, r.now)
		to, o := send.Hop.To.ID, offerOf(testMember(int(from-1000)), send)
		r.carry(to, send.Stream, r.slow[to], func() {
			r.has[to][o.ID] = r.has[to][o.ID] || len(o.Items) > 0
			r.spreads[to].Receive(o, r.now)
		})
	}
	for _, rep := range reports {
		told := rep.Report
		if from == r.liar {
			told = r.lie(told)
		}
		r.carry(rep.To.ID, rep.Stream, r.slow[from], func() { r.spreads[rep.To.ID].Report(from, told, r.now) })
	}
}

func (r *roughNet) lie(told wire.Report) wire.Report {
	somebody := r.root().Ring.at(r.rng.IntN(len(r.members))).Pos
	switch r.rng.IntN(6) {
	case 0:
		told.Done = false
	case 1:
		told.Count, told.Sum = r.rng.Uint64(), r.rng.Uint64()
	case 2:
		told.Gone = []uint64{r.rng.Uint64(), somebody}
	case 3:
		told.List = []uint64{somebody}
	case 4:
		told.More = true
	}
	told.Try = uint64(r.rng.IntN(4))
	return told
}

// step lets the next thing happen, and reports whether there was one.
func (r *roughNet) step() bool {
	var next time.Time
	for _, m := range r.members {
		if at, due := r.spreads[m.ID].Next(); due && r.up(m.ID) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	first := time.Duration(-1)
	if r.events.Len() > 0 {
		first, _ = r.events.First()
	}
	switch {
	case first >= 0 && (next.IsZero() || !start.Add(first).After(next)):
		_, do := r.events.Pop()
		r.now = start.Add(first)
		do()
	case next.IsZero():
		return false
	default:
		if next.After(r.now) {
			r.now = next
		}
		r.allUp(func(id uint64) { r.spreads[id].Tick(r.now) })
	}
	for _, id := range slices.Sorted(maps.Keys(r.crash)) {
		if !r.buried[id] && r.now.Sub(r.crash[id]) > 2*time.Second { // memberlist notices
			r.buried[id] = true
			r.allUp(func(who uint64) { r.lose(who, id) })
		}
	}
	return true
}

func (r *roughNet) allUp(do func(id uint64)) {
	for _, m := range r.members {
		if r.up(m.ID) {
			do(m.ID)
			r.flush(m.ID)
		}
	}
}

// run spreads batches from the root and returns them when all have ended.
func (r *roughNet) run(t *testing.T, seed uint64) (done []*Batch) {
	root := r.root()
	for k := range roughBatches {
		r.after(time.Duration(k*r.rng.IntN(40))*time.Millisecond, func() {
			r.startBatch()
			r.flush(root.self)
		})
	}
	for len(done) < roughBatches {
		if !r.step() || r.now.Sub(start) > 3*time.Minute {
			t.Fatalf("seed %d: %d of %d batches have ended after %v", seed, len(done), roughBatches, r.now.Sub(start))
		}
		for _, s := range r.spreads {
			for _, b := range s.Batches {
				if wrong := b.wrongCount(); wrong != "" {
					t.Fatalf("seed %d: batch %v of %d: %s", seed, b.ID, s.self, wrong)
				}
			}
		}
		done, root.Finished = append(done, root.Finished...), nil
	}
	return done
}

// TestRandomNetworks: every batch ends, its hops are counted right, no event is impossible, the window is whole again, and each
// member has the batch or is named as given up, unless somebody lied.
func TestRandomNetworks(t *testing.T) {
	rng := seedtest.Rand(t)
	for range 300 {
		seed := rng.Uint64()
		r := newRoughNet(seed)
		done := r.run(t, seed)
		if f := r.root().Flow; f.Sent != 0 || f.Window < windowMin*f.packet || f.Window > windowMax*f.packet {
			t.Fatalf("seed %d: flow %+v", seed, f)
		}
		for _, s := range r.spreads {
			if s.Impossible > 0 {
				t.Errorf("seed %d: %d impossible events", seed, s.Impossible)
			}
		}
		for _, b := range done {
			for _, p := range b.Ring.Places {
				if id := p.Member.ID; r.liar == 0 && id != b.ID.Root && !slices.Contains(b.Gone, p.Pos) && !r.has[id][b.ID] {
					t.Errorf("seed %d: %s lacks %v, and is not given up", seed, p.Member.Name, b.ID)
				}
			}
		}
	}
}
