package starling

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// sorted yields a map's entries by key. The replica visits maps in it wherever the order can be seen outside: what it sends,
// draws or hands on. So the same calls have the same effects, and a run of replicas can be repeated by its seed.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if len(m) == 0 {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if v, ok := m[k]; ok && !yield(k, v) {
				return
			}
		}
	}
}
