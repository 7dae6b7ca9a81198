package kv

import (
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/wire"
)

// A donor that says in every answer what it has covered is asked once what is later, and in the end nothing more.
func TestPullEnds(t *testing.T) {
	s := New[string](1, Limits{Entries: 100, Bytes: 1 << 20, Tombstones: time.Hour}, time.Now())
	s.Seen(2, 0, 1)
	p, v := &Pull[string]{ID: 1}, s.View(true, time.Now())
	p.First(v, false)
	a := &wire.MapAnswer{ID: 1, Last: true, Cover: []wire.MapRun{{ID: 2, Stamp: 2}}, Nodes: []wire.MapNode{{Value: 100}}}
	later, n := 0, 0
	for q := p.Next(v, a, false, Standing{}); q != nil && n < 100; q = p.Next(v, a, false, Standing{}) {
		n++
		if q.Since != nil {
			later++
		}
	}
	if later != 1 || n == 100 {
		t.Errorf("%d questions, %d of them for what is later", n, later)
	}
}

// Who has the whole map by what was written since is not given it once more, though it had nothing when it began to ask; and who lacks one
// write of a run is not given all that the run has written since.
func TestPullGivesOnce(t *testing.T) {
	const n = 20_000
	now := time.UnixMilli(1_700_000_000_000)
	for name, misses := range map[string]func(i int) bool{
		"all but what is broadcast meanwhile": func(i int) bool { return i > 0 },
		"one":                                 func(i int) bool { return i == 100 },
	} {
		l := Limits{Entries: 2 * n, Bytes: 1 << 30, Tombstones: time.Hour}
		donor, asker := New[string](1, l, now), New[string](2, l, now)
		var later []func()
		lacks := 0
		for i := range n {
			w := Write[string]{Key: fmt.Sprint("key", i), Value: "x"}
			prev := donor.Next(&w, nil, now)
			donor.Put(&w, nil, nil, now)
			donor.Seen(1, prev, w.Stamp)
			if misses(i) {
				lacks++
				continue
			}
			later = append(later, func() {
				asker.Put(&w, nil, nil, now)
				asker.Seen(1, prev, w.Stamp)
			})
		}
		p := &Pull[string]{ID: 1}
		q := p.First(asker.View(true, now), false)
		for _, receive := range later {
			receive()
		}
		given := 0
		for q != nil {
			a, give := Answer(donor.View(true, now), q, false, Standing{Weight: 1})
			given += len(give)
			for _, e := range give {
				w := donor.View(false, now).Write(e)
				asker.Put(&w, nil, &p.Filter, now)
			}
			q = p.Next(asker.View(true, now), &a, false, Standing{Weight: 1})
		}
		if asker.View(true, now).root != donor.View(true, now).root || given > lacks+10 {
			t.Errorf("%s: given %d entries, lacked %d; it has %d of %d", name, given, lacks, asker.Counts().Entries, n)
		}
	}
}
