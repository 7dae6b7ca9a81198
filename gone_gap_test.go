package starling

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestGapOfGoneOrigin: an origin that is gone before it told what it owes owes what follows the first part that was broadcast
// after we met; what is missing of that is reported when nobody can have it any more, and nothing else is.
func TestGapOfGoneOrigin(t *testing.T) {
	for name, test := range map[string]struct {
		ages  map[uint64]time.Duration // of the parts that arrive, one second after we met
		want  []lostRange
		comes bool // the origin comes back, and owes nothing of that
	}{
		"in between":        {map[uint64]time.Duration{5: 0, 7: 0, 10: 0}, []lostRange{{101, 6, 6}, {101, 8, 9}}, false},
		"before we met":     {map[uint64]time.Duration{5: 3 * oweAfter, 7: 0, 10: 0}, []lostRange{{101, 8, 9}}, false},
		"all before we met": {map[uint64]time.Duration{5: 3 * oweAfter, 7: 3 * oweAfter}, nil, false},
		"nothing missing":   {map[uint64]time.Duration{5: 0, 6: 0}, nil, false},
		"it comes back":     {map[uint64]time.Duration{5: 0, 7: 0}, nil, true},
	} {
		r := testReplica(testLimits(), 3)
		ch := testChannel(r, "ch")
		now := dawn.Add(2 * oweAfter)
		for _, seq := range slices.Sorted(maps.Keys(test.ages)) {
			frame := appendIdentity(appendBody(nil, "ch", nil), partID{101, seq}, 0, test.ages[seq])
			p, err := parsePart(frame)
			if err != nil {
				t.Fatal(err)
			}
			r.receive(p, frame, Gossip, now)
		}
		for d, ok := r.take(ch); ok; d, ok = r.take(ch) {
			r.handled(d, now)
		}
		r.change(testPeer(1), Member{}, now)
		if test.comes {
			now = now.Add(time.Second)
			r.change(Member{}, testPeer(1), now)
			r.told(101, 11, 10, now)
		}
		var early []lostRange
		for end := now.Add(2 * DefaultRetentionAge); now.Before(end); now = now.Add(tickEvery) {
			r.tick(now)
			if now.Before(dawn.Add(DefaultRetentionAge)) {
				early = append(early, r.gaps...)
			}
		}
		if len(early) > 0 || !slices.Equal(r.gaps, test.want) {
			t.Errorf("%s: reported %v, early %v; want %v", name, r.gaps, early, test.want)
		}
	}
}

// TestGapOfReturnedOrigin: an origin that comes back after its baseline was assumed may say that it owed more: that is reported
// too, but for what was handled.
func TestGapOfReturnedOrigin(t *testing.T) {
	for next, want := range map[uint64][]lostRange{
		3: {{101, 3, 3}, {101, 5, 5}}, // 4 was handled while the origin lived
		5: {{101, 5, 5}}, 6: nil, 9: nil,
	} {
		r := testReplica(testLimits(), 3)
		ch := testChannel(r, "ch")
		now := dawn.Add(2 * oweAfter)
		for seq, age := range map[uint64]time.Duration{4: 3 * oweAfter, 6: 0, 8: 0} {
			frame := appendIdentity(appendBody(nil, "ch", nil), partID{101, seq}, 0, age)
			p, err := parsePart(frame)
			if err != nil {
				t.Fatal(err)
			}
			r.receive(p, frame, Gossip, now)
		}
		for d, ok := r.take(ch); ok; d, ok = r.take(ch) {
			r.handled(d, now)
		}
		r.change(testPeer(1), Member{}, now)
		now = now.Add(DefaultRetentionAge + time.Second)
		if r.tick(now); !slices.Equal(r.gaps, []lostRange{{101, 7, 7}}) {
			t.Fatalf("reported %v while it was gone", r.gaps)
		}
		r.gaps = nil
		r.change(Member{}, testPeer(1), now)
		r.told(101, next, 8, now)
		r.told(101, next, 8, now)
		if !slices.Equal(r.gaps, want) {
			t.Errorf("back, and owing from %d: reported %v, want %v", next, r.gaps, want)
		}
	}
}

// TestSparedUntilTold: a part of an origin that is gone, from before we met, is kept from its handler until the origin tells,
// back again, whether it is owed: an origin owes what it broadcast while it was alone.
func TestSparedUntilTold(t *testing.T) {
	for next, want := range map[uint64]int{4: 1, 5: 0} {
		r := testReplica(testLimits(), 3)
		ch := testChannel(r, "ch")
		r.change(testPeer(1), Member{}, dawn)
		frame := appendIdentity(appendBody(nil, "ch", nil), partID{101, 4}, 0, 2*time.Second)
		p, err := parsePart(frame)
		if err != nil {
			t.Fatal(err)
		}
		r.receive(p, frame, Gossip, dawn.Add(time.Second))
		if n := ch.inbox.len(); n != 0 {
			t.Fatalf("%d parts wait for the handler before it is known whether they are owed", n)
		}
		r.change(Member{}, testPeer(1), dawn.Add(time.Second))
		r.told(101, next, 4, dawn.Add(time.Second))
		if n := ch.inbox.len(); n != want {
			t.Errorf("%d parts wait for the handler when the baseline is %d", n, next)
		}
		for d, ok := r.take(ch); ok; d, ok = r.take(ch) {
			r.handled(d, dawn)
		}
		if w := r.windows[101]; w.floor != 4 || w.spared.count() != 0 || !w.isDone(4) {
			t.Errorf("baseline %d: floor %d, %d spared", next, w.floor, w.spared.count())
		}
	}
}
