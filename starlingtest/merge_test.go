package starlingtest_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

func TestCheckMerge(t *testing.T) {
	type set = map[string]bool
	union := func(a, b set) set {
		all := maps.Clone(a)
		if all == nil {
			all = set{}
		}
		maps.Copy(all, b)
		return all
	}
	if err := starlingtest.CheckMerge(union, starling.JSON[set](), set{}, set{"a": true}, set{"b": true}, set{"b": true, "c": true}); err != nil {
		t.Errorf("union: %v", err)
	}
	if err := starlingtest.CheckMerge(func(a, b int) int { return max(a, b) }, starling.JSON[int](), 0, 1, 5, -3); err != nil {
		t.Errorf("max: %v", err)
	}
	list := starling.JSON[[]string]()
	for law, merge := range map[string]func(a, b []string) []string{
		"commutative": func(a, b []string) []string { // the first one wins
			if len(a) > 0 {
				return a
			}
			return b
		},
		"idempotent": func(a, b []string) []string { // nothing is compacted
			all := slices.Concat(a, b)
			slices.Sort(all)
			return all
		},
		"associative": func(a, b []string) []string { // rock, paper, scissors
			beats := map[string]string{"rock": "scissors", "scissors": "paper", "paper": "rock"}
			if len(a) == 1 && len(b) == 1 && beats[b[0]] == a[0] {
				return b
			}
			return slices.MaxFunc([][]string{a, b}, func(a, b []string) int {
				if len(a) == 1 && len(b) == 1 && beats[a[0]] == b[0] {
					return 1
				}
				return len(a) - len(b)
			})
		},
	} {
		err := starlingtest.CheckMerge(merge, list, []string{"rock"}, []string{"paper"}, []string{"scissors"})
		if err == nil || !strings.Contains(err.Error(), law) {
			t.Errorf("what is not %s: %v", law, err)
		}
	}
}
