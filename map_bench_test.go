package starling_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/starling-go/starling"
)

// benchMap is a lone member's Map of so many entries of 100 bytes.
func benchMap(b *testing.B, entries int) (m *starling.Map[[]byte], keys []string) {
	c := start(b, config(b, "a"))
	m, err := starling.NewMap(c, "bench", starling.Bytes(), nil)
	must(b, err)
	for i := range entries {
		keys = append(keys, fmt.Sprintf("key/%06d", i))
		must(b, m.Set(b.Context(), keys[i], make([]byte, 100)))
	}
	return m, keys
}

// BenchmarkMapGet reads with 16 goroutines, while one writes.
func BenchmarkMapGet(b *testing.B) {
	for _, entries := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			m, keys := benchMap(b, entries)
			stop := make(chan struct{})
			var writer, readers sync.WaitGroup
			writer.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Microsecond):
						_ = m.Set(b.Context(), keys[i%len(keys)], make([]byte, 100))
					}
				}
			})
			b.ReportAllocs()
			b.ResetTimer()
			const goroutines = 16
			for g := range goroutines {
				readers.Go(func() {
					for i := range b.N / goroutines {
						if _, ok := m.Get(keys[(i+g*997)%len(keys)]); !ok {
							b.Error("lost")
							return
						}
					}
				})
			}
			readers.Wait()
			b.StopTimer()
			close(stop)
			writer.Wait()
		})
	}
}

func BenchmarkMapSet(b *testing.B) {
	for _, entries := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			m, keys := benchMap(b, entries)
			value := make([]byte, 100)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must(b, m.Set(b.Context(), keys[i%len(keys)], value))
			}
		})
	}
}
