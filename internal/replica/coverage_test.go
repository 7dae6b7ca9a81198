package replica

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
)

// stateful returns a replica that knows p1, with two channels, one with state.
func stateful(t *testing.T) (r *Replica, state *Channel) {
	t.Helper()
	r = testReplica(testLimits(), 1)
	testChannel(r, "plain")
	state = openChannel(r, Channel{Key: "state", State: true})
	r.sync.firstDone(state, start)
	return r, state
}

func (c coverage) spans() map[uint64][]seqset.Span {
	m := map[uint64][]seqset.Span{}
	for id, set := range c {
		m[id] = slices.Clone(set.All())
	}
	return m
}

func equalCoverage(a, b coverage) bool {
	return maps.EqualFunc(a.spans(), b.spans(), func(x, y []seqset.Span) bool { return slices.Equal(x, y) })
}

// TestCoverage: what is covered is what was received, of other channels too, and what states contained; not what was lost, what was
// before this member's time, or before the channel's.
func TestCoverage(t *testing.T) {
	r, ch := stateful(t)
	p := r.roster.get(101)
	now := start
	part := func(key string, seq uint64) {
		receivePart(t, r, partOf(key, nil, wire.PartID{Origin: 101, Seq: seq}, 0, 0), wire.RouteGossip, now)
	}
	r.intake.rebase(p, 3, 2, now) // 1 and 2 are not owed
	for _, seq := range []uint64{3, 4, 6} {
		part("state", seq)
	}
	part("plain", 7)
	part("nobody's", 8)
	if c := r.coverages.of(ch); !equalCoverage(c, coverage{101: spansOf(3, 4, 6, 8)}) {
		t.Errorf("covered: %v", c.spans())
	}
	if c := r.coverages.handled(ch); !equalCoverage(c, coverage{101: spansOf(7, 8)}) {
		t.Errorf("handled: %v", c.spans())
	}
	before := r.coverages.sumsOf(ch)
	handleAll(r, ch, now)
	if c := r.coverages.handled(ch); !equalCoverage(c, coverage{101: spansOf(3, 4, 6, 8)}) || r.coverages.sumsOf(ch) != before {
		t.Errorf("handled: %v", c.spans())
	}
	part("plain", 9)
	if s := r.coverages.sumsOf(ch); s.shape != before.shape || s.all == before.all {
		t.Errorf("one more in order: %v, then %v", before, s)
	}
	r.intake.giveUp(p, 5, 5, now)
	say(r, ch, "", nil)
	r.Sender.Pump(now)
	if c := r.coverages.of(ch); !equalCoverage(c, coverage{101: spansOf(3, 4, 6, 9), 1: spansOf(1, 1)}) {
		t.Errorf("covered after a gap: %v", c.spans())
	}
	late := openChannel(r, Channel{Key: "late", State: true})
	part("late", 10)
	if c := r.coverages.of(late); !equalCoverage(c, coverage{101: spansOf(10, 10)}) {
		t.Errorf("covered of a late channel: %v", c.spans())
	}
	// Of a member a state contains no more than it has sent.
	if untold := r.coverages.merge(ch, coverage{101: spansOf(1, 1<<40), 7: spansOf(2, 3)}); len(untold) != 1 || untold[0] != p {
		t.Errorf("%d are to be asked", len(untold))
	}
	want := coverage{101: spansOf(1, 10), 1: spansOf(1, 1), 7: spansOf(2, 3)}
	if c := r.coverages.of(ch); !equalCoverage(c, want) {
		t.Errorf("covered after a state: %v", c.spans())
	}
	// A peer that is forgotten is not forgotten here.
	sums := r.coverages.sumsOf(ch)
	r.Change(p.Peer, wire.Peer{}, now)
	r.roster.forget(p)
	if c := r.coverages.of(ch); r.roster.get(101) != nil || !equalCoverage(c, want) || r.coverages.sumsOf(ch) != sums {
		t.Errorf("covered of one that is forgotten: %v", c.spans())
	}
}

// TestCoverageOfHalfAState: what the first state contains is not in ours before its last item was handled; what we have broadcast is.
func TestCoverageOfHalfAState(t *testing.T) {
	r, ch := stateful(t)
	r.intake.rebase(r.roster.get(101), 1, 0, start)
	receivePart(t, r, partOf("plain", nil, wire.PartID{Origin: 101, Seq: 1}, 0, 0), wire.RouteGossip, start)
	say(r, ch, "", []byte("own"))
	r.Sender.Pump(start)
	contains := coverage{1: spanOf(1, 1), 101: spanOf(1, 1)}
	ch.sync.unmerged = []contained{{contains: contains}}
	if c := r.coverages.handled(ch); !equalCoverage(c, contains) {
		t.Errorf("beside a state that covers nothing, handled: %v", c.spans())
	}
	ch.sync.unmerged[0].covers = true
	if c := r.coverages.handled(ch); !equalCoverage(c, coverage{1: spanOf(1, 1)}) {
		t.Errorf("handled: %v", c.spans())
	}
}

