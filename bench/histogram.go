package main

import (
	"math/bits"
	"time"
)

// histogram counts delays by logarithm, with an error of at most 1/32.
type histogram struct {
	counts [64 * fine]uint64
	total  uint64
	most   time.Duration
}

const (
	fineBits = 5
	fine     = 1 << fineBits // buckets per power of two
)

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.most = max(h.most, d)
}

func (h *histogram) merge(g *histogram) {
	for i, n := range g.counts {
		h.counts[i] += n
	}
	h.total += g.total
	h.most = max(h.most, g.most)
}

// quantile returns the delay that a share q of all stays at or below, rounded up to its bucket's end.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q*float64(h.total) + 0.5)
	for i, n := range h.counts {
		if n >= rank {
			return min(top(i), h.most)
		}
		rank -= n
	}
	return h.most
}

// bucket returns the index of a delay: its power of two, and the five bits after the leading one.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 2*fine {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - fineBits
	return shift*fine + int(n>>shift)
}

// top returns the largest delay of a bucket.
func top(i int) time.Duration {
	if i < 2*fine {
		return time.Duration(i)
	}
	shift := i/fine - 1
	return time.Duration((uint64(i%fine+fine)+1)<<shift - 1)
}
