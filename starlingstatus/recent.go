package starlingstatus

import (
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/starling-go/starling"
)

// maxRecent is how many gaps, and how many other events, are remembered.
const maxRecent = 100

// recent remembers what happened lately. Safe for concurrent use.
type recent struct {
	mu       sync.Mutex
	gaps     []Gap // oldest first
	happened []Event
}

// follow notes events until there are no more, which is when the cluster is closed. Of known members, by the id of their run, it does not
// note that they joined: that was before.
func (r *recent) follow(events iter.Seq[starling.Event], known map[string]uint64) {
	for e := range events {
		id, ok := known[e.Member.Name]
		delete(known, e.Member.Name)
		if e.Kind != starling.EventJoined || !ok || id != e.Member.ID {
			r.note(time.Now(), e)
		}
	}
}

func (r *recent) note(now time.Time, e starling.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == starling.EventGap {
		r.gaps = last(append(r.gaps, Gap{now, e.Gap.Origin.Name, e.Gap.First, e.Gap.Last, e.Gap.Skipped}))
		return
	}
	r.happened = last(append(r.happened, Event{now, e.Kind.String(), e.Member.Name, e.Channel, e.String()}))
}

// last returns what s has at its end, as much as is remembered.
func last[T any](s []T) []T { return s[max(0, len(s)-maxRecent):] }

// copies returns both, newest first.
func (r *recent) copies() ([]Gap, []Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gaps, happened := append([]Gap{}, r.gaps...), append([]Event{}, r.happened...)
	slices.Reverse(gaps)
	slices.Reverse(happened)
	return gaps, happened
}
