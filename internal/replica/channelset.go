package replica

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// channelSet is the channels that are open here.
type channelSet struct {
	byKey map[string]*Channel
	fifo  []*Channel // those of them that are FIFO, by key
}

func (s *channelSet) add(ch *Channel) {
	ch.inbox.limit = ch.Inbox
	s.byKey[ch.Key] = ch
	if ch.FIFO {
		at, _ := slices.BinarySearchFunc(s.fifo, ch.Key, byKey)
		s.fifo = slices.Insert(s.fifo, at, ch)
	}
}

func (s *channelSet) remove(ch *Channel) {
	delete(s.byKey, ch.Key)
	s.fifo = slices.DeleteFunc(s.fifo, func(o *Channel) bool { return o == ch })
}

func byKey(ch *Channel, key string) int { return cmp.Compare(ch.Key, key) }

// sorted returns the channels by key.
func (s *channelSet) sorted() []*Channel {
	return slices.SortedFunc(maps.Values(s.byKey), func(a, b *Channel) int { return cmp.Compare(a.Key, b.Key) })
}

// forget drops what the channels keep of an origin.
func (s *channelSet) forget(origin uint64) {
	for _, ch := range s.fifo {
		ch.fifo.forget(origin)
	}
}

// sortedMap yields a map's entries by key. A replica visits maps in it wherever the order can be seen outside: what it sends,
// draws or hands on. So the same calls have the same effects, and a run of replicas can be repeated by its seed.
func sortedMap[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if v, ok := m[k]; ok && !yield(k, v) {
				return
			}
		}
	}
}
