package lookup

import (
	"fmt"
	"sync"
	"testing"

	"github.com/starling-go/starling/internal/seedtest"
)

type value struct {
	key string
	n   int
}

func newTable() *Table[value] { return New(func(v *value) string { return v.key }) }

// A table is as a Go map, after any sequence of changes, and holds no more slots than it needs.
func TestTableAgainstMap(t *testing.T) {
	rng := seedtest.Rand(t)
	table, model := newTable(), map[string]*value{}
	for step := range 60_000 {
		keys := 10
		if step/10_000%2 == 1 {
			keys = 5000
		}
		key := fmt.Sprint("key", rng.IntN(keys))
		switch rng.IntN(3) {
		case 0:
			table.Remove(key)
			delete(model, key)
		case 1:
			v := &value{key, step}
			table.Put(v)
			model[key] = v
		case 2:
			if got := table.Get(key); got != model[key] {
				t.Fatalf("step %d: %s is %v, want %v", step, key, got, model[key])
			}
		}
		if table.Len() != len(model) {
			t.Fatalf("step %d: %d values, want %d", step, table.Len(), len(model))
		}
	}
	for key, v := range model {
		if table.Get(key) != v {
			t.Errorf("%s is %v, want %v", key, table.Get(key), v)
		}
		table.Remove(key)
	}
	if n := len(*table.slots.Load()); n > 2*minSlots {
		t.Errorf("an empty table has %d slots", n)
	}
}

// Who reads while another goroutine writes never sees a value vanish that stays, nor one of another key.
func TestTableWithReaders(t *testing.T) {
	table := newTable()
	const stays = 100
	for i := range stays {
		table.Put(&value{fmt.Sprint("stays", i), i})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprint("stays", i%stays)
				if v := table.Get(key); v == nil || v.key != key {
					t.Errorf("%s is %v", key, v)
					return
				}
			}
		})
	}
	rng := seedtest.Rand(t)
	for i := range 4_000 {
		table.Put(&value{fmt.Sprint("comes", rng.IntN(3000)), i})
		table.Remove(fmt.Sprint("comes", rng.IntN(3000)))
		table.Put(&value{fmt.Sprint("stays", rng.IntN(stays)), i})
	}
	close(stop)
	readers.Wait()
}

func BenchmarkGet(b *testing.B) {
	table := newTable()
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprint("some/key/", i)
		table.Put(&value{keys[i], i})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if table.Get(keys[i%len(keys)]) == nil {
			b.Fatal("lost")
		}
	}
}
