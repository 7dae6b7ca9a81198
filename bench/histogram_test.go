package main

import (
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		got := h.quantile(c.q)
		if got < c.want || got > c.want+c.want/fine {
			t.Errorf("quantile %v of 1..1000 ms is %v, want %v and at most 1/%d more", c.q, got, c.want, fine)
		}
	}
}

func TestBucketsHoldWhatTheySay(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 63, 64, 65, 127, 128, 1e6, 1e9 + 1, 1 << 40} {
		i := bucket(d)
		if top(i) < d || i > 0 && top(i-1) >= d {
			t.Errorf("%d ns lies in bucket %d, which ends at %d after %d", d, i, top(i), top(i-1))
		}
	}
}
