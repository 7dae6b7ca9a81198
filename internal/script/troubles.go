package script

import (
	"slices"
	"time"
)

// troubles is what the network and the members are made to suffer.
type troubles struct {
	side    [MaxMembers]int           // of the cut
	blocked map[[2]int]bool           // from one member to another
	frozen  [MaxMembers]time.Duration // until when
	stalls  map[[2]int]time.Duration  // how long a handler was kept busy in all, by member and channel
	rough   bool                      // packets were lost at random, or on purpose
}

// cut cuts each group off from the others, and from who is in none.
func (t *troubles) cut(groups [][]int) {
	t.side = [MaxMembers]int{}
	for g, group := range groups {
		for _, i := range group {
			t.side[i] = g + 1
		}
	}
}

// block lets nothing pass from one member to another.
func (t *troubles) block(from, to int) {
	t.rough = true
	t.blocked[[2]int{from, to}] = true
}

// freeze lets a process stand still until then.
func (t *troubles) freeze(member int, until time.Duration) {
	t.rough = true
	t.frozen[member] = max(t.frozen[member], until)
}

// thaw ends that: a new process does not stand still.
func (t *troubles) thaw(member int) { t.frozen[member] = 0 }

// roughen says that packets may be lost or repeated from now on.
func (t *troubles) roughen() { t.rough = true }

// pass reports whether two members reach each other at this moment, directly.
func (t *troubles) pass(a, b int, now time.Duration) bool {
	return t.side[a] == t.side[b] && now >= max(t.frozen[a], t.frozen[b]) && t.open(a, b)
}

// open reports whether nothing between two members is blocked.
func (t *troubles) open(a, b int) bool {
	return a == b || !t.blocked[[2]int{a, b}] && !t.blocked[[2]int{b, a}]
}

// linked reports whether any two of a group reach each other, or a third that both reach.
func (t *troubles) linked(group []*process) bool {
	for _, p := range group {
		for _, q := range group {
			through := func(r *process) bool { return t.open(p.member, r.member) && t.open(r.member, q.member) }
			if !slices.ContainsFunc(group, through) {
				return false
			}
		}
	}
	return true
}
