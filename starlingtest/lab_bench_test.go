package starlingtest_test

import (
	"testing"
	"time"

	"github.com/starling-go/starling/starlingtest"
)

// laboratory times f in a bubble with a lab of n. A bubble needs a *testing.T, which RunTests has.
func laboratory(b *testing.B, n int, o starlingtest.Options, f func(t *testing.T, l *starlingtest.Lab)) {
	test := testing.InternalTest{Name: b.Name(), F: func(t *testing.T) { starlingtest.Run(t, n, o, f) }}
	all := func(string, string) (bool, error) { return true, nil }
	for b.Loop() {
		if !testing.RunTests(all, []testing.InternalTest{test}) {
			b.Fatal("failed in the bubble")
		}
	}
}

// Run these with -benchtime=1x.

func BenchmarkLab200MembersFor60Seconds(b *testing.B) {
	laboratory(b, 200, starlingtest.Options{}, func(t *testing.T, l *starlingtest.Lab) {
		time.Sleep(60 * time.Second)
		ok(t, l.AllSeeAll())
	})
}

func BenchmarkLab1000MembersSpread5Messages(b *testing.B) {
	var rec starlingtest.Recorder
	o, channels := recording(&rec)
	laboratory(b, 1000, o, func(t *testing.T, l *starlingtest.Lab) {
		began := time.Now()
		for _, name := range []string{"m0", "m1", "m500", "m998", "m999"} {
			ok(t, channels[name].Broadcast(t.Context(), rec.Payload("x", name, 200)))
			l.Within(time.Minute, func() error { return rec.ExactlyOnce("x") })
		}
		b.ReportMetric(time.Since(began).Seconds(), "virtual-s")
	})
}
