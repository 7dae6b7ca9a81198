package replica

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/receipt"
	"github.com/starling-go/starling/internal/seqset"
	"github.com/starling-go/starling/internal/wire"
	"github.com/starling-go/starling/starlingpb"
)

// TestGapOfGoneOrigin: an origin that is gone before it told what it owes owes what follows the first part that was broadcast
// after we met; what is missing of that is reported when nobody can have it any more, and nothing else is.
func TestGapOfGoneOrigin(t *testing.T) {
	for name, test := range map[string]struct {
		ages  map[uint64]time.Duration // of the parts that arrive, clearly after we met
		want  []Gap
		comes bool // the origin comes back, and owes nothing of that
	}{
		"in between":        {map[uint64]time.Duration{5: 0, 7: 0, 10: 0}, []Gap{{101, 6, 6}, {101, 8, 9}}, false},
		"before we met":     {map[uint64]time.Duration{5: 3 * tentativeAfter, 7: 0, 10: 0}, []Gap{{101, 8, 9}}, false},
		"all before we met": {map[uint64]time.Duration{5: 3 * tentativeAfter, 7: 3 * tentativeAfter}, nil, false},
		"nothing missing":   {map[uint64]time.Duration{5: 0, 6: 0}, nil, false},
		"it comes back":     {map[uint64]time.Duration{5: 0, 7: 0}, nil, true},
	} {
		lim := testLimits()
		r := testReplica(lim, 3)
		ch := testChannel(r, "ch")
		now := start.Add(2 * tentativeAfter)
		for _, seq := range slices.Sorted(maps.Keys(test.ages)) {
			receiveAged(t, r, seq, test.ages[seq], now)
		}
		handleAll(r, ch, now)
		r.Change(testPeer(1), wire.Peer{}, now)
		if test.comes {
			now = now.Add(time.Second)
			r.Change(wire.Peer{}, testPeer(1), now)
			told(t, r, 11, 10, now)
		}
		var early []Gap
		for end := now.Add(2 * lim.Age); now.Before(end); now = now.Add(tickEvery) {
			r.Tick(now)
			if now.Before(start.Add(lim.Age)) {
				early = append(early, r.out.Gaps...)
			}
		}
		if len(early) > 0 || !slices.Equal(r.out.Gaps, test.want) {
			t.Errorf("%s: reported %v, early %v; want %v", name, r.out.Gaps, early, test.want)
		}
	}
}

// TestDenied: what its origin and enough others say they lack is a gap at once; what fewer do, or others alone, is not.
func TestDenied(t *testing.T) {
	type denial struct {
		by     uint64
		lo, hi uint64
	}
	all := func(lo, hi uint64, by ...uint64) (ds []denial) {
		for _, id := range by {
			ds = append(ds, denial{id, lo, hi})
		}
		return ds
	}
	for name, test := range map[string]struct {
		members  int
		denials  []denial
		unbased  bool
		goes     bool
		want     []Gap
		stillLow uint64 // the lowest that is missing still
	}{
		"by the origin and three":       {9, all(2, 5, 101, 102, 103, 104), false, false, []Gap{{101, 2, 5}}, 0},
		"by three before the origin":    {9, all(2, 5, 102, 103, 104, 101), false, false, nil, 2}, // it may have been on its way to them
		"by the origin and two":         {9, all(2, 5, 102, 103, 101), false, false, nil, 2},
		"by others alone":               {9, all(2, 5, 102, 103, 104, 105, 106, 107, 108, 109), false, false, nil, 2},
		"by all that there are":         {2, all(2, 5, 101, 102), false, false, []Gap{{101, 2, 5}}, 0},
		"where they agree":              {9, []denial{{101, 2, 4}, {102, 2, 5}, {103, 3, 9}, {104, 1, 4}}, false, false, []Gap{{101, 3, 4}}, 2},
		"in pieces":                     {2, []denial{{101, 2, 2}, {101, 4, 5}, {102, 1, 9}}, false, false, []Gap{{101, 2, 2}, {101, 4, 5}}, 3},
		"what is not missing":           {2, all(6, 9, 101, 102), false, false, nil, 2},
		"before it tells what it owes":  {2, all(2, 5, 101, 102), true, false, nil, 2},
		"when the origin is gone":       {3, all(2, 5, 101, 102, 103), false, true, nil, 2},
		"by the origin after very many": {12, all(2, 5, 102, 103, 104, 105, 106, 107, 108, 109, 110, 101, 102, 103, 104), false, false, []Gap{{101, 2, 5}}, 0},
	} {
		r := testReplica(testLimits(), test.members)
		ch := testChannel(r, "ch")
		receiveAged(t, r, 1, 0, start)
		receiveAged(t, r, 6, 0, start)
		handleAll(r, ch, start)
		if !test.unbased {
			told(t, r, 1, 6, start)
		}
		if test.goes {
			r.Change(testPeer(1), wire.Peer{}, start)
		}
		origin := r.roster.get(101)
		for _, d := range test.denials {
			r.gaps.deny(origin, d.by, []seqset.Span{{Lo: d.lo, Hi: d.hi}}, start.Add(fewDenials))
		}
		low := uint64(0)
		if missing := origin.log.Missing(1); len(missing) > 0 {
			low = missing[0].Lo
		}
		if !slices.Equal(r.out.Gaps, test.want) || low != test.stillLow {
			t.Errorf("%s: reported %v, missing from %d on", name, r.out.Gaps, low)
		}
	}
}