// TestCoverageRefused: what the codec refuses is not told of to others, and not asked for.
func TestCoverageRefused(t *testing.T) {
	r, ch := stateful(t)
	r.intake.rebase(r.roster.get(101), 1, 2, start)
	for seq := range uint64(2) {
		receivePart(t, r, partOf("state", nil, wire.PartID{Origin: 101, Seq: seq + 1}, 0, 0), wire.RouteGossip, start)
		d, _ := r.Take(ch, start)
		r.Handled(ch, d, seq == 0, start)
	}
	r.coverages.resign(ch, coverage{9: spansOf(1, 5)})
	if c, have := r.coverages.of(ch), r.coverages.have(ch); !equalCoverage(c, coverage{101: spansOf(2, 2)}) ||
		!equalCoverage(have, coverage{101: spansOf(1, 2), 9: spansOf(1, 5)}) {
		t.Errorf("covered %v, need not be given %v", c.spans(), have.spans())
	}
}

// TestExceeds: what is young and kept here may be on its way to who lacks it, anything else is not.
func TestExceeds(t *testing.T) {
	r, ch := stateful(t)
	r.intake.rebase(r.roster.get(101), 1, 3, start)
	for seq := range uint64(3) {
		receivePart(t, r, partOf("state", nil, wire.PartID{Origin: 101, Seq: seq + 1}, 0, 0), wire.RouteGossip, start)
	}
	ours := r.coverages.of(ch)
	for _, test := range []struct {
		theirs coverage
		after  time.Duration
		want   bool
	}{
		{coverage{101: spansOf(1, 3)}, time.Hour, false},
		{coverage{101: spansOf(1, 9), 5: spansOf(1, 1)}, time.Hour, false},
		{coverage{101: spansOf(1, 2)}, time.Second, false},
		{coverage{101: spansOf(1, 2)}, transit, true},
		{coverage{}, time.Second, false},
	} {
		if got := r.coverages.exceeds(ours, test.theirs, start.Add(test.after)); got != test.want {
			t.Errorf("%v after %v: %v", test.theirs.spans(), test.after, got)
		}
	}
	if !r.coverages.exceeds(coverage{101: spansOf(1, 4)}, coverage{101: spansOf(1, 3)}, start) {
		t.Error("what is not kept is on its way")
	}
}

// TestCoverageMerges: two members that have merged each other's coverage have the same one, however many ranges it would take; and it
// comes out of a message as it went in.
func TestCoverageMerges(t *testing.T) {
	rng := seedtest.Rand(t)
	random := func() coverage {
		c := coverage{}
		for origin := range uint64(3) {
			var set seqset.Set
			for range rng.IntN(3 * maxCoverSpans) {
				lo := 1 + rng.Uint64N(5000)
				set.AddRange(lo, lo+rng.Uint64N(3))
			}
			if set = bounded(set); set.Count() > 0 {
				c[origin+7] = set
			}
		}
		return c
	}
	for range 200 {
		a, b := random(), random()
		ab, ba := coverage{}, coverage{}
		ab.add(a)
		ab.add(b)
		ba.add(b)
		ba.add(a)
		if !equalCoverage(ab, ba) {
			t.Fatalf("%v merged is %v and %v", []coverage{a, b}, ab.spans(), ba.spans())
		}
		again := coverage{}
		if !again.decode(ab.encode(0)) || !equalCoverage(ab, again) {
			t.Fatalf("%v comes out as %v", ab.spans(), again.spans())
		}
		for _, m := range ab.encode(0) {
			if rangesSize(m) > wire.MaxRangesSize {
				t.Fatalf("%d bytes", rangesSize(m))
			}
		}
	}
}

// TestPastBound: of origins that are gone no more are remembered than may be, and on all members the same.
func TestPastBound(t *testing.T) {
	r, ch := stateful(t)
	rng := rand.New(rand.NewPCG(1, 2))
	c := coverage{101: spansOf(1, 1)}
	r.roster.get(101).top = 1
	for range maxPast + 100 {
		c[rng.Uint64()|1<<20] = spansOf(1, 1)
	}
	ids := slices.Sorted(maps.Keys(c))
	r.coverages.merge(ch, c)
	if n := len(ch.sync.merged); n != maxPast {
		t.Fatalf("%d origins are remembered", n)
	}
	for _, id := range ids[:maxPast] {
		if _, ok := ch.sync.merged[id]; !ok {
			t.Fatalf("%x is forgotten", id)
		}
	}
}
