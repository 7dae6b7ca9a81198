package starling_test

import (
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// split cuts ten members into 4 and 6 for a time, lets every member broadcast a message each second of the busy first part
// of it, and returns the ids by origin once the membership is whole again.
func (l *lab) split(d, busy time.Duration) (ids [][]uint64) {
	l.t.Helper()
	nodes := l.nodes
	must(l.t, l.Net.Partition(nodeNames(nodes[:4]), nodeNames(nodes[4:])))
	ids = make([][]uint64, len(nodes))
	for range int(busy / time.Second) {
		for i, n := range nodes {
			ids[i] = append(ids[i], l.send(n, mixed(len(l.sent))))
		}
		time.Sleep(time.Second)
	}
	time.Sleep(d - busy)
	l.Net.Heal()
	l.t.Logf("healed after %v: whole %v later", d, l.whole(nodes...))
	return ids
}

func TestPartitionWithinRetention(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(10)
		ids := l.split(30*time.Second, 30*time.Second)
		start := time.Now()
		for i, n := range nodes {
			l.delivered(5*time.Second, ids[i], n, nodes...)
		}
		t.Logf("all delivered %v after that", time.Since(start))
		time.Sleep(2 * time.Minute)
		l.once(nodes...)
	})
}

// Beyond the retention each member must say exactly what it misses: not less when nobody ever broadcasts again, or when
// the partition outlives the record of the origin, or when the first message of an origin fell into it.
func TestPartitionBeyondRetention(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		d      time.Duration
		busy   time.Duration
		before bool // everybody has broadcast before
		after  bool // and does so afterwards
	}{
		{"100s", 100 * time.Second, 100 * time.Second, true, true},
		{"100s/silent after", 100 * time.Second, 100 * time.Second, true, false},
		{"100s/silent since", 100 * time.Second, 20 * time.Second, true, false},
		{"100s/silent until", 100 * time.Second, 20 * time.Second, true, true},
		{"200s", 200 * time.Second, 140 * time.Second, true, true},
		{"200s/new origins", 200 * time.Second, 140 * time.Second, false, true},
		{"200s/silent since", 200 * time.Second, 20 * time.Second, true, false},
		{"200s/silent until", 200 * time.Second, 20 * time.Second, true, true},
		{"200s/new and silent", 200 * time.Second, 20 * time.Second, false, false},
		{"400s/new and silent until", 400 * time.Second, 20 * time.Second, false, true},
	}[fewer(0, 8):] {
		t.Run(test.name, func(t *testing.T) { beyondRetention(t, test.d, test.busy, test.before, test.after) })
	}
}

func beyondRetention(t *testing.T, d, busy time.Duration, before, after bool) {
	inLab(t, func(t *testing.T, l *lab) {
		nodes := l.members(7)
		if before {
			for _, n := range nodes {
				l.delivered(5*time.Second, []uint64{l.send(n, 200)}, n, nodes...)
			}
		}
		ids := l.split(d, busy)
		if !after {
			time.Sleep(2 * starling.DefaultRetentionAge)
		}
		if after {
			for i, n := range nodes {
				ids[i] = append(ids[i], l.send(n, 200))
			}
		}
		time.Sleep(3 * starling.DefaultRetentionAge)
		total := 0
		for i, from := range nodes {
			for _, n := range nodes {
				missing, told := n.lacks(ids[i]), n.told(from.Self().ID)
				if n == from {
					missing = 0
				}
				if total += missing; missing != told {
					t.Errorf("%s misses %d messages of %s and reported %d", n.name, missing, from.name, told)
				}
			}
		}
		t.Logf("%d messages missing", total)
	})
}