// TestDeniedIsBounded: of what others deny a bounded number of ranges is remembered, and deny says when that was not all.
func TestDeniedIsBounded(t *testing.T) {
	r := testReplica(testLimits(), 12)
	told(t, r, 1, 6, start)
	origin := r.roster.get(101)
	var spans []seqset.Span
	for seq := uint64(1); len(spans) < receipt.MaxRanges; seq += 2 {
		spans = append(spans, seqset.Span{Lo: seq, Hi: seq})
	}
	for by := uint64(101); by <= 112; by++ { // the origin, and eight more
		if all := r.gaps.deny(origin, by, spans, start); all != (by <= 109) {
			t.Errorf("denied by %d: all are remembered (%v)", by, all)
		}
	}
	// Whose word finds no room is not asked again at once.
	from := r.roster.get(112)
	r.pulls.pull(from, map[uint64][]seqset.Span{101: spans[:1]}, false, start)
	lacks := []*starlingpb.Ranges{{Origin: 101, Spans: wire.AppendSpans(nil, 0, spans[:1])}}
	if r.pulls.ended(from, wire.PullEnd{Pull: from.pull.id, Lacks: lacks}, start.Add(pullAfter)); len(r.pulls.open) != 0 {
		t.Errorf("%d members are asked at once", len(r.pulls.open))
	}
}

// TestDeniedBesideLost: what everybody in view denies is no gap yet while a member that was lost may come back with it.
func TestDeniedBesideLost(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(r *Replica, now time.Time) // of the second member
		want int                             // gaps
	}{
		"it failed": {func(r *Replica, now time.Time) { r.Change(testPeer(2), wire.Peer{}, now) }, 0},
		"it has left": {func(r *Replica, now time.Time) {
			receiveControl(t, r, testPeer(2), wire.BodyGoodbye, &starlingpb.Goodbye{}, now)
			r.Change(testPeer(2), wire.Peer{}, now)
		}, 1},
	} {
		r := testReplica(testLimits(), 2)
		testChannel(r, "ch")
		told(t, r, 1, 3, start)
		receiveAged(t, r, 3, 0, start)
		now := start.Add(2 * fewDenials)
		test.end(r, now)
		r.gaps.deny(r.roster.get(101), 101, []seqset.Span{{Lo: 1, Hi: 2}}, now)
		if len(r.out.Gaps) != test.want {
			t.Errorf("%s: gaps %v, want %d", name, r.out.Gaps, test.want)
		}
	}
}
