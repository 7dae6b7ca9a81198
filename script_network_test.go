package starling_test

import (
	"maps"
	"slices"
	"time"

	"github.com/starling-go/starling/internal/script"
	"github.com/starling-go/starling/starlingtest"
)

func (l *laboratory) Narrow(width int) {
	l.width = width
	l.relink()
}

func (l *laboratory) Loss(rate float64) {
	l.loss = rate
	l.relink()
}

func (l *laboratory) Mute(a, b int) {
	for i := range l.mute {
		if i == b || b == script.Everybody {
			l.mute[a][i], l.mute[i][a] = true, true
		}
	}
	l.relink()
}

func (l *laboratory) Clear() {
	l.mute = [script.MaxMembers][script.MaxMembers]bool{}
	clear(l.blocked)
	l.relink()
	l.repartition()
}

func (l *laboratory) Block(from, to int) {
	l.blocked[[2]int{from, to}] = true
	l.repartition()
}

func (l *laboratory) Cut(groups [][]int) {
	l.cut = groups
	l.repartition()
}

// relink sets every link as it should be.
func (l *laboratory) relink() {
	for a := range l.known {
		for b := range l.known {
			if a != b && l.known[a] && l.known[b] {
				l.must(l.net.SetLink(labName(a), labName(b), starlingtest.Link{
					Latency: time.Millisecond, Jitter: 500 * time.Microsecond, Duplicate: 0.03, Reorder: 0.03,
					Loss: l.loss, BlockPackets: l.mute[a][b], Bandwidth: l.width,
				}))
			}
		}
	}
}

// repartition cuts off who is cut off or stands still, and blocks what is blocked.
func (l *laboratory) repartition() {
	l.net.Heal()
	sides := map[int][]string{}
	for i, known := range l.known {
		side := 0
		for g, group := range l.cut {
			if slices.Contains(group, i) {
				side = g + 1
			}
		}
		if m := l.running[i]; m != nil && m.paused > 0 {
			side = -1 - i
		}
		if known {
			sides[side] = append(sides[side], labName(i))
		}
	}
	if len(sides) > 1 {
		l.must(l.net.Partition(slices.Collect(maps.Values(sides))...))
	}
	for pair := range l.blocked {
		if l.known[pair[0]] && l.known[pair[1]] {
			l.must(l.net.Block(labName(pair[0]), labName(pair[1])))
		}
	}
}
