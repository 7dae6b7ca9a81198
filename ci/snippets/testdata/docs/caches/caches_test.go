package caches

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/starlingtest"
)

// A changed row is forgotten by all, one that is loaded meanwhile is not kept, and a replica that has missed too much forgets all.
func TestCache(t *testing.T) {
	caches := map[string]*Cache{}
	open := func(m *starlingtest.Member) (err error) {
		caches[m.Name], err = NewCache(m.Cluster)
		return err
	}
	starlingtest.Run(t, 3, starlingtest.Options{Open: open}, func(t *testing.T, l *starlingtest.Lab) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, m := range l.Members() {
			go caches[m.Name].Follow(ctx, m.Cluster)
		}
		row := "old"
		load := func(context.Context, string) (string, error) { return row, nil }
		get := func(name string) string {
			v, err := caches[name].Get(ctx, "user/1", load)
			l.Must(err)
			return v
		}
		for name := range caches {
			get(name)
		}
		row = "new"
		if got := get("m2"); got != "old" {
			t.Fatal("nothing was kept:", got)
		}
		l.Must(caches["m0"].Changed(ctx, "user/1"))
		for name := range caches {
			if got := get(name); got != "new" {
				t.Errorf("%s: %s after Changed", name, got)
			}
		}

		slow := func(context.Context, string) (string, error) { // it reads the row, and then the row changes
			was := row
			row = "newest"
			l.Must(caches["m0"].Changed(ctx, "user/2"))
			return was, nil
		}
		_, err := caches["m1"].Get(ctx, "user/2", slow)
		l.Must(err)
		if v, err := caches["m1"].Get(ctx, "user/2", load); err != nil || v != "newest" {
			t.Errorf("what was loaded while it changed was kept: %s, %v", v, err)
		}

		l.Must(l.Net.Partition([]string{"m0", "m1"}, []string{"m2"}))
		time.Sleep(time.Second)
		row = "newest of all"
		l.Must(caches["m0"].told.Broadcast(ctx, "user/1"))
		time.Sleep(10 * starling.DefaultRetentionAge)
		l.Net.Heal()
		l.WaitAll(time.Minute)
		l.Within(2*time.Minute, func() error {
			if got := get("m2"); got != row {
				return fmt.Errorf("m2 was away for too long, and still says %s", got)
			}
			return nil
		})
	})
}
