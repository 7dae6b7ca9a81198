package starling

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// roughFlight is a flight over a network that loses, delays and repeats, with members that crash, that are slow, and one that
// lies in its reports.
type roughFlight struct {
	*flight
	rng    *rand.Rand
	events eventHeap
	loss   float64
	liar   uint64
	crash  map[uint64]time.Time // when
	slow   map[uint64]time.Duration
	gone   map[uint64]bool // whose crash the others have noticed
	has    map[uint64]map[batchID]bool
}

const roughBatches = 6

func newRoughFlight(seed uint64) *roughFlight {
	rng := rand.New(rand.NewPCG(seed, 7))
	n, blind := 2+rng.IntN(40), rng.IntN(3) == 0
	r := &roughFlight{
		flight: newFlight(n, func(who, whom int) bool { return !blind || (who*31+whom*17)%11 != 0 || who == 0 }),
		rng:    rng, loss: []float64{0, .1, .3, .6}[rng.IntN(4)],
		crash: map[uint64]time.Time{}, slow: map[uint64]time.Duration{}, gone: map[uint64]bool{}, has: map[uint64]map[batchID]bool{},
	}
	if rng.IntN(3) == 0 {
		r.liar = r.members[1+rng.IntN(n-1)].ID
	}
	for _, m := range r.members {
		r.has[m.ID] = map[batchID]bool{}
	}
	for _, m := range r.members[1:] {
		switch rng.IntN(12) {
		case 0:
			r.crash[m.ID] = dawn.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		case 1:
			r.slow[m.ID] = time.Duration(rng.IntN(2000)) * time.Millisecond
		}
	}
	return r
}

func (r *roughFlight) up(id uint64) bool {
	at, crashes := r.crash[id]
	return !crashes || r.now.Before(at)
}

func (r *roughFlight) after(d time.Duration, do func()) {
	heap.Push(&r.events, event{r.now.Add(d).Sub(dawn), len(r.events), do})
}

// carry takes what one member says to another: late, twice (one in ten) or not at all. A stream loses nothing.
func (r *roughFlight) carry(to uint64, stream bool, slow time.Duration, hear func()) {
	for range 1 + r.rng.IntN(10)/9 {
		if !stream && r.rng.Float64() < r.loss {
			continue
		}
		r.after(time.Duration(500+r.rng.IntN(1500))*time.Microsecond+slow, func() {
			if r.up(to) {
				hear()
				r.flush(to)
			}
		})
	}
}

// flush sends what a member has to say.
func (r *roughFlight) flush(from uint64) {
	s := r.spreads[from]
	sends, reports := s.sends, s.reports
	s.sends, s.reports = nil, nil
	for _, send := range sends {
		to, o := send.leg.to.ID, offerOf(bird(int(from-1000)), send)
		r.carry(to, send.stream, r.slow[to], func() {
			r.has[to][o.id] = r.has[to][o.id] || len(o.items) > 0
			r.spreads[to].receive(o, r.now)
		})
	}
	for _, rep := range reports {
		said := rep.report
		if from == r.liar {
			said = r.lie(said)
		}
		r.carry(rep.to.ID, rep.stream, r.slow[from], func() { r.spreads[rep.to.ID].report(from, said, r.now) })
	}
}

func (r *roughFlight) lie(said report) report {
	somebody := r.root().ring.at(r.rng.IntN(len(r.members))).pos
	switch r.rng.IntN(6) {
	case 0:
		said.done = false
	case 1:
		said.count, said.sum = r.rng.Uint64(), r.rng.Uint64()
	case 2:
		said.gone = []uint64{r.rng.Uint64(), somebody}
	case 3:
		said.list = []uint64{somebody}
	case 4:
		said.more = true
	}
	said.try = uint64(r.rng.IntN(4))
	return said
}

// step lets the next thing happen, and reports whether there was one.
func (r *roughFlight) step() bool {
	var next time.Time
	for _, m := range r.members {
		if at, due := r.spreads[m.ID].next(); due && r.up(m.ID) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	switch {
	case len(r.events) > 0 && (next.IsZero() || !dawn.Add(r.events[0].at).After(next)):
		e := heap.Pop(&r.events).(event)
		r.now = dawn.Add(e.at)
		e.do()
	case next.IsZero():
		return false
	default:
		r.now = later(next, r.now)
		r.all(func(s *spread) { s.tick(r.now) })
	}
	for id, at := range sorted(r.crash) { // memberlist notices after two seconds
		if !r.gone[id] && r.now.Sub(at) > 2*time.Second {
			r.gone[id] = true
			r.all(func(s *spread) { s.lost(id, r.now) })
		}
	}
	return true
}

func (r *roughFlight) all(do func(*spread)) {
	for _, m := range r.members {
		if r.up(m.ID) {
			do(r.spreads[m.ID])
			r.flush(m.ID)
		}
	}
}

// fly spreads batches from the root and returns them when all have ended.
func (r *roughFlight) fly(t *testing.T, seed uint64) (done []*batch) {
	root := r.root()
	for k := range roughBatches {
		r.after(time.Duration(k*r.rng.IntN(40))*time.Millisecond, func() {
			root.start(someParts, 200, false, r.now)
			r.flush(root.self)
		})
	}
	for len(done) < roughBatches {
		if !r.step() || r.now.Sub(dawn) > 3*time.Minute {
			t.Fatalf("seed %d: %d of %d batches have ended after %v", seed, len(done), roughBatches, r.now.Sub(dawn))
		}
		for _, b := range root.batches {
			if err := b.counts(); err != "" {
				t.Fatalf("seed %d: batch %v: %s", seed, b.id, err)
			}
		}
		done, root.finished = append(done, root.finished...), nil
	}
	return done
}

// counts tells what is wrong with what a batch counts.
func (b *batch) counts() string {
	open, holding := 0, 0
	for _, l := range b.legs {
		if l.state != legOver {
			open++
			if !l.excused {
				holding++
			}
		}
	}
	switch {
	case open == 0 || open != b.open:
		return "legs are counted wrong, or none is open"
	case holding != b.holding || holding == 0 && b.id.root == b.ring.at(0).member.ID && !b.paid:
		return "legs that hold the window are counted wrong"
	}
	return ""
}

// TestRoughSpreads: every batch ends, its legs are counted right, the window is whole again, and who is not named as given up
// has it, unless somebody lied.
func TestRoughSpreads(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		seed := rng.Uint64()
		r := newRoughFlight(seed)
		done := r.fly(t, seed)
		if f := r.root().flow; f.sent != 0 || f.window < flowMin*f.packet || f.window > flowMax*f.packet {
			t.Fatalf("seed %d: flow %+v", seed, f)
		}
		for _, b := range done {
			for _, p := range b.ring.places {
				if id := p.member.ID; r.liar == 0 && id != b.id.root && !slices.Contains(b.gone, p.pos) && !r.has[id][b.id] {
					t.Errorf("seed %d: %s lacks %v, and is not given up", seed, p.member.Name, b.id)
				}
			}
		}
	}
}
