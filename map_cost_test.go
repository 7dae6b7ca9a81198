package starling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/starling-go/starling"
	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/starlingtest"
)

// sent is how many bytes the members have sent.
func (l *mapLab) sent() (bytes uint64) {
	for _, r := range l.every() {
		traffic := r.cluster.Stats().Traffic
		bytes += traffic.PacketBytesSent + traffic.StreamBytesSent
	}
	return bytes
}

// What two halves of 30 members send to become equal follows what they have changed, and not how much there is.
func TestMapHealCost(t *testing.T) {
	const changes, there, size = 1000, 3000, 100
	members := 30
	if raced {
		members = 10 // the race detector takes ten times as long
	}
	inMapLab(t, members, new(mapLab), starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		value := strings.Repeat("x", size)
		for i := range there {
			l.runs["m0"].set(t, fmt.Sprint("there", i), value)
		}
		l.equal(10*time.Second, there)
		time.Sleep(time.Minute)
		const while = 10 * time.Second
		before := l.sent()
		time.Sleep(while)
		idle := l.sent() - before

		l.Must(l.Net.Partition(l.groups(2)...))
		for i := range changes {
			l.every()[i%members].set(t, fmt.Sprint("there", i), strings.Repeat("y", size))
		}
		time.Sleep(3 * time.Minute) // beyond the retention
		before = l.sent()
		l.Net.Heal()
		l.WaitAll(time.Minute)
		took := l.equal(5*time.Second, there)
		time.Sleep(while - took)
		healed := l.sent() - before - idle
		need := uint64(members) * changes / 2 * (size + uint64(len("there999")))
		t.Logf("%d bytes sent, %.2f times the changes that members lacked; equal after %v", healed, float64(healed)/float64(need), took)
		if healed > 3*need {
			t.Errorf("%d bytes sent, more than 3 times what members lacked, %d", healed, need)
		}
	})
}

// A newcomer is given each entry once, though things change while it asks.
func TestMapNewcomerCost(t *testing.T) {
	const there, size = 10_000, 100
	inMapLab(t, 1, new(mapLab), starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		m, value := l.runs["m0"], strings.Repeat("x", size)
		for i := range there {
			m.set(t, fmt.Sprint("there", i), value)
		}
		time.Sleep(2 * time.Minute) // beyond the retention
		before := l.sent()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				m.set(t, fmt.Sprint("there", i%there), value)
				select {
				case <-time.After(500 * time.Microsecond):
				case <-stop:
					return
				}
			}
		}()
		l.Must(l.Start("late").Cluster.Ready(t.Context()))
		close(stop)
		<-done
		need := there * (size + len("there9999"))
		got := int(l.sent() - before)
		t.Logf("%d bytes sent, %.2f times what it lacked", got, float64(got)/float64(need))
		if got > 2*need {
			t.Errorf("%d bytes sent, more than twice what it lacked, %d", got, need)
		}
	})
}

// A change is with all of 50 members as fast as a broadcast is.
func TestMapSpreadsAsABroadcast(t *testing.T) {
	inMapLab(t, 50, new(mapLab), starlingtest.Options{Link: labLink}, func(t *testing.T, l *mapLab) {
		l.equal(5*time.Second, 0)
		var most time.Duration
		for i := range 20 {
			time.Sleep(100 * time.Millisecond)
			key, began := fmt.Sprint("key", i), time.Now()
			l.every()[i].set(t, key, "x")
			for _, r := range l.every() {
				for _, ok := r.Get(key); !ok; _, ok = r.Get(key) {
					time.Sleep(50 * time.Microsecond)
				}
			}
			most = max(most, time.Since(began))
		}
		t.Logf("at most %v to all of 50", most)
		if most > 6*time.Millisecond { // two hops of 1.5 ms, and a little
			t.Errorf("%v to all", most)
		}
	})
}

// Of keys that were set and deleted nothing is left when the deletions are old. STARLING_PAIRS makes them more: half a million take half a minute.
func TestMapMemoryIsBack(t *testing.T) {
	pairs := seedtest.Number(t, "STARLING_PAIRS", 50_000)
	o := &starling.MapOptions[string]{Tombstones: 5 * time.Minute, MaxEntries: pairs}
	l := &mapLab{options: func(string) *starling.MapOptions[string] { return o }}
	inMapLab(t, 2, l, starlingtest.Options{}, func(t *testing.T, l *mapLab) {
		l.equal(5*time.Second, 0)
		m := l.runs["m0"]
		before := heap()
		for i := range pairs {
			key := fmt.Sprint("key", i)
			m.set(t, key, "value")
			l.Must(m.Delete(t.Context(), key))
		}
		l.equal(time.Minute, 0)
		most := int64(heap()) - int64(before)
		time.Sleep(20 * time.Minute)
		l.runs["m0"].forget()
		l.runs["m1"].forget()
		left := int64(heap()) - int64(before)
		t.Logf("%d bytes more after %d pairs, %d when they are old", most, pairs, left)
		if n := l.runs["m1"].Stats().Tombstones; n > 0 {
			t.Errorf("%d deletions are remembered", n)
		}
		if left > 8<<20 {
			t.Errorf("%d bytes more than before", left)
		}
	})
}

// forget drops what the loop of the test has kept.
func (r *mapRun) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = nil
}
