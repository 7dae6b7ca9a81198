package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// clock is how far a clock is ahead of ours.
type clock struct {
	name  string
	ahead time.Duration
	fuzzy time.Duration // by which that may be wrong: half of what the question took
}

// clocks finds those that differ from most of the others; ours is one of them.
func (e *examination) clocks() {
	all := []clock{{name: "this machine"}}
	for _, v := range e.views {
		took := v.Answered.Sub(v.Asked)
		all = append(all, clock{v.Status.Self, v.Status.Time.Sub(v.Asked.Add(took / 2)), took / 2})
	}
	slices.SortStableFunc(all, func(a, b clock) int { return cmp.Compare(a.ahead, b.ahead) })
	middle := all[len(all)/2]
	if len(all)%2 == 0 && all[len(all)/2-1].name == "this machine" {
		middle = all[len(all)/2-1] // where two halves differ, ours is right
	}
	found := false
	for _, c := range all {
		off := c.ahead - middle.ahead
		if off.Abs() <= clockMost+c.fuzzy+middle.fuzzy {
			continue
		}
		found = true
		word := "ahead of"
		if off < 0 {
			word = "behind"
		}
		members := []string{c.name}
		if c.name == "this machine" {
			members = []string{}
		}
		e.find(Finding{Fault: WrongClock, Members: members,
			What:    fmt.Sprintf("the clock of %s is %v %s that of %s", c.name, off.Abs().Round(100*time.Millisecond), word, middle.name),
			Because: []string{fmt.Sprintf("%d clocks were asked, this machine's among them; that of %s is in the middle", len(all), middle.name)},
			Do:      "set the clock (NTP): of two writes to a Map the later one wins by these clocks, and what is set with a TTL ends by them"})
	}
	if !found {
		e.skewed()
	}
}

// skewed finds a clock of a member that was not asked, by what Maps have seen of it.
func (e *examination) skewed() {
	for _, v := range e.views {
		for _, m := range v.Status.Maps {
			if skew := time.Duration(m.Skew); skew > clockMost {
				e.find(Finding{Fault: WrongClock, Members: []string{v.Status.Self}, What: fmt.Sprintf("a clock was %v ahead of that of %s", skew, v.Status.Self),
					Because: []string{fmt.Sprintf("a value of the map %q, by another member, had a time that was so far ahead", m.Key)},
					Do:      "ask the pages of all members, to know which it is; the log of " + v.Status.Self + " names it too"})
				return
			}
		}
	}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
